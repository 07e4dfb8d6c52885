package flow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a document.
const (
	MaxDocumentBytes = 4 << 20
	MaxDocumentDepth = 64
	MaxNodes         = 10000
)

// A Problem is a fault of a document.
type Problem struct {
	Severity string `json:"severity"` // [SeverityError] refuses publishing; warnings and infos do not
	Code     string `json:"code"`
	Pointer  string `json:"pointer"` // RFC 6901, into the document
	Message  string `json:"message"`
	Fix      string `json:"fix"`
}

func (p Problem) String() string {
	return fmt.Sprintf("%s: %s %s: %s (%s)", p.Severity, p.Pointer, p.Code, p.Message, p.Fix)
}

// A ParseError lists what keeps a document from being a flow.
type ParseError struct{ Problems []Problem }

func (e *ParseError) Error() string {
	if len(e.Problems) == 0 {
		return "parse flow"
	}
	p := e.Problems[0]
	s := fmt.Sprintf("parse flow: %s at %q", p.Message, p.Pointer)
	if n := len(e.Problems) - 1; n > 0 {
		s += fmt.Sprintf(" and %d more", n)
	}
	return s
}

// A Flow is a compiled document. It is immutable and may be shared by any
// number of conversations and goroutines.
type Flow struct {
	ID, Version string

	doc      []byte
	bare     string // scope of bare names
	locale   string
	locales  []string // the others
	root     *graph
	globals  []global
	onHangup string
	voiced   bool // the document speaks of voices, calls or keys
	limits   limits
	failure  failure
	problems []Problem // found while compiling, for Check
	subs     map[string]*Flow
	tests    any
	// experimentGoals are the goals of experiments, by their ids.
	experimentGoals map[string]string
	strict          bool // a missing reference is an error
	hears           bool // it asks what the caller has heard
}

// limits of one conversation (docs/flow.md, Limits).
type limits struct {
	steps, depth, turns int
	length              time.Duration
	spend               Spent
}

// failure is defaults.errors: what is said, and where to.
type failure struct {
	say     localText
	goodbye localText
	then    string
}

// Document returns the document as it was given to [Parse], with all unknown
// fields. The caller owns the copy.
func (f *Flow) Document() []byte { return bytes.Clone(f.doc) }

// Parse compiles a document. Its error is a *[ParseError] that points to each
// fault. What a document may hold but a publisher must not pass (a missing
// target, an unknown type of node) is left to [Flow.Check]; at run time such a
// place ends the conversation with a friendly message. Types are the program's
// own node types, beside those of the format.
func Parse(doc []byte, types ...Types) (*Flow, error) {
	if len(doc) > MaxDocumentBytes {
		return nil, fault("", "too-large", fmt.Sprintf("%d bytes, at most %d", len(doc), MaxDocumentBytes), "split the flow into sub-flows")
	}
	if err := scan(doc); err != nil {
		return nil, err
	}
	v, err := decodeValue(doc)
	if err != nil {
		return nil, fault("", "syntax", "not JSON: "+err.Error(), "correct the JSON")
	}
	root, ok := clean(v, MaxDocumentDepth).(map[string]any)
	if !ok {
		return nil, fault("", "type", "a flow is an object", "wrap the nodes as {\"nodes\": [...]}")
	}
	c := &compiler{flow: &Flow{doc: bytes.Clone(doc), bare: "variables"}, types: types}
	c.document(root)
	if len(c.faults) > 0 {
		return nil, &ParseError{c.faults}
	}
	c.flow.problems = c.problems
	return c.flow, nil
}

func fault(ptr, code, message, fix string) *ParseError {
	return &ParseError{[]Problem{{"error", code, ptr, message, fix}}}
}

// scan refuses what the decoder would swallow: depth and names given twice.
func scan(doc []byte) error {
	d := jsontext.NewDecoder(bytes.NewReader(doc))
	for {
		_, err := d.ReadToken()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			var syn *jsontext.SyntacticError
			if errors.As(err, &syn) {
				return fault(string(syn.JSONPointer), "syntax", syn.Err.Error(), "correct the JSON")
			}
			return fault(string(d.StackPointer()), "syntax", "not JSON", "correct the JSON")
		}
		if d.StackDepth() > MaxDocumentDepth {
			return fault(string(d.StackPointer()), "too-deep", fmt.Sprintf("deeper than %d levels", MaxDocumentDepth), "move the inner part into a sub-flow")
		}
	}
}

// compiler turns a decoded document into a Flow.
type compiler struct {
	flow        *Flow
	faults      []Problem // refused by Parse
	problems    []Problem // refused or noted by Check
	voice       map[string]any
	intents     map[string][]string
	timeout     time.Duration    // defaults.http.timeout
	experiments map[string][]any // arms by id
	goalNames   map[string]bool  // goals that something reaches
	wants       []wantTemplate   // content of the node at hand
	otherwise   localText        // what that node says where its content is missing
	count       int              // nodes so far
	ssml        bool             // texts of the node at hand are SSML
	nested      int              // composites around the node at hand
	use         []ModelChoice    // defaults.model
	shared      map[string]any   // tools of agent nodes, by name
	types       []Types
}

