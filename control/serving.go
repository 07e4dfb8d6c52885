package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/agent"
)

// drainTime is how long [Calls.Run] waits for records that are not yet
// written when the program ends.
const drainTime = 5 * time.Second

// A Serving is one call being served by this process, from Begin to Finish.
type Serving struct {
	Call  Call
	Agent Agent
	// Flow is the version that the call runs, for agents of kind flow.
	Flow *FlowVersion
	// Conversation is what an earlier leg of this call came to; nil at first.
	Conversation *Conversation
	// Journal keeps the session's turns and commits.
	Journal *Journal
	// FirstTurn and Elapsed are where an earlier leg of this call left off: the
	// index of the next turn, and the time since the call was answered.
	FirstTurn int
	Elapsed   time.Duration

	once     sync.Once
	hangup   func(reason string)
	finished chan struct{} // closed once Finish has nothing left to write
}

// Hangup asks the session to end for the reason given. It returns at once and
// may be called again, which does nothing.
func (v *Serving) Hangup(reason string) { v.once.Do(func() { v.hangup(reason) }) }

// Begin claims a call for this process and gathers all that serving it takes.
// hangup is called at most once, by any goroutine, when an operator or the
// carrier ends the call; it must not block. The context that it returns is ctx
// with the call's tenant. Every Begin that succeeds needs its [Calls.Finish].
// Errors: ErrNotFound, ErrEnded, ErrConflict (it is being served).
func (s *Calls) Begin(ctx context.Context, callID string, hangup func(reason string)) (context.Context, *Serving, error) {
	ctx, id, err := s.locate(ctx, callID)
	if err != nil {
		return ctx, nil, err
	}
	v := &Serving{hangup: hangup, finished: make(chan struct{})}
	if v.Call, err = s.Changes.ClaimCall(ctx, id, s.Node, callLease); err != nil {
		return ctx, nil, err
	}
	if err := s.gather(ctx, v); err != nil {
		_, _ = s.Changes.EndCall(context.WithoutCancel(ctx), id, "failed", time.Now().UTC())
		return ctx, nil, fmt.Errorf("begin call %s: %w", id, err)
	}
	s.mu.Lock()
	if s.served == nil {
		s.served = map[uuid.UUID]*Serving{}
	}
	s.served[id] = v
	s.mu.Unlock()
	// The journal outlives ctx: what was said is written even if the caller
	// is gone. Run waits for it.
	s.journals.Go(func() {
		v.Journal.Run(context.WithoutCancel(ctx))
		close(v.finished)
		s.mu.Lock()
		if s.served[id] == v {
			delete(s.served, id)
		}
		s.mu.Unlock()
	})
	return ctx, v, nil
}

// gather reads what the call is served with.
func (s *Calls) gather(ctx context.Context, v *Serving) error {
	var err error
	if v.Agent, err = s.Agents.Store.Agent(ctx, v.Call.Agent); err != nil {
		return err
	}
	conv := Conversation{ID: v.Call.ID, Call: v.Call.ID}
	switch stored, err := s.Records.Conversation(ctx, v.Call.ID); {
	case err == nil:
		conv, v.Conversation = stored, &stored
	case !errors.Is(err, ErrNotFound):
		return err
	}
	if v.Agent.Settings.Kind == KindFlow {
		var f FlowVersion
		if conv.FlowVersion != uuid.Nil { // pinned by an earlier leg
			f, err = s.Agents.Flows.FlowVersion(ctx, conv.FlowVersion)
		} else {
			f, err = s.Agents.Flows.PublishedVersion(ctx, v.Agent.Settings.FlowID)
		}
		if err != nil {
			return err
		}
		v.Flow, conv.FlowVersion = &f, f.ID
	}
	if v.FirstTurn, err = s.Records.NextTurn(ctx, v.Call.ID); err != nil {
		return err
	}
	if v.FirstTurn > 0 {
		v.Elapsed = time.Since(v.Call.AnsweredAt)
	}
	v.Journal = newJournal(s.Records, conv, s.Log)
	return nil
}

// Finish writes how the session ended, with the key of its recording or "",
// after all that the journal holds. It waits until that is written or ctx
// ends; then the rest is written behind it, as soon as storage answers.
func (s *Calls) Finish(ctx context.Context, v *Serving, e agent.Ending, recording string) error {
	at := time.Now().UTC()
	id := v.Call.ID
	v.once.Do(func() {}) // nobody hangs up any more
	if recording != "" {
		v.Journal.add("recording", false, func(ctx context.Context) error {
			return s.Changes.SetRecording(ctx, id, recording)
		})
	}
	v.Journal.add("ending", false, func(ctx context.Context) error {
		var err error
		if e.Reason == "transfer" && e.Transfer != "" {
			_, err = s.Changes.TransferCall(ctx, id, e.Transfer)
		} else {
			_, err = s.Changes.EndCall(ctx, id, e.Reason, at)
		}
		return err
	})
	return v.Journal.Close(ctx)
}

// Serving tells how many calls this process serves.
func (s *Calls) Serving() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.served)
}

func (s *Calls) serving(id uuid.UUID) *Serving {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served[id]
}

// Run renews the leases of the calls served here and closes stale ones, until
// ctx ends. Then it waits for what is still to be written, for 5 s at most.
// End it after all sessions have ended.
func (s *Calls) Run(ctx context.Context) error {
	t := time.NewTicker(callRenew)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.drain()
		case <-t.C:
		}
		turn, cancel := context.WithTimeout(ctx, callRenew)
		s.renew(turn)
		if n, err := s.CloseStale(turn, false); err != nil {
			s.Log.Warn("close stale calls", "error", err)
		} else if n > 0 {
			s.Log.Warn("closed calls of a dead process", "calls", n)
		}
		cancel()
	}
}

func (s *Calls) renew(ctx context.Context) {
	s.mu.Lock()
	byTenant := map[uuid.UUID][]uuid.UUID{}
	for id, v := range s.served {
		byTenant[v.Call.Tenant] = append(byTenant[v.Call.Tenant], id)
	}
	s.mu.Unlock()
	for tenant, ids := range byTenant {
		if err := s.Changes.RenewCalls(WithTenant(ctx, tenant), ids, s.Node, callLease); err != nil {
			s.Log.Warn("renew the leases of calls", "error", err)
		}
	}
}

func (s *Calls) drain() error {
	s.mu.Lock()
	stop := time.AfterFunc(drainTime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, v := range s.served {
			v.Journal.abandon()
		}
	})
	left := len(s.served)
	s.mu.Unlock()
	s.journals.Wait()
	if !stop.Stop() {
		return fmt.Errorf("the program ended before the records of %d calls were written", left)
	}
	return nil
}
