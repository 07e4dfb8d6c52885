package redis

import (
	"fmt"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"

	"parley/control/ingress"
	"parley/control/ingress/ingresstest"
)

// unhurried is the patience of tests: a machine that stands still for a moment
// is no Redis that is away.
const unhurried = time.Minute

func open(t *testing.T) (*Client, *miniredis.Miniredis) {
	t.Helper()
	m := miniredis.RunT(t)
	c, err := openPatient("redis://"+m.Addr(), unhurried)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, m
}

func TestUseOnce(t *testing.T) {
	here, m := open(t)
	there, err := openPatient("redis://"+m.Addr(), unhurried)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	if !here.Use(t.Context(), "a", time.Minute) {
		t.Error("first use refused")
	}
	if here.Use(t.Context(), "a", time.Minute) {
		t.Error("second use on the same node passes")
	}
	if there.Use(t.Context(), "a", time.Minute) {
		t.Error("second use on another node passes")
	}
	m.Close()
	if !here.Use(t.Context(), "b", time.Minute) {
		t.Error("first use without Redis refused")
	}
	if here.Use(t.Context(), "b", time.Minute) || here.Use(t.Context(), "a", time.Minute) {
		t.Error("second use without Redis passes")
	}
}

func TestUsedSetIsBounded(t *testing.T) {
	u, now := newUsedSet(), time.Now()
	for i := range usedBound {
		u.add(fmt.Sprint(i), time.Minute, now)
	}
	if u.add("one more", time.Minute, now) {
		t.Error("a full set takes more")
	}
	if !u.add("one more", time.Minute, now.Add(time.Hour)) || len(u.until) != 1 {
		t.Errorf("a set of expired keys does not empty: %d", len(u.until))
	}
}

func TestUsedSetForgets(t *testing.T) {
	u, now := newUsedSet(), time.Now()
	for i := range 50_000 { // a thousand tokens a minute, each good for a minute
		u.add(fmt.Sprint(i), time.Minute, now.Add(time.Duration(i)*60*time.Millisecond))
	}
	if n := len(u.until); n > 2*usedSweep+1 {
		t.Errorf("%d keys are kept of a thousand alive", n)
	}
}

func TestLive(t *testing.T) {
	c, _ := open(t)
	a, b := uuid.New(), uuid.New()
	if err := c.SetLive(t.Context(), time.Minute, a, b); err != nil {
		t.Fatal(err)
	}
	if err := c.SetLive(t.Context(), -time.Minute, uuid.New()); err != nil {
		t.Fatal(err)
	}
	if err := c.Ended(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Live(t.Context()); err != nil || n != 1 {
		t.Errorf("Live = %d, %v, want 1", n, err)
	}
}

// A clock of Redis that the test moves.
func clock(m *miniredis.Miniredis) func(time.Duration) {
	now := time.Now()
	m.SetTime(now)
	return func(d time.Duration) {
		now = now.Add(d)
		m.SetTime(now)
		m.FastForward(d)
	}
}

func TestLimits(t *testing.T) {
	c, m := open(t)
	ingresstest.Limiter(t, c, clock(m), false)
}

// Two processes count together, and each alone without Redis.
func TestLimitsOfTwoProcesses(t *testing.T) {
	here, m := open(t)
	there, err := openPatient("redis://"+m.Addr(), unhurried)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	ask := ingress.Ask{Key: "k", N: 4, Per: time.Hour}
	count := func(c *Client) (n int) {
		for range 3 {
			if c.Take(t.Context(), ask).OK {
				n++
			}
		}
		return n
	}
	if a, b := count(here), count(there); a+b != 4 {
		t.Errorf("%d and %d pass, want 4 together", a, b)
	}
	m.Close()
	if v := here.Take(t.Context(), ask); !v.OK || !v.Alone {
		t.Errorf("without Redis: %+v", v)
	}
	if n := count(here); n != 3 {
		t.Errorf("without Redis %d more pass, want 3", n)
	}
}
