package flow

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// choices turns fuzz input into decisions, so that every input is a sound
// document and a conversation: changing a byte changes the flow, not its syntax.
// (FuzzStep, which changes the text of documents, spends nearly all its tries
// on what Parse refuses.)
type choices struct {
	b []byte
	// inside has nodes write only what is a composite's own, or nobody's.
	inside bool
}

func (c *choices) n(most int) int {
	if len(c.b) == 0 {
		return 0
	}
	v := int(c.b[0]) % most
	c.b = c.b[1:]
	return v
}

func pick[T any](c *choices, list ...T) T { return list[c.n(len(list))] }

type fields = map[string]any

// document makes a flow of up to 12 nodes that may lead anywhere.
func (c *choices) document() fields {
	n := 1 + c.n(12)
	d := fields{"nodes": c.nodes(n, 0), "defaults": fields{"limits": fields{"steps_per_turn": 50, "turns": 30, "depth": 4}}}
	if c.n(2) == 1 {
		d["globals"] = []any{fields{"when": fields{"dtmf": "0", "phrases": []any{"help"}}, "then": c.target(n), "return": c.n(2) == 1}}
	}
	if c.n(3) == 1 {
		d["on_hangup"] = fmt.Sprint("n", c.n(n))
	}
	return d
}

func (c *choices) nodes(n, depth int) []any {
	list := make([]any, n)
	for i := range list {
		typ, content := c.content(depth)
		node := fields{"id": fmt.Sprint("n", i), "type": typ, "content": content}
		conns := fields{}
		for range c.n(4) {
			conns[pick(c, "default", "success", "error", "complete", "fallback", "no_input", "no_match", "$0", "$1", "yes", "timeout", "filled", "exit:done", "intent:yes")] = c.target(n)
		}
		if len(conns) > 0 {
			node["connections"] = conns
		}
		if c.n(4) == 1 {
			node["voice"] = fields{"no_input": fields{"timeout_ms": 1000, "max": c.n(3)}, "no_match": fields{"max": c.n(3), "prompts": []any{"again {temp.x}"}}}
		}
		list[i] = node
	}
	return list
}

func (c *choices) target(n int) string {
	switch k := c.n(n + 6); {
	case k < n:
		return fmt.Sprint("n", k)
	default:
		return []string{"@end", "@hangup", "@repeat", "@back", "@error", "@out:done"}[k-n]
	}
}

func (c *choices) name() string {
	if c.inside {
		return pick(c, "local.z", "local.l.0", "output.o", "output.o2.p", "output", "input.i", "input.user.x", "session.id", "context.channel", "env.e")
	}
	return pick(c, "a", "b.c", "user.x", "temp.y", "local.z", "output.o", "input.i", "session.id", "a.0")
}

// into is where a composite's output goes.
func (c *choices) into() string {
	if c.inside {
		return pick(c, "local.z", "output.o", "input.i")
	}
	return pick(c, "a", "user.x", "temp.y")
}

func (c *choices) value() any {
	switch c.n(7) {
	case 0:
		return c.n(9)
	case 1:
		return "{" + c.name() + "}"
	case 2:
		return "x {{" + c.name() + "}} y"
	case 3:
		return []any{"{a}", 1, nil}
	case 4:
		return fields{"k": "{b}"}
	case 5:
		return nil
	}
	return true
}

func (c *choices) test() any {
	switch c.n(6) { // when the input is used up, 0: nothing that contains another
	case 3:
		return fields{"and": []any{c.test(), c.test()}}
	case 4:
		return fields{"not": c.test()}
	case 5:
		return pick(c, "a == 1", "size(temp) > 0", "user.x in [1, 2]", "b.c + 1 > 2")
	}
	return fields{"var": c.name(), pick(c, "eq", "ne", "gt", "lte", "in", "contains", "matches", "exists"): c.value()}
}

