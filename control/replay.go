package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
)

// Verdicts of a [Replay].
const (
	ReplayEqual      = "equal"
	ReplayDifferent  = "different"
	ReplayImpossible = "impossible" // the history does not hold what it takes
)

// A Replay is a stored conversation run again.
type Replay struct {
	Verdict string
	Reason  string // in words, unless equal
	Turns   []ReplayedTurn
}

// A ReplayedTurn is what followed one input: as it is stored, and as it came
// this time.
type ReplayedTurn struct {
	Revision         int    // of its first step
	Event            string // "start", "input", "silence", …
	Input            string // what was said or typed; empty for a sensitive answer
	Stored, Replayed *TurnResult
	State            []flow.Change // from stored to replayed, scope by scope
	Notes            []string
	Equal            bool
}

// A TurnResult is where a turn led.
type TurnResult struct {
	Messages []flow.Message
	Node     string
	Status   string
}

// Replay runs a conversation again from its history, on the versions that it
// is pinned to: each stored event, the results of calls among them, is given to
// the state that the one before led to, and what comes out is compared with
// what was kept. With against it also gives the same inputs to that flow. Then
// Stored is the conversation as it was and Replayed as it would have been.
func (s *Chats) Replay(ctx context.Context, c Conversation, against *flow.Flow) (Replay, error) {
	if c.FlowVersion == uuid.Nil {
		return impossible("no flow leads this conversation"), nil
	}
	f, err := s.Graphs.Load(ctx, c.FlowVersion, c.Pins)
	if err != nil {
		return Replay{}, err
	}
	var h recorded
	for after := 0; ; {
		page, err := s.Store.History(ctx, c.ID, after, 200)
		if err != nil {
			return Replay{}, err
		}
		for _, e := range page {
			if err := h.add(e); err != nil {
				return Replay{}, err
			}
			after = e.Revision
		}
		if len(page) < 200 {
			break
		}
	}
	if len(h.steps) == 0 || len(h.steps[0].entry.Base) == 0 {
		return impossible("its history does not go back to its beginning"), nil
	}
	exact := h.again(f, c)
	if against == nil {
		return exact, nil
	}
	return h.against(against)
}

func impossible(reason string) Replay { return Replay{Verdict: ReplayImpossible, Reason: reason} }

// recorded is a conversation's history with its events decoded.
type recorded struct {
	steps []recordedStep
	sent  map[string]traced // effects by id
}

type recordedStep struct {
	entry    Entry
	event    flow.Event
	kind     string
	messages []flow.Message
	// before and after are the states that the exact replay went through; nil
	// from where it could not go on.
	before, after *flow.State
}

func (h *recorded) add(e Entry) error {
	step := recordedStep{entry: e}
	var head struct{ Type string }
	var trace []traced
	var err error
	if step.event, err = flow.DecodeEvent(e.Event); err == nil {
		err = errors.Join(json.Unmarshal(e.Event, &head), json.Unmarshal(e.Messages, &step.messages), json.Unmarshal(e.Trace, &trace))
	}
	if err != nil {
		return fmt.Errorf("history at revision %d: %w", e.Revision, err)
	}
	step.kind = head.Type
	if h.sent == nil {
		h.sent = map[string]traced{}
	}
	for _, t := range trace {
		if t.ID != "" {
			h.sent[t.ID] = t
		}
	}
	h.steps = append(h.steps, step)
	return nil
}

// follows tells whether an event goes on with a turn that another began.
func (s recordedStep) follows() bool { return s.kind == "result" || s.kind == "played" }

func (s recordedStep) turn() ReplayedTurn {
	t := ReplayedTurn{Revision: s.entry.Revision, Event: s.kind, Equal: true}
	if in, ok := s.event.(flow.Input); ok {
		t.Input = in.Text
	}
	return t
}

