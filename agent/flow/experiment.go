package flow

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
	"strings"
)

const (
	defaultWeight = 100
	maxWeight     = 1_000_000
	maxArms       = 500 // draws that a conversation remembers
	maxExposures  = 100 // that wait for an answer
)

// An Experiment is what a flow tries on people: the arms of a split.
type Experiment struct {
	ID   string `json:"id"`
	Goal string `json:"goal,omitempty"` // what counts as success; empty for any goal
	Arms []Arm  `json:"arms"`
}

// An Arm is one way of an experiment.
type Arm struct {
	Name   string `json:"arm"`
	Weight int    `json:"weight"`
}

// Experiments lists the experiments of f's split nodes and of those in the
// flows that it calls, by id.
func (f *Flow) Experiments() []Experiment {
	found := map[string]Experiment{}
	var visit func(f *Flow, g *graph)
	visit = func(f *Flow, g *graph) {
		for _, n := range g.order {
			switch b := n.body.(type) {
			case *splitBody:
				e := Experiment{ID: b.experiment, Goal: f.experimentGoals[b.experiment]}
				for _, a := range b.arms {
					e.Arms = append(e.Arms, Arm{a.name, int(a.weight)})
				}
				if _, twice := found[e.ID]; !twice {
					found[e.ID] = e
				}
			case *compositeBody:
				if b.inline != nil {
					visit(f, b.inline)
				}
			}
		}
	}
	visit(f, f.root)
	for _, name := range sortedKeys(f.subs) {
		visit(f.subs[name], f.subs[name].root)
	}
	out := []Experiment{}
	for _, id := range sortedKeys(found) {
		out = append(out, found[id])
	}
	return out
}

type splitBody struct {
	experiment string
	arms       []arm
}

type arm struct {
	name   string
	weight uint64
}

func compileSplit(c *compiler, n *node) any {
	b := &splitBody{experiment: first(n.content, "experiment", "id")}
	list, _ := n.content["split"].([]any)
	if list == nil {
		list, _ = n.content["arms"].([]any)
	}
	if list == nil {
		list = c.experiments[b.experiment]
	}
	total := uint64(0)
	for i, e := range list {
		m, _ := e.(map[string]any)
		a := arm{name: first(m, "arm", "name", "id"), weight: 1}
		if s, ok := e.(string); ok {
			a.name = s
		}
		if w, ok := integer(m["weight"]); ok && w >= 0 && w <= maxWeight {
			a.weight = uint64(w)
		}
		if a.name == "" {
			a.name = "$" + strconv.Itoa(i)
		}
		total += a.weight
		if at := slices.IndexFunc(b.arms, func(o arm) bool { return o.name == a.name }); at >= 0 {
			b.arms[at].weight += a.weight
		} else {
			b.arms = append(b.arms, a)
		}
	}
	if b.experiment == "" {
		b.experiment = n.id
	}
	if total == 0 {
		c.problem("error", n.at, "missing-field", "the split has no arm to draw", "add \"split\": [{\"arm\": ..., \"weight\": ...}]")
	}
	return b
}

func enterSplit(t *turn, n *node) move {
	b := n.body.(*splitBody)
	name := t.drawArm("split "+b.experiment, b.arms, "")
	if name == "" {
		return move{outcome: "default"}
	}
	drawn := map[string]any{"experiment": b.experiment, "arm": name}
	t.exposed("experiment_engaged", drawn)
	t.emit("experiment_arm", drawn)
	return move{outcome: name}
}

