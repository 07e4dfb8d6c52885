package flow

import (
	"fmt"
	"strconv"
	"strings"
)

// A graph is nodes and their edges: a flow, or the inside of a composite.
type graph struct {
	nodes    map[string]*node
	order    []*node
	entry    string
	entryPtr string
}

// A node is compiled: body is what its kind made of the content.
type node struct {
	id, typ string
	ptr, at string // JSON pointers of the node and of its content
	kind    kind
	content map[string]any
	edges   map[string][]edge // by outcome in lower case, in the order to try
	body    any
	wants   []wantTemplate // content that it shows
	goals   []string       // reached by entering it
	voice   voiceBlock
}

// An edge leads from an outcome to a node or special target.
type edge struct {
	target string
	when   *test // nil: always
	ptr    string
}

// A kind is a type of node. A new one is a case of kindOf.
type kind struct {
	// compile checks the content and prepares body.
	compile func(c *compiler, n *node) any
	// enter runs the node.
	enter func(t *turn, n *node) move
	// input takes the answer that enter waited for.
	input func(t *turn, n *node, in Input) move
	// silent takes the caller's silence; nil for what every question does.
	silent func(t *turn, n *node) move
	// result takes what an effect of the node came to.
	result func(t *turn, n *node, r Result) move
	// targets lists the nodes that the content names.
	targets func(n *node) []target
	// waits says that a turn may end here.
	waits bool
	// outside says that it acts on the world: it waits until the caller has
	// heard what was said before.
	outside bool
}

type target struct{ to, ptr string }

// later are the node types of the format that this engine does not run yet.
var later = map[string]bool{
	"knowledge": true, "dial": true, "payment": true, "handoff_channel": true, "script": true,
	"music": true, "hold": true,
}

func (n *node) addEdge(outcome string, e edge) {
	if n.edges == nil {
		n.edges = map[string][]edge{}
	}
	outcome = strings.ToLower(outcome)
	n.edges[outcome] = append(n.edges[outcome], e)
}

// fallbacks returns the outcomes to try for one, in order (docs/flow.md, Connections).
func fallbacks(outcome string) []string {
	switch outcome = strings.ToLower(outcome); outcome {
	case "default", "":
		return []string{"default", "success"}
	case "success":
		return []string{"success", "default"}
	case "error":
		return []string{"error", "failure", "default"}
	case "failure":
		return []string{"failure", "error", "default"}
	case "fallback", "complete", "answered":
		return []string{outcome, "success", "default"}
	case "no_input", "no_match", "timeout", "busy", "machine", "declined", "no_answer", "failed", "limit", "gave_up":
		return []string{outcome, "error", "failure", "default"}
	}
	return []string{outcome, "default"}
}

// failed tells whether an outcome that ends a frame is an error to its parent.
func failed(outcome string) bool {
	o := fallbacks(outcome)
	return len(o) > 2 && (o[1] == "error" || o[0] == "error" || o[0] == "failure")
}

// nodeConnections reads a node's own connections: {outcome: target}, where a
// target is an id, {target, conditions} or a list of these; or a list of
// {type, target, conditions}.
func (c *compiler) nodeConnections(n *node, v any, ptr string) {
	switch v := v.(type) {
	case map[string]any:
		for _, outcome := range sortedKeys(v) {
			c.edges(n, outcome, v[outcome], ptr+"/"+escapePointer(outcome))
		}
	case []any:
		for i, e := range v {
			m, _ := e.(map[string]any)
			c.edges(n, edgeType(m), e, ptr+"/"+strconv.Itoa(i))
		}
	case nil:
	case string:
		n.addEdge("default", edge{target: v, ptr: ptr})
	default:
		c.fault(ptr, "type", "connections is an object by outcome", "write {\"default\": \"next_node\"}")
	}
}

func (c *compiler) edges(n *node, outcome string, v any, ptr string) {
	switch v := v.(type) {
	case string:
		if v != "" {
			n.addEdge(outcome, edge{target: v, ptr: ptr})
		}
	case map[string]any:
		to := first(v, "target", "target_node_id", "then", "to", "node")
		if to == "" {
			c.fault(ptr, "type", "the connection has no target", "write the id of a node")
			return
		}
		n.addEdge(outcome, edge{target: to, when: c.edgeTest(v, ptr), ptr: ptr})
	case []any:
		for i, e := range v {
			c.edges(n, outcome, e, ptr+"/"+strconv.Itoa(i))
		}
	case nil:
	default:
		c.fault(ptr, "type", "a connection's target is the id of a node", "write the id as text")
	}
}

// connections merges the top-level list behind what the nodes say themselves.
func (c *compiler) connections(g *graph, v any, ptr string) {
	list, ok := v.([]any)
	if v != nil && !ok {
		c.fault(ptr+"/connections", "type", "connections is a list", "write [{\"source\": ..., \"target\": ...}]")
	}
	for i, e := range list {
		at := ptr + "/connections/" + strconv.Itoa(i)
		m, ok := e.(map[string]any)
		if !ok {
			c.fault(at, "type", "a connection is an object", "write {\"source\": ..., \"target\": ...}")
			continue
		}
		from, to := first(m, "source", "source_node_id", "from"), first(m, "target", "target_node_id", "to")
		n := g.nodes[from]
		if n == nil {
			c.problem("error", at+"/source", "missing-source", fmt.Sprintf("there is no node %q", from), "name an existing node")
			continue
		}
		n.addEdge(edgeType(m), edge{target: to, when: c.edgeTest(m, at), ptr: at})
	}
}

func edgeType(m map[string]any) string {
	if t := first(m, "type", "connection_type", "outcome", "sourceHandle"); t != "" {
		return t
	}
	return "default"
}

func (c *compiler) edgeTest(m map[string]any, ptr string) *test {
	v := m["conditions"]
	if o, ok := v.(map[string]any); ok && len(o) == 0 {
		return nil
	}
	if o, ok := v.(map[string]any); ok && o["if"] != nil {
		return c.test(o["if"], ptr+"/conditions/if")
	}
	if v != nil {
		return c.test(v, ptr+"/conditions")
	}
	if v := m["if"]; v != nil {
		return c.test(v, ptr+"/if")
	}
	return nil
}

func first(m map[string]any, names ...string) string {
	for _, n := range names {
		if s := str(m[n]); s != "" {
			return s
		}
	}
	return ""
}
