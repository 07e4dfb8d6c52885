package redis

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"github.com/google/uuid"

	"parley/control/outbound"
)

var wide = outbound.Bounds{Concurrency: 100, OfNumber: 100, PerMinute: 60_000}

func none(context.Context) ([]outbound.Slot, error) { return nil, nil }

func slotOf(tenant uuid.UUID, number string, cost outbound.Money) outbound.Slot {
	return outbound.Slot{Tenant: tenant, Attempt: uuid.New(), Number: number, Cost: cost}
}

func TestSlotsAreGrantedWithinBounds(t *testing.T) {
	c, _ := open(t)
	tenant := uuid.New()
	if g, err := c.Acquire(t.Context(), slotOf(tenant, "+1", 0), wide); err != nil || g.Refused != outbound.Unsynced {
		t.Fatalf("before anybody said what is open: %+v, %v", g, err)
	}
	if err := c.Sync(t.Context(), tenant, none); err != nil {
		t.Fatal(err)
	}
	grant := func(s outbound.Slot, b outbound.Bounds) string {
		t.Helper()
		for { // what was forgotten of the rate counts as used up: for a moment at this one
			g, err := c.Acquire(t.Context(), s, b)
			if err != nil {
				t.Fatal(err)
			}
			if g.Refused != outbound.ReasonRate || b.PerMinute == 1 {
				return g.Refused
			}
		}
	}
	first := slotOf(tenant, "+1", 10)
	few := outbound.Bounds{Concurrency: 2, OfNumber: 1, PerMinute: 60_000, DailySpend: 25, Spent: 5}
	if why := grant(first, few); why != "" {
		t.Fatalf("the first: %s", why)
	}
	if why := grant(slotOf(tenant, "+1", 0), few); why != outbound.ReasonNumber {
		t.Errorf("a second of one number: %q", why)
	}
	if why := grant(slotOf(tenant, "+2", 11), few); why != outbound.ReasonSpend {
		t.Errorf("beyond the day's money: %q", why)
	}
	if why := grant(slotOf(tenant, "+2", 10), few); why != "" {
		t.Errorf("the second: %q", why)
	}
	if why := grant(slotOf(tenant, "+3", 0), few); why != outbound.ReasonConcurrency {
		t.Errorf("a third: %q", why)
	}
	if err := c.Release(t.Context(), first, 4); err != nil {
		t.Fatal(err)
	}
	if why := grant(slotOf(tenant, "+1", 7), few); why != outbound.ReasonSpend { // 5 + 4 + 10 + 7
		t.Errorf("what was just spent is forgotten: %q", why)
	}
	if why := grant(slotOf(tenant, "+1", 6), few); why != "" {
		t.Errorf("a slot given back: %q", why)
	}
	if why := grant(slotOf(uuid.New(), "+1", 6), few); why != outbound.Unsynced {
		t.Errorf("another tenant: %q", why)
	}
	slow := wide
	slow.PerMinute = 1
	if why := grant(slotOf(tenant, "+4", 0), slow); why != outbound.ReasonRate && why != "" {
		t.Errorf("the rate: %q", why)
	}
	if why := grant(slotOf(tenant, "+4", 0), slow); why != outbound.ReasonRate {
		t.Errorf("two in a minute of one: %q", why)
	}
}

// A slotClock moves Redis's on, and what lapses by it.
type slotClock struct {
	m  *miniredis.Miniredis
	at time.Time
}

func (c *slotClock) advance(d time.Duration) {
	c.at = c.at.Add(d)
	c.m.SetTime(c.at)
	c.m.FastForward(d)
}

