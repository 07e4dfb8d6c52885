package flow

import (
	"encoding/json"
	"strings"
	"time"
)

// Model asks a language model once: a listen, agent or intent node, or a
// question that may. The model sees what stands here and nothing else. Its
// [Result] is "success" with a [Proposal] as Data, or "error" where no model
// answers. What is proposed passes the node's guard before anything comes of
// it; a host decides nothing but how the answer is made.
type Model struct {
	effect
	ID     string        `json:"id"`
	Node   string        `json:"node"`
	Kind   string        `json:"kind"` // agent, listen, intent or choice
	Prompt string        `json:"prompt,omitempty"`
	Said   []Line        `json:"said,omitempty"`
	Notes  []string      `json:"notes,omitempty"`  // agent: of operators; the caller does not hear them
	Slots  []Slot        `json:"slots,omitempty"`  // that it may fill
	Exits  []Choice      `json:"exits,omitempty"`  // agent: that it may take
	Tools  []Tool        `json:"tools,omitempty"`  // agent: that it may use
	Among  []Choice      `json:"among,omitempty"`  // intents or options that it may name
	Use    []ModelChoice `json:"use,omitempty"`    // empty: the host's models
	Most   int           `json:"most,omitempty"`   // tokens of the answer
	Locale string        `json:"locale,omitempty"` // of the caller
	Phone  bool          `json:"phone,omitempty"`  // what it says is spoken
	Now    time.Time     `json:"now,omitzero"`     // for "tomorrow"
	Asked  string        `json:"asked,omitempty"`  // listen: the slot that was asked for
	Voice  Voice         `json:"voice"`
}

// Who says a [Line].
const (
	ByCaller = "caller"
	ByAgent  = "agent"
	ByWish   = "wish" // a model's wish, and what came of it
)

// A Line is one thing that was said within a node. Of the agent it is what the
// caller heard, no more.
type Line struct {
	Who  string `json:"who"`
	Text string `json:"text,omitempty"` // of a wish, the flow's answer
	Wish string `json:"wish,omitempty"` // [WishSlots], [WishExit] or a tool's name
	Args string `json:"args,omitempty"` // of the wish, JSON
	// Open marks what the agent was given to say, before it is known how much
	// of it was heard. A model never sees it.
	Open bool `json:"open,omitempty"`
}

// Names of wishes that are no tools; no tool may be called so.
const (
	WishSlots  = "fill_slots"
	WishExit   = "leave"
	WishChoice = "choose"
)

// A Slot is a typed value that a model may fill.
type Slot struct {
	Name    string   `json:"name"`
	Type    string   `json:"type"` // input_type of docs/flow.md, Question
	About   string   `json:"about,omitempty"`
	Options []string `json:"options,omitempty"`
	Value   any      `json:"value,omitempty"` // as it is now
	Must    bool     `json:"must,omitempty"`  // of a tool's arguments: it cannot be left out
}

// A Choice is something that a model may name.
type Choice struct {
	Name     string   `json:"name"`
	About    string   `json:"about,omitempty"`
	Examples []string `json:"examples,omitempty"`
}

// A Tool is a list of actions that a model may have run.
type Tool struct {
	Name  string `json:"name"`
	About string `json:"about,omitempty"`
	Args  []Slot `json:"args,omitempty"`
}

// A ModelChoice names a model to ask. Vendor may be empty: the host's.
type ModelChoice struct {
	Vendor string `json:"vendor,omitempty"`
	Model  string `json:"model,omitempty"`
}

// A Proposal is what a model would have the flow do. All of it is optional.
type Proposal struct {
	// Say is for the caller. Spoken says that the host has said it as it came.
	Say    string `json:"say,omitempty"`
	Spoken bool   `json:"spoken,omitempty"`
	// Cut says that the caller spoke before the answer was at its end: Say is
	// what there was of it, and nothing else counts.
	Cut   bool           `json:"cut,omitempty"`
	Slots map[string]any `json:"slots,omitempty"`
	// Intent is one of Among, with a confidence from 0 to 1 if the model gave one.
	Intent     string      `json:"intent,omitempty"`
	Confidence json.Number `json:"confidence,omitempty"`
	Exit       string      `json:"exit,omitempty"`
	Tools      []ToolUse   `json:"tools,omitempty"`
	Tokens     int         `json:"tokens,omitempty"` // that the round cost
}

