package flow

import "slices"

// A Prompt is something that a flow says, with the voice of its node.
type Prompt struct {
	Message Message
	Voice   Voice
}

// FixedPrompts lists what f says without any reference: it is spoken the same in
// every conversation, once in each of its languages. What is said by sensitive
// nodes is left out.
func (f *Flow) FixedPrompts() []Prompt {
	p := &prompts{f: f}
	p.graph(f.root)
	for _, id := range sortedKeys(f.subs) {
		p.graph(f.subs[id].root)
	}
	for _, l := range []localText{f.failure.say, f.failure.goodbye} {
		p.text(nil, messageTemplate{typ: "text", text: l})
	}
	for _, s := range sortedKeys(phrasebooks) {
		if book := phrasebooks[s]; p.speaks(s) {
			for _, text := range []string{book.sorry, book.unsaid, book.goodbye} {
				p.out = append(p.out, Prompt{Message: Message{Type: "text", Text: text}})
			}
		}
	}
	return p.out
}

// prompts gathers fixed prompts.
type prompts struct {
	f   *Flow
	out []Prompt
}

// speaks reports whether the flow has texts in a language.
func (p *prompts) speaks(language string) bool {
	for _, l := range append([]string{p.f.locale}, p.f.locales...) {
		if len(l) >= 2 && fold(l[:2]) == language {
			return true
		}
	}
	return p.f.locale == "" && language == "en"
}

func (p *prompts) graph(g *graph) {
	for _, n := range g.order {
		if n.voice.Sensitive {
			continue
		}
		var list []messageTemplate
		switch b := n.body.(type) {
		case *messageBody:
			list = b.messages
		case *questionBody:
			list = slices.Clone(b.messages)
			if !b.rules.message.empty() {
				list = append(list, messageTemplate{typ: "text", text: b.rules.message})
			}
		case *hangupBody:
			list = b.messages
		case *transferBody:
			list = b.messages
		case *recordBody:
			list = b.messages
		case *waitBody:
			list = b.sayWhile
		case *callSpec:
			list = b.sayWhile
		case *compositeBody:
			if b.inline != nil {
				p.graph(b.inline)
			}
		}
		for _, e := range []escalation{n.voice.noInput, n.voice.noMatch} {
			for _, l := range e.prompts {
				list = append(list, messageTemplate{typ: "text", text: l, ssml: n.voice.TTS.SSML})
			}
		}
		for _, m := range list {
			p.text(n, m)
		}
	}
}

// text adds a message in each of its languages.
func (p *prompts) text(n *node, m messageTemplate) {
	if m.typ != "text" {
		return
	}
	add := func(locale string, t template) {
		if len(t) != 1 || t[0].ref != nil || t[0].text == "" {
			return
		}
		var v Voice
		if n != nil {
			v = n.voice.Voice
			if name := n.voice.voices.in(locale, p.f.locale); len(name) == 1 {
				v.TTS.Voice = name[0].text
			}
		}
		msg := Message{Type: "text", Text: t[0].text}
		if m.ssml {
			msg.Text, msg.SSML = Plain(t[0].text), t[0].text
		}
		p.out = append(p.out, Prompt{msg, v})
	}
	if m.text.any != nil {
		add(p.f.locale, m.text.any)
	}
	for _, locale := range sortedKeys(m.text.locale) {
		add(locale, m.text.locale[locale])
	}
}
