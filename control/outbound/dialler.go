package outbound

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"parley/control"
)

const (
	claimLease   = 15 * time.Second // of a dial that is about to be begun
	placeWithin  = 8 * time.Second  // for the carrier's answer
	storeWithin  = 5 * time.Second
	lookForDials = time.Second
	lookForTries = 2 * time.Second
	renewEvery   = Lease / 6
	atOnce       = 16 // requests to the carrier
	ofTenant     = 20 // dials of one tenant in a round
	inRound      = 200
)

// A Dialler carries orders out. Every node has one; [Dialler.Run] must run.
//
// An attempt is written down before the carrier is asked, so that a process
// which dies in between leaves a trace. Who finds one asks the carrier what it
// has before anything else, and calls again only if after [lostAfter] it has
// nothing. What remains possible: a carrier that lists a call later than that
// (or a request of ours that lay in a network for so long) rings a second time;
// it is told apart by its sid, hung up as soon as it reports or is answered, and
// never meets an agent. And a call between the same two numbers that somebody
// placed by other means on the same account, in the seconds of the crash, is
// taken for ours.
type Dialler struct {
	Node     uuid.UUID // fresh at each start
	Store    Store
	Changes  Changes
	Queue    Queue
	Policies Policies
	Spend    Spend
	Limits   Limits
	Fraud    *Watch // nil: nobody watches
	// Carrier is that of an account of ctx's tenant, as [Attempt].Account has it.
	// control.ErrNotFound: there is none (any more).
	Carrier func(ctx context.Context, account uuid.UUID) (Carrier, error)
	Calls   Calls
	Prices  Prices
	Risky   Prefixes
	Ring    *control.Keyring // signs references
	Log     *slog.Logger
	// Haste divides all times that it waits of its own accord but for renewing
	// leases, for tests. Default 1.
	Haste int

	once sync.Once
	wake chan struct{}
	room chan struct{} // one in it for each request to the carrier

	mu      sync.Mutex
	resting map[uuid.UUID]time.Time // tenants that have no room before
}

func (s *Dialler) init() {
	s.once.Do(func() {
		s.wake, s.room, s.resting = make(chan struct{}, 1), make(chan struct{}, atOnce), map[uuid.UUID]time.Time{}
	})
}

// in is a time that it waits.
func (s *Dialler) in(d time.Duration) time.Duration { return d / time.Duration(max(1, s.Haste)) }

