package flow

import (
	"strings"
)

// compositeBody is a compiled composite node.
type compositeBody struct {
	use     Use
	inline  *graph
	inputs  map[string]compositeInput
	outputs map[string]*ref
}

// A compositeInput is a template or literal, or a path if it resolves.
type compositeInput struct {
	value valueTemplate
	path  *ref
}

// With returns f with the flows that its composites may name, and that those
// may name in turn, by [Use.Key]. The host pins their versions: it passes those
// that the session began with. One under a bare id stands in for any use of it
// whose range does not exclude its version: for hosts that have files alone.
func (f *Flow) With(subs map[string]*Flow) *Flow {
	out := *f
	out.subs = subs
	for _, s := range subs {
		out.hears = out.hears || s.hears
	}
	return &out
}

// Uses lists the flows that f names, each once, in the order of their keys.
func (f *Flow) Uses() []Use {
	seen := map[string]Use{}
	var visit func(g *graph)
	visit = func(g *graph) {
		for _, n := range g.order {
			if b, ok := n.body.(*compositeBody); ok {
				if b.inline != nil {
					visit(b.inline)
				} else if b.use.Flow != "" {
					seen[b.use.Key()] = b.use
				}
			}
		}
	}
	visit(f.root)
	out := make([]Use, 0, len(seen))
	for _, k := range sortedKeys(seen) {
		out = append(out, seen[k])
	}
	return out
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
	if sub := f.subs[b.use.Key()]; sub != nil {
		return sub.root
	}
	sub := f.subs[b.use.Flow]
	if sub == nil || b.use.Version == "" {
		return nil
	}
	if r, err := ParseRange(b.use.Version); err == nil && sub.Version != "" && !r.Has(sub.Version) {
		return nil
	}
	return sub.root
}

func compileComposite(c *compiler, n *node) any {
	b := &compositeBody{use: Use{Flow: first(n.content, "flow", "composite_flow_id", "flow_id")}, inputs: map[string]compositeInput{}, outputs: map[string]*ref{}}
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
	} else if b.use.Flow == "" {
		b.use.Flow = n.id // a component is known by its name
	}
	var err error
	if b.use.Version, err = pinned(n.content["version"]); err != nil {
		c.problem("error", n.at+"/version", "bad-version", err.Error(), "write a version (1.4.0), a range (^1.2, ~1.4.0, 1.x), or a version's number")
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
