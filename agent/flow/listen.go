package flow

import (
	"slices"
	"strings"
)

// enterListen asks for the slots that have no value yet.
func enterListen(t *turn, n *node) move {
	b := n.body.(*modelBody)
	if t.s.System.Left { // nobody is there to answer
		t.end(Abandoned, false)
		return wait
	}
	k := t.beginTalk(n)
	if b.reset {
		for i := range b.slots {
			if v := b.slots[i].q.variable; v != nil {
				t.unset(*v)
			}
		}
	}
	if in, ok := t.firstWords(b); ok {
		t.hears(k, in)
		return t.understand(n, k, in)
	}
	return t.nextSlot(n, k, t.show(b.opening))
}

// blanks lists the slots that are still to be asked for.
func (t *turn) blanks(b *modelBody, k *Talk) []*slot {
	var out []*slot
	for i := range b.slots {
		s := &b.slots[i]
		if !s.optional && !t.filled(s) || slices.Contains(k.Redo, s.name) {
			out = append(out, s)
		}
	}
	return out
}

// nextSlot asks for what is missing, reads back what is in doubt, or is done.
// An opening stands in for the first prompt.
func (t *turn) nextSlot(n *node, k *Talk, opening []Message) move {
	b := n.body.(*modelBody)
	k.Check, k.Change, k.Asked = nil, false, ""
	open := t.blanks(b, k)
	if len(open) == 0 {
		if len(k.Doubt) > 0 {
			return t.readBack(n, k)
		}
		return move{outcome: "filled"}
	}
	s := open[0]
	k.Asked = s.name
	takes := t.takes(n, s.q)
	messages := opening
	if len(messages) == 0 {
		messages = t.show(s.q.messages)
	} else if len(open) > 1 {
		takes = Takes{Type: "text", Hints: takes.Hints}
	}
	return t.listenFor(n, k, takes, messages)
}

// readBack has the caller confirm what is in doubt.
func (t *turn) readBack(n *node, k *Talk) move {
	b := n.body.(*modelBody)
	k.Check, k.Doubt, k.Asked = k.Doubt, nil, ""
	messages := t.show(b.readBack)
	if len(messages) == 0 {
		var parts []string
		for _, name := range k.Check {
			if s := b.slot(name); s != nil && s.q.variable != nil {
				v, _ := t.resolve(s.q.variable)
				parts = append(parts, spokenName(name)+": "+text(v))
			}
		}
		messages = []Message{{Type: "text", Text: "I have " + strings.Join(parts, ", ") + ". Is that right?"}}
	}
	return t.listenFor(n, k, confirmation(n), messages)
}

func confirmation(n *node) Takes {
	return Takes{Type: "yes_no", Hints: n.voice.Hints,
		Options: []Option{{Label: "Yes", Value: true, DTMF: "1"}, {Label: "No", Value: false, DTMF: "2"}}}
}

func (t *turn) listenFor(n *node, k *Talk, takes Takes, messages []Message) move {
	if s := Text(messages); s != "" && !n.voice.Voice.Sensitive {
		k.add(Line{Who: ByAgent, Text: cut(s, maxSay), Open: true})
	}
	t.ask(n, takes, messages, true, false)
	return wait
}

// inputListen takes an answer: a confirmation, or values for slots.
func inputListen(t *turn, n *node, in Input) move {
	b, k := n.body.(*modelBody), t.talk()
	in.Text = cut(in.Text, maxUtter)
	if in.Text == "" {
		return t.notHeard(n, k)
	}
	if n.voice.Voice.Sensitive {
		t.dropAsk()
		t.unwait()
		t.s.System.Playing = ""
		k.Turns++
	} else {
		t.hears(k, in)
	}
	if k.Turns > b.turns {
		return t.giveUp("gave_up", "")
	}
	if len(k.Check) > 0 {
		switch a, clear := t.readYesNo(&questionBody{typ: "yes_no"}, in); {
		case clear && a.value == true:
			k.Check = nil
			return t.nextSlot(n, k, nil)
		case clear && refusal(in):
			k.Redo, k.Check, k.Change = k.Check, nil, true
			t.s.System.NoMatch = 0
			return t.listenFor(n, k, Takes{Type: "text"}, t.show(b.change))
		}
	}
	return t.understand(n, k, in)
}

// refusal tells whether an answer says nothing but no.
func refusal(in Input) bool {
	return in.Mode == "dtmf" || slices.Contains(noWords, plainWords(strings.ReplaceAll(in.Text, "’", "'")))
}

// understand reads an answer without a model where that is certain, or where no
// model may be asked; else it asks one.
func (t *turn) understand(n *node, k *Talk, in Input) move {
	b := n.body.(*modelBody)
	if s := b.slot(k.Asked); s != nil && t.certain(b, k, s, in) {
		return t.took(n, k, in, []string{s.name})
	}
	if i, ok := matchIntent(b.among, in.Text); ok && in.Mode != "dtmf" {
		return move{outcome: "intent:" + i.name}
	}
	if n.voice.Voice.Sensitive || in.Mode == "dtmf" {
		return t.plainAnswer(n, k, in)
	}
	k.Input = &in
	e := Model{Slots: t.slotsFor(b.slots), Asked: k.Asked}
	for _, i := range b.among {
		e.Among = append(e.Among, Choice{Name: i.name, About: i.about, Examples: i.examples})
	}
	return t.round(n, k, e)
}