// again gives each event to the flow that took it before.
func (h *recorded) again(f *flow.Flow, c Conversation) Replay {
	out := Replay{Verdict: ReplayEqual}
	var state flow.State
	for i := range h.steps {
		step := &h.steps[i]
		if len(step.entry.Base) > 0 {
			var err error
			if state, err = flow.DecodeState(step.entry.Base, ""); err != nil {
				return h.stopped(out, fmt.Sprintf("the state before revision %d cannot be read", step.entry.Revision))
			}
		}
		if !step.follows() || len(out.Turns) == 0 {
			out.Turns = append(out.Turns, step.turn())
		}
		t := &out.Turns[len(out.Turns)-1]
		if sensitive(state, step.event) {
			return h.stopped(out, fmt.Sprintf("the answer at revision %d is sensitive: it is not kept", step.entry.Revision))
		}
		before := state
		next, effects := flow.Step(f, state, step.event)
		if why := step.differs(next, effects, c); why != "" {
			out.Verdict, out.Reason, t.Equal = ReplayDifferent, fmt.Sprintf("revision %d: %s", step.entry.Revision, why), false
			t.Stored = &TurnResult{step.messages, step.entry.Node, step.entry.Status}
			t.Replayed = &TurnResult{effect.Step{Effects: effects}.Messages(), next.Session.CurrentNode, next.Session.Status}
			if step.entry.Revision == c.Revision {
				t.State, _ = stateDiff(c.State, next) // likewise
			}
			return out
		}
		step.before, step.after = &before, &next
		state = next
	}
	if last := h.steps[len(h.steps)-1].entry; last.Revision != c.Revision || last.Hash != c.Hash {
		return h.stopped(out, fmt.Sprintf("its history ends at revision %d, the conversation stands at %d", last.Revision, c.Revision))
	}
	if _, err := flow.DecodeState(c.State, c.Hash); err != nil {
		t := &out.Turns[len(out.Turns)-1]
		out.Verdict, out.Reason, t.Equal = ReplayDifferent, "the state that is stored is not the one that its history leads to", false
		t.State, _ = stateDiff(c.State, state) // one that cannot be read has no parts to compare
	}
	return out
}

// stopped ends a replay that was equal so far.
func (h *recorded) stopped(r Replay, reason string) Replay {
	r.Verdict, r.Reason = ReplayImpossible, reason
	return r
}

// sensitive tells whether an answer was left out of the history.
func sensitive(s flow.State, ev flow.Event) bool {
	if _, ok := ev.(flow.Input); !ok {
		return false
	}
	for _, e := range s.Pending() {
		if ask, ok := e.(flow.Ask); ok && ask.Voice.Sensitive {
			return true
		}
	}
	return false
}

// differs says in what a step is another than the one stored; "" if in nothing.
func (s *recordedStep) differs(next flow.State, effects []flow.Effect, c Conversation) string {
	b, err := flow.EncodeState(next)
	switch {
	case err != nil:
		return "the state cannot be kept"
	case next.System.Revision != s.entry.Revision:
		return fmt.Sprintf("the step before it is not stored: this is step %d", next.System.Revision)
	case next.Session.CurrentNode != s.entry.Node:
		return fmt.Sprintf("stands at %q, stored is %q", next.Session.CurrentNode, s.entry.Node)
	case next.Session.Status != s.entry.Status:
		return fmt.Sprintf("is %s, stored is %s", next.Session.Status, s.entry.Status)
	case !sameMessages(effect.Step{Effects: effects}.Messages(), s.messages):
		return "says something else"
	case flow.Hash(b) != s.entry.Hash:
		return "leads to another state"
	}
	return ""
}

// sameMessages compares what is shown, whatever the order of fields.
func sameMessages(a, b []flow.Message) bool {
	x, errX := json.Marshal(append([]flow.Message{}, a...))
	y, errY := json.Marshal(append([]flow.Message{}, b...))
	if errX != nil || errY != nil {
		return false
	}
	changes, err := flow.Diff(x, y)
	return err == nil && len(changes) == 0
}

// stateDiff compares what a flow can read of two states.
func stateDiff(stored []byte, s flow.State) ([]flow.Change, error) {
	was, err := flow.DecodeState(stored, "")
	if err != nil {
		return nil, err
	}
	return scopesDiff(was, s)
}

func scopesDiff(a, b flow.State) ([]flow.Change, error) {
	read := func(s flow.State) ([]byte, error) {
		return json.Marshal(map[string]any{"user": s.User, "variables": s.Variables, "context": s.Context, "temp": s.Temp})
	}
	x, err := read(a)
	if err != nil {
		return nil, err
	}
	y, err := read(b)
	if err != nil {
		return nil, err
	}
	return flow.Diff(x, y)
}

// timeOf is when an event happened.
func timeOf(ev flow.Event) flow.At { return flow.At{At: ev.Time()} }
