package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"parley/media"
)

// A link is one open recognition stream and how far it has been fed. The
// recognizer's lock guards it.
type link struct {
	stream STT
	vendor Recognizer
	cancel context.CancelCauseFunc

	toRate  *media.Resampler // nil where the rates agree
	outRate int
	out     []int16
	scratch []int16

	base int64 // position where the stream's own time begins
	next int64 // position to be fed next, until it is live
	mark int   // number of the next speech mark
	live bool  // frames go to it as they come

	began  time.Time // when it was told that the caller speaks
	paused time.Time // when it was told of a pause; zero: it has answered
	asked  int64     // position of that pause
	life   time.Time // when it was last heard of
	hurry  bool      // the one before was deaf too, and the caller waits
	deaf   *time.Timer

	sentMu sync.Mutex
	sent   int64 // samples at outRate that are counted
}

func (l *link) feed(rate int, pcm []int16) {
	l.next += int64(len(pcm))
	if l.toRate != nil {
		l.out = l.toRate.Process(l.out[:0], pcm)
		rate, pcm = l.outRate, l.out
	}
	_ = l.stream.WriteFrame(media.Frame{Rate: rate, PCM: pcm})
}

const (
	defaultPace = 1.25
	// catchUpMax is the most that is replayed in one piece: after a late tick the
	// average is kept, but no burst is sent.
	catchUpMax = 100 * time.Millisecond
)

// catchUp gives a stream what was heard before it was open, no faster than its
// vendor takes it, until it is live.
func (r *recognizer) catchUp(ctx context.Context, l *link) {
	pace := cmp.Or(l.vendor.Pace, defaultPace)
	tick := time.NewTicker(media.Ptime)
	defer tick.Stop()
	began := time.Now()
	var given int64
	for {
		may := media.Samples(time.Duration(float64(time.Since(began))*pace), r.rate) - given
		n, live := r.replay(l, int(min(may, int64(len(l.scratch)))))
		given += n
		if live {
			audioReplayed.WithLabelValues(l.vendor.Vendor).Add(media.Duration(given, r.rate).Seconds())
			return
		}
		if may > int64(len(l.scratch)) {
			given += may - int64(len(l.scratch)) // late: what was missed is not made up for
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// replay gives a stream the next samples, and the marks among them. live tells
// that it has caught up: from here on it gets frames as they come.
func (r *recognizer) replay(l *link, samples int) (given int64, live bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := &r.memory
	r.skip(l)
	for {
		for {
			mark, ok := m.mark(l.mark, l.next)
			if !ok {
				break
			}
			l.mark++
			_ = r.tell(l, mark.on, l.next)
		}
		if l.next >= m.now() {
			l.live, l.scratch, m.held = true, nil, -1
			return given, true
		}
		if samples <= 0 {
			m.held = l.next
			return given, false
		}
		pcm := m.piece(l.scratch[:samples], l.next, l.mark)
		l.feed(r.rate, pcm)
		given += int64(len(pcm))
		samples -= len(pcm)
	}
}

// skip leaves out what the stream need not hear any more: the quiet behind what
// has been recognized, and what is too old.
func (r *recognizer) skip(l *link) {
	m := &r.memory
	to := m.wanted()
	if l.next >= to {
		return
	}
	if m.open && m.start < to {
		audioDropped.WithLabelValues(l.vendor.Vendor).Add(media.Duration(to-max(l.next, m.start), r.rate).Seconds())
	}
	l.base += to - l.next
	l.next = to
	_, l.mark = m.talkedAt(to)
}

// errDeaf is a recognizer that takes audio and says nothing.
var errDeaf = errors.New("nothing is heard of it though the caller spoke")

const (
	// deafTalking is how long a caller speaks before a vendor with interim
	// transcripts has shown a sign of life.
	deafTalking = 3 * time.Second
	// deafPaused is how long after a pause such a vendor has; its own time limit
	// for an answer is half of it. deafHurry is the same for one that follows a
	// vendor that was deaf, and deafAnswer for those without interim transcripts.
	deafPaused = 1400 * time.Millisecond
	deafHurry  = 600 * time.Millisecond // if the caller has been waiting already
	deafAnswer = 2500 * time.Millisecond
	// deafSpeech is less speech than any vendor must notice.
	deafSpeech = 400 * time.Millisecond
)

// watch sets when the vendor is overdue, which depends on what it was last told.
func (r *recognizer) watch(l *link) {
	at := l.overdue()
	if at.IsZero() {
		if l.deaf != nil {
			l.deaf.Stop()
		}
		return
	}
	if l.deaf == nil {
		l.deaf = time.AfterFunc(time.Until(at), func() { r.listens(l) })
		return
	}
	l.deaf.Reset(time.Until(at))
}

// overdue is when a sign of life is due; zero: none is.
func (l *link) overdue() time.Time {
	switch {
	case !l.paused.IsZero() && !l.vendor.Interims:
		return l.paused.Add(deafAnswer)
	case !l.paused.IsZero() && l.hurry && l.life.IsZero():
		return l.paused.Add(deafHurry)
	case !l.paused.IsZero() && !l.life.After(l.paused):
		return l.paused.Add(deafPaused)
	case l.paused.IsZero() && l.vendor.Interims && !l.began.IsZero():
		at := l.began
		if l.life.After(at) {
			at = l.life
		}
		return at.Add(deafTalking)
	}
	return time.Time{}
}

// listens gives a vendor up that is overdue.
func (r *recognizer) listens(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := l.overdue()
	voiced := r.voiced
	if r.memory.talking {
		voiced += r.memory.now() - r.onset
	}
	if at.IsZero() || time.Now().Before(at) || voiced < media.Samples(deafSpeech, r.rate) {
		return
	}
	l.cancel(fmt.Errorf("%w: %w", ErrUnavailable, errDeaf))
}
