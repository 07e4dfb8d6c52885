package flow

import (
	"encoding/json"
	"slices"
	"strings"
)

// NoteEvent is the event by which a flow is told of an operator's note. Its data
// hold "text".
const NoteEvent = "operator_note"

const (
	maxNotes = 10   // that a conversation keeps, the last ones
	maxNote  = 2000 // characters of one
)

// TakesNotes tells whether a note of an operator's can come to anything: f, or a
// flow that it calls, has a node whose model talks, or one that waits for
// [NoteEvent].
func (f *Flow) TakesNotes() bool {
	takes := f.root.takesNotes()
	for _, sub := range f.subs {
		takes = takes || sub.root.takesNotes()
	}
	return takes
}

func (g *graph) takesNotes() bool {
	return slices.ContainsFunc(g.order, func(n *node) bool {
		switch b := n.body.(type) {
		case *modelBody:
			return n.typ == "agent"
		case *waitBody: // for an event that is named in the call, it may be this one
			return len(b.event) > 0 && (len(b.event) > 1 || b.event[0].ref != nil || b.event[0].text == NoteEvent)
		case *compositeBody:
			return b.inline != nil && b.inline.takesNotes()
		}
		return false
	})
}

// noted keeps what an operator has to say to the models that talk. Nobody else
// writes to them so: an event of the same name from outside is none of it.
func (t *turn) noted(data json.RawMessage) {
	var note struct{ Text string }
	if json.Unmarshal(data, &note) != nil || strings.TrimSpace(note.Text) == "" {
		return
	}
	kept := t.s.System.Notes[max(0, len(t.s.System.Notes)-maxNotes+1):]
	t.s.System.Notes = append(slices.Clone(kept), cut(note.Text, maxNote))
}