func (c *choices) content(depth int) (string, fields) {
	switch c.n(13) {
	case 11:
		return c.model()
	case 0:
		return "message", fields{"text": "hi {" + c.name() + "}", "wait_for_ack": c.n(3) == 1}
	case 1, 2:
		q := fields{"question": "what?", "variable": c.name(), "input_type": pick(c, "text", "number", "yes_no", "choice", "multiple_choice", "date", "time", "phone", "email", "digits", "any", "slider")}
		if c.n(2) == 1 {
			q["options"] = []any{"tea", fields{"label": "coffee", "value": 2, "dtmf": "2"}}
		}
		if c.n(3) == 1 {
			q["validation"] = fields{"min_length": c.n(3), "pattern": "^[a-z0-9 ]*$"}
		}
		return "question", q
	case 3:
		return "condition", fields{"conditions": []any{fields{"if": c.test(), "then": pick(c, "n0", "n1", "$0")}}, "else": pick(c, "n0", "n2")}
	case 4, 5:
		return "action", fields{"on_error": pick(c, "stop", "continue"), "actions": []any{
			fields{"type": pick(c, "set_variable", "increment", "decrement", "append", "remove", "delete_variable"), "variable": c.name(), "value": c.value()},
			fields{"type": "aggregate", "source": "a", "operation": pick(c, "sum", "avg", "merge", "count"), "target": c.name()},
			fields{"type": "api_call", "url": "/x/{a}", "response_variable": c.name()}}[:1+c.n(3)]}
	case 6:
		return "webhook", fields{"url": "https://x.example/{a}", "body": c.value(), "response_mapping": fields{c.name(): "$.v"}, "fallback_response": c.value()}
	case 7:
		if depth < 3 {
			return "composite", fields{"nodes": c.nodes(1+c.n(4), depth+1), "inputs": fields{"i": c.value()}, "outputs": fields{"o": c.into()}}
		}
		return "say", fields{"text": "deep"}
	case 8:
		return "wait", fields{"ms": c.n(3)}
	case 9:
		return "menu", fields{"question": "?", "options": []any{"a", "b"}}
	case 10:
		return "transfer", fields{"to": "+1{a}"}
	}
	other := pick(c, "say", "hangup", "split", "send_dtmf", "voicemail", "switch_language")
	if c.inside && other == "switch_language" {
		other = "say" // it changes context.locale, as it should
	}
	return other, fields{"text": "bye", "digits": "1", "locale": "es", "arms": []any{"a", "b"}}
}

// model makes a node that a language model leads.
func (c *choices) model() (string, fields) {
	switch c.n(3) {
	case 0:
		return "listen", fields{"prompt": "listen {" + c.name() + "}", "slots": []any{
			fields{"name": c.name(), "type": pick(c, "text", "number", "date", "yes_no"), "prompt": "which?", "required": true}, fields{"name": c.name(), "type": "email"}}}
	case 1:
		return "intent", fields{"question": "what?", "variable": c.name(), "intents": fields{"yes": []any{"yes please"}, "$0": []any{"tea"}}, "threshold": 0.5}
	}
	return "agent", fields{"prompt": "talk {" + c.name() + "}", "max_turns": 2, "must_collect": []any{c.name()}, "tools": []any{},
		"exits": []any{fields{"name": "done", "when": c.test()}, fields{"name": "$0"}}}
}

func (c *choices) event(s State, at At) Event {
	w := s.System.Waiting
	if w.For == ForResult && c.n(4) > 0 {
		return Result{At: at, ID: w.ID, Outcome: pick(c, "success", "error", "timeout", "answered", "recorded", "cached",
			"filled", "gave_up", "exit:done", "intent:yes", "yes", "$0", "@end", "n1", "limit"),
			Data: json.RawMessage(pick(c, `{"v": [1, {"k": "{a}"}]}`, `"text"`, `null`, `nonsense`,
				`{"slots": {"a": "7", "b.c": "{secret:k}", "session.id": "x", "local.z": 1, "user.x": ["q"]}, "say": "\u0000{user.x}", "exit": "done", "intent": "yes"}`))}
	}
	switch c.n(10) {
	case 0:
		return Silence{at}
	case 1, 2:
		return Played{At: at, ID: s.System.Playing, Heard: "hi", Interrupted: c.n(2) == 1}
	case 3:
		return Result{At: at, ID: "other", Outcome: "success"}
	case 4:
		return Hangup{At: at}
	}
	return Input{at, pick(c, "tea", "2", "yes", "", "half past two", "a@b.example", "{user.x}", "help", "0", "coffee and tea"), pick(c, "text", "speech", "dtmf"), 0}
}

// FuzzGenerated runs sound flows of any shape: no panic, no endless turn, the
// state stays storable, its argument unchanged, and a replay gives the same.
func FuzzGenerated(f *testing.F) {
	for i := range 8 {
		seed := make([]byte, 200)
		for j := range seed {
			seed[j] = byte(j*(7+2*i) + i*31)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &choices{b: b}
		channel := pick(c, "voice", "chat")
		doc, err := json.Marshal(c.document())
		if err != nil {
			t.Fatal(err)
		}
		fl, err := Parse(doc)
		if err != nil {
			t.Fatalf("%v: %s", err, doc)
		}
		fl.Check()
		first := New(fl, Init{ID: "g", Channel: channel, Variables: map[string]any{"a": 1}})
		s, events := first, []Event{Start{epoch}}
		s = fuzzStep(t, fl, s, events[0])
		for i := 0; i < 40 && len(c.b) > 0 && s.Session.Status == Active; i++ {
			ev := c.event(s, At{epoch.At.Add(time.Duration(i) * time.Second)})
			events = append(events, ev)
			s = fuzzStep(t, fl, s, ev)
		}
		again := first
		for _, ev := range events {
			again = fuzzStep(t, fl, again, ev)
		}
		x, errX := EncodeState(s)
		y, errY := EncodeState(again)
		if string(x) != string(y) || (errX == nil) != (errY == nil) {
			t.Fatalf("a replay differs:\n%s\n%s", x, y)
		}
	})
}
