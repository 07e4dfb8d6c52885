package control

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// A Funnel is what became of conversations in a flow.
type Funnel struct {
	Began int64            // conversations, ended by now
	Ended map[string]int64 // by how
	Nodes []NodeFigures    // those entered most first
}

// NodeFigures are what conversations did at a node.
type NodeFigures struct {
	Node             string
	Entered          int64
	LeftTo           []NodeCount      // the most frequent first
	Ended            map[string]int64 // conversations that ended here, by how
	Time             time.Duration    // in all
	NoInput, NoMatch int64
}

// A NodeCount is how often a node was gone to.
type NodeCount struct {
	Node string
	N    int64
}

// Dropped counts the conversations that ended at the node and should not have.
func (n NodeFigures) Dropped() int64 { return n.Ended["abandoned"] + n.Ended["failed"] }

// NewFunnel puts the steps of a flow together.
func NewFunnel(steps []NodeStep) Funnel {
	f := Funnel{Ended: map[string]int64{}}
	at := map[string]*NodeFigures{}
	node := func(name string) *NodeFigures {
		if at[name] == nil {
			at[name] = &NodeFigures{Node: name, Ended: map[string]int64{}}
		}
		return at[name]
	}
	for _, s := range steps {
		ending, ends := strings.CutPrefix(s.Next, "$")
		switch {
		case s.Kind == "no_input":
			node(s.Node).NoInput += s.N
			continue
		case s.Kind == "no_match":
			node(s.Node).NoMatch += s.N
			continue
		case s.Node == "":
			f.Began += s.N
		case ends:
			node(s.Node).Ended[ending] += s.N
			node(s.Node).Time += s.Time
		default:
			n := node(s.Node)
			n.LeftTo = append(n.LeftTo, NodeCount{s.Next, s.N})
			n.Time += s.Time
		}
		if ends {
			f.Ended[ending] += s.N
		} else {
			node(s.Next).Entered += s.N
		}
	}
	for _, n := range at {
		slices.SortFunc(n.LeftTo, func(a, b NodeCount) int { return cmp.Or(cmp.Compare(b.N, a.N), cmp.Compare(a.Node, b.Node)) })
		f.Nodes = append(f.Nodes, *n)
	}
	slices.SortFunc(f.Nodes, func(a, b NodeFigures) int {
		return cmp.Or(cmp.Compare(b.Entered, a.Entered), cmp.Compare(a.Node, b.Node))
	})
	return f
}
