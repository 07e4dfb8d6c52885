package media

import (
	"context"
	"sync"
	"time"
)

// A Player plays an agent's speech to a leg: it holds the audio that waits,
// paces it on the sample clock, and knows what of it was heard.
//
// Audio is addressed by its offset: samples appended since the player was
// made, whether they were heard or dropped. Append is called by the one
// goroutine that speaks; Run by its own; the other methods by any.
type Player struct {
	leg  Leg
	info LegInfo
	bps  int64 // bytes a sample
	now  func() time.Time

	wake chan struct{} // something to write, or an end of pause
	room chan struct{} // the queue got shorter

	mu        sync.Mutex
	clock     playClock
	buf       []byte    // encoded audio of offsets [base, tail)
	base      int64     // offset of buf[0]
	next      int64     // offset to be written next
	tail      int64     // offset after the last appended
	floor     int64     // what lies before was dropped, or played before a drop
	sent      int64     // offset after the last that was ever written
	segs      []segment // which offsets stand where in the stream, oldest first
	paceFrom  int64     // stream position …
	paceAt    time.Time // … that was written at this time: the sample clock
	markAt    int64     // stream position of the last mark
	markID    uint64
	paused    bool
	sealed    bool  // nothing follows for now: the tail may be padded
	flush     bool  // the leg is to be flushed before the next write
	fade      bool  // the next write begins in the middle of speech
	dry       bool  // the queue ran dry before it was sealed
	record    int64 // stream position of the recording's cursor
	recording bool  // the cursor moves
	gaps      uint64
	closed    bool
}

// A segment says that n samples from offset were written at stream position pos.
type segment struct {
	pos, offset, n int64
	at             time.Time
}

const (
	// QueueLimit is how much unplayed audio a Player takes before Append waits.
	QueueLimit = 15 * time.Second

	firstMessage = 20 * time.Millisecond  // the first of a spurt is heard soonest
	nextMessage  = 100 * time.Millisecond // later ones are fewer
	markEvery    = 200 * time.Millisecond
	keepHeard    = 600 * time.Millisecond // of heard audio, to resume from a quiet point
	keepRecord   = 2 * time.Second        // of heard audio, for a recorder that lags
	lostMark     = 2 * time.Second        // a mark so overdue does not come
	edgeFade     = 5 * time.Millisecond
)

// NewPlayer returns a Player for leg. It does nothing until Run is called.
func NewPlayer(leg Leg) *Player {
	info := leg.Info()
	return &Player{
		leg: leg, info: info, bps: int64(info.Encoding.BytesPerSample()), now: time.Now,
		wake: make(chan struct{}, 1), room: make(chan struct{}, 1),
		clock: newPlayClock(info),
	}
}

// Append adds speech at the leg's rate and returns its offsets. It waits while
// more than QueueLimit is unplayed, until ctx ends.
func (p *Player) Append(ctx context.Context, pcm []int16) (from, to int64, err error) {
	for {
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			return 0, 0, ErrClosed
		}
		if p.tail-p.next < Samples(QueueLimit, p.info.Rate) {
			break
		}
		p.mu.Unlock()
		select {
		case <-p.room:
		case <-ctx.Done():
			return 0, 0, ctx.Err()
		}
	}
	defer p.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return 0, 0, err // dropped while it waited for the lock
	}
	p.trim()
	p.reserve(len(pcm) * int(p.bps))
	p.buf = appendEncoded(p.buf, pcm, p.info.Encoding)
	from = p.tail
	p.tail += int64(len(pcm))
	p.sealed = false
	signal(p.wake)
	return from, p.tail, nil
}

// Seal says that nothing follows for now, so that what is shorter than a frame
// is played too. The next Append opens the queue again.
func (p *Player) Seal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sealed, p.dry = true, false
	signal(p.wake)
}

// Tail returns the offset after the last appended sample.
func (p *Player) Tail() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tail
}

// Heard estimates the offset that the party has heard up to.
func (p *Player) Heard() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.offsetAt(p.clock.heard(p.now()))
}

