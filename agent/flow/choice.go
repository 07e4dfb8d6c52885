package flow

import "strings"

// A question of options may let a model tell which one the caller means
// ("model": true), where the words themselves do not.

// unclear asks the model which option an answer means. It reports false where
// the question may not, or has none to tell apart.
func (t *turn) unclear(n *node, b *questionBody, in Input) (move, bool) {
	list := t.choices(b)
	if !b.model || len(list) == 0 || n.voice.Voice.Sensitive || in.Mode == "dtmf" || strings.TrimSpace(in.Text) == "" || b.typ == "multiple_choice" {
		return wait, false
	}
	in.Text = cut(in.Text, maxUtter)
	k := t.talk()
	k.Input = &in
	t.dropAsk()
	e := Model{Kind: "choice", Said: []Line{{Who: ByAgent, Text: cut(Text(t.s.System.Last), maxSay)}, {Who: ByCaller, Text: in.Text}}, Use: b.use}
	for _, o := range list {
		e.Among = append(e.Among, Choice{Name: t.optionName(o), Examples: o.say})
	}
	return t.consult(n, e), true
}

// optionName is what a model calls an option.
func (t *turn) optionName(o option) string {
	if s := t.local(o.label); s != "" {
		return s
	}
	return text(o.value)
}

// resultQuestion takes an option that a model names, if it is one of them and
// the rules allow it; else the answer was not understood.
func resultQuestion(t *turn, n *node, r Result) move {
	b, k := n.body.(*questionBody), t.talk()
	in := Input{Mode: "text"}
	if k.Input != nil {
		in = *k.Input
	}
	t.frame().Talk = nil
	p, _ := proposal(r)
	for i, o := range t.choices(b) {
		if p.Intent != "" && t.optionName(o) == p.Intent && sure(p, 0.6) {
			if a := t.chosen(b, o, i); t.valid(b, &a, in) {
				return t.answered(b, a)
			}
		}
	}
	return t.noMatch(n, b)
}
