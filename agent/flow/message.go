package flow

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A messageTemplate is a message before its references are filled in.
type messageTemplate struct {
	typ            string
	text, url, alt localText
	want           int       // number of its content among the node's, from 1; 0: none
	otherwise      localText // the node's text, where there is neither content nor a text of its own
	ssml           bool      // text is SSML
	must           bool      // must_hear
	extra          map[string]valueTemplate
}

// said reads what a node says: the first of the fields that it has, or content
// that it names beside them.
func (c *compiler) said(n *node, fields ...string) []messageTemplate {
	if t := n.content["text"]; str(t) != "" || isLocales(t) {
		c.otherwise = c.localText(t)
	}
	if n.content["content_id"] != nil || n.content["content_filter"] != nil {
		return c.messages(map[string]any{"content_id": n.content["content_id"], "content_filter": n.content["content_filter"],
			"text": first(n.content, fields...)}, n.at)
	}
	for _, k := range fields {
		if v := n.content[k]; v != nil {
			if list := c.messages(v, n.at+"/"+k); len(list) > 0 {
				return list
			}
		}
	}
	return nil
}

// messages reads a list of messages: objects, or plain texts.
func (c *compiler) messages(v any, ptr string) []messageTemplate {
	var out []messageTemplate
	switch v := v.(type) {
	case string:
		out = append(out, c.plainMessage(v))
	case map[string]any:
		out = append(out, c.oneMessage(v, ptr))
	case []any:
		for i, e := range v {
			switch e := e.(type) {
			case string:
				out = append(out, c.plainMessage(e))
			case map[string]any:
				out = append(out, c.oneMessage(e, ptr+"/"+strconv.Itoa(i)))
			default:
				c.fault(ptr+"/"+strconv.Itoa(i), "type", "a message is an object or a text", "write {\"type\": \"text\", \"text\": ...}")
			}
		}
	}
	for _, m := range out {
		if m.want > 0 && m.text.empty() && m.url.empty() && m.otherwise.empty() {
			c.problem("warning", ptr, "no-fallback", "nothing is said where the content is missing or not published", "add a \"text\"")
		}
		for _, l := range []localText{m.text, m.url, m.alt} {
			l.each(func(t template) {
				if t.secrets() {
					c.problem("error", ptr, "secret-in-message", "a secret would be shown to the caller", "remove the {secret:…} reference")
				}
			})
		}
		if m.ssml {
			m.text.each(func(t template) { c.checkSSML(t, ptr) })
		}
	}
	return out
}

// plainMessage is a text, or one a locale.
func (c *compiler) plainMessage(v any) messageTemplate {
	return messageTemplate{typ: "text", text: c.localText(v), ssml: c.ssml}
}

func (c *compiler) oneMessage(m map[string]any, ptr string) messageTemplate {
	if isLocales(m) {
		return c.plainMessage(m)
	}
	return c.message(m, ptr)
}

func (c *compiler) message(m map[string]any, ptr string) messageTemplate {
	out := messageTemplate{typ: fold(str(m["type"])), want: c.want(m, ptr), ssml: c.ssml, must: boolean(m["must_hear"])}
	if out.want > 0 {
		out.otherwise = c.otherwise
	}
	if v, ok := m["ssml"].(bool); ok {
		out.ssml = v
	}
	if out.typ == "" {
		out.typ = "text"
	}
	tpl := func(names ...string) localText {
		for _, k := range names {
			if s := str(m[k]); s != "" || isLocales(m[k]) {
				return c.localText(m[k])
			}
		}
		return localText{}
	}
	if out.typ == "text" {
		out.text = tpl("content", "text", "rich_text")
	} else {
		out.text, out.url = tpl("text", "caption"), tpl("url", "content", "src")
	}
	out.alt = tpl("alt")
	for k, v := range m {
		switch k {
		case "type", "content", "text", "url", "alt", "content_id", "content_filter", "rich_text", "src", "caption", "ssml", "must_hear":
		default:
			if out.extra == nil {
				out.extra = map[string]valueTemplate{}
			}
			out.extra[k] = parseValue(v, c.flow.bare)
		}
	}
	return out
}

// show fills in messages; those that come out empty are left out.
func (t *turn) show(list []messageTemplate) []Message {
	var out []Message
	for _, m := range t.expandAll(list) {
		msg := Message{Type: m.typ, URL: t.address(m.url.in(t.locale(), t.f.locale), true), Alt: t.local(m.alt)}
		if m.ssml {
			msg.Text, msg.SSML = t.marked(m.text)
		} else {
			msg.Text = t.local(m.text)
		}
		for k, v := range m.extra {
			if msg.Extra == nil {
				msg.Extra = map[string]json.RawMessage{}
			}
			msg.Extra[k] = rawJSON(t.value(v))
		}
		if msg.Text != "" || msg.URL != "" || msg.Alt != "" {
			out = append(out, msg)
		}
	}
	return out
}