// certain stores an answer that is nothing but the value of the slot that was
// asked for.
func (t *turn) certain(b *modelBody, k *Talk, s *slot, in Input) bool {
	if k.Change || len(words(in.Text)) > 4 && in.Mode != "dtmf" {
		return false
	}
	if _, ok := t.exactOption(t.choices(s.q), in); !ok {
		switch s.q.typ {
		case "text", "any", "file", "multiple_choice":
			return false
		}
		if in.Mode != "dtmf" && (len(t.blanks(b, k)) > 1 || slices.ContainsFunc(words(in.Text), takesBack)) {
			return false
		}
	}
	return t.fillSaid(s, in)
}

// takesBack are words of an answer that is more than a value.
func takesBack(w string) bool {
	switch w {
	case "no", "not", "nope", "instead", "actually", "rather", "sorry", "wait", "change", "or", "but":
		return true
	}
	return strings.HasSuffix(w, "n't")
}

// fillSaid stores an answer as the slot's question would.
func (t *turn) fillSaid(s *slot, in Input) bool {
	a, ok := t.read(s.q, in)
	return ok && !a.skip && t.valid(s.q, &a, in) && s.q.variable != nil && t.set(*s.q.variable, a.value)
}

// plainAnswer reads an answer without a model: as the slot that was asked for,
// or as a correction that only one slot takes.
func (t *turn) plainAnswer(n *node, k *Talk, in Input) move {
	b := n.body.(*modelBody)
	if s := b.slot(k.Asked); s != nil {
		if t.fillSaid(s, in) {
			return t.took(n, k, in, []string{s.name})
		}
		return t.notHeard(n, k)
	}
	rest := in
	w := slices.DeleteFunc(words(in.Text), func(s string) bool { return takesBack(s) || s == "wrong" || s == "it's" })
	rest.Text = strings.Join(w, " ")
	var fits []*slot
	for i := range b.slots {
		s := &b.slots[i]
		switch s.q.typ {
		case "text", "any", "file", "yes_no":
			continue
		}
		if a, ok := t.read(s.q, rest); ok && !a.skip && t.valid(s.q, &a, rest) {
			fits = append(fits, s)
		}
	}
	if rest.Text != "" && len(fits) == 1 && t.fillSaid(fits[0], rest) {
		return t.took(n, k, in, []string{fits[0].name})
	}
	if len(k.Check) > 0 || k.Change { // it stays unclear what is wrong: ask for all of it
		k.Redo = append(k.Redo, k.Check...)
		return t.nextSlot(n, k, nil)
	}
	return t.notHeard(n, k)
}

// took goes on after slots were filled: those in doubt are read back, as is
// what was corrected.
func (t *turn) took(n *node, k *Talk, in Input, names []string) move {
	b := n.body.(*modelBody)
	corrects := len(k.Check) > 0 || k.Change
	if corrects {
		k.Redo = nil
	}
	for _, name := range names {
		k.Redo = slices.DeleteFunc(k.Redo, func(s string) bool { return s == name })
		s := b.slot(name)
		unsure := in.Confidence > 0 && in.Confidence < b.doubtBelow
		if s.confirm == "never" || s.confirm != "always" && !unsure && !corrects || slices.Contains(k.Doubt, name) {
			continue
		}
		k.Doubt = append(k.Doubt, name)
	}
	t.s.System.NoMatch, t.s.System.NoInput = 0, 0
	return t.nextSlot(n, k, nil)
}

// resultListen is the guard of a listen node: a model fills declared slots with
// what their type takes, or names a declared intent; nothing else.
func resultListen(t *turn, n *node, r Result) move {
	b, k := n.body.(*modelBody), t.talk()
	in := Input{Mode: "text"}
	if k.Input != nil {
		in = *k.Input
	}
	k.Input = nil
	p, ok := proposal(r)
	if !ok || p.Cut {
		return t.plainAnswer(n, k, in)
	}
	if k.Tokens += p.Tokens; k.Tokens >= b.tokens {
		return t.giveUp("gave_up", "")
	}
	var names []string
	for _, name := range sortedKeys(p.Slots) {
		if s := b.slot(name); s != nil && t.fill(s, p.Slots[name]) {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		return t.took(n, k, in, names)
	}
	for _, i := range b.among {
		if p.Intent != "" && fold(i.name) == fold(p.Intent) && sure(p, b.threshold) {
			return move{outcome: "intent:" + i.name}
		}
	}
	if s := b.slot(k.Asked); s != nil && s.q.typ != "text" && s.q.typ != "any" && t.fillSaid(s, in) {
		return t.took(n, k, in, []string{s.name})
	}
	return t.notHeard(n, k)
}

// notHeard asks once more for what was not understood.
func (t *turn) notHeard(n *node, k *Talk) move {
	b, e := n.body.(*modelBody), n.voice.noMatch
	bad := t.misunderstoodAt(n)
	if e.max > 0 && bad >= e.max {
		return t.giveUp("gave_up", e.then)
	}
	s, takes, sorry := b.slot(k.Asked), Takes{Type: "text"}, t.phrasebook().sorry
	var again []Message
	switch {
	case s != nil:
		takes, again = t.takes(n, s.q), t.show(s.q.messages)
		if !s.q.rules.message.empty() {
			sorry = t.local(s.q.rules.message)
		}
	case len(k.Check) > 0:
		takes, again = confirmation(n), t.s.System.Last
	default:
		again = t.show(b.change)
	}
	if p, ok := e.prompt(bad); ok {
		return t.listenFor(n, k, takes, t.prompt(n, p))
	}
	return t.listenFor(n, k, takes, append([]Message{{Type: "text", Text: sorry}}, again...))
}
