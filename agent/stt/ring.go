package stt

import (
	"fmt"
	"sync"
	"time"

	"parley/agent"
	"parley/media"
)

// An event stands between two samples of a ring.
type event struct {
	at     int64 // sample index from the first frame written
	speech bool  // on, if expect is nil
	expect *agent.Expectation
}

// A ring holds the last 2 s of audio and every event among it, between the
// goroutine that hears and the stream's own. Audio drops its oldest; events
// never drop.
//
// Each waking costs a message to the vendor. While the caller speaks, and for
// lively after, each frame wakes the stream; in between, where nobody waits for
// what is heard, every batch of audio does. Frames come whether anybody speaks
// or not, so that none stays behind.
type ring struct {
	rate int
	wake chan struct{} // holds one token when there may be something to take

	mu      sync.Mutex
	buf     []int16 // grows to 2 s where the vendor is slow
	head, n int     // of buf, in samples
	at      int64   // index of the oldest sample held
	events  []event
	speech  bool  // the caller speaks
	quietAt int64 // index of the sample where the caller last ceased to
	dropped int64 // samples
	closed  bool
}

const (
	ringLimit = 2 * time.Second
	ringFirst = 200 * time.Millisecond // what it holds before it grows
	batch     = 100 * time.Millisecond
	lively    = time.Second // a recognizer's end of turn comes within it
)

func newRing(rate int) *ring {
	return &ring{rate: rate, wake: make(chan struct{}, 1), buf: make([]int16, media.Samples(ringFirst, rate)),
		quietAt: -media.Samples(lively, rate)}
}

func (r *ring) write(f media.Frame) error {
	if f.Rate != r.rate {
		return fmt.Errorf("%w: %d Hz, want %d", media.ErrRate, f.Rate, r.rate)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return media.ErrClosed
	}
	if r.n+len(f.PCM) > len(r.buf) {
		r.grow()
	}
	pcm := f.PCM[max(0, len(f.PCM)-len(r.buf)):]
	if over := r.n + len(pcm) - len(r.buf); over > 0 {
		r.skip(over)
		r.dropped += int64(over)
	}
	tail := (r.head + r.n) % len(r.buf)
	k := copy(r.buf[tail:], pcm)
	copy(r.buf, pcm[k:])
	r.n += len(pcm)
	end := r.at + int64(r.n)
	if r.speech || end-r.quietAt < media.Samples(lively, r.rate) || int64(r.n) >= media.Samples(batch, r.rate) {
		r.signal()
	}
	return nil
}

// grow doubles the buffer, up to ringLimit.
func (r *ring) grow() {
	size := min(2*len(r.buf), int(media.Samples(ringLimit, r.rate)))
	if size == len(r.buf) {
		return
	}
	buf := make([]int16, size)
	k := copy(buf, r.buf[r.head:min(r.head+r.n, len(r.buf))])
	copy(buf[k:], r.buf[:r.n-k])
	r.buf, r.head = buf, 0
}

func (r *ring) put(e event) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return media.ErrClosed
	}
	e.at = r.at + int64(r.n)
	if e.expect == nil {
		if r.speech && !e.speech {
			r.quietAt = e.at
		}
		r.speech = e.speech
	}
	r.events = append(r.events, e)
	r.signal()
	return nil
}

// take copies audio up to the next event into dst, or returns that event once
// its audio is taken. Nothing to take is 0, nil, and closed tells whether
// anything can follow. at is the index of the first sample, or the event's.
func (r *ring) take(dst []int16) (n int, e *event, at int64, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	limit := min(len(dst), r.n)
	if len(r.events) > 0 {
		next := r.events[0]
		if next.at <= r.at {
			r.events = r.events[1:]
			return 0, &next, r.at, false
		}
		limit = min(limit, int(next.at-r.at))
	}
	at = r.at
	n = copy(dst[:limit], r.buf[r.head:])
	if n < limit {
		n += copy(dst[n:limit], r.buf)
	}
	r.skip(n)
	if first := int(media.Samples(ringFirst, r.rate)); r.n == 0 && len(r.buf) > first {
		r.buf, r.head = make([]int16, first), 0 // the vendor has caught up
	}
	return n, nil, at, n == 0 && r.closed
}

func (r *ring) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.signal()
}

func (r *ring) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

func (r *ring) lost() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

func (r *ring) skip(n int) {
	r.head = (r.head + n) % len(r.buf)
	r.n -= n
	r.at += int64(n)
}

func (r *ring) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}
