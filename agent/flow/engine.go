package flow

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"
)

const (
	maxHistory  = 200
	maxAsked    = 50
	maxWarnings = 20
)

// A turn is one step at work: a copy of the state and the effects so far.
type turn struct {
	f        *Flow
	s        State
	ev       Event
	out      []Effect
	emits    []Effect
	steps    int
	warnings int
	effects  int  // of the node at hand, for their IDs
	again    bool // the node that is entered next is asked again: its content stands
	lacks    bool // a reference had no value
}

// A move is where a node goes: along an outcome, to a target, or nowhere yet.
type move struct {
	outcome string
	also    []string // further outcomes to try, before the fall-back of the first
	target  string
	wait    bool
}

var wait = move{wait: true}

// Step takes an event. It returns the new state and what the host must do; s
// is unchanged. It does not fail: what cannot be done ends the conversation
// with a friendly message and status failed. An event that nobody waits for
// changes nothing but the revision.
func Step(f *Flow, s State, ev Event) (next State, effects []Effect) {
	before := s
	defer func() {
		if recover() != nil { // the last guard: a fault in the engine ends one conversation, not all
			next, effects = crashed(f, before, ev)
		}
	}()
	t := newTurn(f, s, ev)
	t.take()
	return t.finish(before)
}

func newTurn(f *Flow, s State, ev Event) *turn {
	t := &turn{f: f, s: s, ev: storable(ev)}
	t.s.System.Revision++
	t.s.System.Sensitive = false
	t.s.System.Frames = append([]Frame(nil), s.System.Frames...)
	t.s.System.Pending = append([]Pending(nil), s.System.Pending...)
	t.s.Session.History = s.Session.History[:len(s.Session.History):len(s.Session.History)]
	return t
}

// take routes the event.
func (t *turn) take() {
	if t.s.Session.Status != Active {
		return
	}
	switch ev := t.ev.(type) {
	case Patch:
		t.s.patch(ev.Updates)
		return
	case Close:
		t.close(ev)
		return
	}
	if _, ok := t.ev.(Start); !ok && len(t.s.System.Frames) == 0 {
		return // not started
	}
	if t.overdue() {
		t.limit("minutes")
		return
	}
	switch ev := t.ev.(type) {
	case Start:
		t.start(ev)
	case Input:
		t.input(ev)
	case Silence:
		t.silence()
	case Played:
		t.played(ev)
	case Result:
		t.result(ev)
	case Happened:
		t.happened(ev)
	case Hangup:
		t.hangup(ev)
	}
}

func (t *turn) overdue() bool {
	begun := t.s.Session.StartedAt
	return !begun.IsZero() && t.ev.Time().Sub(begun) > t.f.limits.length
}

func (t *turn) start(ev Start) {
	if len(t.s.System.Frames) > 0 {
		return
	}
	t.s.Session.StartedAt = ev.Time().UTC().Truncate(time.Microsecond)
	t.emit("session_started", map[string]any{"flow_id": t.f.ID, "flow_version": t.f.Version})
	t.s.System.Frames = []Frame{{}}
	t.run(move{target: t.f.root.entry})
}

func (t *turn) input(ev Input) {
	w := t.s.System.Waiting
	if w.For == ForResult && !t.s.System.Left {
		t.cancel(ev)
		return
	}
	if w.For == "" || t.s.System.Left {
		return
	}
	t.engaged()
	if w.For == ForInput && !t.countTurn() {
		return
	}
	t.s.System.Pending = unspoken(t.s.System.Pending)
	ev.Text = cleanText(ev.Text)
	if w.For == ForPlayed { // the caller speaks over a message: go on, and answer what comes next
		t.s.System.Held, t.s.System.Playing = &ev, ""
		t.unwait()
		if n := t.node(); n == nil || !t.unheard(n, false) {
			t.run(t.resume())
		}
		return
	}
	n := t.node()
	if n == nil || n.kind.input == nil {
		t.fail("no-node", "the waiting node is gone")
		return
	}
	t.answer(n, ev)
}

// answer gives an answer to the waiting node, after the globals.
func (t *turn) answer(n *node, ev Input) {
	t.s.System.Sensitive = n.voice.Sensitive
	if w := t.s.System.Waiting; w.For == ForInput && !t.claims(n, ev) {
		if g, ok := t.global(ev); ok {
			t.runGlobal(g)
			return
		}
	}
	t.run(n.kind.input(t, n, ev))
}

func (t *turn) silence() {
	if t.s.System.Waiting.For != ForInput || t.s.System.Left || !t.countTurn() {
		return
	}
	n := t.node()
	if n == nil {
		t.fail("no-node", "the waiting node is gone")
		return
	}
	if n.kind.silent != nil {
		t.run(n.kind.silent(t, n))
		return
	}
	t.run(t.noInput(n))
}