// Text returns what a host that speaks says for messages: texts, and the alt
// of a medium that asks for it by "speak_alt".
func Text(messages []Message) string {
	var out []string
	for _, m := range messages {
		switch {
		case m.Type == "text" || m.Type == "":
			out = append(out, strings.TrimSpace(m.Text))
		case m.Alt != "" && string(m.Extra["speak_alt"]) == "true":
			out = append(out, strings.TrimSpace(m.Alt))
		}
	}
	return strings.Join(slices.DeleteFunc(out, func(s string) bool { return s == "" }), " ")
}

type messageBody struct {
	messages []messageTemplate
	ack      bool
	must     bool // some of it must be heard to its end
}

func compileMessage(c *compiler, n *node) any {
	b := &messageBody{ack: boolean(n.content["wait_for_ack"])}
	b.messages = c.said(n, "messages", "text", "rich_text", "message")
	if len(b.messages) == 0 {
		c.problem("warning", n.at, "empty-message", "the message says nothing", "add \"messages\"")
	}
	b.mustHear(n)
	return b
}

func enterMessage(t *turn, n *node) move {
	b := n.body.(*messageBody)
	t.say(t.show(b.messages))
	if b.must && t.s.System.Playing != "" && !t.s.System.Left {
		return t.waitFor(ForPlayed, t.s.System.Playing)
	}
	if !b.ack || t.s.System.Left {
		return move{outcome: "default"}
	}
	if t.s.System.Playing != "" {
		return t.waitFor(ForPlayed, t.s.System.Playing)
	}
	return t.waitFor(ForAck, "")
}

func inputMessage(t *turn, _ *node, _ Input) move {
	t.unwait()
	return move{outcome: "default"}
}

// hangupBody is a compiled hangup node.
type hangupBody struct {
	messages []messageTemplate
	status   string
}

func compileHangup(c *compiler, n *node) any {
	b := &hangupBody{status: Completed}
	b.messages = c.said(n, "messages", "text", "say", "message")
	if s := str(n.content["status"]); s == Failed || s == Abandoned {
		b.status = s
	}
	return b
}

func enterHangup(t *turn, n *node) move {
	b := n.body.(*hangupBody)
	t.say(t.show(b.messages))
	if r := str(n.content["reason"]); r != "" {
		t.emit("hangup", map[string]any{"reason": r})
	}
	t.end(b.status, true)
	return wait
}

// Transfer hands the caller to someone else. Its [Result] has one of the
// outcomes answered, busy, no_answer, declined, machine, failed or error. Who
// was answered has left the flow, unless the node wires that outcome.
type Transfer struct {
	effect
	ID       string        `json:"id"`
	Node     string        `json:"node"`
	To       string        `json:"to"`
	CallerID string        `json:"caller_id,omitempty"`
	Timeout  time.Duration `json:"timeout,omitempty"` // 0 for the host's default
}

type transferBody struct {
	to, callerID template
	messages     []messageTemplate
	timeout      time.Duration
}

func compileTransfer(c *compiler, n *node) any {
	to := first(n.content, "to", "number", "destination", "sip", "queue")
	if to == "" {
		c.problem("error", n.at, "missing-field", "the transfer has nowhere to go", "add \"to\"")
	}
	b := &transferBody{to: parseTemplate(to, c.flow.bare), callerID: parseTemplate(str(n.content["caller_id"]), c.flow.bare)}
	if b.timeout = millis(n.content["timeout_ms"]); b.timeout == 0 {
		if s, ok := integer(n.content["timeout"]); ok && s > 0 && s <= 600 {
			b.timeout = time.Duration(s) * time.Second
		}
	}
	b.messages = c.said(n, "messages", "say", "text")
	return b
}

func enterTransfer(t *turn, n *node) move {
	b := n.body.(*transferBody)
	if t.s.System.Left {
		return move{outcome: "error"}
	}
	t.say(t.show(b.messages))
	e := Transfer{ID: t.id(), Node: n.id, To: strings.TrimSpace(t.render(b.to)), CallerID: t.render(b.callerID), Timeout: b.timeout}
	if e.To == "" {
		return move{outcome: "error"}
	}
	t.out = append(t.out, e)
	t.pend(e.ID, "transfer", e)
	return t.waitFor(ForResult, e.ID)
}

func resultTransfer(t *turn, n *node, r Result) move {
	switch r.Outcome {
	case "answered", "success":
		for _, o := range []string{"answered", "success"} {
			if len(n.edges[o]) > 0 {
				return move{outcome: o}
			}
		}
		t.end(Transferred, false)
		return wait
	case "busy", "no_answer", "declined", "machine", "failed", "timeout":
		return move{outcome: r.Outcome}
	}
	return move{outcome: "error"}
}
