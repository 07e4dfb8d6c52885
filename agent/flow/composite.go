package flow

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

// compositeBody is a compiled composite node.
type compositeBody struct {
	flow   string
	inline *graph
}

// returned takes the end of a composite's frame.
func (t *turn) returned(n *node, done Frame, outcome string) move {
	if failed(outcome) {
		return move{outcome: "error"}
	}
	return move{outcome: "complete"}
}