// Sent returns the offset after the last sample that was written to the leg,
// whether it was heard or flushed.
func (p *Player) Sent() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sent
}

// SentAt returns when the sample at offset was first written to the leg, zero
// if it was not, or longer ago than audio is kept.
func (p *Player) SentAt(offset int64) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.segs {
		if s.offset <= offset && offset < s.offset+s.n {
			return s.at
		}
	}
	return time.Time{}
}

// Remaining estimates how long it takes until all that was appended is heard,
// if nothing is paused. It is 0 once that is so, or should be for so long that
// the far side will not say it any more.
func (p *Player) Remaining() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	unsent := p.tail - p.next
	unheard := p.clock.written - p.clock.heard(now)
	if !p.clock.running {
		unheard = 0
	}
	over := p.paceAt.Add(Duration(p.clock.written-p.paceFrom, p.info.Rate) + p.clock.lag() + lostMark)
	if unsent+unheard <= 0 || unsent == 0 && now.After(over) {
		return 0
	}
	return Duration(unsent+unheard, p.info.Rate) + p.clock.lag()
}

// Playing reports that something appended is still to be heard.
func (p *Player) Playing() bool { return p.Remaining() > 0 }

// RoundTrip returns the line's measured round trip, 0 if none was measured.
func (p *Player) RoundTrip() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clock.rtt()
}

// Gaps counts the times that speech ran dry before it was sealed.
func (p *Player) Gaps() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gaps
}

// Observe takes a leg's Marked, Played and Delayed events.
func (p *Player) Observe(ev LegEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch ev.Kind {
	case Marked:
		p.clock.markBack(ev.Mark, ev.At)
	case Played:
		p.clock.played(ev.Position, ev.At, ev.Delay)
	case Delayed:
		p.clock.delayed(ev.Delay)
	}
}

// Pause stops the speech at once and keeps what was not heard. It returns the
// offset to go on from: up to there the party hears.
func (p *Player) Pause() (next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.clock.running { // else nothing was written since the last halt
		p.next = max(p.halt(), p.floor)
	}
	p.paused = true
	return p.next
}

// Resume goes on at offset, moved back by at most back to a quiet point, with
// a fade. Audio heard longer than keepHeard ago is gone; what was dropped stays
// so.
func (p *Player) Resume(offset int64, back time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = p.quietBefore(min(max(offset, p.base, p.floor), p.tail), back)
	p.paused, p.fade = false, true
	signal(p.wake)
}

// Drop stops the speech at once and forgets what was not heard. It returns the
// offset that the party hears up to.
func (p *Player) Drop() (heard int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	heard = p.halt()
	p.next, p.floor = p.tail, p.tail
	p.paused, p.sealed, p.dry = false, true, false
	signal(p.room)
	return heard
}

// halt ends the spurt that plays, if one does, and has the leg flushed by Run
// behind the message that is under way.
func (p *Player) halt() (heard int64) {
	now := p.now()
	if !p.clock.running {
		return p.offsetAt(p.clock.heard(now))
	}
	heard = p.offsetAt(p.clock.flush(now, p.info.Lead > 0))
	p.flush = true
	signal(p.wake)
	return heard
}

// Run writes to the leg until ctx ends or the leg fails.
func (p *Player) Run(ctx context.Context) error {
	defer p.close()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var m message
	for {
		wait, err := p.step(&m)
		if err != nil {
			return err
		}
		var due <-chan time.Time // nil: until something changes
		if wait >= 0 {
			timer.Reset(wait)
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-due:
		case <-p.wake:
		}
	}
}

// A message is one write, with the marks around it.
type message struct {
	audio         []byte
	flush         bool
	before, after uint64 // marks; 0 for none
}

