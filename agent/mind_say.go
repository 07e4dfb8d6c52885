package agent

import (
	"cmp"
	"strings"

	"parley/agent/flow"
)

// What a flow says, and how it waits for what follows.

// say speaks messages. What an author wrote is worth keeping as speech.
func (m *flowMind) say(node string, messages []flow.Message, v flow.Voice, say func(line) error) error {
	l := line{fixed: !v.Sensitive, node: node, how: deliveryOf(v),
		policy: policy{never: v.BargeIn.Off, digits: v.BargeIn.DTMFOnly, after: v.BargeIn.After, minWords: v.BargeIn.MinWords}}
	for _, msg := range messages {
		l := l
		if msg.Type == "audio" && msg.URL != "" {
			l.audio, l.text = msg.URL, msg.Alt
			if err := say(l); err != nil {
				return err
			}
			continue
		}
		for _, s := range sentences(msg) {
			l.text, l.ssml = s.Text, s.SSML
			if err := say(l); err != nil {
				return err
			}
		}
	}
	return nil
}

// sentences are the lines of a message: sentence by sentence, so that the first
// is heard while the rest is made; marks stay in one piece.
func sentences(msg flow.Message) []Fixed {
	text := flow.Text([]flow.Message{msg})
	switch {
	case strings.TrimSpace(text) == "":
		return nil
	case msg.SSML != "":
		return []Fixed{{Text: text + " ", SSML: msg.SSML}}
	}
	var split ClauseSplitter // another message may follow: hence the blank
	var out []Fixed
	for _, s := range append(split.Push(text+" "), split.Flush()...) {
		out = append(out, Fixed{Text: s})
	}
	return out
}

func deliveryOf(v flow.Voice) Delivery { return Delivery{Voice: v.TTS.Voice, Rate: v.TTS.Rate} }

// FixedLines are the lines of a flow that are always spoken the same, in the
// pieces in which they are spoken.
func FixedLines(f *flow.Flow) []Fixed {
	var out []Fixed
	seen := map[Fixed]bool{}
	for _, p := range f.FixedPrompts() {
		for _, l := range sentences(p.Message) {
			l.How = deliveryOf(p.Voice)
			if !seen[l] {
				seen[l] = true
				out = append(out, l)
			}
		}
	}
	return out
}

// hearing is how the caller is listened to after a step.
func (m *flowMind) hearing(v flow.Voice) Hearing {
	locale, _ := m.state.Context["locale"].(string)
	h := Hearing{Language: cmp.Or(v.Language, locale), Model: v.Model, Boost: v.Boost}
	if v.Boost > 0 {
		h.Terms = strings.Join(v.Hints, "\n")
	}
	return h
}

// ask turns a waiting question into what the conductor listens for.
func (m *flowMind) ask(e flow.Ask) move {
	pad := keypad{max: e.Voice.Digits.Max, interKey: e.Voice.Digits.InterDigit, finish: '#'}
	if k := e.Voice.Digits.FinishKey; k != "" {
		pad.finish = k[0]
	}
	mv := move{kind: moveListen, silence: e.Voice.NoInput, endSilence: e.Voice.EndSilence, patient: e.Voice.Patient,
		sensitive: e.Voice.Sensitive, node: e.Node, hearing: m.hearing(e.Voice)}
	mv.expect, pad.immediate = expectation(e)
	mv.digits = pad
	return mv
}

// expectation tells recognizers and the end-of-turn rule what an answer may
// be. key reports that one key is an answer.
func expectation(e flow.Ask) (exp Expectation, key bool) {
	exp = Expectation{Kind: e.Takes.Type, Digits: e.Voice.Digits.Max, Boost: e.Voice.Boost}
	switch e.Takes.Type {
	case "yes_no":
		exp.Phrases = append(exp.Phrases, "yes", "no", "yes please", "no thanks", "yeah", "nope", "sure", "correct", "right",
			"that's right", "that's wrong", "yes it is", "no it isn't", "okay")
		key = true
	case "choice", "buttons", "menu", "image_choice", "multiple_choice":
		exp.Kind = "choice"
		key = e.Voice.Digits.Max <= 1
	}
	for _, o := range e.Takes.Options {
		exp.Phrases = append(exp.Phrases, o.Label)
		if v, ok := o.Value.(string); ok {
			exp.Phrases = append(exp.Phrases, v)
		}
		exp.Phrases = append(exp.Phrases, o.Say...)
		key = key && len(o.DTMF) <= 1
	}
	exp.Phrases = append(append(exp.Phrases, e.Takes.Hints...), e.Voice.Hints...)
	return exp, key
}

// again says once more what a call that came back was hearing: the standing
// question, else the messages that were not heard to their end.
func (m *flowMind) again(say func(line) error) (move, error) {
	mv, said := move{kind: moveListen}, []flow.Say(nil)
	for _, e := range m.state.Pending() {
		switch e := e.(type) {
		case flow.Ask:
			last := m.state.System.Last
			if m.state.System.Confirm != nil {
				last = e.Messages
			}
			return m.ask(e), m.say(m.state.Session.CurrentNode, last, e.Voice, say)
		case flow.Say:
			mv, said = move{kind: movePlayed}, append(said, e)
		}
	}
	if m.state.Session.Status != flow.Active {
		mv = move{kind: moveEnd, reason: "goodbye"}
	}
	for _, e := range said {
		if err := m.say(e.Node, e.Messages, e.Voice, say); err != nil {
			return mv, err
		}
	}
	return mv, nil
}
