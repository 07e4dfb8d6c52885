package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"parley/agent"
	"parley/agent/effect"
	"parley/agent/flow"
)

const (
	backgroundCall  = 5 * time.Minute // longest effect of a turn that nobody waits for
	backgroundTurns = 16              // at once
	backgroundLook  = time.Second     // between looks for what is due
)

// errUnkept says that a state is too large or too deep to be kept.
var errUnkept = errors.New("control: the state cannot be kept")

// A chatTurn is one turn at work: it holds the claim.
type chatTurn struct {
	s          *Chats
	ctx        context.Context // of the turn, with the tenant
	conv       Conversation
	flow       *flow.Flow
	state      flow.State // as last committed
	claim      Claim
	begin      bool   // the row is not there yet
	held       bool   // the claim stands in storage
	broken     bool   // a commit failed: it may stand, or not
	background bool   // nobody waits
	inline     string // the asynchronous call that is done here, not by a worker

	messages []flow.Message
}

func (s *Chats) newTurn(ctx context.Context, c Conversation) *chatTurn {
	return &chatTurn{s: s, ctx: ctx, conv: c, claim: Claim{NewID(), s.lease()}}
}

// claim takes the conversation for a turn, and loads and verifies its state.
// Every claim that succeeds needs its release.
func (s *Chats) claim(ctx context.Context, id uuid.UUID, expected int) (*chatTurn, error) {
	t := s.newTurn(ctx, Conversation{})
	var err error
	if t.conv, err = s.Turns.ClaimConversation(ctx, id, t.claim); err != nil {
		return nil, err
	}
	t.held = true
	err = t.load() // first of all: by it release knows whether an earlier turn broke off
	if err == nil && expected != 0 && expected != t.conv.Revision {
		err = fmt.Errorf("%w: revision %d", ErrConflict, t.conv.Revision)
	}
	if err != nil {
		t.broken = errors.Is(err, ErrUnavailable)
		t.release()
		return nil, err
	}
	return t, nil
}

// load decodes the state. One that was altered is taken out of service.
func (t *chatTurn) load() error {
	state, err := flow.DecodeState(t.conv.State, t.conv.Hash)
	if errors.Is(err, flow.ErrHash) || err == nil && state.System.Revision != t.conv.Revision {
		t.s.Log.Error("the stored state of a conversation was altered: it is quarantined",
			"conversation", t.conv.ID, "revision", t.conv.Revision, "hash", t.conv.Hash)
		if err := t.s.Turns.QuarantineConversation(t.ctx, t.conv.ID, t.claim); err != nil {
			return err
		}
		t.held = false
		return ErrQuarantined
	}
	if err != nil {
		return err
	}
	t.state = state
	t.flow, err = t.s.Graphs.Load(t.ctx, t.conv.FlowVersion, t.conv.Pins)
	return err
}

// release ends the claim, if it still stands, and says what is left to do.
func (t *chatTurn) release() {
	if !t.held {
		return
	}
	left := LeaveDue
	switch {
	case t.broken || t.flow != nil && !t.rests(t.state):
		left = DueNow
	case t.background && effect.Unfinished(t.state) == nil && chatSilence(t.state) == 0:
		left = NothingDue
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), 2*time.Second)
	defer cancel()
	err := t.s.Turns.ReleaseConversation(ctx, t.conv.ID, t.claim, left)
	if err != nil && !errors.Is(err, ErrConflict) {
		t.s.Log.Warn("a conversation stays claimed until its lease ends", "conversation", t.conv.ID, "error", err)
	}
	t.held = false
}

