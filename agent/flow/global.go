package flow

import "strconv"

// A global is a way out that stands open while any question waits.
type global struct {
	id      string
	phrases []string // normalised
	dtmf    string
	then    string
	do      string
	back    bool // return: ask the interrupted question again
	ptr     string
}

func (c *compiler) globals(v any) {
	list, ok := v.([]any)
	if v != nil && !ok {
		c.fault("/globals", "type", "globals is a list", "write [{\"when\": {...}, \"then\": ...}]")
	}
	for i, e := range list {
		ptr := "/globals/" + strconv.Itoa(i)
		m, ok := e.(map[string]any)
		if !ok {
			c.fault(ptr, "type", "a global is an object", "write {\"when\": {...}, \"then\": ...}")
			continue
		}
		when, _ := m["when"].(map[string]any)
		g := global{id: str(m["id"]), dtmf: text(when["dtmf"]), then: str(m["then"]), do: str(m["do"]), back: boolean(m["return"]), ptr: ptr}
		for _, intent := range texts(when["intent"]) {
			for _, p := range append([]string{intent}, c.intents[intent]...) {
				if p = plainWords(p); p != "" {
					g.phrases = append(g.phrases, p)
				}
			}
		}
		for _, p := range texts(when["phrases"]) {
			g.phrases = append(g.phrases, plainWords(p))
		}
		switch g.do {
		case "", "repeat_last", "stop", "hangup":
		default:
			c.problem("error", ptr+"/do", "unknown-value", "there is no "+strconv.Quote(g.do)+" to do", "use repeat_last, stop or hangup")
		}
		if g.then == "" && g.do == "" {
			c.problem("error", ptr, "missing-target", "the global leads nowhere", "add \"then\" or \"do\"")
		}
		c.flow.globals = append(c.flow.globals, g)
	}
}

// global finds the way out that an answer asks for.
func (t *turn) global(in Input) (global, bool) {
	said := plainWords(in.Text)
	if said == "" && in.Mode != "dtmf" {
		return global{}, false
	}
	for _, g := range t.f.globals {
		if in.Mode == "dtmf" {
			if g.dtmf != "" && g.dtmf == trimKeys(in.Text) {
				return g, true
			}
			continue
		}
		for _, p := range g.phrases {
			if said == p || asksFor(said, p) {
				return g, true
			}
		}
	}
	return global{}, false
}

func (t *turn) runGlobal(g global) {
	switch g.do {
	case "repeat_last":
		n := t.node()
		t.askWith(n, t.s.System.Last, false)
		return
	case "stop":
		t.end(Completed, t.s.System.Voice)
		return
	case "hangup":
		t.run(move{target: "@hangup"})
		return
	}
	t.unwait()
	if g.back {
		if !t.open(Frame{Aside: true}) {
			return
		}
	} else {
		t.unwind()
	}
	t.run(move{target: g.then})
}

// phrases lists what a caller may always say, for recognizers.
func (f *Flow) phrases() []string {
	var out []string
	for _, g := range f.globals {
		out = append(out, g.phrases...)
	}
	return out
}