// step sends what is due. It returns how long to wait for the next, or -1 for
// until the queue changes. Only Run calls it, so that what goes to the leg
// keeps its order without a lock over I/O.
func (p *Player) step(m *message) (time.Duration, error) {
	wait := p.take(m)
	if m.flush {
		if err := p.leg.Flush(); err != nil {
			return 0, err
		}
	}
	if m.before != 0 {
		if err := p.leg.Mark(m.before); err != nil {
			return 0, err
		}
	}
	if len(m.audio) > 0 {
		if err := p.leg.Write(m.audio); err != nil {
			return 0, err
		}
	}
	if m.after != 0 {
		if err := p.leg.Mark(m.after); err != nil {
			return 0, err
		}
	}
	return wait, nil
}

// take fills m with the next message that is due, or with none.
func (p *Player) take(m *message) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	*m = message{audio: m.audio[:0], flush: p.flush}
	p.flush = false

	frame := Samples(Ptime, p.info.Rate)
	ready := p.tail - p.next
	if p.paused || ready == 0 || ready < frame && !p.sealed {
		p.dry = p.dry || !p.paused && !p.sealed && p.tail > 0
		return -1
	}
	now := p.now()
	fresh := p.startSpurtIfIdle(now)
	size := frame // of the first message, and of every one to a leg without a buffer
	if !fresh {
		p.dry = false // it came in time
		if wait := p.ahead(now); wait > 0 {
			return wait
		}
		if p.info.Lead > 0 {
			size = Samples(nextMessage, p.info.Rate)
		}
	}
	n := min(size, ready)
	if n > frame {
		n -= n % frame
	}
	if fresh && p.info.Marks {
		p.markID++
		m.before = p.markID
		p.clock.markSent(m.before, now, true)
		p.markAt = p.clock.written
	}
	p.fill(m, n, frame, now)
	if p.info.Marks && (p.clock.written-p.markAt >= Samples(markEvery, p.info.Rate) || p.next == p.tail) {
		p.markID++
		m.after = p.markID
		p.clock.markSent(m.after, now, false)
		p.markAt = p.clock.written
	}
	signal(p.room)
	return max(0, p.ahead(now))
}

// fill copies n samples into m, padded to whole frames, and counts them.
func (p *Player) fill(m *message, n, frame int64, now time.Time) {
	at := (p.next - p.base) * p.bps
	m.audio = append(m.audio, p.buf[at:at+n*p.bps]...)
	for int64(len(m.audio)) < frame*p.bps {
		m.audio = append(m.audio, p.info.Encoding.Silence())
	}
	if p.fade {
		fadeIn(m.audio, p.info)
		p.fade = false
	}
	p.segs = append(p.segs, segment{pos: p.clock.written, offset: p.next, n: n, at: now})
	p.next += n
	p.sent = max(p.sent, p.next)
	p.clock.wrote(int64(len(m.audio)) / p.bps)
}

// startSpurtIfIdle begins a new spurt when the far side has played out what it
// was given, by our clock. The pace is ours: reports do not move it.
func (p *Player) startSpurtIfIdle(now time.Time) bool {
	// A leg without a buffer is fed frame by frame: being a little late for the
	// next one is the scheduler's jitter, not an end of speech.
	const late = 60 * time.Millisecond
	behind := now.Sub(p.paceAt) - Duration(p.clock.written-p.paceFrom, p.info.Rate)
	if p.clock.running && (behind < 0 || p.info.Lead == 0 && behind < late) {
		return false
	}
	if p.dry {
		p.gaps++
	}
	p.dry = false
	p.paceFrom, p.paceAt = p.clock.written, now
	if !p.clock.running {
		p.forgetUnheard(p.clock.heldUntil)
	}
	p.clock.startSpurt(now)
	return true
}

// ahead is how long until the next message is due. To a leg with a buffer we
// stay Lead ahead of real time, less the message that we then send.
func (p *Player) ahead(now time.Time) time.Duration {
	lead := p.info.Lead
	if lead > 0 {
		lead = max(lead-nextMessage, 0)
	}
	return p.paceAt.Add(Duration(p.clock.written-p.paceFrom, p.info.Rate) - lead).Sub(now)
}

func (p *Player) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	signal(p.room)
}

// signal wakes whoever waits on c, or will.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
