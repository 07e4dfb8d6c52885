package flow

import (
	"slices"
	"strings"
	"unicode"
)

// A Confirm is an answer that was read back to the caller.
type Confirm struct {
	Value    any      `json:"value"`
	Outcomes []string `json:"outcomes,omitempty"`
	Text     string   `json:"text"` // as it was read back
	Skip     bool     `json:"skip,omitempty"`
}

// When an answer is read back.
const (
	confirmNever = iota
	confirmUnsure
	confirmAlways
)

// unsure is the confidence under which "low_confidence" reads back; a vendor
// that gives none is taken to be sure.
const unsure = 0.7

// confirming is a voice block's confirm.
type confirming struct {
	when   int
	prompt localText
}

func (c *compiler) confirming(v any, ptr string) confirming {
	m, ok := v.(map[string]any)
	if !ok {
		m = map[string]any{"when": v}
	}
	out := confirming{prompt: c.localText(m["prompt"])}
	switch w := m["when"]; {
	case w == "always", w == true, ok && w == nil:
		out.when = confirmAlways
	case w == "low_confidence":
		out.when = confirmUnsure
	case w == "never", w == false, w == nil:
	default:
		c.problem("error", ptr+"/confirm", "unknown-value", "there is no such time to confirm", "use always, low_confidence or never")
	}
	return out
}

// toConfirm tells whether an answer is to be read back first: on a host that
// speaks, what was said or keyed, but neither yes nor no, nor what is sensitive.
func (t *turn) toConfirm(n *node, b *questionBody, a answer, in Input) bool {
	switch c := n.voice.confirm.when; {
	case c == confirmNever, n.voice.Sensitive, !t.s.System.Voice, a.skip, b.typ == "yes_no", b.typ == "file":
		return false
	case c == confirmUnsure:
		return in.Mode == "speech" && in.Confidence > 0 && in.Confidence < unsure
	}
	return true
}

// echo asks whether an answer was understood.
func (t *turn) echo(n *node, b *questionBody, a answer, in Input) move {
	t.s.System.Confirm = &Confirm{Value: a.value, Outcomes: a.outcomes, Text: t.aloud(b, a, in), Skip: a.skip}
	t.askWith(n, t.echoed(n), false)
	return wait
}

func (t *turn) echoed(n *node) []Message {
	said, c := t.s.System.Confirm.Text, n.voice.confirm
	if !c.prompt.empty() {
		var b strings.Builder
		for _, p := range c.prompt.in(t.locale(), t.f.locale) {
			switch {
			case p.ref == nil:
				b.WriteString(p.text)
			case p.ref.source == "value":
				b.WriteString(said)
			default:
				b.WriteString(text(t.want(p.ref)))
			}
		}
		return []Message{{Type: "text", Text: b.String()}}
	}
	return []Message{{Type: "text", Text: strings.Replace(t.phrasebook().confirm, "{}", said, 1)}}
}

// aloud is an answer as it is read back: an option by its label, digits one by
// one, and other words as they were heard.
func (t *turn) aloud(b *questionBody, a answer, in Input) string {
	for _, o := range t.choices(b) {
		if len(a.outcomes) > 0 && slices.Contains(a.outcomes, text(o.value)) {
			return t.local(o.label)
		}
	}
	switch s := text(a.value); {
	case b.typ == "digits" || b.typ == "phone" || in.Mode == "dtmf" && b.typ != "number":
		return letters(s, true)
	case b.typ == "text" || b.typ == "any" || b.typ == "multiple_choice":
		return strings.TrimRightFunc(strings.TrimSpace(in.Text), unicode.IsPunct)
	default:
		return s
	}
}

// confirmed takes the caller's word on what was read back: yes stores it, no
// asks again, and "no, …" or another answer is read back in its turn.
func (t *turn) confirmed(n *node, b *questionBody, in Input) move {
	c := t.s.System.Confirm
	yes, clear := yesNo(in.Text)
	if in.Mode == "dtmf" {
		key := trimKeys(in.Text)
		yes, clear = key == "1", key == "1" || key == "2"
	}
	if clear && yes {
		t.s.System.Confirm = nil
		return t.answered(b, answer{value: c.Value, outcomes: c.Outcomes, skip: c.Skip})
	}
	if rest := corrected(in.Text); rest != "" && in.Mode != "dtmf" {
		other := in
		other.Text = rest
		if a, ok := t.read(b, other); ok && (rest != in.Text || b.typ != "text" && b.typ != "any") && t.valid(b, &a, other) {
			return t.echo(n, b, a, other)
		}
	}
	if clear {
		t.s.System.Confirm = nil
	}
	bad := t.misunderstoodAt(n)
	if most := b.mostBad(n); most > 0 && bad >= most {
		t.s.System.Confirm = nil
		return t.giveUp("no_match", n.voice.noMatch.then)
	}
	if !clear { // neither yes nor no
		t.askWith(n, t.echoed(n), false)
		return wait
	}
	t.askWith(n, t.show(b.messages), false)
	return wait
}

// corrected takes a refusal from the front of an answer: "no, it's Tuesday" is
// "Tuesday".
func corrected(s string) string {
	f := strings.Fields(s)
	lead := func(words ...string) bool {
		return len(f) > 0 && slices.Contains(words, plainWords(f[0]))
	}
	if lead("no", "nope", "nah", "not", "nein", "non", "nee", "não") {
		f = f[1:]
		for lead("it's", "its", "that's", "i", "said", "actually", "es", "ist", "c'est", "é") {
			f = f[1:]
		}
	}
	return strings.Join(f, " ")
}