// Wake has Run look for what is due at once.
func (s *Dialler) Wake() {
	s.init()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Run dials until ctx ends. Requests to the carrier that are under way then are
// waited for, and what they came to is written.
func (s *Dialler) Run(ctx context.Context) error {
	s.init()
	var g errgroup.Group
	g.Go(func() error { s.dial(ctx); return nil })
	g.Go(func() error { s.every(ctx, s.in(lookForTries), s.look); return nil })
	g.Go(func() error { s.every(ctx, renewEvery, s.renew); return nil })
	return g.Wait()
}

func (s *Dialler) every(ctx context.Context, period time.Duration, do func(context.Context)) {
	tick := time.NewTicker(period)
	defer tick.Stop()
	for {
		do(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *Dialler) dial(ctx context.Context) {
	var g errgroup.Group
	defer func() { _ = g.Wait() }()
	tick := time.NewTicker(s.in(lookForDials))
	defer tick.Stop()
	for {
		s.round(ctx, &g)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-s.wake:
		}
	}
}

// round begins what is due, as far as there is room.
func (s *Dialler) round(ctx context.Context, g *errgroup.Group) {
	due, err := s.Queue.LocateDueDials(ctx, ofTenant, inRound)
	if err != nil {
		s.warn(ctx, "dials wait: they cannot be read", err)
		return
	}
	for _, at := range due {
		if ctx.Err() != nil {
			return
		}
		if s.rests(at.Tenant) {
			continue
		}
		if err := s.begin(control.WithTenant(ctx, at.Tenant), at.ID, g); err != nil {
			s.warn(ctx, "a dial waits", err)
			s.rest(at.Tenant, time.Second)
		}
	}
	if len(due) == inRound {
		s.Wake() // there may be more
	}
}

func (s *Dialler) rests(tenant uuid.UUID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	until, ok := s.resting[tenant]
	if ok && !time.Now().Before(until) {
		delete(s.resting, tenant)
		ok = false
	}
	return ok
}

func (s *Dialler) rest(tenant uuid.UUID, d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resting[tenant] = time.Now().Add(s.in(d))
}

// begin claims a dial, holds it against rules and limits, and has it placed.
func (s *Dialler) begin(ctx context.Context, id uuid.UUID, g *errgroup.Group) error {
	d, err := s.Changes.ClaimDial(ctx, id, s.Node, s.in(claimLease))
	if errors.Is(err, control.ErrConflict) {
		return nil
	}
	if err != nil {
		return err
	}
	p, err := s.Policies.OutboundPolicy(ctx)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	if held, err := s.holds(ctx, d, p, now); held || err != nil {
		return err
	}
	account, err := s.Store.AccountOf(ctx, d.From)
	if errors.Is(err, control.ErrNotFound) {
		return s.refuse(ctx, d.ID, "the number that calls is none of yours any more")
	}
	if err != nil {
		return err
	}
	carrier, err := s.Carrier(ctx, account)
	if errors.Is(err, control.ErrNotFound) {
		return s.wait(ctx, d, Grant{Refused: ReasonCredentials})
	}
	if err != nil {
		return err
	}
	tenant, _ := control.TenantOf(ctx)
	price := s.Prices.Minute(d.To)
	a := Attempt{ID: control.NewID(), Dial: d.ID, From: d.From, Account: account, Status: Intended, Price: price,
		Cost: price.Cost(time.Duration(d.Settings.MaxSeconds) * time.Second)}
	slot := Slot{tenant, a.ID, a.From, a.Cost}
	grant, err := s.acquire(ctx, slot, p, now)
	if err != nil {
		s.warn(ctx, "limits of outbound calls are not known: they wait", err)
		grant = Grant{Refused: ReasonLimitsAway}
	}
	if grant.Refused != "" {
		return s.wait(ctx, d, grant)
	}
	select {
	case s.room <- struct{}{}:
	case <-ctx.Done():
		s.release(ctx, slot, 0)
		return nil
	}
	g.Go(func() error {
		defer func() { <-s.room }()
		if err := s.place(context.WithoutCancel(ctx), carrier, d, a, slot, grant); err != nil {
			s.warn(ctx, "a call is not placed yet", err, "dial", d.ID)
		}
		return nil
	})
	return nil
}

// refuse ends a dial that a rule forbids.
func (s *Dialler) refuse(ctx context.Context, id uuid.UUID, why string) error {
	_, err := s.Changes.ChangeDial(ctx, id, func(d *Dial) error {
		d.ErrorCode, d.Error = "policy", why
		d.finish(Failed, OutcomeRefused, time.Now().UTC())
		return nil
	})
	return err
}

// holds ends or puts off what may not be called now.
func (s *Dialler) holds(ctx context.Context, d Dial, p Policy, now time.Time) (bool, error) {
	callee, err := Inspect(d.To, s.Risky)
	if err == nil {
		from, _ := Inspect(d.From, nil) // its country, where it is known
		err = p.allows(callee, from)
	}
	stop, unknown := s.Fraud.Stopped(ctx)
	if unknown != nil {
		return true, unknown
	}
	var refused *control.Invalid
	var change func(*Dial) error
	switch {
	case now.After(d.ExpiresAt):
		change = func(d *Dial) error { d.finish(Failed, OutcomeExpired, now); return nil }
	case errors.As(err, &refused): // since the policy was changed
		return true, s.refuse(ctx, d.ID, "the number "+refused.Reason)
	case stop.Holds():
		change = func(d *Dial) error { d.DueAt, d.Reason = now.Add(time.Minute), ReasonBlocked; return nil }
	default:
		moved := d
		switch err := p.moved(&moved, callee, now); {
		case err != nil: // since the policy was changed
			return true, s.refuse(ctx, d.ID, "the number "+noHour)
		case !moved.DueAt.After(now):
			return false, nil
		}
		change = func(d *Dial) error { return p.moved(d, callee, now) }
	}
	_, err = s.Changes.ChangeDial(ctx, d.ID, change)
	return true, err
}

// acquire takes a slot; limits that have forgotten are told first what is open.
func (s *Dialler) acquire(ctx context.Context, slot Slot, p Policy, now time.Time) (Grant, error) {
	for synced := false; ; synced = true {
		spent, err := s.Spend.OutboundSpent(ctx, now.Truncate(24*time.Hour))
		if err != nil {
			return Grant{}, err
		}
		g, err := s.Limits.Acquire(ctx, slot, Bounds{p.Concurrency, p.OfNumber, p.PerMinute, p.DailySpend, spent})
		switch {
		case err != nil || g.Refused != Unsynced:
			return g, err
		case synced:
			return Grant{Refused: ReasonLimitsAway}, nil
		}
		if err := s.sync(ctx, slot.Tenant); err != nil {
			return g, err
		}
	}
}

// wait gives a dial back for which there is no room, and says why.
func (s *Dialler) wait(ctx context.Context, d Dial, g Grant) error {
	tenant, _ := control.TenantOf(ctx)
	pause := min(max(g.Wait, time.Second), 10*time.Second)
	if g.Refused == ReasonNumber { // others of the tenant may have room
		_, err := s.Changes.ChangeDial(ctx, d.ID, func(d *Dial) error {
			d.Reason, d.DueAt = g.Refused, time.Now().UTC().Add(s.in(pause))
			return nil
		})
		return err
	}
	s.rest(tenant, pause)
	_, err := s.Changes.ChangeDial(ctx, d.ID, func(d *Dial) error { d.Reason = g.Refused; return nil })
	return err
}

// place writes an attempt down, sees that its slot still stands, and asks the
// carrier.
func (s *Dialler) place(ctx context.Context, carrier Carrier, d Dial, a Attempt, slot Slot, grant Grant) error {
	ctx, cancel := context.WithTimeout(ctx, placeWithin+2*storeWithin)
	defer cancel()
	a.StartedAt = time.Now().UTC()
	a.CheckAt = a.StartedAt.Add(s.in(firstCheck))
	a, err := s.Changes.BeginAttempt(ctx, s.Node, a)
	if err != nil {
		s.release(ctx, slot, 0)
		if errors.Is(err, control.ErrTaken) {
			return nil // it is another's, or nobody's any more
		}
		if errors.Is(err, control.ErrConflict) {
			_, err = s.Changes.ChangeDial(ctx, d.ID, func(d *Dial) error {
				d.Reason, d.DueAt = ReasonCallee, time.Now().UTC().Add(s.in(10*time.Second))
				return nil
			})
		}
		return err
	}
	// What the limits forgot before this is made up by who finds it missing, from
	// what is written down; what they forgot in between, by nobody.
	if ok, err := s.Limits.Confirm(ctx, slot, grant); err != nil || !ok {
		return errors.Join(err, s.takeBack(ctx, a, slot, ReasonLimitsAway, time.Second))
	}
	// Who was held up for so long may find itself given up for lost.
	if time.Since(a.StartedAt) > s.in(lostAfter-2*placeWithin) {
		return s.takeBack(ctx, a, slot, ReasonAway, time.Second)
	}
	ask, stop := context.WithTimeout(ctx, s.in(placeWithin))
	sid, err := carrier.Place(ask, Call{From: d.From, To: d.To, Agent: d.Agent, Ref: s.Ref(slot.Tenant, a.ID),
		Ring: time.Duration(d.Settings.RingSeconds) * time.Second, Most: time.Duration(d.Settings.MaxSeconds) * time.Second,
		Wait: d.Settings.Voicemail.Mode == LeaveMessage})
	stop()
	var refused *Refused
	switch {
	case err == nil:
		return s.Report(ctx, control.Located{Tenant: slot.Tenant, ID: a.ID}, Report{SID: sid, Status: "queued", At: time.Now().UTC()})
	case errors.As(err, &refused):
		return s.refused(ctx, a, slot, refused)
	}
	// Nobody knows whether the carrier has it; look asks.
	s.warn(ctx, "the carrier's answer is missing; it is asked what it has", err, "dial", d.ID)
	_, _, err = s.Changes.ChangeAttempt(ctx, a.ID, func(_ *Dial, a *Attempt) error {
		if a.SID == "" {
			a.CheckAt = time.Now().UTC().Add(s.in(askAgain))
		}
		return nil
	})
	return err
}

// pauses are how long a dial waits for a carrier, by the reason.
var pauses = map[string]time.Duration{ReasonCarrier: 10 * time.Second, ReasonCredentials: time.Minute, ReasonAway: 15 * time.Second}

// refused writes what the carrier has refused: for good, or for now.
func (s *Dialler) refused(ctx context.Context, a Attempt, slot Slot, r *Refused) error {
	s.Log.Warn("the carrier refuses a call", "dial", a.Dial, "code", r.Code, "reason", cmp.Or(r.Wait, r.Reason))
	if r.Wait != "" {
		s.rest(slot.Tenant, time.Second)
		return s.takeBackWith(ctx, a, slot, func(d *Dial, a *Attempt) {
			d.ErrorCode, d.Error = r.Code, r.Reason
			undo(d, a, r.Wait, time.Now().UTC().Add(s.in(pauses[r.Wait])))
		})
	}
	_, a, err := s.Changes.ChangeAttempt(ctx, a.ID, func(d *Dial, a *Attempt) error {
		now := time.Now().UTC()
		a.Status, a.EndedAt, a.Outcome, a.Cost, a.ErrorCode, a.Error = Ended, now, OutcomeRefused, 0, r.Code, r.Reason
		d.settle(*a, now, nil)
		return nil
	})
	if err != nil {
		return fmt.Errorf("write a refusal: %w", err)
	}
	s.release(ctx, slot, 0)
	return nil
}

func (s *Dialler) takeBack(ctx context.Context, a Attempt, slot Slot, reason string, after time.Duration) error {
	return s.takeBackWith(ctx, a, slot, func(d *Dial, a *Attempt) { undo(d, a, reason, time.Now().UTC().Add(s.in(after))) })
}

// takeBackWith undoes an attempt that the carrier surely never had.
func (s *Dialler) takeBackWith(ctx context.Context, a Attempt, slot Slot, how func(*Dial, *Attempt)) error {
	_, _, err := s.Changes.ChangeAttempt(ctx, a.ID, func(d *Dial, a *Attempt) error {
		if a.Status != Intended {
			return control.ErrConflict
		}
		how(d, a)
		return nil
	})
	if err != nil {
		return fmt.Errorf("take an attempt back: %w", err)
	}
	s.release(ctx, slot, 0)
	return nil
}

// release gives a slot back; without it the lease lapses.
func (s *Dialler) release(ctx context.Context, slot Slot, cost Money) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := s.Limits.Release(ctx, slot, cost); err != nil {
		s.warn(ctx, "a slot is free only once its lease lapses", err)
		return
	}
	s.mu.Lock()
	delete(s.resting, slot.Tenant)
	s.mu.Unlock()
	s.Wake()
}

func (s *Dialler) warn(ctx context.Context, what string, err error, with ...any) {
	if ctx.Err() == nil {
		s.Log.Warn(what, append(with, "error", err)...)
	}
}