func (t *turn) countTurn() bool {
	if t.s.System.Turns++; t.s.System.Turns > t.f.limits.turns {
		t.limit("turns")
		return false
	}
	return true
}

func (t *turn) played(ev Played) {
	if ev.ID == "" || !t.heardAll(ev.ID) && ev.ID != t.s.System.Playing {
		return
	}
	t.s = t.f.Heard(t.s, ev.Heard)
	if ev.ID != t.s.System.Playing {
		return
	}
	t.s.System.Playing = ""
	t.s.System.Pending = unspoken(t.s.System.Pending)
	if t.s.System.Waiting.For == ForPlayed {
		t.unwait()
		if n := t.node(); n == nil || !t.unheard(n, !ev.Interrupted) {
			t.run(t.resume())
		}
	}
}

// heardAll forgets speech that has been played; a question stays pending until
// it is answered. It reports whether there is such speech.
func (t *turn) heardAll(id string) bool {
	for _, p := range t.s.System.Pending {
		if p.ID == id && p.Kind == "ask" {
			return true
		}
		if p.ID == id && p.Kind == "say" {
			return t.drop(id) != nil
		}
	}
	return false
}

func (t *turn) result(ev Result) {
	p := t.drop(ev.ID)
	if p == nil || t.s.System.Waiting.For != ForResult || t.s.System.Waiting.ID != ev.ID {
		t.emit("task_stale", map[string]any{"id": cleanText(ev.ID)})
		return
	}
	n := t.node()
	if n == nil || n.kind.enter == nil || p.Kind != "fetch" && n.kind.result == nil {
		t.fail("no-node", "the waiting node is gone")
		return
	}
	if p.Kind == "call" && !t.settle(ev) {
		return
	}
	t.unwait()
	if p.Kind == "fetch" {
		t.run(t.fetched(n, ev))
		return
	}
	t.run(n.kind.result(t, n, ev))
}

// hangup runs what on_hangup names, unheard.
func (t *turn) hangup(ev Hangup) {
	if t.s.System.Left {
		return
	}
	t.s.System.Left = true
	t.left(ev)
	t.s.System.Pending, t.s.System.Playing, t.s.System.Held = nil, "", nil
	t.unwait()
	if t.f.onHangup == "" || t.f.root.nodes[t.f.onHangup] == nil {
		t.end(Abandoned, false)
		return
	}
	t.unwind()
	t.run(move{target: t.f.onHangup})
}

// run follows moves until a node waits or the conversation ends.
func (t *turn) run(m move) {
	for !m.wait && t.s.Session.Status == Active {
		if t.steps++; t.steps > t.f.limits.steps {
			t.limit("steps_per_turn")
			return
		}
		n, ok := t.next(m)
		if !ok {
			continueAs, more := t.leave(m)
			if !more {
				return
			}
			m = continueAs
			continue
		}
		if n == nil {
			return
		}
		m = t.enterStrict(n)
	}
	if t.s.System.Held != nil && t.s.System.Waiting.For == ForInput && t.s.Session.Status == Active {
		t.deliverHeld()
	}
}

// deliverHeld answers the question that a message led to with what the caller
// said over that message. The prompt is not spoken.
func (t *turn) deliverHeld() {
	ev := *t.s.System.Held
	t.s.System.Held = nil
	if len(t.out) > 0 {
		if _, ok := t.out[len(t.out)-1].(Ask); ok {
			t.out = t.out[:len(t.out)-1]
			t.unshow()
		}
	}
	if t.countTurn() {
		t.answer(t.node(), ev)
	}
}

// next finds the node that a move leads to. It reports false where the move
// has no target, and nil where the conversation is over.
func (t *turn) next(m move) (*node, bool) {
	to := m.target
	if to == "" || to[0] == '$' {
		if to != "" {
			m.outcome = to
		}
		var found bool
		if to, found = t.edge(m); !found {
			return nil, false
		}
	}
	g := t.graph()
	if n := g.nodes[to]; n != nil {
		return n, true
	}
	if to[0] == '@' {
		return t.special(to)
	}
	if n := t.node(); n != nil && len(n.edges[fold(to)]) > 0 && m.target != "" {
		return t.next(move{outcome: to})
	}
	t.fail("missing-target", "there is no node "+strconv.Quote(to))
	return nil, true
}

// edge finds the target of an outcome of the node at hand.
func (t *turn) edge(m move) (string, bool) {
	n := t.node()
	if n == nil {
		return "", false
	}
	tries := append([]string{m.outcome}, m.also...)
	tries = append(tries, fallbacks(m.outcome)[1:]...)
	for _, o := range tries {
		for _, e := range n.edges[fold(o)] {
			if t.holds(e.when) && e.target != "" {
				return e.target, true
			}
		}
	}
	return "", false
}

