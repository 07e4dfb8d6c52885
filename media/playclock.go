package media

import (
	"slices"
	"time"
)

// A playClock estimates which sample of a leg's outgoing stream the party is
// hearing. It is pure: times are given to it. Positions count samples written
// to the leg since it began.
//
// A leg with marks tells when a position was reached; a browser's page reports
// positions; where neither comes, the wall clock since the first write is
// taken, less the line's delay. An estimate never passes what was written.
type playClock struct {
	rate  int
	marks bool // the leg returns marks

	written   int64     // stream samples written
	anchor    int64     // a position known or assumed to have been heard …
	anchorAt  time.Time // … at this time
	running   bool      // a spurt is playing or has played out
	reported  bool      // the anchor is the party's own report, not an assumption
	heldUntil int64     // after a flush: nothing past this position was heard, until the next spurt

	pending []pendingMark
	proofAt time.Time // the last flush: marks that return by then were truly played
	rtt     time.Duration
	minRTT  time.Duration
	delay   time.Duration // write to ear, for legs without marks or reports
}

type pendingMark struct {
	id     uint64
	pos    int64
	sent   time.Time
	empty  bool // the far buffer was empty: its return measures the round trip
	voided bool // a flush has overtaken it
}

const (
	// assumedRTT stands in until a round trip was measured: Twilio's media
	// servers and a gateway in the same region are 50 to 100 ms apart.
	assumedRTT = 80 * time.Millisecond
	// assumedDelay is what a browser holds in its jitter buffer, with a short
	// line, until reports or RTCP say better.
	assumedDelay = 100 * time.Millisecond
	// markSlack is how far the estimate may pass a mark that has not come back.
	markSlack = 200 * time.Millisecond
)

func newPlayClock(info LegInfo) playClock {
	return playClock{rate: info.Rate, marks: info.Marks, delay: assumedDelay}
}

// halfTrip is the one-way time of the line.
func (c *playClock) halfTrip() time.Duration {
	if c.rtt > 0 {
		return c.rtt / 2
	}
	return assumedRTT / 2
}

// lag is the time from a write on an empty far buffer to the ear.
func (c *playClock) lag() time.Duration {
	if c.marks {
		return c.halfTrip()
	}
	return c.delay
}

// startSpurt says that audio written at now plays at once: nothing is before it.
func (c *playClock) startSpurt(now time.Time) {
	c.anchor, c.anchorAt = c.written, now.Add(c.lag())
	c.running, c.reported = true, false
	c.heldUntil = c.written
	// Marks of before would hold this spurt back: they are late or lost.
	c.pending = slices.DeleteFunc(c.pending, func(m pendingMark) bool { return !m.voided })
}

// wrote counts n samples.
func (c *playClock) wrote(n int64) { c.written += n }

// markSent notes a mark behind all that was written.
func (c *playClock) markSent(id uint64, now time.Time, empty bool) {
	c.pending = append(c.pending, pendingMark{id: id, pos: c.written, sent: now, empty: empty})
}

// markBack takes a returned mark.
func (c *playClock) markBack(id uint64, at time.Time) {
	for i, m := range c.pending {
		if m.id != id {
			continue
		}
		// Marks return in order: those before it were lost or are implied.
		c.pending = append(c.pending[:0], c.pending[i+1:]...)
		if m.voided {
			// After a flush all come back at once. Only what returns sooner than
			// any round trip can have been on its way before the flush arrived.
			if at.Before(c.proofAt) && m.pos > c.heldUntil {
				c.heldUntil = m.pos
			}
			return
		}
		if m.empty {
			c.rtt = at.Sub(m.sent)
			if c.minRTT == 0 || c.rtt < c.minRTT {
				c.minRTT = c.rtt
			}
		}
		c.anchor, c.anchorAt, c.reported = m.pos, at.Add(-c.halfTrip()), true
		return
	}
}

// played takes the party's own report of a position.
func (c *playClock) played(pos int64, at time.Time) {
	if !c.running || pos > c.written {
		return
	}
	c.anchor, c.anchorAt, c.reported = pos, at, true
}

// raw is the estimate before the flush limit.
func (c *playClock) raw(now time.Time) int64 {
	if !c.running {
		return c.heldUntil
	}
	pos := c.anchor
	if d := now.Sub(c.anchorAt); d > 0 {
		pos += Samples(d, c.rate)
	}
	for _, m := range c.pending {
		if !m.voided {
			pos = min(pos, m.pos+Samples(markSlack, c.rate))
			break
		}
	}
	return min(pos, c.written)
}

// heard is the estimated position at now.
func (c *playClock) heard(now time.Time) int64 {
	if !c.running {
		return c.heldUntil
	}
	return max(c.raw(now), c.heldUntil)
}

// flush says that at now all that the far side had not played was dropped, if
// it can be. It returns the position where hearing stops: the party hears on
// until the flush arrives; what a leg without a buffer was given is heard.
func (c *playClock) flush(now time.Time, drops bool) int64 {
	if !c.running {
		return c.heldUntil
	}
	held := c.written
	if drops {
		held = min(c.raw(now)+Samples(c.halfTrip(), c.rate), c.written)
	}
	for i := range c.pending {
		c.pending[i].voided = true
	}
	trip := c.minRTT
	if trip == 0 {
		trip = assumedRTT
	}
	c.proofAt = now.Add(trip)
	c.heldUntil, c.running = held, false
	return held
}
