package outbound

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"parley/control"
)

const (
	firstCheck = 15 * time.Second // after an attempt was written down
	askAgain   = 5 * time.Second
	// lostAfter is when an attempt that the carrier knows nothing of was never
	// placed: longer than a request to it may take, and than its list is late.
	lostAfter = 25 * time.Second
	// slack is what clocks and a carrier's ringing differ.
	slack = 30 * time.Second
	// longCheck is how often a conversation is asked after whose carrier is silent.
	longCheck  = 2 * time.Minute
	checkLease = 20 * time.Second
	inLook     = 100
)

// Arrived tells that a call that we placed was answered, and asks for its agent.
// Errors: control.ErrNotFound for a reference that is not ours, ErrEnded for a
// call that nobody waits for: one too many, or one that was given up.
func (s *Dialler) Arrived(ctx context.Context, ref, sid string) error {
	at, err := s.parseRef(ref)
	if err != nil {
		return err
	}
	d, a, err := s.apply(control.WithTenant(ctx, at.Tenant), at.ID, Report{SID: sid, Status: "in-progress", At: time.Now().UTC()})
	switch {
	case errors.Is(err, errOther), errors.Is(err, control.ErrNotFound):
		return control.ErrEnded
	case err != nil:
		return err
	case a.Status == Ended, d.Reason == ReasonCanceling:
		return control.ErrEnded
	}
	return nil
}

// Reported takes what the carrier says of a call that we placed, by its
// reference. The same word twice, late, or before the carrier's answer changes
// nothing but what is not known yet.
func (s *Dialler) Reported(ctx context.Context, ref string, r Report) error {
	at, err := s.parseRef(ref)
	if err != nil {
		return err
	}
	return s.Report(ctx, at, r)
}

// errOther says that an attempt has another call, or is over.
var errOther = errors.New("outbound: the attempt has another call, or has none any more")

// Report takes what the carrier says of an attempt.
func (s *Dialler) Report(ctx context.Context, at control.Located, r Report) error {
	ctx = control.WithTenant(ctx, at.Tenant)
	d, a, err := s.apply(ctx, at.ID, r)
	switch {
	case errors.Is(err, errOther), errors.Is(err, control.ErrNotFound):
		if r.SID == "" || r.Over() {
			return nil
		}
		s.Log.Warn("a call too many is hung up", "call", at.ID)
		return s.hangup(ctx, a, r.SID)
	case err != nil:
		return err
	}
	slot := Slot{at.Tenant, a.ID, a.From, a.Cost}
	switch {
	case a.Status == Ended:
		s.release(ctx, slot, a.Cost)
	case d.Reason == ReasonCanceling && a.AnsweredAt.IsZero():
		return s.hangup(ctx, a, a.SID)
	case r.AnsweredBy != "" && machine(a.AnsweredBy):
		return s.meets(ctx, d, a)
	}
	return nil
}

// meets does with a machine what the order says.
func (s *Dialler) meets(ctx context.Context, d Dial, a Attempt) error {
	v := d.Settings.Voicemail
	if v.Mode != LeaveMessage || a.AnsweredBy == "fax" {
		return s.hangup(ctx, a, a.SID)
	}
	if err := s.Calls.Say(ctx, a.ID, v.Message); err != nil {
		return fmt.Errorf("leave a message: %w", err)
	}
	return nil
}

func (s *Dialler) hangup(ctx context.Context, a Attempt, sid string) error {
	carrier, err := s.Carrier(ctx, a.Account)
	if err != nil {
		return err
	}
	return carrier.Hangup(ctx, sid)
}

// Hangup ends an open attempt of ctx's tenant.
func (s *Dialler) Hangup(ctx context.Context, a Attempt) error { return s.hangup(ctx, a, a.SID) }

// apply writes what a report adds to what is known.
func (s *Dialler) apply(ctx context.Context, id uuid.UUID, r Report) (Dial, Attempt, error) {
	p, err := s.Policies.OutboundPolicy(ctx)
	if err != nil {
		return Dial{}, Attempt{}, err
	}
	again := func(d *Dial, due time.Time) error {
		callee, err := Inspect(d.To, s.Risky)
		if err != nil {
			return err
		}
		return p.moved(d, callee, due)
	}
	return s.Changes.ChangeAttempt(ctx, id, func(d *Dial, a *Attempt) error {
		before, now := a.Status, time.Now().UTC()
		err := a.take(d, r, now, again)
		switch {
		case err != nil || a.Status == before || a.Status == Ended:
		case a.Status == Answered:
			a.CheckAt = now.Add(s.in(longCheck))
		default:
			a.CheckAt = now.Add(s.in(time.Duration(d.Settings.RingSeconds)*time.Second + slack))
		}
		return err
	})
}