// resume finishes what an earlier turn left, and tells whether there was any.
// The messages of that turn come along: nobody has seen them.
func (t *chatTurn) resume() (Reply, bool, error) {
	e := effect.Unfinished(t.state)
	if e == nil {
		return Reply{}, false, nil
	}
	_, later := t.later(e)
	if w, _ := e.(flow.Wait); later && (!t.conv.Due || w.Event != "" && w.After == 0) {
		return Reply{}, false, nil
	}
	do := func(ctx context.Context, h *effect.TextHost) (flow.State, error) { return h.Resume(ctx, t.state) }
	if call, ok := e.(flow.Call); ok && later {
		t.doInline(call, "no worker has done it in time")
	} else if later {
		do = func(ctx context.Context, h *effect.TextHost) (flow.State, error) {
			return h.Turn(ctx, t.state, flow.Result{At: at(), ID: t.state.System.Waiting.ID, Outcome: "timeout"})
		}
	} else if err := t.earlier(); err != nil {
		return Reply{}, true, err
	}
	r, err := t.finish(do)
	r.Resumed = true
	return r, true, err
}

// earlier gathers what the broken turn has said before.
func (t *chatTurn) earlier() error {
	entries, err := t.s.Store.History(t.ctx, t.conv.ID, t.conv.Revision-200, 200)
	if err != nil {
		return err
	}
	for _, e := range entries {
		var ev struct{ Type string }
		var said []flow.Message
		if err := errors.Join(json.Unmarshal(e.Event, &ev), json.Unmarshal(e.Messages, &said)); err != nil {
			return fmt.Errorf("history of conversation %s: %w", t.conv.ID, err)
		}
		if ev.Type != "result" { // a turn began here
			t.messages = nil
		}
		t.messages = append(t.messages, said...)
	}
	return nil
}

// later tells whether an effect is left for after the turn, and after how long
// it is due if nobody has seen to it.
func (t *chatTurn) later(e flow.Effect) (time.Duration, bool) {
	if c, ok := e.(flow.Call); ok {
		return orDuration(t.s.TaskWait, taskWait), c.Async && t.s.Tasks != nil && c.ID != t.inline
	}
	return waits(e)
}

// rests tells whether s is where a turn may end: nothing is left to be done now.
func (t *chatTurn) rests(s flow.State) bool {
	e := effect.Unfinished(s)
	if e == nil {
		return true
	}
	_, later := t.later(e)
	return later
}

// doInline has an asynchronous call done in this turn.
func (t *chatTurn) doInline(c flow.Call, why string) {
	t.inline = c.ID
	t.s.count(TaskInline)
	t.s.Log.Warn("an asynchronous node is done in the turn: is the queue down?", "conversation", t.conv.ID, "route", c.Route, "why", why)
}

// run gives the flow an event.
func (t *chatTurn) run(ev flow.Event) (Reply, error) {
	return t.finish(func(ctx context.Context, h *effect.TextHost) (flow.State, error) { return h.Turn(ctx, t.state, ev) })
}

// finish holds the turn until the flow rests, or for as long as somebody waits:
// then what is left of it is done by [Chats.Run].
func (t *chatTurn) finish(do func(context.Context, *effect.TextHost) (flow.State, error)) (Reply, error) {
	ctx := t.ctx
	if !t.background {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t.s.patience())
		defer cancel()
	}
	tenant, _ := TenantOf(ctx)
	perform := t.s.Perform(tenant)
	host := &effect.TextHost{Flow: t.flow, Commit: t.commit,
		Perform: func(ctx context.Context, e flow.Effect) flow.Result { return t.perform(ctx, perform, e) },
		Later:   func(e flow.Effect) bool { _, later := t.later(e); return later },
	}
	_, err := do(ctx, host)
	switch {
	case errors.Is(err, effect.ErrEndless), errors.Is(err, errUnkept):
		t.s.Log.Warn("a conversation fails", "conversation", t.conv.ID, "error", err)
		_, err = host.Turn(ctx, t.state, flow.Close{At: at(), Status: flow.Failed})
	case ctx.Err() != nil && !t.begin && !t.broken:
		err = nil // the rest comes behind it
	}
	if err != nil {
		return Reply{}, err
	}
	return Reply{Conversation: t.conv, Flow: t.flow, Current: t.state, Messages: t.messages, Takes: takes(t.state)}, nil
}

