package flow

import (
	"slices"
	"strings"
)

// What an agent node says by itself.
const (
	sayAgain = "Sorry, could you say that again?"
	stillOn  = "Are you still there?"
)

// enterAgent begins a conversation within bounds: by the opening, or by the
// model's own words.
func enterAgent(t *turn, n *node) move {
	b := n.body.(*modelBody)
	if t.s.System.Left {
		return move{outcome: "error"}
	}
	if n.voice.Voice.Sensitive {
		t.warn("a sensitive node may not ask a model")
		return move{outcome: "error"}
	}
	k := t.beginTalk(n)
	if in, ok := t.firstWords(b); ok {
		t.hears(k, in)
		return t.agentRound(n, k)
	}
	if len(b.opening) > 0 {
		return t.converse(n, k, t.show(b.opening), false)
	}
	return t.agentRound(n, k)
}

// inputAgent gives the model what the caller said.
func inputAgent(t *turn, n *node, in Input) move {
	b, k := n.body.(*modelBody), t.talk()
	if strings.TrimSpace(in.Text) == "" {
		return t.remark(n, k, []Message{{Type: "text", Text: sayAgain}}, false)
	}
	t.s.System.NoInput = 0
	t.hears(k, in)
	if t.spent(b, k) || k.Turns > b.turns {
		return t.overrun(n)
	}
	return t.agentRound(n, k)
}

// spent tells whether the node has used up its time or its tokens.
func (t *turn) spent(b *modelBody, k *Talk) bool {
	return b.length > 0 && t.ev.Time().Sub(k.Began) >= b.length || k.Tokens >= b.tokens
}

func (t *turn) overrun(n *node) move {
	t.emit("agent_limit", map[string]any{"node": n.id})
	return move{outcome: "limit"}
}

// agentRound asks the model what to say or do.
func (t *turn) agentRound(n *node, k *Talk) move {
	b := n.body.(*modelBody)
	if k.Rounds >= maxRounds { // it goes in circles
		return t.confused(n, k)
	}
	e := Model{Slots: t.slotsFor(b.slots), Notes: t.s.System.Notes}
	for _, x := range b.exits {
		e.Exits = append(e.Exits, Choice{Name: x.name, About: x.about})
	}
	for _, tl := range b.tools {
		e.Tools = append(e.Tools, Tool{Name: tl.name, About: tl.about, Args: t.slotsFor(tl.args)})
	}
	return t.round(n, k, e)
}

// confused counts a round that came to nothing.
func (t *turn) confused(n *node, k *Talk) move {
	if k.Faults++; k.Faults >= maxFaults {
		t.warn("the model makes no sense")
		return move{outcome: "error"}
	}
	return t.remark(n, k, []Message{{Type: "text", Text: sayAgain}}, false)
}

// converse says something and waits for the caller. It is what a caller who did
// not hear it may have said again.
func (t *turn) converse(n *node, k *Talk, messages []Message, spoken bool) move {
	if len(messages) > 0 {
		t.s.System.Last = messages
	}
	return t.remark(n, k, messages, spoken)
}

// remark says something beside the matter and waits for the caller.
func (t *turn) remark(n *node, k *Talk, messages []Message, spoken bool) move {
	if s := Text(messages); s != "" {
		k.add(Line{Who: ByAgent, Text: cut(s, maxSay), Open: true})
	}
	t.ask(n, Takes{Type: "text", Hints: append(slices.Clone(n.voice.Hints), t.f.phrases()...)}, messages, false, spoken)
	return wait
}

// resultAgent is the guard of an agent node: words are said as they are, slots
// are read by their type, tools are those of the node, and an exit is taken
// only if it is declared and its condition holds.
func resultAgent(t *turn, n *node, r Result) move {
	b, k := n.body.(*modelBody), t.talk()
	if k.Tool != nil {
		return t.toolResult(n, k, r)
	}
	p, ok := proposal(r)
	if !ok {
		t.warn("no model answers")
		return move{outcome: "error"}
	}
	k.Tokens += p.Tokens
	if p.Cut {
		return t.converse(n, k, says(p), true)
	}
	refused := t.fillAll(b, k, p.Slots)
	if t.spent(b, k) && p.Say == "" {
		return t.overrun(n)
	}
	x, leaves := t.mayLeave(b, k, p.Exit)
	switch {
	case leaves:
		k.Faults = 0
		t.utter(says(p), p.Spoken)
		t.say(t.show(x.messages))
		return move{outcome: "exit:" + x.name}
	case len(p.Tools) > 0:
		t.utterOpen(k, p)
		k.Tools = p.Tools
		return t.nextTool(n, k)
	case p.Exit != "" || refused && p.Say == "" || len(p.Slots) > 0 && p.Say == "":
		t.utterOpen(k, p) // the model hears what came of it, and speaks again
		return t.agentRound(n, k)
	case p.Say == "":
		return t.confused(n, k)
	}
	k.Faults = 0
	return t.converse(n, k, says(p), p.Spoken)
}

