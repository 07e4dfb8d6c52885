package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"parley/agent/effect"
)

// source is a store of one value that can be slow and away.
type source struct {
	loads atomic.Int64
	mu    sync.Mutex
	value string
	err   error
	slow  time.Duration
}

func (s *source) set(value string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value, s.err = value, err
}

func (s *source) load(ctx context.Context) (cachedSecret, error) {
	s.loads.Add(1)
	s.mu.Lock()
	value, err, slow := s.value, s.err, s.slow
	s.mu.Unlock()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
		return cachedSecret{}, ctx.Err()
	}
	return cachedSecret{value: effect.Secret(value)}, err
}

func TestSecretCacheLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newSecretCache(slog.New(slog.DiscardHandler)), &source{value: "a"}
		get := func() (string, error) { v, err := c.get(t.Context(), "k", s.load); return string(v.value), err }
		expect := func(what, want string, loads int64) {
			t.Helper()
			if got, err := get(); got != want || s.loads.Load() != loads || (want == "") != (err != nil) {
				t.Errorf("%s: %q, %v after %d loads, want %q after %d", what, got, err, s.loads.Load(), want, loads)
			}
		}
		expect("at first", "a", 1)
		s.set("b", nil)
		time.Sleep(secretLife - time.Second)
		expect("within its time", "a", 1)
		time.Sleep(time.Second)
		expect("past its time", "b", 2)

		s.set("c", nil)
		c.expire("k", false)
		expect("after a change was heard of", "c", 3)

		c.hears(false)
		s.set("d", nil)
		time.Sleep(secretLifeDeaf)
		expect("without hearing of changes", "d", 4)
		time.Sleep(time.Millisecond)
		c.hears(true)
		time.Sleep(time.Millisecond)
		s.set("e", nil)
		expect("when hearing begins, what was missed is read", "e", 5)

		s.set("", ErrNotFound)
		c.expire("k", true)
		expect("gone", "", 6)
		s.set("f", nil)
		time.Sleep(secretNone - time.Second)
		expect("that there is none is remembered", "", 6)
		time.Sleep(time.Second)
		expect("for 5 s", "f", 7)
	})
}

// Away, the store leaves what was read for an hour past its time, and is asked
// every few seconds, no more.
func TestSecretCacheServesStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newSecretCache(slog.New(slog.DiscardHandler)), &source{value: "a"}
		get := func() error { _, err := c.get(t.Context(), "k", s.load); return err }
		if err := get(); err != nil {
			t.Fatal(err)
		}
		s.set("", fmt.Errorf("sealed: %w", ErrUnavailable))
		time.Sleep(secretLife)
		for range 100 {
			if err := get(); err != nil {
				t.Fatal(err)
			}
		}
		if n := s.loads.Load(); n != 2 {
			t.Errorf("a store that is away was asked %d times at once", n-1)
		}
		time.Sleep(secretStale - time.Second)
		if err := get(); err != nil {
			t.Errorf("within the hour: %v", err)
		}
		time.Sleep(secretRetry)
		if err := get(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("past the hour: %v", err)
		}
		if got := c.counts(); got.Stale < 100 || got.Failed != 1 {
			t.Errorf("%+v", got)
		}
		time.Sleep(secretAway)
		s.set("b", nil)
		if err := get(); err != nil {
			t.Errorf("back: %v", err)
		}
		s.set("", errors.New("the policy forbids it"))
		c.expire("k", false)
		if err := get(); err == nil {
			t.Error("what is forbidden now is served from memory")
		}
	})
}

// Many who ask for one secret ask once; a slow store holds up only those who
// have nothing; and who hangs is given up.
func TestSecretCacheAsksOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newSecretCache(slog.New(slog.DiscardHandler)), &source{value: "a", slow: time.Second}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				if v, err := c.get(t.Context(), "k", s.load); err != nil || v.value != "a" {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := s.loads.Load(); n != 1 {
			t.Errorf("%d loads for 50 readers", n)
		}
		c.expire("k", false)
		began := time.Now()
		all.Go(func() { _, _ = c.get(t.Context(), "k", s.load) })
		synctest.Wait()
		if _, err := c.get(t.Context(), "k", s.load); err != nil || time.Since(began) > 0 {
			t.Errorf("a reader waits %v for another's load: %v", time.Since(began), err)
		}
		all.Wait()
		s.slow = time.Hour
		c.expire("k", false)
		began = time.Now()
		if _, err := c.get(t.Context(), "k", s.load); err != nil || time.Since(began) > secretLoad {
			t.Errorf("a store that hangs holds a call up for %v: %v", time.Since(began), err)
		}
	})
}

// A change that is heard of during a load is not covered up by what was loaded.
func TestSecretCacheChangeDuringLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newSecretCache(slog.New(slog.DiscardHandler)), &source{value: "old", slow: time.Second}
		var all sync.WaitGroup
		all.Go(func() { _, _ = c.get(t.Context(), "k", s.load) })
		synctest.Wait()
		s.set("new", nil)
		c.expire("k", false)
		all.Wait()
		if v, err := c.get(t.Context(), "k", s.load); err != nil || v.value != "new" {
			t.Errorf("%q, %v", string(v.value), err)
		}
	})
}

func TestSecretCacheIsBounded(t *testing.T) {
	c, s := newSecretCache(slog.New(slog.DiscardHandler)), &source{value: "a"}
	for i := range secretCached + 100 {
		if _, err := c.get(t.Context(), fmt.Sprint(i), s.load); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.entries) != secretCached || c.recent.Len() != secretCached {
		t.Errorf("%d entries", len(c.entries))
	}
	if _, ok := c.entries["0"]; ok {
		t.Error("the oldest stays")
	}
}
