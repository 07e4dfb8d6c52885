package control

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
)

// Something that a flow may wait for has happened outside: a payment, a
// colleague's word.

const (
	// MaxCallInbox is how many events may wait for one call.
	MaxCallInbox = 20
	// MaxEventData is the most that one event may carry, in bytes.
	MaxEventData = 16 << 10
	// happenPatience is how long an event waits for a rival's turn in a chat.
	happenPatience = 5 * time.Second
)

// A CallEvent is one event for a call in progress.
type CallEvent struct {
	Call  uuid.UUID
	Event string
	Data  json.RawMessage
}

// CallInbox keeps events for calls until the process that serves them has
// taken them.
type CallInbox interface {
	// PutCallEvent keeps an event. ErrConflict: there is no such call, or too
	// many events wait for it.
	PutCallEvent(ctx context.Context, e CallEvent) error
	// TakeCallEvents removes and returns the events of calls, in order.
	TakeCallEvents(ctx context.Context, calls []uuid.UUID) ([]CallEvent, error)
}

func checkEvent(event string, data json.RawMessage) error {
	switch {
	case event == "" || len(event) > flow.MaxEventName:
		return Invalidf("event", "must be 1 to %d bytes", flow.MaxEventName)
	case len(data) > MaxEventData:
		return Invalidf("data", "must be at most %d bytes", MaxEventData)
	}
	return nil
}

// Happen tells a conversation that something has happened: a wait for it ends,
// or finds it when it comes. Errors: ErrNotFound, ErrEnded, ErrConflict (turns of
// others, or too many events), ErrQuarantined, [Invalid].
func (s *Chats) Happen(ctx context.Context, calls *Calls, id uuid.UUID, event string, data json.RawMessage) error {
	if err := checkEvent(event, data); err != nil {
		return err
	}
	c, err := s.Store.Conversation(ctx, id)
	switch {
	case err != nil:
		return err
	case c.Status != flow.Active:
		return ErrEnded
	case c.Channel == ChannelVoice:
		return calls.happen(ctx, CallEvent{c.Call, event, data})
	}
	ctx = context.WithoutCancel(ctx)
	t, err := s.claim(ctx, id, 0)
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for begun := time.Now(); errors.Is(err, ErrConflict) && time.Since(begun) < happenPatience; t, err = s.claim(ctx, id, 0) {
		<-again.C // another turn is at work
	}
	if err != nil {
		return err
	}
	defer t.release()
	_, err = t.run(flow.Happened{At: at(), Event: event, Data: data})
	return err
}

// happen leaves an event for the process that serves a call, and brings it at
// once if that is this one.
func (s *Calls) happen(ctx context.Context, e CallEvent) error {
	if s.Inbox == nil {
		return ErrUnavailable
	}
	if err := s.Inbox.PutCallEvent(ctx, e); err != nil {
		return err
	}
	if s.listener(e.Call) != nil {
		s.bring(ctx, []uuid.UUID{e.Call})
	}
	return nil
}

// bring gives calls that are served here the events that wait for them.
func (s *Calls) bring(ctx context.Context, calls []uuid.UUID) {
	if s.Inbox == nil || len(calls) == 0 {
		return
	}
	events, err := s.Inbox.TakeCallEvents(ctx, calls)
	if err != nil {
		s.Log.Warn("take events of calls", "error", err)
	}
	for _, e := range events {
		if tell := s.listener(e.Call); tell != nil {
			tell(e.Event, e.Data)
		}
	}
}

// listener is who is told of events of a call here; nil: nobody yet.
func (s *Calls) listener(call uuid.UUID) func(string, json.RawMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v := s.served[call]; v != nil {
		return v.happened
	}
	return nil
}

// Hear has happened told of events from outside. It must not block. It is called
// once, before events are of use to the session.
func (s *Calls) Hear(v *Serving, happened func(event string, data json.RawMessage)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.happened = happened
}

// chatSilence is how long the waiting question of a chat gives for an answer; 0:
// for ever.
func chatSilence(s flow.State) time.Duration {
	if s.System.Waiting.For != flow.ForInput || s.System.Voice {
		return 0
	}
	for _, e := range s.Pending() {
		if ask, ok := e.(flow.Ask); ok {
			return ask.Voice.ChatNoInput
		}
	}
	return 0
}

// listening are those of calls whose session here is told of events.
func (s *Calls) listening(calls []uuid.UUID) []uuid.UUID {
	var out []uuid.UUID
	for _, id := range calls {
		if s.listener(id) != nil {
			out = append(out, id)
		}
	}
	return out
}
