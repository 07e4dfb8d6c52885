package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// callLease is how long a call belongs to the process that serves it
	// without a word from it; renewed three times as often.
	callLease  = 30 * time.Second
	callRenew  = callLease / 3
	callMissed = 2 * time.Minute // an arrival that nobody serves is over

	// ResumeWindow is how long a call that the line or a crash ended may be
	// taken up again.
	ResumeWindow = time.Minute
)

// Calls takes calls in, hands them to the process that serves them, and keeps
// what they come to. [Calls.Run] must run beside it.
type Calls struct {
	Store   CallStore
	Changes CallChanges
	Records RecordStore
	Agents  *Agents
	Numbers NumberStore
	Carrier Carrier // may be nil: calls that are not here cannot be hung up
	Log     *slog.Logger
	Node    uuid.UUID // of this process, fresh at each start

	mu       sync.Mutex
	served   map[uuid.UUID]*Serving
	journals sync.WaitGroup
}

// A Carrier acts on a call that is at its end of the line. It returns within
// 10 s.
type Carrier interface {
	Hangup(ctx context.Context, carrier, carrierCallID string) error
}

// Arrive takes a call in. For one that the carrier has announced before it
// returns the same call. Errors: ErrNotFound (no such agent or number),
// ErrEnded.
func (s *Calls) Arrive(ctx context.Context, a Arrival) (Call, error) {
	if a.CarrierCallID != "" {
		at, err := s.Store.LocateCarrierCall(ctx, a.Carrier, a.CarrierCallID)
		if err == nil {
			return s.again(ctx, at)
		}
		if !errors.Is(err, ErrNotFound) {
			return Call{}, err
		}
	}
	if a.Resume != "" {
		ctx, id, err := s.locate(ctx, a.Resume)
		if err != nil {
			return Call{}, err
		}
		t, _ := TenantOf(ctx)
		return s.again(ctx, Located{t, id})
	}
	ctx, agentID, err := s.pick(ctx, a)
	if err != nil {
		return Call{}, err
	}
	c := Call{
		ID: newID(), Agent: agentID, Carrier: a.Carrier, CarrierCallID: a.CarrierCallID,
		Direction: a.Direction, From: a.From, To: a.To, Status: CallArrived, StartedAt: time.Now().UTC(),
	}
	if c.Direction == "" {
		c.Direction = "inbound"
	}
	if c, err = s.Store.InsertCall(ctx, c); err != nil {
		return c, err
	}
	return c, open(c)
}

// again returns a call that is known already.
func (s *Calls) again(ctx context.Context, at Located) (Call, error) {
	if t, ok := TenantOf(ctx); ok && t != at.Tenant {
		return Call{}, ErrNotFound
	}
	c, err := s.Store.Call(WithTenant(ctx, at.Tenant), at.ID)
	if err != nil {
		return c, err
	}
	return c, open(c)
}

// open returns ErrEnded for a call that nothing brings back.
func open(c Call) error {
	if c.Status == CallEnded && !c.resumable(time.Now()) {
		return ErrEnded
	}
	return nil
}

// resumable tells whether an ended call may be taken up again.
func (c Call) resumable(now time.Time) bool {
	return (c.EndReason == "network" || c.EndReason == "crashed") && now.Sub(c.EndedAt) < ResumeWindow
}

// pick finds who answers: the agent that is named, else the number's. The
// context it returns has the agent's tenant.
func (s *Calls) pick(ctx context.Context, a Arrival) (context.Context, uuid.UUID, error) {
	if a.Agent != "" {
		ctx, ag, err := s.Agents.Find(ctx, a.Agent)
		return ctx, ag.ID, err
	}
	at, err := s.Numbers.LocateNumber(ctx, a.To)
	if err != nil {
		return ctx, uuid.Nil, fmt.Errorf("number: %w", err)
	}
	return WithTenant(ctx, at.Tenant), at.ID, nil
}

// locate finds a call and returns ctx with its tenant. A context that has
// another one finds nothing.
func (s *Calls) locate(ctx context.Context, callID string) (context.Context, uuid.UUID, error) {
	id, err := uuid.Parse(callID)
	if err != nil {
		return ctx, id, ErrNotFound
	}
	at, err := s.Store.LocateCall(ctx, id)
	if err != nil {
		return ctx, id, err
	}
	if t, ok := TenantOf(ctx); ok && t != at.Tenant {
		return ctx, id, ErrNotFound
	}
	return WithTenant(ctx, at.Tenant), id, nil
}

