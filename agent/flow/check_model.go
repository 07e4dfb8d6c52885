package flow

import "fmt"

// private finds what a sensitive node hears in what a model is told elsewhere.
func (k *checker) private(g *graph) {
	heard := map[string]string{} // variable → the sensitive node that fills it
	k.each(g, func(n *node) {
		if !n.voice.Voice.Sensitive {
			return
		}
		switch b := n.body.(type) {
		case *questionBody:
			note(heard, b.variable, n.id)
		case *modelBody:
			for i := range b.slots {
				note(heard, b.slots[i].q.variable, n.id)
			}
		}
	})
	if len(heard) == 0 {
		return
	}
	k.each(g, func(n *node) {
		b, ok := n.body.(*modelBody)
		if !ok || n.voice.Voice.Sensitive {
			return
		}
		told := func(r *ref, ptr string) {
			if r == nil || r.secret != "" {
				return
			}
			if from := heard[place(r)]; from != "" {
				k.add("error", ptr, "sensitive-in-prompt", fmt.Sprintf("a model would be told what the sensitive node %q heard", from), "leave {"+r.source+"} out, or let no model help here")
			}
		}
		for _, p := range append(append(template(nil), b.prompt...), b.first...) {
			told(p.ref, n.at+"/prompt")
		}
		for i := range b.slots {
			told(b.slots[i].q.variable, n.at+"/slots")
		}
		for _, tl := range b.tools {
			if tl.returns != nil {
				tl.returns.walk(func(t template) {
					for _, p := range t {
						told(p.ref, n.at+"/tools")
					}
				})
			}
		}
	})
}

func note(m map[string]string, r *ref, id string) {
	if r != nil {
		m[place(r)] = id
	}
}

// place names a variable whole.
func place(r *ref) string { return fmt.Sprint(r.scope, r.path) }

// each calls do for every node of g and of what is within its composites.
func (k *checker) each(g *graph, do func(*node)) {
	for _, n := range g.order {
		do(n)
		if b, ok := n.body.(*compositeBody); ok && b.inline != nil {
			k.each(b.inline, do)
		}
	}
}
