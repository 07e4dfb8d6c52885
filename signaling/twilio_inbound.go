package signaling

import (
	"sync"
	"time"

	"parley/media"
)

const (
	rate       = 8000
	frameBytes = rate / 50 // 20 ms of µ-law
	silence    = 0xff

	// patience is how late a frame may be before silence is given for it:
	// longer than the jitter of most networks, short enough not to be a hole.
	patience = 100 * time.Millisecond

	// backlogMax bounds what a stall leaves behind.
	backlogMax   = 50 // frames: 1 s
	backlogUsual = 7  // has room from the start

	// quietPeak is the loudest sample of a frame that nobody misses (-38 dBFS).
	quietPeak = 400

	// watch is how many frames the clock's drift is measured over: 2 s, which
	// the least of jitter surely touches.
	watch = 100
)

// A frameQueue carries frames from the socket's goroutine to ReadFrame's. When
// full it drops the oldest.
type frameQueue struct {
	ready chan struct{} // holds one after a push or end

	mu    sync.Mutex
	ring  [][frameBytes]byte // grows to backlogMax where frames come in bursts
	first int
	n     int
	part  [frameBytes]byte // begin of a frame whose end has not come
	partN int
	over  bool
}

func newFrameQueue() *frameQueue {
	return &frameQueue{ready: make(chan struct{}, 1), ring: make([][frameBytes]byte, backlogUsual)}
}

// push takes audio of any length and returns how many frames it had to drop.
func (q *frameQueue) push(audio []byte) (dropped int) {
	q.mu.Lock()
	for len(audio) > 0 {
		if q.partN == 0 && len(audio) >= frameBytes {
			dropped += q.put(audio[:frameBytes])
			audio = audio[frameBytes:]
			continue
		}
		n := copy(q.part[q.partN:], audio)
		audio = audio[n:]
		if q.partN += n; q.partN == frameBytes {
			dropped += q.put(q.part[:])
			q.partN = 0
		}
	}
	q.mu.Unlock()
	q.wake()
	return dropped
}

func (q *frameQueue) put(frame []byte) (dropped int) {
	switch {
	case q.n == backlogMax:
		q.first = (q.first + 1) % len(q.ring)
		q.n--
		dropped = 1
	case q.n == len(q.ring):
		ring := make([][frameBytes]byte, min(2*q.n, backlogMax))
		copy(ring[copy(ring, q.ring[q.first:]):], q.ring[:q.first])
		q.ring, q.first = ring, 0
	}
	copy(q.ring[(q.first+q.n)%len(q.ring)][:], frame)
	q.n++
	return dropped
}

// pop takes the oldest frame; over tells that none will come any more.
func (q *frameQueue) pop(into *[frameBytes]byte) (ok, over bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n == 0 {
		return false, q.over
	}
	*into = q.ring[q.first]
	q.first = (q.first + 1) % len(q.ring)
	q.n--
	return true, false
}

// end lets pop run dry; discard empties it at once.
func (q *frameQueue) end(discard bool) {
	q.mu.Lock()
	q.over = true
	if discard {
		q.n = 0
	}
	q.mu.Unlock()
	q.wake()
}

func (q *frameQueue) wake() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// A verdict on a frame that has arrived.
type verdict int

const (
	give      verdict = iota
	skip              // leave it out: we are behind, or the far clock is fast
	giveTwice         // and once more: the far clock is slow
	overflow          // leave it out: over a second behind
)

// A timeline holds the far clock against ours: a frame is due every 20 ms. What
// comes early was held up before; what is always late comes from a slow clock.
// Both are put right where it is quiet.
type timeline struct {
	due   time.Time     // of the next frame, on our clock
	heard bool          // a frame has come
	least time.Duration // the least lateness of the frames watched
	n     int
}

// arrived judges the frame that is there at now.
func (t *timeline) arrived(now time.Time, quiet bool) verdict {
	if !t.heard {
		t.heard, t.due = true, now
	}
	late := now.Sub(t.due)
	switch {
	case late < -backlogMax*media.Ptime:
		return overflow
	case late <= -media.Ptime && quiet:
		return skip
	}
	t.due = t.due.Add(media.Ptime)
	if t.n == 0 || late < t.least {
		t.least = late
	}
	if t.n++; t.n < watch {
		return give
	}
	if t.least < media.Ptime {
		t.n = 0
		return give
	}
	if !quiet {
		return give // the next quiet frame will do
	}
	t.n = 0
	t.due = t.due.Add(media.Ptime)
	return giveTwice
}

// wait returns how long a frame may still take.
func (t *timeline) wait(now time.Time) time.Duration {
	return t.due.Add(patience).Sub(now)
}

// concealed counts a frame of silence in place of one that did not come.
func (t *timeline) concealed() { t.due = t.due.Add(media.Ptime) }

func quiet(pcm []int16) bool {
	for _, s := range pcm {
		if s > quietPeak || s < -quietPeak {
			return false
		}
	}
	return true
}
