package control

import (
	"math"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent"
)

func TestCost(t *testing.T) {
	for _, tt := range []struct {
		name   string
		p      Price
		amount int64
		want   int64
	}{
		{"nothing", Price{Micros: 7700, Per: 60000, Increment: 1}, 0, 0},
		{"a minute", Price{Micros: 7700, Per: 60000, Increment: 1}, 60000, 7700},
		{"a second", Price{Micros: 7700, Per: 60000, Increment: 1}, 1000, 128}, // 128.33
		{"half is more", Price{Micros: 1, Per: 2, Increment: 1}, 1, 1},
		{"begun minutes", Price{Micros: 8500, Per: 60000, Increment: 60000}, 60001, 17000},
		{"whole minutes", Price{Micros: 8500, Per: 60000, Increment: 60000}, 60000, 8500},
		{"a token", Price{Micros: 400000, Per: 1000000, Increment: 1}, 1, 0},
		{"tokens", Price{Micros: 400000, Per: 1000000, Increment: 1}, 1234, 494}, // 493.6
		{"more than 64 bits in between", Price{Micros: 1e15, Per: 1e12, Increment: 1}, 1e12, 1e15},
		{"more than fits", Price{Micros: 1e15, Per: 1, Increment: 1}, math.MaxInt64 / 2, math.MaxInt64},
		{"given away", Price{Micros: 0, Per: 1, Increment: 1}, 1e9, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.p.Cost(tt.amount).Micros; got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
}

func TestPriceOf(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC) }
	price := func(own bool, model string, from int, micros int64) Price {
		p := Price{Kind: agent.UseHeard, Vendor: "v", Model: model, Micros: micros, Per: 1, Increment: 1, ValidFrom: day(from)}
		if own {
			p.ID = uuid.New()
		}
		return p
	}
	builtIn := []Price{price(false, "", 1, 1), price(false, "m", 1, 2)}
	own := []Price{price(true, "", 10, 3), price(true, "m", 20, 4), price(true, "m", 25, 5)}
	for _, tt := range []struct {
		name, model string
		at          int
		want        int64
	}{
		{"the vendor's", "x", 2, 1}, {"the model's", "m", 2, 2}, {"the tenant's of the vendor", "m", 12, 3},
		{"the tenant's of the model", "m", 21, 4}, {"the latest", "m", 25, 5}, {"before it", "m", 24, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, ok := PriceOf(own, builtIn, agent.Use{Kind: agent.UseHeard, Vendor: "v", Model: tt.model}, day(tt.at))
			if !ok || p.Micros != tt.want {
				t.Errorf("%d %v, want %d", p.Micros, ok, tt.want)
			}
		})
	}
	if _, ok := PriceOf(own, builtIn, agent.Use{Kind: agent.UseSpoken, Vendor: "v"}, day(9)); ok {
		t.Error("a kind without a price has one")
	}
}

// The built-in list is whole: each price is of a kind that exists and says where
// it was read.
func TestBuiltInPrices(t *testing.T) {
	list, err := BuiltInPrices()
	if err != nil || len(list) == 0 {
		t.Fatal(len(list), err)
	}
	seen := map[[3]string]bool{}
	for _, p := range list {
		q := p
		q.ValidFrom = time.Now()
		if err := q.Validate(time.Now()); err != nil {
			t.Errorf("%s %s %s: %v", p.Kind, p.Vendor, p.Model, err)
		}
		key := [3]string{p.Kind, p.Vendor, p.Model}
		if p.Source == "" || p.List == "" || seen[key] {
			t.Errorf("%v: no source, no version, or twice", key)
		}
		seen[key] = true
	}
}
