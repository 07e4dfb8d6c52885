package redis

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"parley/agent/effect"
	"parley/agent/flow"
)

// Two processes change a cell many times at once: no change is lost.
func TestCells(t *testing.T) {
	here, m := open(t)
	there, err := openPatient("redis://"+m.Addr(), unhurried)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	add := func(c *Client) error {
		return c.Change(t.Context(), "n", time.Minute, func(old []byte) []byte {
			n := 0
			_, _ = fmt.Sscan(string(old), &n)
			return fmt.Append(nil, n+1)
		})
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for _, c := range []*Client{here, there} {
		all.Go(func() {
			for range 50 {
				if add(c) == nil {
					mu.Lock()
					done++
					mu.Unlock()
				}
			}
		})
	}
	all.Wait()
	if got, _ := m.Get("cell:n"); got != fmt.Sprint(done) || done < 50 {
		t.Errorf("%d changes were made, the cell holds %s", done, got)
	}
	m.FastForward(time.Minute)
	if m.Exists("cell:n") {
		t.Error("the cell outlives its time")
	}
	m.Close()
	if err := add(here); err == nil {
		t.Error("a change without Redis")
	}
}

// A server that fails one process is spared by the other; one probe goes out.
func TestCircuitOfTwoProcesses(t *testing.T) {
	a, m := open(t)
	b, err := openPatient("redis://"+m.Addr(), unhurried)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	here, there := &effect.Shared{Cells: a}, &effect.Shared{Cells: b}
	breaker, at, ctx := flow.Breaker{Failures: 3, Successes: 1, Timeout: 30 * time.Second}, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), context.Background()
	for range 3 {
		here.Leave(ctx, "k", at, breaker, false)
	}
	if _, err := there.Enter(ctx, "k", at.Add(29*time.Second), breaker); err == nil {
		t.Error("the other process calls a server that is down")
	}
	at = at.Add(30 * time.Second)
	probes := 0
	for _, s := range []*effect.Shared{there, here, there} {
		if probe, err := s.Enter(ctx, "k", at, breaker); err == nil && probe {
			probes++
		}
	}
	if probes != 1 {
		t.Errorf("%d probes, want 1", probes)
	}
	m.Close()
	if _, err := here.Enter(ctx, "k", at.Add(-time.Second), breaker); err == nil {
		t.Error("without Redis a process forgets what it has seen itself")
	}
}

func TestSpend(t *testing.T) {
	here, m := open(t)
	there, err := openPatient("redis://"+m.Addr(), unhurried)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if _, err := here.Spend(t.Context(), "t", time.Hour, [3]int64{1, 100, 5}); err != nil {
		t.Fatal(err)
	}
	m.FastForward(59 * time.Minute)
	if got, err := there.Spend(t.Context(), "t", time.Hour, [3]int64{1, 1 << 40, 0}); err != nil || got != [3]int64{2, 100 + 1<<40, 5} {
		t.Errorf("%v, %v", got, err)
	}
	m.FastForward(time.Minute)
	if got, err := there.Spend(t.Context(), "t", time.Hour, [3]int64{1, 0, 0}); err != nil || got != [3]int64{1, 0, 0} {
		t.Errorf("in the next window: %v, %v", got, err)
	}
	m.Close()
	if _, err := here.Spend(t.Context(), "t", time.Hour, [3]int64{1}); err == nil {
		t.Error("spent without Redis")
	}
}
