package effect

import (
	"context"
	"errors"
	"fmt"
	"time"

	"parley/agent/flow"
)

// maxRounds bounds the effects that may follow one event.
const maxRounds = 200

// ErrEndless says that a flow did not come to rest: it makes one call after
// another and asks nobody.
var ErrEndless = errors.New("effect: the flow does not come to rest")

// A Step is one event that a flow has taken, and what it wants done.
type Step struct {
	Before  flow.State
	Event   flow.Event
	State   flow.State // after it
	Effects []flow.Effect
}

// Messages returns what the step shows, in order.
func (s Step) Messages() []flow.Message {
	var out []flow.Message
	for _, e := range s.Effects {
		switch e := e.(type) {
		case flow.Say:
			out = append(out, e.Messages...)
		case flow.Ask:
			out = append(out, e.Messages...)
		case flow.Call:
			out = append(out, e.SayWhile...)
		}
	}
	return out
}

// A TextHost holds conversations without audio: chat, terminal, simulator.
type TextHost struct {
	Flow *flow.Flow
	// Perform does an effect of which something comes back; its Result has the
	// effect's ID, or none.
	Perform func(context.Context, flow.Effect) flow.Result
	// Commit keeps, or shows, a step. None of its effects is done before, and
	// none after an error.
	Commit func(context.Context, Step) error
	// Later says that an effect is not done in this turn: it stays pending.
	// Nil: none is.
	Later func(flow.Effect) bool
}

// Turn gives ev to the flow, performs what follows, and returns the state in
// which the flow waits for somebody, or is over. Where ctx ends while an effect
// is done, its result means nothing: the effect stays pending, and the state
// that is returned with ctx's error is the one last committed. Errors: Commit's,
// ctx's, [ErrEndless].
func (h *TextHost) Turn(ctx context.Context, s flow.State, ev flow.Event) (flow.State, error) {
	for range maxRounds {
		next, effects := flow.Step(h.Flow, s, ev)
		if err := h.Commit(ctx, Step{s, ev, next, effects}); err != nil {
			return s, err
		}
		s = next
		r, ok := h.perform(ctx, effects)
		if err := ctx.Err(); err != nil {
			return s, err
		}
		if !ok {
			return s, nil
		}
		ev = r
	}
	return s, fmt.Errorf("%w in %d effects", ErrEndless, maxRounds)
}

// Resume does what s still waits for, under the same ID, and goes on as Turn.
// Where there is nothing of the kind it returns s.
func (h *TextHost) Resume(ctx context.Context, s flow.State) (flow.State, error) {
	e := Unfinished(s)
	if e == nil {
		return s, nil
	}
	r, ok := h.perform(ctx, []flow.Effect{e})
	if err := ctx.Err(); err != nil || !ok {
		return s, err
	}
	return h.Turn(ctx, s, r)
}

// Unfinished returns the effect whose result s waits for; nil if it waits for
// none.
func Unfinished(s flow.State) flow.Effect {
	w := s.System.Waiting
	if w.For != flow.ForResult {
		return nil
	}
	for _, p := range s.System.Pending {
		if p.ID == w.ID {
			return p.Effect
		}
	}
	return nil
}

// perform does the effects in order, and returns the result that one has.
func (h *TextHost) perform(ctx context.Context, effects []flow.Effect) (res flow.Result, ok bool) {
	for _, e := range effects {
		switch e := e.(type) {
		case flow.Say, flow.Ask, flow.End, flow.Emit:
		case flow.Transfer:
			// Who shows the conversation learns by its status to bring somebody in.
			res, ok = flow.Result{At: flow.At{At: time.Now()}, ID: e.ID, Outcome: "answered"}, true
		default:
			if h.Later != nil && h.Later(e) {
				continue
			}
			if r := h.Perform(ctx, e); r.ID != "" {
				res, ok = r, true
			}
		}
	}
	return res, ok
}