// Next tells what a carrier's call does now that its stream has ended. It
// waits up to 1.5 s for this process to finish serving it.
func (s *Calls) Next(ctx context.Context, carrier, carrierCallID string) (Next, error) {
	at, err := s.Store.LocateCarrierCall(ctx, carrier, carrierCallID)
	if err != nil {
		return Next{}, err
	}
	if v := s.serving(at.ID); v != nil {
		select {
		case <-v.finished:
		case <-ctx.Done():
			return Next{}, ctx.Err()
		case <-time.After(1500 * time.Millisecond):
		}
	}
	c, err := s.Store.Call(WithTenant(ctx, at.Tenant), at.ID)
	if err != nil {
		return Next{}, err
	}
	return next(c), nil
}

func next(c Call) Next {
	switch {
	case c.Status == CallTransferring:
		return Next{Do: "dial", Call: c.ID, Dial: c.TransferTo}
	case open(c) == nil:
		return Next{Do: "connect", Call: c.ID}
	}
	return Next{Do: "hangup", Call: c.ID}
}

// TransferEnded notes how a transfer came out, in the carrier's word, and
// tells what is next. After anything but "completed" or "answered" the caller
// comes back to the agent, who finds the word in Call.TransferOutcome.
func (s *Calls) TransferEnded(ctx context.Context, carrier, carrierCallID, outcome string) (Next, error) {
	at, err := s.Store.LocateCarrierCall(ctx, carrier, carrierCallID)
	if err != nil {
		return Next{}, err
	}
	back := outcome != "completed" && outcome != "answered"
	c, err := s.Changes.TransferEnded(WithTenant(ctx, at.Tenant), at.ID, outcome, back, time.Now().UTC())
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrEnded) { // a repeated webhook
		c, err = s.Store.Call(WithTenant(ctx, at.Tenant), at.ID)
	}
	if err != nil {
		return Next{}, err
	}
	return next(c), nil
}

// Status takes the carrier's word about a call. One that is over there is
// closed here. Words that end no call are ignored.
func (s *Calls) Status(ctx context.Context, carrier, carrierCallID, status string) error {
	reason := status
	switch status {
	case "completed":
		reason = "caller"
	case "busy", "failed", "no-answer", "canceled":
	default:
		return nil
	}
	at, err := s.Store.LocateCarrierCall(ctx, carrier, carrierCallID)
	if err != nil {
		return err
	}
	if v := s.serving(at.ID); v != nil {
		v.Hangup("caller") // the session ends, and says how
		return nil
	}
	_, err = s.Changes.EndCall(WithTenant(ctx, at.Tenant), at.ID, reason, time.Now().UTC())
	return err
}

// Hangup ends a call of the tenant of ctx for an operator. Errors:
// ErrNotFound, ErrEnded, ErrConflict (another process serves it).
func (s *Calls) Hangup(ctx context.Context, id uuid.UUID) error {
	c, err := s.Store.Call(ctx, id)
	if err != nil {
		return err
	}
	if c.Status == CallEnded {
		return ErrEnded
	}
	if v := s.serving(id); v != nil {
		v.Hangup("operator")
		return nil
	}
	if c.Served {
		return fmt.Errorf("%w: another process serves the call", ErrConflict)
	}
	if s.Carrier != nil && c.CarrierCallID != "" {
		if err := s.Carrier.Hangup(ctx, c.Carrier, c.CarrierCallID); err != nil {
			return fmt.Errorf("hang up at the carrier: %w", err)
		}
	}
	_, err = s.Changes.EndCall(ctx, id, "operator", time.Now().UTC())
	return err
}

// CloseStale closes what dead processes left open: calls whose lease has
// lapsed as "crashed", arrivals that nobody served as "missed". With sole, no
// other process serves calls on this database: all that are not this one's
// are stale. It returns how many it closed.
func (s *Calls) CloseStale(ctx context.Context, sole bool) (int, error) {
	now := time.Now().UTC()
	leased, arrived := now.Add(-callLease), now.Add(-callMissed)
	if sole {
		leased, arrived = now.Add(2*callLease), now
	}
	stale, err := s.Store.LocateStaleCalls(ctx, leased, arrived)
	if err != nil {
		return 0, fmt.Errorf("find stale calls: %w", err)
	}
	n := 0
	for _, at := range stale {
		if s.serving(at.ID) != nil {
			continue
		}
		ctx := WithTenant(ctx, at.Tenant)
		c, err := s.Store.Call(ctx, at.ID)
		if err != nil {
			return n, err
		}
		reason := "crashed"
		if c.Status == CallArrived {
			reason = "missed"
		}
		if _, err := s.Changes.EndCall(ctx, at.ID, reason, now); err != nil {
			return n, fmt.Errorf("close a stale call: %w", err)
		}
		n++
	}
	return n, nil
}
