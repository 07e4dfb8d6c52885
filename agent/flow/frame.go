package flow

import (
	"strconv"
	"strings"
)

func fold(s string) string { return strings.ToLower(s) }

func pathOf(s string) []string { return strings.Split(s, ".") }

// frame returns the top frame; the stack is not empty once started.
func (t *turn) frame() *Frame { return &t.s.System.Frames[len(t.s.System.Frames)-1] }

// graph returns the graph that the top frame runs.
func (t *turn) graph() *graph { return t.graphAt(len(t.s.System.Frames) - 1) }

func (t *turn) graphAt(depth int) *graph {
	g := t.f.root
	for i := 1; i <= depth; i++ {
		fr := t.s.System.Frames[i]
		if fr.Aside {
			g = t.f.root
			continue
		}
		n := g.nodes[fr.Via]
		if n == nil {
			return emptyGraph
		}
		if g = t.f.inside(n); g == nil {
			return emptyGraph
		}
	}
	return g
}

// emptyGraph stands for a graph that the document no longer has.
var emptyGraph = &graph{}

// node returns the node at hand, nil if the document no longer has it.
func (t *turn) node() *node { return t.graph().nodes[t.frame().Node] }

// leave ends the top frame on an outcome without a target.
func (t *turn) leave(m move) (move, bool) {
	frames := t.s.System.Frames
	if len(frames) == 1 {
		t.end(Completed, false)
		return wait, false
	}
	done := frames[len(frames)-1]
	t.s.System.Frames = frames[:len(frames)-1]
	n := t.node()
	if n == nil {
		t.fail("no-node", "the calling node is gone")
		return wait, false
	}
	if done.Aside {
		return t.askAgain(n), true
	}
	return t.returned(n, done, m.outcome), true
}

// unwind drops all frames but the flow's own.
func (t *turn) unwind() { t.s.System.Frames = t.s.System.Frames[:1] }

// special takes a target that begins with @.
func (t *turn) special(to string) (*node, bool) {
	switch low := fold(to); {
	case low == "@end":
		t.end(Completed, false)
	case low == "@hangup":
		t.say(t.localSay(t.f.failure.goodbye, t.phrasebook().goodbye))
		t.end(Completed, true)
	case low == "@repeat":
		t.again = true
		return t.askedBefore(1), true
	case low == "@back":
		return t.askedBefore(2), true
	case low == "@error":
		t.say(t.localSay(t.f.failure.say, t.phrasebook().unsaid))
		then := t.f.failure.then
		if then == "" || fold(then) == "@error" {
			then = "@end"
		}
		t.unwind()
		return t.next(move{target: then})
	case strings.HasPrefix(low, "@out:") && len(t.s.System.Frames) > 1:
		t.frame().Out = to[len("@out:"):]
		m, more := t.leave(move{outcome: "default"})
		if !more || m.wait {
			return nil, true
		}
		return t.next(m)
	default:
		t.fail("missing-target", "there is no target "+strconv.Quote(to))
	}
	return nil, true
}

// askedBefore returns the n-th last question of this frame, and forgets it and
// those after it.
func (t *turn) askedBefore(n int) *node {
	fr := t.frame()
	for len(fr.Asked) >= n {
		id := fr.Asked[len(fr.Asked)-n]
		fr.Asked = append([]string(nil), fr.Asked[:len(fr.Asked)-n]...)
		if q := t.graph().nodes[id]; q != nil {
			return q
		}
	}
	if n > 1 {
		return t.askedBefore(1)
	}
	t.fail("no-question", "there is no question to go back to")
	return nil
}

func (t *turn) waitFor(what, id string) move {
	t.s.System.Waiting = Waiting{For: what, ID: id}
	return wait
}

func (t *turn) unwait() { t.s.System.Waiting = Waiting{} }

