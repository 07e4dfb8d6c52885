package postgres_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
)

func costs(t *testing.T, v tenancy, call uuid.UUID) []control.Money {
	t.Helper()
	all, err := v.store.CallCosts(v.ctx, []uuid.UUID{call})
	if err != nil {
		t.Fatal(err)
	}
	return all[call]
}

// What is written again counts once, a later price changes nothing, and each
// tenant sees its own.
func TestUsageCountsOnce(t *testing.T) {
	db := server.New(t)
	a, b := seed(t, db, "a"), seed(t, db, "b") // a minute of nova-3 each
	now := time.Now().UTC()
	usd := func(micros int64) []control.Money { return []control.Money{{Currency: "USD", Micros: micros}} }
	if got := costs(t, a, a.call); !slices.Equal(got, usd(7700)) {
		t.Fatalf("a minute of nova-3 costs %v", got)
	}
	turn := agent.Turn{Index: 7, Speaker: "agent", Heard: "hello", Uses: []agent.Use{
		{Kind: agent.UseInput, Vendor: "openai", Model: "gpt-4.1-mini", Amount: 1_000_000},
		{Kind: agent.UseSpoken, Vendor: "flite", Amount: 2000},
	}}
	if err := a.store.InsertPrice(a.ctx, control.Price{ID: uuid.New(), Kind: agent.UseInput, Vendor: "openai", Currency: "EUR",
		Micros: 5, Per: 1, Increment: 1, ValidFrom: now.Add(-time.Second)}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := a.store.WriteTurn(a.ctx, control.Hold{Call: a.call}, turn, now); err != nil {
			t.Fatal(err)
		}
	}
	want := append([]control.Money{{Currency: "EUR", Micros: 5_000_000}}, usd(7700)...)
	if got := costs(t, a, a.call); !slices.Equal(got, want) {
		t.Errorf("after a turn %v, want %v", got, want)
	}
	if err := a.store.InsertPrice(a.ctx, control.Price{ID: uuid.New(), Kind: agent.UseInput, Vendor: "openai", Model: "gpt-4.1-mini", Currency: "EUR",
		Micros: 9, Per: 1, Increment: 1, ValidFrom: now}); err != nil {
		t.Fatal(err)
	}
	if err := a.store.WriteTurn(a.ctx, control.Hold{Call: a.call}, turn, now); err != nil {
		t.Fatal(err)
	}
	from, to := now.Add(-time.Hour), now.Add(time.Hour) // no day: one may end meanwhile
	spent, err := a.store.Spent(a.ctx, from, to)
	if err != nil || !slices.Equal(spent, want) {
		t.Errorf("in the hour %v, %v, want %v", spent, err, want)
	}
	if got := costs(t, b, b.call); !slices.Equal(got, usd(7700)) {
		t.Errorf("the other tenant: %v", got)
	}
	if got := costs(t, b, a.call); got != nil {
		t.Errorf("another's call costs %v", got)
	}
	entries, err := a.store.CallUsage(a.ctx, a.call)
	if err != nil || len(entries) != 3 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, e := range entries {
		if e.Vendor == "flite" && (e.Price != "" || e.Cost != control.Money{}) {
			t.Errorf("a voice without a price: %+v", e)
		}
		if e.Agent != a.agent {
			t.Errorf("of agent %s, want the call's", e.Agent)
		}
	}
	late := agent.Turn{Index: 8, Speaker: "agent", Uses: turn.Uses[:1]}
	if err := a.store.WriteTurn(a.ctx, control.Hold{Call: a.call}, late, now.Add(-time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	entries, err = a.store.CallUsage(a.ctx, a.call)
	if err != nil || len(entries) != 4 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for _, e := range entries {
		if e.Turn == 8 && (e.Cost.Micros != 5_000_000 || !e.At.Before(now)) {
			t.Errorf("a turn written after a price changed is dated and priced as of its writing: %+v", e)
		}
	}
}

// The line of a call is entered with its end, once, and again where it goes on.
func TestLineIsEntered(t *testing.T) {
	a := seed(t, server.New(t), "a")
	claim := func() control.Call {
		t.Helper()
		c, err := a.store.ClaimCall(a.ctx, a.call, uuid.New(), time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	carried := func() (all []control.UsageEntry) {
		t.Helper()
		entries, err := a.store.CallUsage(a.ctx, a.call)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Kind == control.UseCarried {
				all = append(all, e)
			}
		}
		return all
	}
	c := claim()
	if got := carried(); len(got) != 0 {
		t.Fatalf("before its end: %v", got)
	}
	for range 2 {
		if _, err := a.store.EndCall(a.ctx, c.Hold(), "network", c.AnsweredAt.Add(30*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if got := carried(); len(got) != 1 || got[0].Amount != 30_000 || got[0].Cost.Micros != 8500 || got[0].Model != "inbound" {
		t.Fatalf("half a minute: %+v", got)
	}
	c = claim()
	if _, err := a.store.EndCall(a.ctx, c.Hold(), "caller", c.AnsweredAt.Add(90*time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := carried(); len(got) != 1 || got[0].Amount != 90_000 || got[0].Cost.Micros != 17000 {
		t.Fatalf("it went on to a minute and a half: %+v", got)
	}
}

// Sums page through, in every division, and add up to the same.
func TestUsageSums(t *testing.T) {
	from := time.Now().Add(-time.Hour) // no day: one may end meanwhile
	a := seed(t, server.New(t), "a")
	for i := range 20 {
		err := a.store.WriteTurn(a.ctx, control.Hold{Call: a.call}, agent.Turn{Index: i + 10, Speaker: "agent", Uses: []agent.Use{
			{Kind: agent.UseHeard, Vendor: "deepgram", Model: "nova-3", Amount: 60_000},
			{Kind: agent.UseCharacters, Vendor: "openai", Model: "tts-1", Amount: 1000},
		}}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
	}
	to := time.Now().Add(time.Hour)
	for _, by := range [][]string{nil, {"day"}, {"agent"}, {"vendor"}, {"kind"}, {"day", "agent", "vendor", "kind"}} {
		var micros, entries int64
		rows, after := 0, ""
		for {
			page, err := a.store.Usage(a.ctx, control.UsageQuery{From: from, To: to, By: by, After: after, Limit: 1})
			if err != nil {
				t.Fatal(by, err)
			}
			if len(page) == 0 {
				break
			}
			micros, entries, rows, after = micros+page[0].Cost.Micros, entries+page[0].Entries, rows+1, page[0].Key
		}
		if want := int64(21*7700 + 20*15000); micros != want || entries != 41 {
			t.Errorf("by %v: %d micros of %d entries in %d rows, want %d of 41", by, micros, entries, rows, want)
		}
	}
}

// A call's afterwork is stored once.
func TestAfterworkOnce(t *testing.T) {
	a := seed(t, server.New(t), "a")
	w := control.Afterwork{Call: a.call, Status: control.AfterworkDone, Summary: "another", At: time.Now()}
	if err := a.store.PutAfterwork(a.ctx, w); !errors.Is(err, control.ErrConflict) {
		t.Errorf("a second: %v, want ErrConflict", err)
	}
	got, err := a.store.Afterwork(a.ctx, a.call)
	if err != nil || got.Summary != "hi" {
		t.Errorf("%+v, %v", got, err)
	}
}