// enter runs a node.
func (t *turn) enter(n *node) move {
	if n.id != t.s.System.Crashed {
		t.s.System.Crashed = ""
	}
	if n.kind.enter == nil {
		t.fail("unknown-type", "there is no node type "+strconv.Quote(n.typ))
		return wait
	}
	fr := t.frame()
	if !t.again || fr.Node != n.id {
		fr.Drawn = nil
	}
	fr.Node, fr.Index, fr.Talk, t.again = n.id, 0, nil, false
	t.effects = 0
	t.s.System.NoInput, t.s.System.NoMatch, t.s.System.Confirm = 0, 0, nil
	t.s.Session.CurrentNode = n.id
	t.s.Session.History = appendLast(t.s.Session.History, n.id, maxHistory)
	for _, name := range n.goals {
		t.goal(name, nil)
	}
	if n.kind.outside && t.s.System.Playing != "" {
		return t.waitFor(ForPlayed, t.s.System.Playing)
	}
	return t.begin(n)
}

// resume goes on where the engine waited for speech to be heard.
func (t *turn) resume() move {
	n := t.node()
	if n == nil || n.kind.enter == nil {
		t.fail("no-node", "the waiting node is gone")
		return wait
	}
	if n.kind.outside {
		return t.begin(n)
	}
	return move{outcome: "default"}
}

// Entered lists the nodes that a step from one state to the next came to, in
// order. The history holds the last 200: where it is full, and goes round in
// circles, a round may be missed.
func Entered(before, after State) []string {
	was, is := before.Session.History, after.Session.History
	if len(is) < maxHistory {
		return slices.Clone(is[min(len(was), len(is)):])
	}
	for n := range len(is) + 1 {
		kept := is[:len(is)-n]
		if len(kept) <= len(was) && slices.Equal(was[len(was)-len(kept):], kept) {
			return slices.Clone(is[len(is)-n:])
		}
	}
	return nil
}

func appendLast(list []string, s string, most int) []string {
	if len(list) >= most {
		list = append([]string(nil), list[len(list)-most+1:]...)
	}
	return append(list, s)
}

// finish closes the turn: events before the effect that waits.
func (t *turn) finish(before State) (State, []Effect) {
	if from, to := before.Session.CurrentNode, t.s.Session.CurrentNode; from != to {
		t.emit("node_changed", map[string]any{"previous_node": orNull(from), "current_node": orNull(to)})
	}
	if from, to := before.Session.Status, t.s.Session.Status; from != to {
		t.emit("session_status_changed", map[string]any{"previous_status": from, "status": to})
	}
	for i := range t.emits {
		e := t.emits[i].(Emit)
		e.Data = t.eventData(e)
		t.emits[i] = e
	}
	if n := len(t.out); n > 0 {
		switch last := t.out[n-1].(type) {
		case Ask, End:
			return t.s, append(append(t.out[:n-1:n-1], t.emits...), last)
		}
	}
	return t.s, append(t.out, t.emits...)
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func (t *turn) emit(typ string, data map[string]any) {
	if data == nil {
		data = map[string]any{}
	}
	t.emits = append(t.emits, Emit{Type: typ, Data: rawJSON(data)})
}

// eventData adds to an event what all have.
func (t *turn) eventData(e Emit) json.RawMessage {
	v, _ := decodeValue(e.Data)
	m, _ := v.(map[string]any)
	rev := t.s.System.Revision
	m["session_id"] = t.s.Session.ID
	m["revision"], m["previous_revision"] = json.Number(strconv.Itoa(rev)), json.Number(strconv.Itoa(rev-1))
	return rawJSON(m)
}

// unheardAt and misunderstoodAt count a silence and an answer that was not
// understood at the node that waits, and tell of it. They return how many there
// were since it was entered.
func (t *turn) unheardAt(n *node) int {
	t.s.System.NoInput++
	t.emit("no_input", map[string]any{"node": n.id, "count": t.s.System.NoInput})
	return t.s.System.NoInput
}

func (t *turn) misunderstoodAt(n *node) int {
	t.s.System.NoMatch++
	t.emit("no_match", map[string]any{"node": n.id, "count": t.s.System.NoMatch})
	return t.s.System.NoMatch
}

// warn notes something in the trace; a turn has room for a few.
func (t *turn) warn(message string) {
	if t.warnings++; t.warnings <= maxWarnings {
		node := ""
		if len(t.s.System.Frames) > 0 {
			node = t.frame().Node
		}
		t.emit("warning", map[string]any{"node": node, "message": message})
	}
}
