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
// taken, less the line's delay. An estimate never passes what was written, nor
// a mark that is overdue.
type playClock struct {
	rate  int
	marks bool // the leg returns marks

	written   int64     // stream samples written
	from      int64     // where the spurt began that plays, or played last
	anchor    int64     // a position known or assumed to have been heard …
	anchorAt  time.Time // … at this time
	reported  bool      // the anchor is the party's own report, not an assumption
	running   bool      // a spurt is playing or has played out
	heldUntil int64     // after a flush: nothing past this position was heard, until the next spurt

	pending []pendingMark
	proofAt time.Time // the last flush: marks that return by then were truly played
	trips   [8]time.Duration
	nTrips  int           // measured so far
	delay   time.Duration // write to ear, for legs without marks or reports
}

type pendingMark struct {
	id     uint64
	pos    int64
	sent   time.Time
	empty  bool      // the far buffer was empty: its return measures the round trip
	voided bool      // a flush has overtaken it
	due    time.Time // of a voided one: when it returns if it was heard as estimated
}

const (
	// assumedRTT stands in until a round trip was measured. It is on the long
	// side of what lines have, so that too little is counted as heard.
	assumedRTT = 160 * time.Millisecond
	// assumedDelay is the same with what a browser holds in its jitter buffer,
	// until reports or RTCP say better.
	assumedDelay = 160 * time.Millisecond
	// lateBy is more than the jitter of a line: what is later than this was not
	// under way, but stalled.
	lateBy = 60 * time.Millisecond
	// unknownReach is how far past a mark that is out hearing is assumed to have
	// gone before any round trip was measured.
	unknownReach = 200 * time.Millisecond
	// proofMargin is how much sooner than the shortest round trip seen a mark
	// must return behind a flush to prove anything: a shorter one may come.
	proofMargin = 30 * time.Millisecond
	// creep is the share of a late report that is believed: most of it is
	// jitter, some is the far clock's drift.
	creep = 16
)

func newPlayClock(info LegInfo) playClock {
	return playClock{rate: info.Rate, marks: info.Marks, delay: assumedDelay}
}

// tripTook notes a measured round trip.
func (c *playClock) tripTook(d time.Duration) {
	c.trips[c.nTrips%len(c.trips)] = d
	c.nTrips++
}

// rtt is the line's round trip: the shortest of the last few, since what is
// longer has waited in a queue. 0 if none was measured.
func (c *playClock) rtt() time.Duration {
	if c.nTrips == 0 {
		return 0
	}
	return slices.Min(c.trips[:min(c.nTrips, len(c.trips))])
}

// halfTrip is the one-way time of the line.
func (c *playClock) halfTrip() time.Duration {
	if c.nTrips == 0 {
		return assumedRTT / 2
	}
	return c.rtt() / 2
}

// lag is the time from a write on an empty far buffer to the ear.
func (c *playClock) lag() time.Duration {
	if c.marks {
		return c.halfTrip()
	}
	return c.delay
}

// delayed takes a measured time from write to ear.
func (c *playClock) delayed(d time.Duration) {
	if c.running && !c.reported && !c.marks {
		c.anchorAt = c.anchorAt.Add(d - c.delay)
	}
	c.delay = d
}

// startSpurt says that audio written at now plays at once: nothing is before it.
func (c *playClock) startSpurt(now time.Time) {
	c.anchor, c.anchorAt = c.written, now.Add(c.lag())
	c.running, c.reported = true, false
	c.from, c.heldUntil = c.written, c.written
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
			c.voidedBack(m, at)
			return
		}
		if m.empty {
			c.tripTook(at.Sub(m.sent))
		}
		c.heardAt(m.pos, at.Add(-c.halfTrip()))
		return
	}
}

// voidedBack takes a mark that a flush had overtaken. After a flush all come
// back at once. Only what returns sooner than any round trip can have been on
// its way before the flush arrived; what was due long before it returns was not
// heard when it was thought to be.
func (c *playClock) voidedBack(m pendingMark, at time.Time) {
	switch {
	case c.running || m.pos <= c.from:
	case at.Before(c.proofAt):
		c.heldUntil = max(c.heldUntil, m.pos)
	case at.After(m.due.Add(lateBy)):
		c.heldUntil = min(c.heldUntil, m.pos)
	}
}

// played takes the party's own report of a position, which was under way for
// trip.
func (c *playClock) played(pos int64, at time.Time, trip time.Duration) {
	if c.running && c.from < pos && pos <= c.written {
		c.heardAt(pos, at.Add(-trip))
	}
}

// heardAt takes a report that pos was heard at a time. What is early is true;
// what is a little late was delayed, and the rest of it was not; what is very
// late tells of a stall.
func (c *playClock) heardAt(pos int64, at time.Time) {
	thought := c.anchorAt.Add(Duration(pos-c.anchor, c.rate))
	if late := at.Sub(thought); c.reported && late > 0 && late <= lateBy {
		at = thought.Add(late / creep)
	}
	c.anchor, c.anchorAt, c.reported = pos, at, true
}

// estimate is the position at now while a spurt plays, and whether it is held
// up by a mark that should have come back.
func (c *playClock) estimate(now time.Time) (pos int64, stalled bool) {
	pos = c.anchor
	if d := now.Sub(c.anchorAt); d > 0 {
		pos += Samples(d, c.rate)
	}
	for _, m := range c.pending {
		if m.voided {
			continue
		}
		switch {
		case c.nTrips == 0: // how long a mark takes is not known yet
			pos = min(pos, m.pos+Samples(unknownReach, c.rate))
		case pos > m.pos && now.After(c.due(m).Add(lateBy)):
			return m.pos, true
		}
		break
	}
	return min(pos, c.written), false
}

// due is when a mark returns if all goes as estimated.
func (c *playClock) due(m pendingMark) time.Time {
	return c.anchorAt.Add(Duration(m.pos-c.anchor, c.rate) + c.halfTrip())
}

// heard is the estimated position at now.
func (c *playClock) heard(now time.Time) int64 {
	if c.running {
		pos, _ := c.estimate(now)
		return max(pos, c.from)
	}
	for _, m := range c.pending {
		if m.pos > c.from && m.pos < c.heldUntil && now.After(m.due.Add(lateBy)) {
			return m.pos
		}
	}
	return c.heldUntil
}

// flush says that at now all that the far side had not played was dropped, if
// it can be. It returns the position where hearing stops: the party hears on
// until the flush arrives; what a leg without a buffer was given is heard.
func (c *playClock) flush(now time.Time, drops bool) int64 {
	if !c.running {
		return c.heard(now)
	}
	held := c.written
	if drops {
		pos, stalled := c.estimate(now)
		if !stalled {
			pos += Samples(c.halfTrip(), c.rate)
		}
		held = max(min(pos, c.written), c.from)
	}
	for i := range c.pending {
		if m := &c.pending[i]; !m.voided {
			m.voided, m.due = true, c.due(*m)
		}
	}
	c.proofAt = now // without a round trip, nothing is proof
	if c.nTrips > 0 {
		c.proofAt = now.Add(c.rtt() - proofMargin)
	}
	c.heldUntil, c.running = held, false
	return held
}
