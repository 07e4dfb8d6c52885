package flow

import (
	"errors"
	"slices"
)

// errMissing fails an action of a strict flow.
var errMissing = errors.New("a reference has no value")

// crashed goes on where a handler has failed: the state is as it was before the
// event, the caller is told, and the waiting question is asked once more. Where
// nothing can be asked, or the same question has failed before, it is @error.
func crashed(f *Flow, before State, ev Event) (next State, effects []Effect) {
	defer func() {
		if recover() != nil { // the way out fails as well
			t := newTurn(f, before, ev)
			t.fail("internal", "the engine failed")
			next, effects = t.finish(before)
		}
	}()
	t := newTurn(f, before, ev)
	node := before.Session.CurrentNode
	t.emit("error", map[string]any{"code": "internal", "message": "the engine failed", "node": orNull(node)})
	if before.System.Waiting.For == ForInput && before.System.Crashed != node && t.node() != nil {
		t.s.System.Crashed, t.s.System.Held = node, nil
		t.say(t.localSay(f.failure.say, t.phrasebook().unsaid))
		t.askWith(t.node(), before.System.Last, false)
		return t.finish(before)
	}
	t.s.System.Crashed, t.s.System.Held, t.s.System.Playing = "", nil, ""
	t.s.System.Pending = nil
	t.unwait()
	t.run(move{target: "@error"})
	return t.finish(before)
}

// enterStrict enters a node; in a strict flow one that lacks a value does
// nothing but take its outcome "error".
func (t *turn) enterStrict(n *node) move {
	if !t.f.strict {
		return t.enter(n)
	}
	before, given := t.s, len(t.out)
	before.System.Frames = slices.Clone(t.s.System.Frames)
	before.System.Pending = slices.Clone(t.s.System.Pending)
	t.lacks = false
	m := t.enter(n)
	if !t.missed() {
		return m
	}
	t.s, t.out = before, t.out[:given]
	t.frame().Node, t.s.Session.CurrentNode = n.id, n.id
	t.s.Session.History = appendLast(t.s.Session.History, n.id, maxHistory)
	return move{outcome: "error"}
}

// missed tells whether a strict flow has lacked a value since it was asked last.
func (t *turn) missed() bool {
	was := t.lacks
	t.lacks = false
	return was && t.f.strict
}
