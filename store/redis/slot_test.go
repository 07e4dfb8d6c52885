package redis

import (
	"context"
	"testing"

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
