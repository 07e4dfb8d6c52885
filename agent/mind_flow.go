package agent

import (
	"context"
	"fmt"

	"parley/agent/flow"
)

// A FlowSpec makes an agent of a flow.
type FlowSpec struct {
	Flow *flow.Flow
	Init flow.Init

	// State and Hash are a stored conversation that goes on, as [Commit] had
	// them. Empty: a new one.
	State []byte
	Hash  string

	// Perform does an effect that is not speech (a webhook, …) and returns its
	// result, without an ID where nothing comes back. Nil: such effects fail.
	Perform func(context.Context, flow.Effect) flow.Result

	// Models answers for the nodes that a language model helps; what it says is
	// spoken as it comes. Nil: Perform does, and it is spoken when it is whole.
	Models *Proposer
}

// flowMind talks by a flow. Every step is committed before it is spoken.
type flowMind struct {
	spec    FlowSpec
	commit  func(context.Context, Commit)
	state   flow.State
	touched bool        // the state is not the one that was committed last
	earlier *flow.State // before the last answer, to take it back
	effects bool        // the last reply did something outside
	cut     cutAnswer   // of a model, that the flow does not know of yet

	happened <-chan flow.Happened // events from outside; nil: none come
	ended    []flow.Happened      // … that end the wait which is taken up next
}

func newFlowMind(spec Spec) (*flowMind, error) {
	m := &flowMind{spec: *spec.Flow, commit: spec.Journal.Commit}
	if len(spec.Flow.State) > 0 {
		var err error
		if m.state, err = flow.DecodeState(spec.Flow.State, spec.Flow.Hash); err != nil {
			return nil, fmt.Errorf("stored conversation: %w", err)
		}
		return m, nil
	}
	init := spec.Flow.Init
	init.Channel = "voice"
	m.state, m.touched = flow.New(spec.Flow.Flow, init), true
	return m, nil
}

func (m *flowMind) reply(ctx context.Context, in input, say func(line) error) (move, error) {
	if in.kind != inputPlayed { // which goes on with the same turn
		m.effects, m.earlier = false, nil
	}
	m.takeEvents(ctx)
	if in.kind == inputStart && len(m.state.System.Frames) > 0 && m.unfinished() == nil {
		return m.again(say) // the call came back: the question stands
	}
	if in.kind == inputRecorded {
		return m.step(ctx, in.recorded.result(in.at), say)
	}
	if e := m.unfinished(); e != nil && in.kind != inputHangup && !cancels(e, in) && !m.closeCut(ctx, e) {
		// A turn was given up while this was done. It comes first: the flow
		// waits for nothing else.
		if _, err := in.certain(ctx); err != nil {
			return move{}, err
		}
		mv, ev, err := m.perform(ctx, []flow.Effect{e}, say)
		if err != nil || ev == nil {
			return mv, err
		}
		return m.step(ctx, ev, say)
	}
	if in.commit != nil {
		if e, ok := m.firstModel(m.state, in); ok {
			return m.early(ctx, in, e, say)
		}
		var err error
		if in, say, err = m.ahead(ctx, in, say); err != nil {
			return move{}, err
		}
	}
	before := m.state
	ev := m.event(in)
	if ev == nil {
		if in.kind == inputReturned { // not from a transfer of the flow's own
			if err := say(line{text: excuse, fixed: true}); err != nil {
				return move{}, err
			}
		}
		return m.again(say)
	}
	if in.kind == inputSaid || in.kind == inputSilence {
		m.earlier = &before
	}
	return m.step(ctx, ev, say)
}

// ahead says the first words of the answer to a guess, which a step tells
// without any effect: it is pure, and its result is dropped. It returns what
// was said for certain, and a say that does not repeat those words.
func (m *flowMind) ahead(ctx context.Context, in input, say func(line) error) (input, func(line) error, error) {
	state := m.state
	first, ok := m.firstLine(state, in)
	if ok {
		first.fits = func(in input) bool {
			l, ok := m.firstLine(state, in)
			return ok && l.text == first.text && l.policy == first.policy
		}
		if err := say(first); err != nil {
			return in, nil, err
		}
	}
	in, err := in.certain(ctx)
	switch {
	case err != nil:
		return in, nil, err
	case !ok:
		return in, say, nil
	case !first.fits(in):
		return in, nil, errMisfit
	}
	return in, func(l line) error {
		if ok {
			ok = false // the first again
			return ctx.Err()
		}
		return say(l)
	}, nil
}

// firstLine is what would be said first in answer to in, if nothing but speech
// comes of it before.
func (m *flowMind) firstLine(state flow.State, in input) (first line, ok bool) {
	_, effects := flow.Step(m.spec.Flow, state, m.eventOf(state, in))
	for _, e := range effects {
		collect := func(l line) error {
			first, ok = l, true
			return errMisfit // one is enough
		}
		switch e := e.(type) {
		case flow.Emit:
			continue
		case flow.Say:
			_ = m.say(e.Node, e.Messages, e.Voice, collect)
		case flow.Ask:
			_ = m.say(e.Node, e.Messages, e.Voice, collect)
		}
		break
	}
	return first, ok
}

