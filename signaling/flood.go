package signaling

import (
	"sync"
	"time"
)

// tooMany ends a line that sent more than any call needs. It is the session's
// reason, and the text of the close.
const tooMany = "too many messages"

// An allowance is a token bucket: so much a second, and a burst on top. It is
// full at first. One goroutine at a time may use it; it allocates nothing.
type allowance struct {
	rate  float64 // units a second
	burst float64 // units at once, after a rest

	left float64 // may be negative: what was taken beyond the burst
	at   time.Time
}

// audioAllowance is of seconds of audio: half as fast again as it can be
// spoken, and 5 s at once, for lines that stall and then catch up.
func audioAllowance() allowance { return newAllowance(1.5, 5) }

func newAllowance(rate, burst float64) allowance {
	return allowance{rate: rate, burst: burst, left: burst}
}

func (a *allowance) refill(now time.Time) {
	if gone := now.Sub(a.at); gone > 0 {
		if !a.at.IsZero() {
			a.left = min(a.burst, a.left+gone.Seconds()*a.rate)
		}
		a.at = now
	}
}

// take takes n, or nothing where that is more than there is.
func (a *allowance) take(now time.Time, n float64) bool {
	a.refill(now)
	if a.left < n {
		return false
	}
	a.left -= n
	return true
}

// A standing is how somebody keeps to an allowance.
type standing int

const (
	within standing = iota
	beyond          // the burst is used up: a warning is due
	out             // and as much again: that is no stall, and the line is to be closed
)

// charge takes n, whether it is there or not.
func (a *allowance) charge(now time.Time, n float64) standing {
	a.refill(now)
	a.left -= n
	switch {
	case a.left >= 0:
		return within
	case a.left >= -a.burst:
		return beyond
	}
	return out
}

// A flood is what one line may send, and whether it was warned. One goroutine
// at a time may use it.
type flood struct {
	messages allowance
	bytes    allowance
	audio    allowance // seconds
	warned   bool
}

// charge takes one message of so many bytes that brings seconds of audio.
// beyond is said once in a flood's life: whoever was warned is let be until he
// is out.
func (f *flood) charge(now time.Time, bytes int, seconds float64) standing {
	s := max(f.messages.charge(now, 1), f.bytes.charge(now, float64(bytes)), f.audio.charge(now, seconds))
	if s != beyond {
		return s
	}
	if f.warned {
		return within
	}
	f.warned = true
	return beyond
}

// A waiting counts, by address, the sockets of which nobody knows yet what they
// are for. Its zero value is ready, and holds no address that has none.
type waiting struct {
	mu sync.Mutex
	at map[string]int
}

// enter takes a place for addr, at most most of them; whoever got one leaves.
func (w *waiting) enter(addr string, most int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at[addr] >= most {
		return false
	}
	if w.at == nil {
		w.at = map[string]int{}
	}
	w.at[addr]++
	return true
}

func (w *waiting) leave(addr string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.at[addr]--; w.at[addr] <= 0 {
		delete(w.at, addr)
	}
}