// held takes a slot, and returns why not.
func held(t *testing.T, c *Client, s outbound.Slot, b outbound.Bounds) outbound.Grant {
	t.Helper()
	g, err := c.Acquire(t.Context(), s, b)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// What a process had taken that died is free 30 s later, not before; what others
// find open in storage is not.
func TestSlotOfDeadProcessLapses(t *testing.T) {
	here, m := open(t)
	now := &slotClock{m, time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)}
	now.advance(0)
	tenant, two := uuid.New(), outbound.Bounds{Concurrency: 2, OfNumber: 2, PerMinute: 60_000}
	if err := here.Sync(t.Context(), tenant, none); err != nil {
		t.Fatal(err)
	}
	now.advance(2 * time.Second) // a rate that was forgotten counts as used up
	written, unwritten := slotOf(tenant, "+1", 0), slotOf(tenant, "+1", 0)
	for _, s := range []outbound.Slot{written, unwritten} { // of the process that dies: an attempt, and what was about to be one
		if g := held(t, here, s, two); g.Refused != "" {
			t.Fatalf("refused: %s", g.Refused)
		}
	}
	open := func(context.Context) ([]outbound.Slot, error) { return []outbound.Slot{written}, nil }
	fresh := slotOf(tenant, "+1", 0)
	for waited := time.Duration(0); waited < outbound.Lease; waited += 5 * time.Second {
		if g := held(t, here, fresh, two); g.Refused != outbound.ReasonConcurrency {
			t.Fatalf("%v after the process died: %q, want it held", waited, g.Refused)
		}
		now.advance(5 * time.Second)
		if err := here.Sync(t.Context(), tenant, open); err != nil { // by a process that lives
			t.Fatal(err)
		}
	}
	if g := held(t, here, fresh, two); g.Refused != "" {
		t.Errorf("%v after the process died: %q, want it free", outbound.Lease, g.Refused)
	}
	if g := held(t, here, slotOf(tenant, "+1", 0), two); g.Refused != outbound.ReasonConcurrency {
		t.Errorf("the attempt that is open holds no slot: %q", g.Refused)
	}
	now.advance(outbound.Lease) // nobody lives
	if g := held(t, here, slotOf(tenant, "+1", 0), two); g.Refused != outbound.Unsynced {
		t.Errorf("after nobody renewed for 30 s: %q, want it to ask what is open", g.Refused)
	}
}

// While Redis is away nothing is granted; emptied, it grants nothing before it
// was told what is open, which counts again then.
func TestSlotsOfEmptiedRedis(t *testing.T) {
	c, m := open(t)
	now := &slotClock{m, time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)}
	now.advance(0)
	tenant, two := uuid.New(), outbound.Bounds{Concurrency: 2, OfNumber: 2, PerMinute: 60_000, DailySpend: 100}
	if err := c.Sync(t.Context(), tenant, none); err != nil {
		t.Fatal(err)
	}
	now.advance(2 * time.Second)
	first := slotOf(tenant, "+1", 60)
	grant := held(t, c, first, two)
	if ok, err := c.Confirm(t.Context(), first, grant); grant.Refused != "" || err != nil || !ok {
		t.Fatalf("the first: %+v, %v, %v", grant, ok, err)
	}
	m.SetError("LOADING")
	if g, err := c.Acquire(t.Context(), slotOf(tenant, "+1", 1), two); err == nil {
		t.Errorf("granted while Redis is away: %+v", g)
	}
	m.SetError("")
	m.FlushAll()
	if ok, err := c.Confirm(t.Context(), first, grant); err != nil || ok {
		t.Errorf("a slot that was forgotten is confirmed: %v, %v", ok, err)
	}
	if g := held(t, c, slotOf(tenant, "+1", 1), two); g.Refused != outbound.Unsynced {
		t.Fatalf("emptied: %q, want it to ask what is open", g.Refused)
	}
	if err := c.Sync(t.Context(), tenant, func(context.Context) ([]outbound.Slot, error) {
		m.FlushAll() // once more, while it is read
		return nil, nil
	}); !errors.Is(err, errForgot) {
		t.Errorf("what was read before it was emptied is taken for whole: %v", err)
	}
	if err := c.Sync(t.Context(), tenant, func(context.Context) ([]outbound.Slot, error) { return []outbound.Slot{first}, nil }); err != nil {
		t.Fatal(err)
	}
	now.advance(2 * time.Second)
	if g := held(t, c, slotOf(tenant, "+1", 41), two); g.Refused != outbound.ReasonSpend {
		t.Errorf("what the open call may cost is forgotten: %q", g.Refused)
	}
	if g := held(t, c, slotOf(tenant, "+1", 40), two); g.Refused != "" {
		t.Errorf("room is not given: %q", g.Refused)
	}
	if g := held(t, c, slotOf(tenant, "+1", 0), two); g.Refused != outbound.ReasonConcurrency {
		t.Errorf("the open call holds no slot: %q", g.Refused)
	}
}