func (c *compiler) fault(ptr, code, message, fix string) {
	c.faults = append(c.faults, Problem{"error", code, ptr, message, fix})
}

func (c *compiler) problem(severity, ptr, code, message, fix string) {
	c.problems = append(c.problems, Problem{severity, code, ptr, message, fix})
}

func (c *compiler) document(d map[string]any) {
	f := c.flow
	f.ID, f.Version = str(d["id"]), text(d["version"])
	f.tests = d["tests"]
	f.strict = boolean(d["strict"])
	f.hears = bytes.Contains(f.doc, []byte("heard("))
	if str(d["dialect"]) == "wriveted" {
		f.bare = "temp"
	}
	if l, ok := d["locales"].(map[string]any); ok {
		f.locale, f.locales = str(l["default"]), texts(l["others"])
	}
	defaults, _ := d["defaults"].(map[string]any)
	c.voice, f.voiced = defaults["voice"].(map[string]any)
	http, _ := defaults["http"].(map[string]any)
	c.timeout = millis(http["timeout"])
	f.limits = parseLimits(defaults["limits"])
	errs, _ := defaults["errors"].(map[string]any)
	f.failure = failure{say: c.localText(errs["say"]), goodbye: c.localText(defaults["goodbye"]), then: str(errs["then"])}
	c.intents = parseIntents(d["intents"])
	c.use = modelChoices(defaults["model"])
	c.shared, _ = d["tools"].(map[string]any)
	c.experiments, c.goalNames, f.experimentGoals = map[string][]any{}, map[string]bool{}, map[string]string{}
	list, _ := d["experiments"].([]any)
	for _, e := range list {
		if m, ok := e.(map[string]any); ok {
			c.experiments[str(m["id"])], _ = m["split"].([]any)
			if goal := str(m["goal"]); goal != "" {
				f.experimentGoals[str(m["id"])] = goal
			}
		}
	}
	nodes := d["nodes"]
	if nodes == nil {
		c.fault("", "no-nodes", "the flow has no nodes", "add a list \"nodes\"")
		return
	}
	f.root = c.graph(nodes, d["connections"], "", false)
	if f.root == nil {
		return
	}
	for _, k := range []string{"entry", "entry_node_id", "entryNodeId"} {
		if e := str(d[k]); e != "" {
			f.root.entry, f.root.entryPtr = e, "/"+k
			break
		}
	}
	f.onHangup = str(d["on_hangup"])
	c.globals(d["globals"])
	c.goals(d["goals"])
}

// graph compiles nodes, a list or a map by id, with the list of connections
// beside them. Inline children of a composite may lack an id, and go on to the
// next if they have no connections.
func (c *compiler) graph(nodes, connections any, ptr string, inline bool) *graph {
	g := &graph{nodes: map[string]*node{}}
	var raws []any
	var ptrs, ids []string
	switch n := nodes.(type) {
	case []any:
		for i, e := range n {
			raws, ptrs, ids = append(raws, e), append(ptrs, ptr+"/nodes/"+strconv.Itoa(i)), append(ids, "")
		}
	case map[string]any:
		for _, id := range sortedKeys(n) {
			raws, ptrs, ids = append(raws, n[id]), append(ptrs, ptr+"/nodes/"+escapePointer(id)), append(ids, id)
		}
	default:
		c.fault(ptr+"/nodes", "type", "nodes is a list or an object by id", "write [{\"id\": ..., \"type\": ...}]")
		return nil
	}
	if c.count += len(raws); c.count > MaxNodes {
		c.fault(ptr+"/nodes", "too-many", fmt.Sprintf("more than %d nodes", MaxNodes), "split the flow into sub-flows")
		return nil
	}
	for i, raw := range raws {
		m, ok := raw.(map[string]any)
		if !ok {
			c.fault(ptrs[i], "type", "a node is an object", "write {\"id\": ..., \"type\": ..., \"content\": {...}}")
			continue
		}
		n := c.node(m, ids[i], ptrs[i], inline, i)
		if n == nil {
			continue
		}
		if first, twice := g.nodes[n.id]; twice {
			c.problem("error", ptrs[i]+"/id", "duplicate-id", fmt.Sprintf("node %q stands at %s already", n.id, first.ptr), "give every node its own id")
			continue
		}
		g.nodes[n.id] = n
		g.order = append(g.order, n)
	}
	if len(g.order) > 0 {
		g.entry, g.entryPtr = g.order[0].id, g.order[0].ptr
	} else if len(c.faults) == 0 {
		c.fault(ptr+"/nodes", "no-nodes", "there are no nodes", "add a node")
	}
	c.connections(g, connections, ptr)
	if inline {
		for i, n := range g.order[:max(0, len(g.order)-1)] {
			if len(n.edges) == 0 {
				n.addEdge("default", edge{target: g.order[i+1].id, ptr: n.ptr})
			}
		}
	}
	return g
}