// A ToolUse is a model's wish to have a tool run.
type ToolUse struct {
	Name string         `json:"name"`
	Args map[string]any `json:"args,omitempty"`
}

// Limits of what a model proposes, and of what it is shown.
const (
	maxSay      = 2000     // characters of one answer
	maxUtter    = 2000     // characters of one utterance of the caller's
	maxLines    = 80       // lines that it is shown
	maxPrompt   = 32 << 10 // characters of its instructions
	maxTold     = 24 << 10 // bytes of them
	maxValue    = 2000     // bytes of a slot's value
	maxWishes   = 8        // wishes of one answer
	maxRounds   = 5        // rounds from one answer of the caller's to the next
	maxFaults   = 3        // rounds in a row that come to nothing
	maxReturned = 4 << 10  // bytes that a tool tells the model
)

// A Talk is what a listen, agent or intent node remembers while it is at work.
type Talk struct {
	Said   []Line    `json:"said,omitempty"`
	Began  time.Time `json:"began,omitzero"`
	Turns  int       `json:"turns,omitempty"`  // of the caller
	Rounds int       `json:"rounds,omitempty"` // since then
	Faults int       `json:"faults,omitempty"` // in a row
	Tokens int       `json:"tokens,omitempty"`
	// Input is the answer that a model is asked about.
	Input *Input `json:"input,omitempty"`
	// Tool is at work, and Tools come after it.
	Tool  *ToolUse  `json:"tool,omitempty"`
	Tools []ToolUse `json:"tools,omitempty"`

	// Of a listen node: the slot that was asked for, those that are to be read
	// back, those that were just now, those to be asked for again, and whether
	// the caller was asked what to change.
	Asked  string   `json:"asked,omitempty"`
	Doubt  []string `json:"doubt,omitempty"`
	Check  []string `json:"check,omitempty"`
	Redo   []string `json:"redo,omitempty"`
	Change bool     `json:"change,omitempty"`
}

// beginTalk starts the talk of the node at hand.
func (t *turn) beginTalk(n *node) *Talk {
	fr := t.frame()
	fr.Asked = appendLast(fr.Asked[:len(fr.Asked):len(fr.Asked)], n.id, maxAsked)
	fr.Talk = &Talk{Began: t.ev.Time().UTC().Truncate(time.Second)}
	return fr.Talk
}

// talk returns the talk of the node at hand, to be changed: a copy, since the
// state before the step shares it.
func (t *turn) talk() *Talk {
	fr := t.frame()
	k := Talk{}
	if fr.Talk != nil {
		k = *fr.Talk
	}
	k.Said = append([]Line(nil), k.Said...)
	k.Tools = append([]ToolUse(nil), k.Tools...)
	k.Doubt = append([]string(nil), k.Doubt...)
	k.Redo = append([]string(nil), k.Redo...)
	fr.Talk = &k
	return &k
}

// add appends a line; the oldest make room.
func (k *Talk) add(l Line) {
	k.Said = append(k.Said, l)
	size, from := 0, len(k.Said)
	for from > 0 && len(k.Said)-from < maxLines {
		size += len(k.Said[from-1].Text) + len(k.Said[from-1].Args)
		if size > maxTold && from < len(k.Said) {
			break
		}
		from--
	}
	k.Said = k.Said[from:]
}

// heardOf makes of what the agent was given to say what was heard of it.
func (t *turn) heardOf(k *Talk) {
	var open []string
	var kept []Line
	for _, l := range k.Said {
		if l.Open {
			open = append(open, l.Text)
		} else {
			kept = append(kept, l)
		}
	}
	if open == nil {
		return
	}
	said := strings.Join(open, " ")
	if t.s.System.Voice {
		said = t.s.System.Heard
	}
	k.Said = kept
	if said = strings.TrimSpace(said); said != "" {
		k.add(Line{Who: ByAgent, Text: cut(said, maxSay)})
	}
}