func says(p Proposal) []Message {
	if p.Say == "" {
		return nil
	}
	return []Message{{Type: "text", Text: p.Say}}
}

// utter says something that nobody answers.
func (t *turn) utter(messages []Message, spoken bool) {
	t.say(messages)
	if n := len(t.out); spoken && len(messages) > 0 && n > 0 {
		if s, ok := t.out[n-1].(Say); ok {
			s.Spoken = true
			t.out[n-1] = s
		}
	}
}

// utterOpen is utter, and the model will know of what was heard.
func (t *turn) utterOpen(k *Talk, p Proposal) {
	if p.Say != "" {
		k.add(Line{Who: ByAgent, Text: p.Say, Open: true})
		t.utter(says(p), p.Spoken)
	}
}

// mayLeave finds the exit that a model asks for. What keeps it from being
// taken, the model is told.
func (t *turn) mayLeave(b *modelBody, k *Talk, name string) (exit, bool) {
	if name == "" {
		return exit{}, false
	}
	why := "there is no such exit"
	args := string(rawJSON(map[string]any{"exit": cut(name, 100)}))
	for _, x := range b.exits {
		if x.name != fold(name) {
			continue
		}
		missing := t.missing(b, x.must)
		if len(missing) == 0 && t.holds(x.when) {
			return x, true
		}
		why = "not yet: its condition does not hold"
		if len(missing) > 0 {
			why = "not yet: still missing: " + strings.Join(missing, ", ")
		}
	}
	t.emit("model_refused", map[string]any{"exit": cut(name, 100), "reason": why})
	k.add(Line{Who: ByWish, Wish: WishExit, Args: args, Text: "refused: " + why})
	return exit{}, false
}

// missing lists the slots of names that have no value.
func (t *turn) missing(b *modelBody, names []string) []string {
	var out []string
	for _, name := range names {
		if s := b.slot(name); s == nil || !t.filled(s) {
			out = append(out, name)
		}
	}
	return out
}

// filled tells whether a slot has a value.
func (t *turn) filled(s *slot) bool {
	if s.q.variable == nil {
		return false
	}
	v, ok := t.resolve(s.q.variable)
	return ok && v != nil && v != ""
}

// fillAll stores what a model read in the caller's words, if the slot is one of
// the node's and its type takes the value. It reports whether one was refused.
func (t *turn) fillAll(b *modelBody, k *Talk, slots map[string]any) (refused bool) {
	for i, name := range sortedKeys(slots) {
		if i == maxWishes*4 {
			break
		}
		answer := "stored"
		if s := b.slot(name); s == nil {
			answer, refused = "refused: there is no such slot", true
		} else if !t.fill(s, slots[name]) {
			answer, refused = "refused: this is no "+s.q.typ+" that is taken here", true
		}
		args := rawJSON(map[string]any{cut(name, 100): slots[name]})
		if len(args) > maxValue {
			args = rawJSON(map[string]any{cut(name, 100): "…"})
		}
		k.add(Line{Who: ByWish, Wish: WishSlots, Args: string(args), Text: answer})
	}
	return refused
}

// fill stores a value that a model proposes, read as if it had been typed.
func (t *turn) fill(s *slot, v any) bool {
	a, ok := t.readSlot(s, v)
	return ok && s.q.variable != nil && t.set(*s.q.variable, a)
}

// readSlot reads a value by the slot's type.
func (t *turn) readSlot(s *slot, v any) (any, bool) {
	said := text(v)
	if len(said) > maxValue {
		return nil, false
	}
	in := Input{At: At{t.ev.Time()}, Text: said, Mode: "text"}
	a, ok := t.read(s.q, in)
	if !ok || a.skip || !t.valid(s.q, &a, in) {
		return nil, false
	}
	return a.value, true
}

// slotsFor describes slots to a model.
func (t *turn) slotsFor(list []slot) []Slot {
	var out []Slot
	for i := range list {
		s := &list[i]
		d := Slot{Name: s.name, Type: s.q.typ, About: s.about, Must: !s.optional}
		for _, o := range t.choices(s.q) {
			name := text(o.value)
			if name == "" {
				name = t.local(o.label)
			}
			d.Options = append(d.Options, name)
		}
		if s.q.variable != nil {
			if v, ok := t.resolve(s.q.variable); ok && len(text(v)) <= maxValue {
				d.Value = v
			}
		}
		out = append(out, d)
	}
	return out
}

// silentAgent asks a silent caller whether they are there.
func silentAgent(t *turn, n *node) move {
	k, e := t.talk(), n.voice.noInput
	t.heardOf(k)
	silences := t.unheardAt(n)
	most := e.max
	if most == 0 {
		most = agentSilences
	}
	if silences >= most {
		return t.giveUp("no_input", e.then)
	}
	said := stillOn
	if p, ok := e.prompt(silences); ok {
		said = t.local(p)
	}
	return t.remark(n, k, []Message{{Type: "text", Text: said}}, false)
}
