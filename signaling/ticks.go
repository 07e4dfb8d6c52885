package signaling

import (
	"time"

	"parley/media"
)

// ticks pace the frames of a leg whose far side does not: a [media.Ptime] apart,
// on absolute time, so that one that is late does not move the next. The zero
// value begins with its first wait; it is used by one goroutine.
type ticks struct {
	timer *time.Timer
	due   time.Time // of the next
}

// tickBehind is how late a reader may be and still get every frame, in a burst.
const tickBehind = 200 * time.Millisecond

// wait waits until a frame is due and returns that time, and for how much time
// before it there are no frames, because they were asked for too late. It
// returns false once done is closed.
func (t *ticks) wait(done <-chan struct{}) (due time.Time, skipped time.Duration, ok bool) {
	now := time.Now()
	if t.timer == nil {
		t.timer, t.due = time.NewTimer(0), now
	}
	if late := now.Sub(t.due); late > tickBehind {
		skipped = late.Truncate(media.Ptime)
		t.due = t.due.Add(skipped)
	}
	t.timer.Reset(t.due.Sub(now))
	select {
	case <-done:
		t.timer.Stop()
		return t.due, 0, false
	case <-t.timer.C:
	}
	due = t.due
	t.due = due.Add(media.Ptime)
	return due, skipped, true
}
