package postgres_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/outbound"
)

// seedDial puts a row into every table of outbound calls: a dial with an
// attempt.
func seedDial(t testing.TB, v tenancy, now time.Time) {
	t.Helper()
	if _, err := v.store.PutOutboundPolicy(v.ctx, outbound.DefaultPolicy(), -1); err != nil {
		t.Fatal(err)
	}
	d := v.dial(t, "+12025550100", now)
	v.attempt(t, d, "")
	if _, err := v.store.PutOutboundStop(v.ctx, outbound.Stop{Signal: outbound.NumberRange, At: now}); err != nil {
		t.Fatal(err)
	}
}

// dial puts a dial that is due.
func (v tenancy) dial(t testing.TB, to string, now time.Time) outbound.Dial {
	t.Helper()
	d := outbound.Dial{ID: control.NewID(), Agent: v.agent, To: to, From: "+12025550199", Status: outbound.Scheduled, DueAt: now.Add(-time.Second),
		ExpiresAt: now.Add(time.Hour), CreatedAt: now, Settings: outbound.Settings{RingSeconds: 30, Retry: outbound.Retry{Attempts: 1}}}
	if err := v.store.InsertDial(v.ctx, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// attempt begins one, which has the sid, if there is one.
func (v tenancy) attempt(t testing.TB, d outbound.Dial, sid string) outbound.Attempt {
	t.Helper()
	node := uuid.New()
	if _, err := v.store.ClaimDial(v.ctx, d.ID, node, time.Minute); err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	a, err := v.store.BeginAttempt(v.ctx, node, outbound.Attempt{ID: control.NewID(), Dial: d.ID, From: d.From, Status: outbound.Intended,
		StartedAt: now, Price: 1, Cost: 5, CheckAt: now})
	if err != nil {
		t.Fatal(err)
	}
	if sid == "" {
		return a
	}
	_, a, err = v.store.ChangeAttempt(v.ctx, a.ID, func(_ *outbound.Dial, a *outbound.Attempt) error {
		a.SID, a.Status = sid, outbound.Placed
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestDialIsClaimedOnce(t *testing.T) {
	a := seed(t, server.New(t), "a")
	d := a.dial(t, "+12025550101", time.Now())
	node, other := uuid.New(), uuid.New()
	if _, err := a.store.ClaimDial(a.ctx, d.ID, node, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := a.store.ClaimDial(a.ctx, d.ID, other, time.Minute); !errors.Is(err, control.ErrConflict) {
		t.Errorf("a claimed dial: %v, want ErrConflict", err)
	}
	if _, err := a.store.BeginAttempt(a.ctx, other, outbound.Attempt{ID: control.NewID(), Dial: d.ID, Status: outbound.Intended}); !errors.Is(err, control.ErrTaken) {
		t.Errorf("an attempt without the claim: %v, want ErrTaken", err)
	}
	// Whoever writes it gives it back.
	if _, err := a.store.ChangeDial(a.ctx, d.ID, func(d *outbound.Dial) error { d.Reason = outbound.ReasonRate; return nil }); err != nil {
		t.Fatal(err)
	}
	if got, err := a.store.ClaimDial(a.ctx, d.ID, other, time.Minute); err != nil || got.Reason != outbound.ReasonRate {
		t.Errorf("a dial given back: %+v, %v", got, err)
	}
}

func TestOneCalleeRingsOnce(t *testing.T) {
	a := seed(t, server.New(t), "a") // its dial calls ...0100 already
	d := a.dial(t, "+12025550100", time.Now())
	node := uuid.New()
	if _, err := a.store.ClaimDial(a.ctx, d.ID, node, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, err := a.store.BeginAttempt(a.ctx, node, outbound.Attempt{ID: control.NewID(), Dial: d.ID, Status: outbound.Intended, StartedAt: time.Now(), CheckAt: time.Now()}); !errors.Is(err, control.ErrConflict) {
		t.Errorf("a second order calls the same callee: %v, want ErrConflict", err)
	}
}

func TestDueDialsTakeTurns(t *testing.T) {
	db := server.New(t)
	a, b := seed(t, db, "a"), seed(t, db, "b")
	now := time.Now().UTC()
	for range 5 {
		a.dial(t, "+12025550101", now.Add(-time.Hour))
	}
	last := b.dial(t, "+12025550101", now)
	due, err := a.store.LocateDueDials(t.Context(), 3, 10)
	if err != nil || len(due) != 4 {
		t.Fatalf("%d due dials, %v; want 3 of one tenant and 1 of the other", len(due), err)
	}
	if at := slices.IndexFunc(due, func(l control.Located) bool { return l.ID == last.ID }); at > 1 {
		t.Errorf("the other tenant's dial comes at place %d", at+1)
	}
}

func TestAttemptMakesItsCallAndEndsIt(t *testing.T) {
	a := seed(t, server.New(t), "a")
	d := a.dial(t, "+12025550101", time.Now())
	made := a.attempt(t, d, "CA1")
	c, err := a.store.Call(a.ctx, made.ID)
	if err != nil || c.CarrierCallID != "CA1" || c.Direction != "outbound" || c.Status != control.CallArrived || c.To != d.To {
		t.Fatalf("the attempt's call is %+v, %v", c, err)
	}
	stale, err := a.store.LocateStaleCalls(t.Context(), time.Now(), time.Now().Add(time.Minute))
	if err != nil || slices.ContainsFunc(stale, func(l control.Located) bool { return l.ID == made.ID }) {
		t.Errorf("a call that may ring still counts as nobody's: %v, %v", stale, err)
	}
	open, err := a.store.OpenAttempts(a.ctx)
	if err != nil || len(open) != 2 { // and the seed's
		t.Errorf("%d open attempts, %v", len(open), err)
	}
	_, _, err = a.store.ChangeAttempt(a.ctx, made.ID, func(d *outbound.Dial, a *outbound.Attempt) error {
		a.Status, a.Outcome, a.EndedAt, a.Cost = outbound.Ended, outbound.OutcomeNoAnswer, time.Now().UTC(), 3
		d.Status, d.FinishedAt = outbound.Failed, a.EndedAt
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if c, err := a.store.Call(a.ctx, made.ID); err != nil || c.Status != control.CallEnded || c.EndReason != "no-answer" {
		t.Errorf("its call is %+v, %v", c, err)
	}
	if spent, err := a.store.OutboundSpent(a.ctx, made.StartedAt.Add(-time.Second)); err != nil || spent != 3 {
		t.Errorf("spent %d, %v; want 3", spent, err)
	}
	if _, err := a.store.ClaimAttempt(a.ctx, made.ID, time.Now()); !errors.Is(err, control.ErrConflict) {
		t.Errorf("an attempt that is over is looked after: %v", err)
	}
}

func TestUndoneAttemptLeavesNothing(t *testing.T) {
	a := seed(t, server.New(t), "a")
	d := a.dial(t, "+12025550101", time.Now())
	made := a.attempt(t, d, "")
	if _, _, err := a.store.ChangeAttempt(a.ctx, made.ID, func(d *outbound.Dial, at *outbound.Attempt) error {
		at.Undone, d.Status = true, outbound.Scheduled
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if list, err := a.store.AttemptsOf(a.ctx, d.ID); err != nil || len(list) != 0 {
		t.Errorf("attempts %v, %v", list, err)
	}
	if _, err := a.store.Call(a.ctx, made.ID); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("it has a call: %v", err)
	}
}