// unfinished is an effect outside whose result the flow still waits for.
func (m *flowMind) unfinished() flow.Effect {
	for _, e := range m.state.Pending() {
		switch e.(type) {
		case flow.Say, flow.Ask, flow.Transfer, flow.End, flow.Emit:
		default:
			return e
		}
	}
	return nil
}

// event turns what happened into the flow's event.
func (m *flowMind) event(in input) flow.Event { return m.eventOf(m.state, in) }

func (m *flowMind) eventOf(s flow.State, in input) flow.Event {
	at := flow.At{At: in.at}
	switch in.kind {
	case inputStart:
		return flow.Start{At: at}
	case inputSaid:
		return flow.Input{At: at, Text: in.text, Mode: in.mode, Confidence: in.confidence}
	case inputSilence:
		if id := s.System.Playing; id != "" && s.System.Waiting.For == flow.ForPlayed {
			// A message was cut, and nothing followed.
			return flow.Played{At: at, ID: id, Heard: s.System.Heard, Interrupted: true}
		}
		return flow.Silence{At: at}
	case inputPlayed:
		return flow.Played{At: at, ID: s.System.Playing, Heard: in.heard, Interrupted: in.cut}
	case inputHangup:
		ev := flow.Hangup{At: at}
		if in.recorded != nil {
			r := in.recorded.result(in.at)
			ev.Result = &r
		}
		return ev
	case inputReturned:
		for _, p := range s.Pending() {
			if t, ok := p.(flow.Transfer); ok {
				return flow.Result{At: at, ID: t.ID, Outcome: in.text}
			}
		}
	}
	return nil
}

// maxRounds bounds how many effects one reply may wait for.
const maxRounds = 50

// step runs the flow until it wants to hear or to end.
func (m *flowMind) step(ctx context.Context, ev flow.Event, say func(line) error) (move, error) {
	for range maxRounds {
		before := m.state
		next, effects := flow.Step(m.spec.Flow, before, ev)
		m.state = next
		m.store(ctx, before, ev, effects)
		mv, again, err := m.perform(ctx, effects, say)
		if err != nil || again == nil {
			return mv, err
		}
		ev = again
	}
	return move{}, fmt.Errorf("flow did not come to rest in %d effects", maxRounds)
}

// perform does what a step wants, in order. again is the event to go on with.
func (m *flowMind) perform(ctx context.Context, effects []flow.Effect, say func(line) error) (mv move, again flow.Event, err error) {
	mv = move{kind: moveListen}
	for _, e := range effects {
		switch e := e.(type) {
		case flow.Say:
			if mv = (move{kind: movePlayed}); !e.Spoken {
				err = m.say(e.Node, e.Messages, e.Voice, say)
			}
		case flow.Ask:
			if mv = m.ask(e); !e.Spoken {
				err = m.say(e.Node, e.Messages, e.Voice, say)
			}
		case flow.Transfer:
			mv = move{kind: moveTransfer, target: e.To}
		case flow.End:
			mv = move{kind: moveEnd, reason: "goodbye"}
		case flow.Emit:
		case flow.SwitchLanguage: // the state says so, see hearing
		case flow.SendDigits:
			m.effects = true
			err = say(line{digits: e.Digits, node: e.Node})
		case flow.Record:
			mv, err = m.record(e, say)
		case flow.Wait:
			again, err = m.await(ctx, e, say)
		default:
			again, err = m.outside(ctx, e, say)
		}
		if err != nil {
			return mv, nil, err
		}
	}
	if mv.kind == movePlayed {
		mv.sensitive = m.leadsToSensitive()
	}
	return mv, again, nil
}

// store hands a step to the journal.
func (m *flowMind) store(ctx context.Context, before flow.State, ev flow.Event, effects []flow.Effect) {
	c, err := NewCommit(before, ev, m.state, effects, m.touched)
	if err != nil {
		return // the engine keeps states encodable; what is not is not stored
	}
	m.touched = false
	m.commit(ctx, c)
}

// spent implements mind.
func (m *flowMind) spent() int {
	if m.spec.Models == nil {
		return 0
	}
	return m.spec.Models.tokens()
}

func (m *flowMind) heard(text string, interrupted bool) {
	m.touched = m.touched || m.state.System.Heard != text
	m.state = m.spec.Flow.Heard(m.state, text)
}

// aside changes nothing: a flow goes on from what it said itself.
func (m *flowMind) aside(string) {}

// note is nothing to a flow, which is told by an event.
func (m *flowMind) note(string) {}

// retract goes back to the state before the last answer, which never was
// answered aloud. Revisions go on: what is stored stays in order.
func (m *flowMind) retract() bool {
	if m.effects || m.earlier == nil {
		return false
	}
	revision := m.state.System.Revision
	m.state, m.earlier = *m.earlier, nil
	m.state.System.Revision, m.touched = revision, true
	return true
}