// take adds a report to an attempt.
func (a *Attempt) take(d *Dial, r Report, now time.Time, again func(*Dial, time.Time) error) error {
	if r.SID != "" && a.SID != r.SID {
		if a.SID != "" || a.Status == Ended {
			return errOther
		}
		a.SID = r.SID
	}
	if r.AnsweredBy != "" && a.AnsweredBy == "" {
		a.AnsweredBy = r.AnsweredBy
	}
	next := stages[r.Status]
	if ranks[next] <= ranks[a.Status] {
		return nil // late, or again
	}
	if next == Ended {
		a.end(d, r, now)
		d.settle(*a, now, again)
		return nil
	}
	a.Status = next
	if next == Answered {
		a.AnsweredAt = now
	}
	return nil
}

// look asks the carrier after attempts of which it has said nothing for long.
func (s *Dialler) look(ctx context.Context) {
	due, err := s.Queue.LocateDueAttempts(ctx, inLook)
	if err != nil {
		s.warn(ctx, "open calls cannot be looked after", err)
		return
	}
	var g errgroup.Group
	g.SetLimit(atOnce / 2)
	for _, at := range due {
		g.Go(func() error {
			if err := s.check(control.WithTenant(ctx, at.Tenant), at); err != nil {
				s.warn(ctx, "a call cannot be looked after", err, "call", at.ID)
			}
			return nil
		})
	}
	_ = g.Wait()
}

func (s *Dialler) check(ctx context.Context, at control.Located) error {
	a, err := s.Changes.ClaimAttempt(ctx, at.ID, time.Now().UTC().Add(s.in(checkLease)))
	if errors.Is(err, control.ErrConflict) {
		return nil
	}
	if err != nil {
		return err
	}
	carrier, err := s.Carrier(ctx, a.Account)
	if err != nil {
		return err
	}
	if a.SID == "" {
		return s.find(ctx, carrier, at, a)
	}
	r, err := carrier.Look(ctx, a.SID)
	if errors.Is(err, control.ErrNotFound) {
		r, err = Report{Status: "failed", Code: "20404"}, nil // it has forgotten it
	}
	if err != nil {
		return err
	}
	r.SID = a.SID
	if err := s.Report(ctx, at, r); err != nil || r.Over() {
		return err
	}
	_, _, err = s.Changes.ChangeAttempt(ctx, a.ID, func(_ *Dial, a *Attempt) error {
		a.CheckAt = time.Now().UTC().Add(s.in(min(time.Duration(1+a.Checks)*slack, longCheck)))
		return nil
	})
	return err
}

// find looks among the carrier's calls for an attempt whose sid nobody noted.
func (s *Dialler) find(ctx context.Context, carrier Carrier, at control.Located, a Attempt) error {
	d, err := s.Store.DialOf(ctx, a.ID)
	if err != nil {
		return err
	}
	calls, err := carrier.Find(ctx, a.From, d.To, a.StartedAt.Add(-2*time.Second))
	if err != nil {
		return err
	}
	sids := make([]string, len(calls))
	for i, c := range calls {
		sids[i] = c.SID
	}
	known, err := s.Queue.KnownCalls(ctx, sids)
	if err != nil {
		return err
	}
	calls = slices.DeleteFunc(calls, func(c Report) bool { return slices.Contains(known, c.SID) })
	if len(calls) > 0 {
		return s.Report(ctx, at, slices.MinFunc(calls, func(a, b Report) int { return a.At.Compare(b.At) }))
	}
	if time.Since(a.StartedAt) < s.in(lostAfter) {
		_, _, err := s.Changes.ChangeAttempt(ctx, a.ID, func(_ *Dial, a *Attempt) error {
			a.CheckAt = time.Now().UTC().Add(s.in(askAgain))
			return nil
		})
		return err
	}
	s.Log.Info("a call was never placed; it is placed now", "dial", a.Dial)
	return s.takeBack(ctx, a, Slot{at.Tenant, a.ID, a.From, a.Cost}, "", 0)
}

// renew keeps the slots of all open attempts, whoever placed them: the process
// that did may be gone, and the call goes on.
func (s *Dialler) renew(ctx context.Context) {
	open, err := s.Queue.LocateDialling(ctx)
	for _, at := range open {
		if err == nil {
			err = s.sync(control.WithTenant(ctx, at.Tenant), at.Tenant)
		}
	}
	if err != nil {
		s.warn(ctx, "slots of open calls are not renewed", err)
	}
}

func (s *Dialler) sync(ctx context.Context, tenant uuid.UUID) error {
	return s.Limits.Sync(ctx, tenant, func(ctx context.Context) ([]Slot, error) {
		open, err := s.Queue.OpenAttempts(ctx)
		slots := make([]Slot, len(open))
		for i, a := range open {
			slots[i] = Slot{tenant, a.ID, a.From, a.Cost}
		}
		return slots, err
	})
}

// Of returns the order that a call came from; control.ErrNotFound for one that
// came otherwise.
func (s *Dialler) Of(ctx context.Context, call uuid.UUID) (Dial, error) {
	return s.Store.DialOf(ctx, call)
}
