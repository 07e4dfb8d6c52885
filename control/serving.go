package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/agent/flow"
)

// releaseTime is how long a session may take to let go of a call whose line
// has come back on another socket: its teardown, and its last records.
const releaseTime = 3 * time.Second

// A Serving is one call being served by this process, from Begin to Finish.
type Serving struct {
	Call  Call
	Agent Agent
	// Flow is the version that the call runs, with the flows that it calls; for
	// agents of kind flow.
	Flow *flow.Flow
	// Conversation is what an earlier leg of this call came to; nil at first.
	Conversation *Conversation
	// Journal keeps the session's turns and commits.
	Journal *Journal
	// FirstTurn and Elapsed are where an earlier leg of this call left off: the
	// index of the next turn, and the time since the call was answered.
	FirstTurn int
	Elapsed   time.Duration
	// Recorded is what the session's recording has come to, set before Finish.
	Recorded Recording

	happened func(event string, data json.RawMessage) // guarded by the lock of Calls
	obey     Obeyed                                   // likewise
	once     sync.Once
	hangup   func(reason string)
	ended    chan struct{} // closed once end is set
	end      ending
	finished chan struct{} // closed once Finish has nothing left to write
}

// next tells what the carrier does after the session, which has ended.
func (v *Serving) next() Next {
	switch {
	case v.end.Reason == "transfer" && v.end.Transfer != "":
		return Next{Do: "dial", Call: v.Call.ID, Dial: v.end.Transfer}
	case v.end.Reason == "network":
		return Next{Do: "connect", Call: v.Call.ID}
	}
	return Next{Do: "hangup", Call: v.Call.ID}
}

// left tells whether the session has ended, and for this reason.
func (v *Serving) left(reason string) bool {
	select {
	case <-v.ended:
		return v.end.Reason == reason
	default:
		return false
	}
}

