package control

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	defaultLease = 6 * time.Second
	renewals     = 3 // in a lease's time
	looks        = 6 // for calls of vanished processes, likewise

	callMissed = 2 * time.Minute // an arrival that nobody serves is over

	// ResumeWindow is how long a call that the line or a crash ended may be
	// taken up again.
	ResumeWindow = time.Minute
)

// Calls takes calls in, hands them to the process that serves them, and keeps
// what they come to. [Calls.Run] must run beside it.
type Calls struct {
	Store    CallStore
	Changes  CallChanges
	Records  RecordStore
	Agents   *Agents
	Graphs   *Graphs // of the flows that calls run
	Numbers  NumberStore
	Accounts CarrierAccountStore // of tenants, at carriers
	Carrier  Carrier             // may be nil: calls that are not here cannot be hung up or brought back
	Live     LiveCalls           // may be nil
	Inbox    CallInbox           // may be nil: no events reach calls
	// Commands are operators' wishes, and Wake tells other processes of them at
	// once; nil: none are taken, and they wait for the next renewal of leases.
	Commands   CommandStore
	Wake       Announcer
	Colleagues Colleagues // may be nil: callers are handed to nobody who may decline
	Hub        *Hub       // may be nil: nobody looks on
	Spool      string     // file for records that cannot be written before the end; empty: they are lost
	Ring       *Keyring   // seals Spool, which holds what was said; nil: it is in clear
	Log        *slog.Logger
	Node       uuid.UUID // of this process, fresh at each start

	// Standing refuses new calls of a tenant, by ErrSuspended; those in progress
	// go on. Nil: none is refused.
	Standing func(ctx context.Context, tenant uuid.UUID) error

	// Lease is how long a call belongs to the process that serves it without a
	// word from it. A caller whose process vanished waits for it, so that it is
	// as short as a late machine and a slow database together allow. Default 6 s,
	// the same on all nodes.
	Lease time.Duration

	mu        sync.Mutex
	served    map[uuid.UUID]*Serving
	left      []record // of an earlier process, or of this one at its end
	recovered bool     // Spool was read
	journals  sync.WaitGroup
	asks      sync.WaitGroup // of the carrier, behind sessions' backs
}

func (s *Calls) lease() time.Duration { return cmp.Or(s.Lease, defaultLease) }

// A Carrier acts on a call that is at its end of the line. It returns within
// 10 s.
type Carrier interface {
	// Hangup ends a leg of a call, by the carrier's id: the call's own, or one
	// that was placed for it.
	Hangup(ctx context.Context, c Call, carrierCallID string) error
	// Reconnect has the carrier ask what is next, as after the end of its
	// stream. ErrEnded if the call is over there.
	Reconnect(ctx context.Context, c Call) error
}

// Arrive takes a call in. For one that the carrier has announced before it
// returns the same call. A call that comes back as transferring is to be
// connected to its TransferTo at once, and one with words to Say is over with
// them. Errors: ErrNotFound (no such agent or number), ErrForbidden (the number
// or agent is another account's), ErrEnded.
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
	ctx, answer, err := s.answer(ctx, a)
	if err == nil && s.Standing != nil {
		t, _ := TenantOf(ctx)
		err = s.Standing(ctx, t)
	}
	if err != nil {
		return Call{}, err
	}
	return s.admit(ctx, a, answer)
}

// again returns a call that is known already.
func (s *Calls) again(ctx context.Context, at Located) (Call, error) {
	if t, ok := TenantOf(ctx); ok && t != at.Tenant {
		return Call{}, ErrNotFound
	}
	ctx = WithTenant(ctx, at.Tenant)
	c, err := s.Store.Call(ctx, at.ID)
	if err != nil {
		return c, err
	}
	if c = s.told(ctx, c); c.Say != "" {
		return c, nil
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

// settleTime is how long a carrier's question waits for the process that serves
// the call to write how it ended.
const settleTime = 1500 * time.Millisecond

// Next tells what a carrier's call does now that its stream has ended. It
// waits up to 1.5 s for the process that served it, here or elsewhere, to say
// how: one that says nothing is dead, or does not know yet. Of a session here it
// needs no storage.
func (s *Calls) Next(ctx context.Context, carrier, carrierCallID string) (Next, error) {
	if v := s.servingCarrier(carrier, carrierCallID); v != nil {
		select {
		case <-v.ended:
			return v.next(), nil
		case <-time.After(settleTime):
			return Next{Do: "connect", Call: v.Call.ID}, nil // its line is gone, and it does not know
		case <-ctx.Done():
			return Next{}, ctx.Err()
		}
	}
	c, err := s.settled(ctx, carrier, carrierCallID)
	if err != nil {
		return Next{}, err
	}
	return next(c), nil
}

// settled returns a carrier's call once nobody serves it, or after settleTime.
func (s *Calls) settled(ctx context.Context, carrier, carrierCallID string) (Call, error) {
	at, err := s.Store.LocateCarrierCall(ctx, carrier, carrierCallID)
	if err != nil {
		return Call{}, err
	}
	ctx = WithTenant(ctx, at.Tenant)
	deadline := time.NewTimer(settleTime)
	defer deadline.Stop()
	look := time.NewTicker(settleTime / 30)
	defer look.Stop()
	for {
		c, err := s.Store.Call(ctx, at.ID)
		if err != nil || c.Status != CallActive || !c.Served {
			return c, err
		}
		select {
		case <-look.C:
		case <-deadline.C:
			return c, nil
		case <-ctx.Done():
			return c, ctx.Err()
		}
	}
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
// comes back to the agent, who finds the word in Call.TransferOutcome. A transfer
// may be over before it is written that it began: it waits for that, and answers
// ErrUnavailable if it does not come, so that the carrier asks again.
func (s *Calls) TransferEnded(ctx context.Context, carrier, carrierCallID, outcome string) (Next, error) {
	if v := s.servingCarrier(carrier, carrierCallID); v != nil && v.left("transfer") {
		if err := v.settled(ctx); err != nil {
			return Next{}, err
		}
	}
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
	switch v := s.servingCarrier(carrier, carrierCallID); {
	case v == nil:
	case v.left("transfer"): // the caller has left whom they were sent to
		if err := v.settled(ctx); err != nil {
			return err
		}
	default:
		v.Hangup("caller") // the session ends, and says how
		return nil
	}
	c, err := s.settled(ctx, carrier, carrierCallID)
	if err != nil {
		return err
	}
	ctx = WithTenant(ctx, c.Tenant)
	if c.Status == CallTransferring {
		if reason == "caller" && s.met(ctx, c) {
			reason = "transfer"
		}
		s.dropColleague(ctx, c)
	}
	_, err = s.Changes.EndCall(ctx, Hold{Call: c.ID}, reason, time.Now().UTC())
	return err
}
