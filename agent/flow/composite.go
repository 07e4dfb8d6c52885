package flow

import (
	"strings"
)

// compositeBody is a compiled composite node.
type compositeBody struct {
	flow    string
	inline  *graph
	inputs  map[string]compositeInput
	outputs map[string]*ref
}

// A compositeInput is a template or literal, or a path if it resolves.
type compositeInput struct {
	value valueTemplate
	path  *ref
}

// With returns f with the flows that its composites may name by id, and that
// those may name in turn. The host pins their versions: it passes those that
// the session began with.
func (f *Flow) With(subs map[string]*Flow) *Flow {
	out := *f
	out.subs = subs
	return &out
}

// Uses lists the flows that f names by id.
func (f *Flow) Uses() []string {
	seen := map[string]bool{}
	var visit func(g *graph)
	visit = func(g *graph) {
		for _, n := range g.order {
			if b, ok := n.body.(*compositeBody); ok {
				if b.inline != nil {
					visit(b.inline)
				} else if b.flow != "" {
					seen[b.flow] = true
				}
			}
		}
	}
	visit(f.root)
	return sortedKeys(seen)
}

// inside returns the graph of a composite node, nil if it has none.
func (f *Flow) inside(n *node) *graph {
	b, _ := n.body.(*compositeBody)
	if b == nil {
		return nil
	}
	if b.inline != nil {
		return b.inline
	}
	if sub := f.subs[b.flow]; sub != nil {
		return sub.root
	}
	return nil
}

func compileComposite(c *compiler, n *node) any {
	b := &compositeBody{flow: first(n.content, "flow", "composite_flow_id", "flow_id"), inputs: map[string]compositeInput{}, outputs: map[string]*ref{}}
	if nodes := n.content["nodes"]; nodes != nil {
		if c.nested++; c.nested > MaxStateDepth {
			c.fault(n.at+"/nodes", "too-deep", "composites are nested too deep", "move the inner part into a sub-flow")
			return b
		}
		b.inline = c.graph(nodes, n.content["connections"], n.at, true)
		c.nested--
		if e := first(n.content, "entry", "entry_node_id"); e != "" && b.inline != nil {
			b.inline.entry, b.inline.entryPtr = e, n.at+"/entry"
		}
	} else if b.flow == "" {
		c.problem("error", n.at, "missing-field", "the composite has neither a flow nor nodes", "add \"flow\" or \"nodes\"")
	}
	in, _ := n.content["inputs"].(map[string]any)
	for name, v := range in {
		i := compositeInput{value: parseValue(v, c.flow.bare)}
		c.noSecret(i.value, n.at+"/inputs/"+escapePointer(name))
		if s := strings.TrimSpace(str(v)); isName(s, true) && !strings.HasPrefix(s, "secret:") {
			r := parseRef(s, c.flow.bare)
			i.path = &r
		}
		b.inputs[name] = i
	}
	out, _ := n.content["outputs"].(map[string]any)
	for name, v := range out {
		b.outputs[name] = c.target(v, n.at+"/outputs/"+escapePointer(name))
	}
	return b
}

func enterComposite(t *turn, n *node) move {
	b := n.body.(*compositeBody)
	g := t.f.inside(n)
	if g == nil {
		t.fail("missing-flow", "there is no flow for composite "+n.id)
		return wait
	}
	input := map[string]any{}
	for name, i := range b.inputs {
		if i.path != nil {
			if v, ok := t.resolve(i.path); ok {
				input[name] = v
				continue
			}
		}
		input[name] = t.value(i.value)
	}
	if !t.open(Frame{Via: n.id, Input: input, Local: map[string]any{}, Output: map[string]any{}}) {
		return wait
	}
	return move{target: g.entry}
}

// returned takes the end of a composite's frame: on complete its outputs are
// written, else nothing is.
func (t *turn) returned(n *node, done Frame, outcome string) move {
	if n.kind.enter == nil {
		return move{outcome: "error"}
	}
	if failed(outcome) {
		return move{outcome: "error"}
	}
	b, _ := n.body.(*compositeBody)
	if b == nil {
		return move{outcome: "default"}
	}
	if done.Out != "" {
		return move{outcome: done.Out}
	}
	for _, name := range sortedKeys(b.outputs) {
		v, ok := lookup(done.Output, pathOf(name))
		if r := b.outputs[name]; ok && (r == nil || !t.set(*r, v)) {
			t.warn("output " + name + " may not be written")
			return move{outcome: "error"}
		}
	}
	return move{outcome: "complete"}
}
