package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/outbound"
)

// ordered puts a dial of a country.
func (v tenancy) ordered(t *testing.T, to, country, by string, at time.Time) outbound.Dial {
	t.Helper()
	d := outbound.Dial{ID: control.NewID(), Agent: v.agent, To: to, Country: country, From: "+12025550199", Status: outbound.Scheduled,
		DueAt: at, ExpiresAt: at.Add(24 * time.Hour), CreatedAt: at, CreatedBy: by}
	if err := v.store.InsertDial(v.ctx, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// What looks like fraud is counted of the tenant alone, of the time that is
// asked for alone.
func TestTrafficIsCounted(t *testing.T) {
	db := server.New(t)
	a, b := seed(t, db, "a"), seed(t, db, "b")
	now := time.Now().UTC().Truncate(time.Second)
	since := now.Add(-time.Hour)
	a.ordered(t, "+33142685300", "FR", "key:1", now.Add(-10*24*time.Hour)) // known
	a.ordered(t, "+33142685301", "FR", "key:1", now)
	a.ordered(t, "+4930123456", "DE", "key:2", now.Add(-40*24*time.Hour)) // forgotten
	a.ordered(t, "+4930123457", "DE", "key:2", now)
	a.ordered(t, "+34911234567", "ES", "key:2", now)
	a.ordered(t, "+34911234567", "ES", "key:2", now)
	for n := range 5 {
		a.ordered(t, fmt.Sprintf("+1212555100%d", n), "US", "key:3", now)
		a.ordered(t, fmt.Sprintf("+1212555200%d", n), "US", "key:1", since.Add(-time.Minute))
		b.ordered(t, fmt.Sprintf("+1212555100%d", 5+n), "US", "key:4", now)
	}
	if got, err := a.store.NewCountries(a.ctx, since.Add(-30*24*time.Hour), since); err != nil || got != (outbound.Tally{Count: 2, About: "DE ES", By: "key:2"}) {
		t.Errorf("new countries: %+v, %v", got, err)
	}
	if got, err := a.store.FullestRange(a.ctx, since); err != nil || got != (outbound.Tally{Count: 5, About: "+121255510", By: "key:3"}) {
		t.Errorf("the fullest range: %+v, %v", got, err)
	}
	if got, err := a.store.FullestRange(a.ctx, now.Add(time.Minute)); err != nil || got != (outbound.Tally{}) {
		t.Errorf("of a time without orders: %+v, %v", got, err)
	}

	for n, took := range []time.Duration{5 * time.Second, 10 * time.Second, 11 * time.Second} {
		made := a.attempt(t, a.dial(t, fmt.Sprintf("+1646555000%d", n), now), fmt.Sprintf("CA%d", n))
		_, _, err := a.store.ChangeAttempt(a.ctx, made.ID, func(d *outbound.Dial, at *outbound.Attempt) error {
			at.Status, at.Outcome, at.AnsweredAt, at.EndedAt, at.Cost = outbound.Ended, outbound.OutcomeAnswered, now, now.Add(took), 7
			d.Status, d.FinishedAt = outbound.Completed, at.EndedAt
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got, err := a.store.ShortCalls(a.ctx, since, 10*time.Second); err != nil || got.Count != 2 || got.About != "+1646555" {
		t.Errorf("short calls: %+v, %v", got, err)
	}
	if m, first, err := a.store.DearestHour(a.ctx, since, now.Add(time.Hour)); err != nil || m < 14 || m > 21 || first.Before(since) { // they may span an hour of the clock
		t.Errorf("the dearest hour came to %d from %v, %v", m, first, err)
	}
	if m, first, err := a.store.DearestHour(a.ctx, since.Add(-time.Hour), since); err != nil || m != 0 || !first.IsZero() {
		t.Errorf("an hour without calls came to %d from %v, %v", m, first, err)
	}
}

// Of dials from before countries were noted nobody knows where they went: a tenant
// that has some is not stopped for going on as ever.
func TestCountriesOfOlderDials(t *testing.T) {
	db := server.New(t)
	a, b := seed(t, db, "a"), seed(t, db, "b")
	now := time.Now().UTC()
	since, before := now.Add(-time.Hour), now.Add(-31*24*time.Hour)
	a.ordered(t, "+4930123456", "", "key:1", now.Add(-24*time.Hour))
	b.ordered(t, "+4930123456", "", "key:1", before.Add(-time.Hour)) // forgotten
	for i, country := range []string{"DE", "ES", "FR"} {
		for _, v := range []tenancy{a, b} {
			v.ordered(t, fmt.Sprintf("+3491123456%d", i), country, "key:1", now)
		}
	}
	for want, v := range map[int]tenancy{0: a, 3: b} {
		if got, err := v.store.NewCountries(v.ctx, before, since); err != nil || got.Count != want {
			t.Errorf("%d new countries, %v; want %d", got.Count, err, want)
		}
	}
}

// A stop is one of its tenant's, made and lifted once whoever does it at the same
// time, and there after a restart.
func TestOutboundStop(t *testing.T) {
	db := server.New(t)
	a, b := seed(t, db, "a"), seed(t, db, "b")
	for _, v := range []tenancy{a, b} { // of the seed
		if _, err := v.store.LiftOutboundStop(v.ctx); err != nil {
			t.Fatal(err)
		}
	}
	stop := outbound.Stop{Signal: outbound.NumberRange, Count: 20, Threshold: 20, About: "+121255510", By: "key:1", At: time.Now().UTC().Truncate(time.Microsecond)}
	race := func(do func() (bool, error)) (won int) {
		t.Helper()
		var mu sync.Mutex
		var nodes sync.WaitGroup
		for range 8 {
			nodes.Go(func() {
				ok, err := do()
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if ok {
					won++
				}
			})
		}
		nodes.Wait()
		return won
	}
	if won := race(func() (bool, error) { return a.store.PutOutboundStop(a.ctx, stop) }); won != 1 {
		t.Errorf("%d of 8 nodes made the stop", won)
	}
	if got, err := a.store.OutboundStop(a.ctx); err != nil || got != stop || !got.Holds() {
		t.Errorf("it stands as %+v, %v; want %+v", got, err, stop)
	}
	if got, err := b.store.OutboundStop(b.ctx); err != nil || got.Holds() {
		t.Errorf("the other tenant has %+v, %v", got, err)
	}
	won := race(func() (bool, error) {
		_, err := a.store.LiftOutboundStop(a.ctx)
		if errors.Is(err, control.ErrConflict) {
			return false, nil
		}
		return err == nil, err
	})
	if got, err := a.store.OutboundStop(a.ctx); won != 1 || err != nil || got.Holds() || got.Lifted.IsZero() {
		t.Errorf("%d of 8 lifted it; it stands as %+v, %v", won, got, err)
	}
	if _, err := a.store.LiftOutboundStop(control.WithTenant(t.Context(), uuid.New())); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("of no tenant: %v, want ErrNotFound", err)
	}
}