// settled waits until a session that has ended has all written. It answers
// ErrUnavailable if that takes too long, so that the carrier asks again.
func (v *Serving) settled(ctx context.Context) error {
	select {
	case <-v.finished:
		return nil
	case <-time.After(settleTime):
		return Refuse(ErrUnavailable, "the transfer is not written yet")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Hangup asks the session to end for the reason given: "operator", "caller", or
// "taken", where the call goes on in another session. It returns at once and
// may be called again, which does nothing.
func (v *Serving) Hangup(reason string) { v.once.Do(func() { v.hangup(reason) }) }

// Begin claims a call for this process and gathers all that serving it takes.
// Who asks has the carrier's line: a session that still serves the call, here
// or elsewhere, loses it. hangup is called at most once, by any goroutine, as
// [Serving.Hangup] has it; it must not block. The context that it returns is ctx
// with the call's tenant. Every Begin that succeeds needs its [Calls.Finish].
// Errors: ErrNotFound, ErrEnded, ErrConflict (the call is being transferred, or
// its session here does not end), ErrUnavailable.
func (s *Calls) Begin(ctx context.Context, callID string, hangup func(reason string)) (context.Context, *Serving, error) {
	ctx, id, err := s.locate(ctx, callID)
	if err != nil {
		return ctx, nil, err
	}
	if s.waits() {
		return ctx, nil, fmt.Errorf("%w: records of earlier calls come first", ErrUnavailable)
	}
	if err := s.release(ctx, id); err != nil {
		return ctx, nil, err
	}
	v := &Serving{hangup: hangup, ended: make(chan struct{}), finished: make(chan struct{})}
	if v.Call, err = s.Changes.ClaimCall(ctx, id, s.Node, s.lease()); err != nil {
		return ctx, nil, err
	}
	if err := s.gather(ctx, v); err != nil {
		if !errors.Is(err, ErrUnavailable) { // else the carrier may ask again
			_, _ = s.Changes.EndCall(context.WithoutCancel(ctx), v.Call.Hold(), "failed", time.Now().UTC())
		}
		return ctx, nil, fmt.Errorf("begin call %s: %w", id, err)
	}
	v.Journal.taken = func() { v.Hangup("taken") }
	s.mu.Lock()
	if s.served == nil {
		s.served = map[uuid.UUID]*Serving{}
	}
	s.served[id] = v
	s.mu.Unlock()
	s.note(ctx, id)
	// The journal outlives ctx: what was said is written even if the caller
	// is gone. Run waits for it.
	s.journals.Go(func() {
		v.Journal.Run(context.WithoutCancel(ctx))
		s.forget(context.WithoutCancel(ctx), v)
	})
	return ctx, v, nil
}

// release ends the session that serves the call here: its line was lost,
// whether it knows or not.
func (s *Calls) release(ctx context.Context, id uuid.UUID) error {
	v := s.serving(id)
	if v == nil {
		return nil
	}
	v.Hangup("taken")
	select {
	case <-v.finished:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(releaseTime):
		return fmt.Errorf("%w: the call's session does not end", ErrConflict)
	}
}

// forget lets go of a call whose journal has ended.
func (s *Calls) forget(ctx context.Context, v *Serving) {
	s.mu.Lock()
	s.left = append(s.left, v.Journal.rest()...)
	if s.served[v.Call.ID] == v {
		delete(s.served, v.Call.ID)
	}
	s.mu.Unlock()
	close(v.finished)
	if v.end.Reason != "transfer" && v.Call.CarrierCallID != "" {
		s.dropColleague(ctx, v.Call)
	}
	if s.Live != nil {
		_ = s.Live.Ended(ctx, v.Call.ID) // else it lapses
	}
}

// gather reads what the call is served with.
func (s *Calls) gather(ctx context.Context, v *Serving) error {
	var err error
	if v.Agent, err = s.Agents.At(ctx, v.Call.Agent, v.Call.AgentVersion); err != nil {
		return err
	}
	conv := Conversation{ID: v.Call.ID, Call: v.Call.ID, Channel: ChannelVoice}
	switch stored, err := s.Records.Conversation(ctx, v.Call.ID); {
	case err == nil:
		conv, v.Conversation = stored, &stored
	case !errors.Is(err, ErrNotFound):
		return err
	}
	if v.Agent.Settings.Kind == KindFlow {
		if err := s.gatherFlow(ctx, v, &conv); err != nil {
			return err
		}
	}
	if v.FirstTurn, err = s.Records.NextTurn(ctx, v.Call.ID); err != nil {
		return err
	}
	if v.FirstTurn > 0 {
		v.Elapsed = time.Since(v.Call.AnsweredAt)
	}
	v.Journal = newJournal(s.store, v.Call, conv, s.Log)
	return nil
}

// gatherFlow finds the flow of a call: what an earlier leg was pinned to, or
// what new sessions run.
func (s *Calls) gatherFlow(ctx context.Context, v *Serving, conv *Conversation) (err error) {
	if conv.FlowVersion != uuid.Nil {
		v.Flow, err = s.Graphs.Load(ctx, conv.FlowVersion, conv.Pins)
		return err
	}
	set := v.Agent.Settings
	if conv.FlowVersion, err = pick(ctx, s.Graphs.Store, SubjectFlow, set.FlowID, set.Environment, conv.ID); err != nil {
		return err
	}
	conv.Flow = set.FlowID
	v.Flow, conv.Pins, err = s.Graphs.Pin(ctx, conv.FlowVersion, set.Environment)
	return err
}

// Finish writes how the session ended, with the key of its recording or "",
// after all that the journal holds. It waits until that is written or ctx
// ends; then the rest is written behind it, as soon as storage answers.
func (s *Calls) Finish(ctx context.Context, v *Serving, e agent.Ending, recording string) error {
	v.once.Do(func() {}) // nobody hangs up any more
	v.end = ending{Reason: e.Reason, Transfer: e.Transfer, At: time.Now().UTC(), Uses: e.Uses}
	close(v.ended)
	if recording != "" {
		v.Recorded.Key = recording
		v.Journal.add(record{Recording: &v.Recorded})
	}
	v.Journal.add(record{Ending: &v.end})
	return v.Journal.Close(ctx)
}

// Serving tells how many calls this process serves.
func (s *Calls) Serving() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.served)
}

// servingCarrier returns the session here of a carrier's call, or nil.
func (s *Calls) servingCarrier(carrier, carrierCallID string) *Serving {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.served {
		if v.Call.Carrier == carrier && v.Call.CarrierCallID == carrierCallID {
			return v
		}
	}
	return nil
}

func (s *Calls) serving(id uuid.UUID) *Serving {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served[id]
}
