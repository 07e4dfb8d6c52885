package identity

import (
	"context"
	"errors"
	"testing"
	"time"

	"parley/control"
)

func TestBackoff(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	var f Failures
	var ok bool
	var locks []time.Duration
	for range 14 { // each as soon as the lock is over
		if f, ok = accounts.take(f, at); !ok {
			t.Fatal("an attempt after the lock is refused")
		}
		if at.Before(f.Until) {
			locks = append(locks, f.Until.Sub(at))
			if f, ok = accounts.take(f, f.Until.Add(-1)); ok {
				t.Error("an attempt under the lock is taken")
			}
			at = f.Until
		}
	}
	want := []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 15 * time.Minute, 15 * time.Minute}
	for i := range want {
		if locks[i] != want[i] {
			t.Fatalf("locks %v, want %v", locks, want)
		}
	}
	if f.All != 24 || f.Strikes != 14 {
		t.Errorf("%d attempts and %d strikes, want 24 and 14", f.All, f.Strikes)
	}
	if f, _ = accounts.take(f, at.Add(accounts.forget+time.Hour)); f.Strikes != 1 {
		t.Errorf("%d strikes a day later, want 1", f.Strikes)
	}
	if f = f.giveBack(); f.Strikes != 0 || !f.Until.IsZero() {
		t.Errorf("given back: %+v", f)
	}
}

// mapCells are cells in memory; away, they fail.
type mapCells struct {
	values map[string][]byte
	away   bool
}

func (c *mapCells) Change(_ context.Context, key string, _ time.Duration, f func([]byte) []byte) error {
	if c.away {
		return errors.New("away")
	}
	c.values[key] = f(c.values[key])
	return nil
}

// Without the cells that all nodes share, fewer attempts lock for longer: it
// fails closed.
func TestThrottleFailsClosed(t *testing.T) {
	ring, err := control.NewKeyring(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	tries := func(th *Throttle) (n int, wait time.Duration) {
		for n = 0; n < 100; n++ {
			w, ok := th.take(t.Context(), ring, "address 192.0.2.1")
			if !ok {
				return n, w
			}
		}
		return n, 0
	}
	cells := &mapCells{values: map[string][]byte{}}
	if n, wait := tries(&Throttle{Cells: cells}); n != addresses.free || wait > addresses.first || wait < addresses.first/2 {
		t.Errorf("%d attempts together, then %v", n, wait)
	}
	if n, _ := tries(&Throttle{Cells: cells}); n != 0 {
		t.Errorf("another node takes %d more", n)
	}
	for key := range cells.values {
		if len(key) != len("sign-in:")+43 {
			t.Errorf("the key %q tells the address", key)
		}
	}
	cells.away = true
	if n, wait := tries(&Throttle{Cells: cells}); n != alone.free || wait < alone.first/2 {
		t.Errorf("%d attempts alone, then %v", n, wait)
	}
}

func TestThrottleIsBounded(t *testing.T) {
	ring, err := control.NewKeyring(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	var th Throttle
	for i := range throttleBound + 10 {
		th.take(t.Context(), ring, string(rune(i)))
	}
	if n := len(th.here); n > throttleBound {
		t.Errorf("%d keys", n)
	}
}

func TestCoarse(t *testing.T) {
	for in, want := range map[string]string{
		"203.0.113.77": "203.0.113.0/24", "::ffff:203.0.113.77": "203.0.113.0/24", "2001:db8:1:2::3": "2001:db8:1::/48",
		"2001:db8:1:2::/64": "2001:db8:1::/48", "": "", "nonsense": "",
	} {
		if got := network(in); got != want {
			t.Errorf("network(%q) = %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0":                                                           "Firefox on Linux",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0":        "Edge on Windows",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile Safari/604.1": "Safari on iOS",
		"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36":                "Chrome on macOS",
		"curl/8.5.0": "another program", "": "another program",
	} {
		if got := agentFamily(in); got != want {
			t.Errorf("agentFamily(%q) = %q, want %q", in, got, want)
		}
	}
}