// hears takes an answer of the caller's into the talk.
func (t *turn) hears(k *Talk, in Input) {
	t.heardOf(k)
	said := in.Text
	if in.Mode == "dtmf" {
		said = "[pressed " + in.Text + "]"
	}
	k.Rounds = 0
	k.Turns++
	k.add(Line{Who: ByCaller, Text: cut(said, maxUtter)})
	t.dropAsk()
	t.unwait()
	t.s.System.Playing = ""
}

// firstWords is what the node takes for the caller's answer when it begins:
// what the document gives, else what was said over the message before.
func (t *turn) firstWords(b *modelBody) (Input, bool) {
	if len(b.first) > 0 {
		if s := strings.TrimSpace(t.render(b.first)); s != "" {
			return Input{At: At{t.ev.Time()}, Text: s, Mode: "text"}, true
		}
	}
	if h := t.s.System.Held; h != nil && strings.TrimSpace(h.Text) != "" {
		in := *h
		t.s.System.Held = nil
		return in, true
	}
	return Input{}, false
}

// round asks the model.
func (t *turn) round(n *node, k *Talk, e Model) move {
	b := n.body.(*modelBody)
	k.Rounds++
	e.Kind, e.Prompt, e.Use, e.Most = n.typ, cut(t.render(b.prompt), maxPrompt), b.use, b.reply
	for _, l := range k.Said {
		if l.Open { // heard or not, it is what the model said in this very turn
			l.Open = false
		}
		e.Said = append(e.Said, l)
	}
	return t.consult(n, e)
}

// consult gives out a question to a model.
func (t *turn) consult(n *node, e Model) move {
	e.ID, e.Node = t.id(), n.id
	e.Locale, e.Phone, e.Now, e.Voice = text(t.s.Context["locale"]), t.s.System.Voice, t.ev.Time().UTC(), t.voice(n)
	t.out = append(t.out, e)
	t.pend(e.ID, "model", e)
	return t.waitFor(ForResult, e.ID)
}

// proposal reads what a model proposes; false where none answered. It takes
// any bytes: what it cannot read is an empty proposal.
func proposal(r Result) (Proposal, bool) {
	var p Proposal
	if r.Outcome != "success" {
		return p, false
	}
	v, err := decodeValue(r.Data)
	if err != nil {
		return p, true
	}
	m, _ := clean(v, MaxStateDepth-8).(map[string]any)
	p.Say, p.Spoken, p.Cut = cut(str(m["say"]), maxSay), boolean(m["spoken"]), boolean(m["cut"])
	p.Intent, p.Exit = str(m["intent"]), str(m["exit"])
	p.Slots, _ = m["slots"].(map[string]any)
	p.Confidence, _ = numeric(m["confidence"], true)
	if n, ok := integer(m["tokens"]); ok {
		p.Tokens = min(max(n, 0), 100_000_000)
	}
	list, _ := m["tools"].([]any)
	for _, e := range list {
		if u, ok := e.(map[string]any); ok && len(p.Tools) < maxWishes {
			args, _ := u["args"].(map[string]any)
			p.Tools = append(p.Tools, ToolUse{Name: str(u["name"]), Args: args})
		}
	}
	return p, true
}

// cut shortens a text to so many characters, at a blank if there is one near.
func cut(s string, most int) string {
	s = strings.TrimSpace(cleanText(s))
	if len(s) <= most {
		return s
	}
	runes := 0
	for i := range s {
		if runes++; runes > most {
			if j := strings.LastIndexByte(s[:i], ' '); j > i-100 && j > 0 {
				i = j
			}
			return strings.TrimSpace(s[:i])
		}
	}
	return s
}

// askOn asks for the same again, in other words or after something else.
func (t *turn) askOn(n *node, messages []Message, keep bool) {
	k, b := t.talk(), n.body.(*modelBody)
	t.heardOf(k)
	takes := Takes{Type: "text"}
	if s := b.slot(k.Asked); s != nil {
		takes = t.takes(n, s.q)
	} else if len(k.Check) > 0 {
		takes = confirmation(n)
	} else if n.typ == "intent" {
		takes = t.intentTakes(n)
	}
	if s := Text(messages); s != "" && !n.voice.Voice.Sensitive {
		k.add(Line{Who: ByAgent, Text: cut(s, maxSay), Open: true})
	}
	t.ask(n, takes, messages, keep, false)
}