// drawArm draws one of the arms by weight, or returns otherwise where there is
// none. The same person always draws the same, whatever the session, as long as
// the arms are the same; where they change, only those people move who have
// to. Within a session an arm that was drawn stays, while it may be drawn.
func (t *turn) drawArm(subject string, arms []arm, otherwise string) string {
	arms = slices.DeleteFunc(slices.Clone(arms), func(a arm) bool { return a.weight == 0 })
	if kept, ok := t.s.System.Arms[subject]; ok && slices.ContainsFunc(arms, func(a arm) bool { return a.name == kept }) {
		return kept
	}
	if len(arms) == 0 {
		return otherwise
	}
	best, least := otherwise, math.Inf(1)
	for _, a := range arms {
		// Each arm draws a number of the exponential distribution with its
		// weight as the rate; the least wins with a chance in proportion to
		// its weight (weighted rendezvous hashing).
		if x := -math.Log(unit(t.person(), subject, a.name)) / float64(a.weight); x < least {
			best, least = a.name, x
		}
	}
	if len(t.s.System.Arms) < maxArms {
		t.s.System.Arms = mergeText(t.s.System.Arms, subject, best)
	}
	return best
}

// mergeText is m with a value more; m stays as it is.
func mergeText(m map[string]string, k, v string) map[string]string {
	out := make(map[string]string, len(m)+1)
	for k, v := range m {
		out[k] = v
	}
	out[k] = v
	return out
}

// unit is a number between 0 and 1, neither of them, that texts decide.
func unit(parts ...string) float64 {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return (float64(binary.BigEndian.Uint64(sum[:])>>11) + .5) / (1 << 53)
}

// person is who draws: the user, else who calls, else the session.
func (t *turn) person() string {
	if id := text(t.s.User["id"]); id != "" {
		return "user " + id
	}
	// Withheld numbers come as words, such as "anonymous".
	if caller := text(t.s.Context["caller"]); strings.ContainsAny(caller, "0123456789") {
		return "caller " + caller
	}
	return "session " + t.s.Session.ID
}

// An Exposure is something shown that the person has not answered after: the
// event that tells when they have.
type Exposure struct {
	Event string         `json:"event"`
	Data  map[string]any `json:"data"`
}

// exposed notes an event to be told when the person next answers.
func (t *turn) exposed(event string, data map[string]any) {
	list := t.s.System.Exposed
	e := Exposure{event, data}
	if len(list) >= maxExposures || slices.ContainsFunc(list, func(o Exposure) bool { return o.Event == event && equal(o.Data, e.Data, false) }) {
		return
	}
	t.s.System.Exposed = append(list[:len(list):len(list)], e)
}

// engaged tells what was shown that the person answers after.
func (t *turn) engaged() {
	for _, e := range t.s.System.Exposed {
		t.emit(e.Event, e.Data)
	}
	t.s.System.Exposed = nil
}

// goals reads what the document counts as success, {name: {"node": id}}, and
// notes it at the nodes.
func (c *compiler) goals(v any) {
	m, _ := v.(map[string]any)
	for _, name := range sortedKeys(m) {
		nodes := texts(m[name])
		if o, ok := m[name].(map[string]any); ok {
			nodes = append(texts(o["node"]), texts(o["nodes"])...)
		}
		ptr := "/goals/" + escapePointer(name)
		if len(nodes) == 0 {
			c.problem("error", ptr, "missing-field", "the goal names no node", "write {\"node\": ...}")
		}
		c.goalNames[name] = true
		for _, id := range nodes {
			n := c.flow.root.nodes[id]
			if n == nil {
				c.problem("error", ptr+"/node", "missing-target", "there is no node "+strconv.Quote(id), "name an existing node")
				continue
			}
			n.goals = append(n.goals, name)
		}
	}
	for _, id := range sortedKeys(c.flow.experimentGoals) {
		if goal := c.flow.experimentGoals[id]; !c.goalNames[goal] {
			c.problem("warning", "/experiments", "unknown-goal", "experiment "+strconv.Quote(id)+" counts a goal that nothing reaches: "+strconv.Quote(goal),
				"add it to \"goals\", or an action of type goal")
		}
	}
}

// goal tells that a goal is reached, once in a session.
func (t *turn) goal(name string, value any) {
	if slices.Contains(t.s.System.Goals, name) {
		return
	}
	t.s.System.Goals = append(t.s.System.Goals[:len(t.s.System.Goals):len(t.s.System.Goals)], name)
	data := map[string]any{"goal": name, "node": t.frame().Node}
	if value != nil {
		data["value"] = value
	}
	t.emit("goal", data)
}