// node compiles one node, also of a canvas export (data.nodeType, data.content).
func (c *compiler) node(m map[string]any, id, ptr string, inline bool, i int) *node {
	data, _ := m["data"].(map[string]any)
	if s := str(m["id"]); s != "" {
		id = s
	} else if s := str(m["node_id"]); s != "" && id == "" {
		id = s
	}
	if num, ok := m["id"].(interface{ String() string }); ok && id == "" {
		id = num.String()
	}
	if id == "" && inline {
		id = "#" + strconv.Itoa(i)
	}
	if id == "" {
		c.fault(ptr, "no-id", "the node has no id", "add \"id\"")
		return nil
	}
	typ, at := "", ptr
	for _, t := range []any{data["nodeType"], m["type"], m["node_type"], data["type"]} {
		if typ = strings.ToLower(str(t)); typ != "" {
			break
		}
	}
	content, ok := m["content"].(map[string]any)
	at = ptr + "/content"
	if !ok {
		if content, ok = data["content"].(map[string]any); ok {
			at = ptr + "/data/content"
		} else if v := m["content"]; v != nil {
			c.fault(ptr+"/content", "type", "content is an object", "write {...}")
			return nil
		} else {
			content = map[string]any{}
		}
	}
	n := &node{id: id, ptr: ptr, at: at, typ: typ, content: content}
	own, _ := m["voice"].(map[string]any)
	inner, _ := content["voice"].(map[string]any)
	n.voice = c.voiceBlock(merge(merge(c.voice, inner), own), n)
	c.flow.voiced = c.flow.voiced || own != nil || inner != nil || ofCalls[typ]
	conns := m["connections"]
	cptr := ptr + "/connections"
	if conns == nil {
		if conns = data["connections"]; conns != nil {
			cptr = ptr + "/data/connections"
		}
	}
	c.nodeConnections(n, conns, cptr)
	if n.kind = kindOf(typ); n.kind.enter == nil {
		n.kind = c.custom(typ)
	}
	if n.kind.compile != nil {
		outer := c.wants // of the composite that n is in
		c.wants, c.otherwise = nil, localText{}
		c.ssml = n.voice.TTS.SSML || n.content["ssml"] == true
		n.body = n.kind.compile(c, n)
		n.wants, c.wants, c.ssml = c.wants, outer, false
	}
	if n.kind.enter == nil {
		code, msg := "unknown-type", fmt.Sprintf("there is no node type %q", typ)
		if later[typ] {
			code, msg = "later-type", fmt.Sprintf("node type %q is not supported yet", typ)
		}
		c.problem("error", ptr+"/type", code, msg, "use one of "+strings.Join(kindNames, ", "))
	}
	return n
}

func parseLimits(v any) limits {
	m, _ := v.(map[string]any)
	get := func(name string, def, most int) int {
		if n, ok := integer(m[name]); ok && n > 0 {
			return min(n, most)
		}
		return def
	}
	return limits{
		steps: get("steps_per_turn", 200, 10000), depth: get("depth", 8, 32), turns: get("turns", 200, 10000),
		length: time.Duration(get("minutes", 7*24*60, 365*24*60)) * time.Minute,
		spend: Spent{Calls: get("calls", 1000, 100_000), Bytes: int64(get("call_bytes", 64<<20, 1<<30)),
			Time: time.Duration(get("call_seconds", 3600, 24*3600)) * time.Second},
	}
}

func parseIntents(v any) map[string][]string {
	out := map[string][]string{}
	m, _ := v.(map[string]any)
	for name, phrases := range m {
		if o, ok := phrases.(map[string]any); ok {
			phrases = o["examples"]
		}
		out[name] = texts(phrases)
	}
	return out
}

// Small readers of decoded JSON; a value of another type is the zero value.

func str(v any) string { s, _ := v.(string); return s }

func boolean(v any) bool { b, _ := v.(bool); return b }

func integer(v any) (int, bool) {
	n, ok := numeric(v, true)
	if !ok {
		return 0, false
	}
	i, err := strconv.Atoi(shortest(n))
	return i, err == nil
}

// texts reads a text or a list of texts.
func texts(v any) []string {
	switch v := v.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

func millis(v any) time.Duration {
	n, ok := integer(v)
	if !ok || n < 0 || n > int((24*time.Hour).Milliseconds()) {
		return 0
	}
	return time.Duration(n) * time.Millisecond
}

// merge returns a with b over it, objects within objects merged too.
func merge(a, b map[string]any) map[string]any {
	if len(b) == 0 {
		return a
	}
	out := make(map[string]any, len(a)+len(b))
	for k, v := range a {
		out[k] = v
	}
	for k, v := range b {
		am, aok := out[k].(map[string]any)
		bm, bok := v.(map[string]any)
		if aok && bok {
			v = merge(am, bm)
		}
		out[k] = v
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// escapePointer escapes a name for a JSON pointer (RFC 6901, section 3).
func escapePointer(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "~", "~0"), "/", "~1")
}