// commit writes a step.
func (t *chatTurn) commit(ctx context.Context, st effect.Step) error {
	m, err := agent.NewCommit(st.Before, st.Event, st.State, st.Effects, t.begin)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnkept, err)
	}
	r, err := NewRevision(m)
	if err != nil {
		return err
	}
	c := TurnCommit{Revision: r, Claim: t.claim, Last: t.rests(st.State),
		Idle: orDuration(t.s.Idle, chatIdle), Life: orDuration(t.s.Life, ChatLife)}
	wanted := effect.Unfinished(st.State)
	if d, later := t.later(wanted); later {
		c.Due, c.KeepDue = d, st.Before.System.Waiting == st.State.System.Waiting
		if call, ok := wanted.(flow.Call); ok && !c.KeepDue {
			c.Task = &Task{Tenant: tenantOf(ctx), Conversation: t.conv.ID, Revision: m.Revision, Effect: call.ID}
		}
	}
	if d := chatSilence(st.State); d > 0 {
		c.Due, c.KeepDue = d, st.Before.System.Waiting == st.State.System.Waiting
	}
	t.broken = true
	if t.begin {
		err = t.s.Turns.BeginConversation(ctx, t.conv, c)
	} else {
		err = t.s.Turns.CommitTurn(ctx, t.conv.ID, c)
	}
	if c.Task != nil && errors.Is(err, ErrNoQueue) {
		t.doInline(wanted.(flow.Call), err.Error())
		return t.commit(ctx, st)
	}
	if err != nil {
		return err
	}
	t.broken, t.begin, t.held = false, false, !c.Last
	t.state, t.messages = st.State, append(t.messages, st.Messages()...)
	t.conv.Revision, t.conv.Node, t.conv.Status = m.Revision, m.Node, m.Status
	t.conv.State, t.conv.Hash = m.State, m.Hash
	return nil
}

// perform does an effect while it keeps the claim. If the claim is lost,
// another process does the effect, under the same key, and the result cannot
// be committed.
func (t *chatTurn) perform(ctx context.Context, do func(context.Context, flow.Effect) flow.Result, e flow.Effect) flow.Result {
	ctx, cancel := context.WithTimeout(ctx, backgroundCall)
	defer cancel()
	ctx = WithParty(ctx, t.conv.party(tenantOf(t.ctx)))
	return keeping(ctx, t.claim.Lease, func(ctx context.Context) error { return t.s.Turns.RenewClaim(ctx, t.conv.ID, t.claim) },
		func(ctx context.Context) flow.Result { return do(ctx, e) })
}

// Run goes on with conversations that have waited long enough, finishes turns
// that a dead process left, and gives up those that nobody has answered until
// their expiry. It returns when ctx ends, and leaves what it is at to others.
func (s *Chats) Run(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(backgroundTurns)
	tick := time.NewTicker(backgroundLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return g.Wait()
		case <-tick.C:
		}
		due, err := s.Store.LocateDueConversations(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Warn("look for conversations that are due", "error", err)
		}
		for _, at := range due {
			if !g.TryGo(func() error { s.goOn(WithTenant(ctx, at.Tenant), at.ID); return nil }) {
				break // the next look finds the rest
			}
		}
	}
}

// goOn does what is due in one conversation.
func (s *Chats) goOn(ctx context.Context, id uuid.UUID) {
	t, err := s.claim(ctx, id, 0)
	if err == nil {
		t.background = true
		defer t.release()
		if t.conv.Expired {
			_, err = t.run(flow.Hangup{At: at()})
		} else if t.conv.Due && chatSilence(t.state) > 0 {
			_, err = t.run(flow.Silence{At: at()})
		} else {
			_, _, err = t.resume()
		}
	}
	switch {
	case err == nil, errors.Is(err, ErrConflict), errors.Is(err, ErrEnded), errors.Is(err, ErrNotFound),
		errors.Is(err, ErrQuarantined), ctx.Err() != nil:
	default:
		s.Log.Warn("go on with a conversation", "conversation", id, "error", err)
	}
}
