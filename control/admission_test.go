package control

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestLoadIsJudgedWithHysteresis(t *testing.T) {
	tests := []struct {
		load      Load
		was, want string
	}{
		{Load{}, "", ""},
		{Load{Late: 20 * time.Millisecond}, "", ""},
		{Load{Late: 21 * time.Millisecond}, "", RefusedLate},
		{Load{Late: 11 * time.Millisecond}, RefusedLate, RefusedLate},
		{Load{Late: 10 * time.Millisecond}, RefusedLate, ""},
		{Load{Memory: 0.9}, "", ""},
		{Load{Memory: 0.91}, "", RefusedMemory},
		{Load{Memory: 0.81}, RefusedMemory, RefusedMemory},
		{Load{Memory: 0.8}, RefusedMemory, ""},
		{Load{Memory: 0.85, Late: 11 * time.Millisecond}, RefusedLate, RefusedLate},
		{Load{Memory: 0.95, Late: time.Second}, RefusedLate, RefusedMemory},
	}
	for _, tt := range tests {
		if got := tt.load.judge(20*time.Millisecond, tt.was); got != tt.want {
			t.Errorf("%+v after %q: %q, want %q", tt.load, tt.was, got, tt.want)
		}
	}
}

func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &Admission{Rated: 2, Hold: time.Minute}
		reserve := func(key, want string) {
			t.Helper()
			if got := a.Reserve(key); got != want {
				t.Errorf("reserve %s: %q, want %q", key, got, want)
			}
		}
		taken := func(want int) {
			t.Helper()
			if got := a.Slots(); got != want {
				t.Errorf("%d slots taken, want %d", got, want)
			}
		}
		reserve("CA1", "")
		a.Name("CA1", "one")
		reserve("CA2", "")
		reserve("CA3", RefusedRated)
		reserve("CA1", "") // the webhook is repeated
		taken(2)

		a.Release("CA2") // no such agent
		a.Release("CA1") // it was taken in: nothing
		taken(1)

		reserve("CA2", "") // its caller gives up before it is connected
		a.Name("CA2", "two")
		a.Gone("CA2")
		taken(1)

		// A second line of a call comes before the first has gone.
		a.Begin("one")
		a.Gone("CA1") // its line ends by itself
		a.Begin("one")
		a.End("one")
		taken(1)
		a.End("one")
		taken(0)

		// One that comes back is never refused, and counts.
		reserve("CA4", "")
		reserve("CA5", "")
		a.Begin("back")
		taken(3)
		reserve("CA6", RefusedRated)

		// Those whose audio never comes give their slots back.
		time.Sleep(time.Minute)
		taken(1)
		reserve("CA6", "")
		a.End("back")
		taken(1)

		// One call under two names has one slot.
		a.Name("CA6", "six")
		reserve("other", "")
		a.Name("other", "six")
		taken(1)
	})
}

func TestRefusingFollowsTheLoad(t *testing.T) {
	var late atomic.Int64
	a := &Admission{Rated: 9, Late: 20 * time.Millisecond, Hold: time.Minute, Load: func() Load { return Load{Late: time.Duration(late.Load())} }}
	for _, step := range []struct {
		late time.Duration
		want string
	}{{0, ""}, {30 * time.Millisecond, RefusedLate}, {15 * time.Millisecond, RefusedLate}, {time.Millisecond, ""}, {15 * time.Millisecond, ""}} {
		late.Store(int64(step.late))
		if got := a.Refusing(); got != step.want {
			t.Errorf("late by %v: %q, want %q", step.late, got, step.want)
		}
	}
}

func TestLatenessNeedNotBeJudged(t *testing.T) {
	if got := (Load{Late: time.Hour}).judge(0, ""); got != "" {
		t.Errorf("refused as %q", got)
	}
}

// Webhooks that come together never get more slots than there are.
func TestSlotsAreNotGivenTwice(t *testing.T) {
	a := &Admission{Rated: 7, Hold: time.Minute}
	var admitted atomic.Int64
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			if a.Reserve(fmt.Sprint(i)) == "" {
				admitted.Add(1)
			}
		})
	}
	wg.Wait()
	if got := admitted.Load(); got != 7 {
		t.Errorf("admitted %d calls, want 7", got)
	}
}
