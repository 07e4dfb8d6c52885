package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"parley/control"
)

// Failures counts what went wrong at one account, or from one address.
type Failures struct {
	All     int       // since the last success
	Strikes int       // those that count towards the next lock
	At      time.Time // of the last strike
	Until   time.Time // locked until then
}

// A backoff locks for longer each time, up to a bound: nobody is locked out for
// good by somebody else.
type backoff struct {
	free        int           // strikes before the first lock
	first, most time.Duration // lock after the first strike over it, and at most
	forget      time.Duration // strikes count no longer
}

// The back-offs. An address may be a whole office's.
var (
	accounts  = backoff{free: 5, first: 30 * time.Second, most: 15 * time.Minute, forget: 24 * time.Hour}
	addresses = backoff{free: 20, first: 30 * time.Second, most: 15 * time.Minute, forget: time.Hour}
	// alone is for addresses while nodes cannot count together: an attacker
	// reaches each of them.
	alone = backoff{free: 5, first: time.Minute, most: 15 * time.Minute, forget: time.Hour}
)

// take counts an attempt, as if it had failed already, and tells whether it may
// be looked at. Attempts under a lock do not make it longer.
func (b backoff) take(f Failures, now time.Time) (Failures, bool) {
	f.All++
	if now.Before(f.Until) {
		return f, false
	}
	if now.Sub(f.At) > b.forget {
		f.Strikes = 0
	}
	f.Strikes++
	f.At = now
	if over := f.Strikes - b.free; over >= 0 {
		f.Until = now.Add(min(b.first<<min(over, 16), b.most))
	}
	return f, true
}

// giveBack takes one attempt out again, which has succeeded.
func (f Failures) giveBack() Failures {
	f.All, f.Strikes, f.Until = max(f.All-1, 0), max(f.Strikes-1, 0), time.Time{}
	return f
}

// Throttled says that there were too many attempts, and when to come again.
type Throttled struct{ Wait time.Duration }

// Error implements error.
func (t *Throttled) Error() string {
	return fmt.Sprintf("identity: too many attempts; wait %s", t.Wait)
}

// Cells are small values that all nodes share. Change fails at once while they
// cannot be reached.
type Cells interface {
	Change(ctx context.Context, key string, life time.Duration, f func(old []byte) []byte) error
}

// A Throttle counts failures by address or browser, in Cells that all nodes
// share. Without them it fails closed: each node counts by itself, and locks
// after fewer.
type Throttle struct {
	Cells Cells // nil: none

	mu   sync.Mutex
	here map[string]Failures
}

// throttleBound is how many keys one node counts by itself.
const throttleBound = 10_000

// take counts an attempt and tells whether it may be made; if not, when.
func (t *Throttle) take(ctx context.Context, ring *control.Keyring, key string) (time.Duration, bool) {
	now := time.Now()
	var f Failures
	var ok bool
	t.change(ctx, ring, key, func(old Failures, b backoff) Failures {
		f, ok = b.take(old, now)
		return f
	})
	return f.Until.Sub(now), ok
}

func (t *Throttle) giveBack(ctx context.Context, ring *control.Keyring, key string) {
	t.change(ctx, ring, key, func(old Failures, _ backoff) Failures { return old.giveBack() })
}

func (t *Throttle) change(ctx context.Context, ring *control.Keyring, key string, f func(Failures, backoff) Failures) {
	key = "sign-in:" + base64.RawURLEncoding.EncodeToString(ring.MAC("sign-in-throttle", key)) // addresses are personal
	if t.Cells != nil {
		err := t.Cells.Change(ctx, key, addresses.forget, func(old []byte) []byte {
			var was Failures
			_ = json.Unmarshal(old, &was) // nothing yet: zero
			b, _ := json.Marshal(f(was, addresses))
			return b
		})
		if err == nil {
			return
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.here[key]; !ok && len(t.here) >= throttleBound || t.here == nil {
		t.here = map[string]Failures{} // forgets everybody: rather too mild than without bound
	}
	t.here[key] = f(t.here[key], alone)
}