// id makes the next ID of the node at hand: session:frame/node:revision, with
// :n from its second effect on.
func (t *turn) id() string {
	var b strings.Builder
	b.WriteString(t.s.Session.ID)
	for i, fr := range t.s.System.Frames {
		if i == 0 {
			b.WriteByte(':')
		} else {
			b.WriteByte('/')
		}
		b.WriteString(fr.Node)
	}
	b.WriteByte(':')
	b.WriteString(strconv.Itoa(t.s.System.Revision))
	if t.effects++; t.effects > 1 {
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(t.effects))
	}
	return b.String()
}

// pend keeps an effect until its result comes.
func (t *turn) pend(id, kind string, e Effect) {
	t.s.System.Pending = append(t.s.System.Pending, Pending{id, kind, e})
}

// drop forgets a pending effect and returns it, nil if there is none.
func (t *turn) drop(id string) *Pending {
	for i, p := range t.s.System.Pending {
		if p.ID == id {
			t.s.System.Pending = append(t.s.System.Pending[:i], t.s.System.Pending[i+1:]...)
			return &p
		}
	}
	return nil
}

// speak gives messages out, unless the caller has left.
func (t *turn) say(messages []Message) {
	if len(messages) == 0 || t.s.System.Left {
		return
	}
	t.shown(messages)
	e := Say{ID: t.id(), Messages: messages}
	if len(t.s.System.Frames) > 0 {
		if n := t.node(); n != nil {
			e.Node, e.Voice = n.id, t.voice(n)
		}
	}
	t.out = append(t.out, e)
	t.audible(e.ID, "say", e)
}

// audible notes that the caller hears an effect, where the host has audio.
func (t *turn) audible(id, kind string, e Effect) {
	if t.s.System.Voice {
		t.s.System.Playing = id
		t.pend(id, kind, e)
	}
}

// localSay renders a text of the flow's defaults in the caller's language.
func (t *turn) localSay(l localText, otherwise string) []Message {
	s := otherwise
	if tpl := l.in(t.locale(), t.f.locale); tpl != nil {
		s = t.render(tpl)
	}
	return []Message{{Type: "text", Text: s}}
}

// end closes the conversation.
func (t *turn) end(status string, hangup bool) {
	if t.s.System.Left {
		status = Abandoned
	}
	t.unwait()
	t.s.System.Pending = speechOnly(t.s.System.Pending)
	t.s.Session.Status = status
	t.s.Session.CurrentNode = ""
	t.out = append(t.out, End{Status: status, Hangup: hangup})
}

// speechOnly keeps what the caller still hears.
func speechOnly(list []Pending) []Pending {
	var out []Pending
	for _, p := range list {
		if p.Kind == "say" {
			out = append(out, p)
		}
	}
	return out
}

// unspoken leaves out what the caller has heard, or spoken over: speech before
// an answer, or before the last that was played.
func unspoken(list []Pending) []Pending {
	var out []Pending
	for _, p := range list {
		if p.Kind != "say" {
			out = append(out, p)
		}
	}
	return out
}

// fail ends a conversation that the document leaves no way for.
func (t *turn) fail(code, message string) {
	t.emit("error", map[string]any{"code": code, "message": message})
	t.say(t.localSay(t.f.failure.say, t.phrasebook().unsaid))
	t.end(Failed, true)
}

// limit ends a conversation that goes on for too long.
func (t *turn) limit(which string) {
	t.emit("limit_exceeded", map[string]any{"limit": which})
	t.say(t.localSay(t.f.failure.say, t.phrasebook().unsaid))
	t.end(Failed, true)
}

// open starts a frame inside node n.
func (t *turn) open(fr Frame) bool {
	if len(t.s.System.Frames) >= t.f.limits.depth {
		t.limit("depth")
		return false
	}
	t.s.System.Frames = append(t.s.System.Frames, fr)
	return true
}

// Pending returns the effects that s has given out and whose result has not
// come, the waiting question included. A host that loads a conversation
// performs them again, under the same IDs.
func (s State) Pending() []Effect {
	var out []Effect
	for _, p := range s.System.Pending {
		out = append(out, p.Effect)
	}
	return out
}
