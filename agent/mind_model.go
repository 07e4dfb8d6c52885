package agent

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"parley/agent/effect"
	"parley/agent/flow"
)

// How a flow's nodes have a language model speak on a call: clause by clause,
// as it comes, and before the caller's turn has ended for certain.

// A cutAnswer is what a model had said when the caller spoke up.
type cutAnswer struct {
	id   string // of the effect
	text string
}

// consult has a model answer for a node. Where ctx ends, what it had said is kept
// for the flow.
func (m *flowMind) consult(ctx context.Context, e flow.Model, say func(line) error) (flow.Event, error) {
	if m.spec.Models == nil {
		return m.unmodelled(ctx, e)
	}
	p, err := m.answer(ctx, e, say, nil, nil)
	if ctx.Err() != nil {
		m.cut = cutAnswer{e.ID, p.Say}
		return nil, ctx.Err()
	}
	return m.proposed(e, p, err), nil
}

// answer has a model answer, and the caller told to wait where nothing is to be
// heard for long: while a model reads, as in any call outside, and while it is to
// speak, once it is given up for the next. Before that it waits for certain.
func (m *flowMind) answer(ctx context.Context, e flow.Model, say func(line) error, fits func(input) bool, certain func() error) (flow.Proposal, error) {
	var mu sync.Mutex // say is for one at a time
	begun := false
	words := m.voiced(e, func(l line) error {
		mu.Lock()
		defer mu.Unlock()
		begun = true
		return say(l)
	}, fits)
	var p flow.Proposal
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		if p, err = m.spec.Models.propose(ctx, e, words); err == nil && p.Spoken {
			err = words(line{ends: true}) // what comes next is another clause
		}
	}()
	if certain != nil {
		if err := certain(); err != nil {
			<-done
			return p, err
		}
	}
	after := cmp.Or(e.Voice.Filler, holdFirst)
	if e.Kind == "agent" {
		after = max(after, firstToken)
	}
	hold := time.NewTimer(after)
	defer hold.Stop()
	for {
		select {
		case <-done:
			return p, err
		case <-hold.C:
			mu.Lock()
			if !begun && ctx.Err() == nil {
				_ = say(m.hold(e.Node)[0]) // that it fails, the answer's words tell too
			}
			mu.Unlock()
			hold.Reset(holdNext)
		}
	}
}

// unmodelled is the result where the session has no models of its own.
func (m *flowMind) unmodelled(ctx context.Context, e flow.Model) (flow.Event, error) {
	if m.spec.Perform == nil {
		return m.proposed(e, flow.Proposal{}, errNoModels), nil
	}
	return m.spec.Perform(ctx, e), ctx.Err()
}

func (m *flowMind) proposed(e flow.Model, p flow.Proposal, err error) flow.Result {
	r := effect.Proposed(e.ID, p, err)
	r.At = flow.At{At: time.Now()}
	return r
}

// voiced gives a model's words to say, as words of its node. fits: see [line].
func (m *flowMind) voiced(e flow.Model, say func(line) error, fits func(input) bool) func(line) error {
	return func(l line) error {
		l.node, l.policy, l.how, l.fits = e.Node, policyOf(e.Voice), deliveryOf(e.Voice), fits
		return say(l)
	}
}

// policyOf is when the caller may interrupt a node's words.
func policyOf(v flow.Voice) policy {
	return policy{never: v.BargeIn.Off, digits: v.BargeIn.DTMFOnly, after: v.BargeIn.After, minWords: v.BargeIn.MinWords}
}

// firstModel is the model that would be asked first in answer to in, if nothing
// else comes of it before.
func (m *flowMind) firstModel(state flow.State, in input) (flow.Model, bool) {
	if m.spec.Models == nil {
		return flow.Model{}, false
	}
	_, effects := flow.Step(m.spec.Flow, state, m.eventOf(state, in))
	for _, e := range effects {
		switch e := e.(type) {
		case flow.Emit:
			continue
		case flow.Model:
			return e, true
		}
		break
	}
	return flow.Model{}, false
}

// early has a model answer a guess. The step that asks it is taken when the
// guess has become certain: if the model would be asked the same then.
func (m *flowMind) early(ctx context.Context, in input, e flow.Model, say func(line) error) (move, error) {
	// What is certain does not change: one look is enough, for all clauses.
	var once sync.Once
	var fit bool
	state := m.state
	fits := func(in input) bool {
		once.Do(func() {
			now, ok := m.firstModel(state, in)
			fit = ok && alike(now, e)
		})
		return fit
	}
	var err error
	p, failed := m.answer(ctx, e, say, fits, func() error {
		in, err = in.certain(ctx)
		return err
	})
	switch {
	case err != nil:
		return move{}, err
	case !fits(in):
		return move{}, errMisfit
	}
	ev, before := m.event(in), m.state
	next, effects := flow.Step(m.spec.Flow, before, ev)
	m.state, m.earlier = next, &before
	m.store(ctx, before, ev, effects)
	if ctx.Err() != nil { // it was adopted, and interrupted
		m.cut = cutAnswer{e.ID, p.Say}
		return move{}, ctx.Err()
	}
	return m.step(ctx, m.proposed(e, p, failed), say)
}

// alike tells whether two questions to a model differ in no more than how the
// caller's last words are spelled.
func alike(a, b flow.Model) bool {
	return a.ID == b.ID && a.Kind == b.Kind && slices.EqualFunc(a.Said, b.Said, func(x, y flow.Line) bool {
		return x.Who == y.Who && x.Wish == y.Wish && normal(x.Text) == normal(y.Text)
	})
}

// closeCut tells the flow of an answer that the caller cut short, as far as it
// had come. It reports whether there was one.
func (m *flowMind) closeCut(ctx context.Context, e flow.Effect) bool {
	q, ok := e.(flow.Model)
	if !ok || q.Kind != "agent" || m.cut.id != q.ID {
		return false
	}
	ev := m.proposed(q, flow.Proposal{Say: m.cut.text, Spoken: m.cut.text != "", Cut: true}, nil)
	before := m.state
	next, effects := flow.Step(m.spec.Flow, before, ev)
	m.state, m.cut = next, cutAnswer{}
	m.store(ctx, before, ev, effects)
	return true
}
