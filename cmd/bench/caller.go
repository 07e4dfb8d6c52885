package main

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// A script is what a caller does, turn by turn.
type script int

const (
	talk      script = iota // speaks, waits for the answer, hears it out
	whispers                // interrupts so softly that only the recognizer hears it
	speaksUp                // interrupts aloud
	clicks                  // makes a short noise over each answer
	streaming               // only sends audio: to a floor
)

func (s script) interrupts() bool { return s == whispers || s == speaksUp }

// Times of a turn.
const (
	speakFor     = 1600 * time.Millisecond
	whisperFor   = 300 * time.Millisecond // no longer than words without a voice are waited for
	pauseFor     = 400 * time.Millisecond
	interruptsIn = 700 * time.Millisecond // after the reply began
	replyWithin  = 6 * time.Second        // or the turn is missed
	nameFor      = 4                      // frames, at the beginning and every second
)

// state of a caller.
type state int

const (
	pausing  state = iota // until next
	speaking              // until spoken
	awaiting              // the reply
	hearing               // the reply
)

// A line takes a caller's frames, each in one write.
type line interface {
	Write(frame []byte) (int, error)
	Close() error
}

// A caller is one party on a line. Its fleet's clock ticks it; its own
// goroutine reads. Everything it measures goes to the fleet's tally.
type caller struct {
	id     int
	name   string
	script script
	conn   line
	voices *voices
	label  wireFrame
	tally  *tally
	over   atomic.Bool

	mu       sync.Mutex
	state    state
	frames   int       // sent
	next     time.Time // state pausing: speaks then
	left     int       // frames of speech to go
	ended    time.Time // when the last frame of speech was sent
	vendor   time.Duration
	cutting  bool // speaks over the agent
	began    time.Time
	interim  time.Time
	cleared  time.Time
	requests map[*request]bool
	echoes   []time.Time // script streaming: frames under way

	// Twilio's player.
	until   time.Time // what was sent plays until then
	played  time.Duration
	lead    time.Duration
	starved bool
	marks   []mark
	first   time.Time // of the reply
}

type mark struct {
	frame wireFrame
	due   time.Time
}

// tick sends the frame of this moment, and marks that are due.
func (c *caller) tick(now time.Time) {
	if c.over.Load() {
		return
	}
	c.mu.Lock()
	frame := c.say(now)
	var back []wireFrame
	for len(c.marks) > 0 && !now.Before(c.marks[0].due) {
		back = append(back, c.marks[0].frame)
		c.marks = c.marks[1:]
	}
	if c.script == streaming {
		c.echoes = append(c.echoes, now)
	}
	c.mu.Unlock()
	for _, m := range append(back, frame) {
		if _, err := c.conn.Write(m); err != nil {
			c.over.Store(true)
			return
		}
	}
}

// say chooses the frame; c.mu is held.
func (c *caller) say(now time.Time) wireFrame {
	c.frames++
	if c.left > 0 {
		c.left--
		if c.left == 0 {
			if c.cutting && c.cleared.IsZero() {
				c.tally.unheeded.Add(1)
			}
			c.ended, c.vendor, c.state, c.cutting = now, 0, awaiting, false
		}
		return c.utter()
	}
	c.starve(now)
	switch c.state {
	case pausing:
		if now.After(c.next) && c.script != streaming {
			c.state, c.left = speaking, int(speakFor/ptime)
		}
	case awaiting:
		if now.Sub(c.ended) > replyWithin {
			c.tally.missed.Add(1)
			c.rest(now)
		}
	case hearing:
		c.listen(now)
		if c.left > 0 && c.script == clicks {
			c.left = 0
			return c.voices.click
		}
	}
	// Also after speech: a recognizer that came in the midst of it must know.
	if c.frames%50 < nameFor || now.Sub(c.ended) < nameFor*ptime {
		return c.label
	}
	return c.voices.silence
}

func (c *caller) utter() wireFrame {
	if c.script == whispers && c.cutting {
		return c.voices.whisper[0]
	}
	return c.voices.speech[c.left%len(c.voices.speech)]
}

// listen hears the reply, or interrupts it; c.mu is held.
func (c *caller) listen(now time.Time) {
	switch {
	case c.script.interrupts() && c.cleared.IsZero():
		if now.Sub(c.first) >= interruptsIn && !c.cutting {
			c.cutting, c.began, c.interim = true, now, time.Time{}
			c.left = int(speakFor / ptime)
			if c.script == whispers {
				c.left = int(whisperFor / ptime)
			}
		}
	case c.script == clicks && !c.cutting && now.Sub(c.first) >= interruptsIn:
		c.cutting, c.left = true, 1
	case c.played >= replyFor-2*speechSlack && now.After(c.until), now.Sub(c.until) > 2*time.Second:
		if c.played < replyFor-2*speechSlack {
			c.tally.short.Add(1)
		}
		c.tally.turns.Add(1)
		c.rest(now)
	}
}

const speechSlack = 100 * time.Millisecond // that a reply may be shorter for trimming

// starve notices that the reply's audio did not come in time; c.mu is held.
func (c *caller) starve(now time.Time) {
	if c.state == hearing && !c.starved && c.cleared.IsZero() && c.played < replyFor-2*speechSlack && now.Sub(c.until) > 0 {
		c.starved = true
		c.tally.underruns.Add(1)
	}
}

func (c *caller) rest(now time.Time) {
	c.state, c.next, c.cutting = pausing, now.Add(pauseFor), false
}

// media takes audio of the agent.
func (c *caller) media(length time.Duration, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.script == streaming {
		if len(c.echoes) > 0 {
			c.tally.echo.add(now.Sub(c.echoes[0]))
			c.echoes = c.echoes[1:]
		}
		return
	}
	if c.state == speaking || c.state == hearing && !c.cleared.IsZero() || c.state == awaiting && now.Sub(c.ended) < endpointing && !c.cleared.IsZero() {
		c.tally.stale.Add(1)
		return
	}
	if c.state == awaiting {
		c.tally.overhead.add(now.Sub(c.ended) - c.vendor)
		c.state, c.first, c.until, c.played, c.lead, c.starved = hearing, now, now, 0, 0, false
		c.cleared, c.cutting = time.Time{}, false
	}
	if now.After(c.until) {
		c.until = now
	}
	c.until = c.until.Add(length)
	c.played += length
	lead := c.until.Sub(now)
	if c.played > time.Second && c.played < replyFor-time.Second {
		c.tally.lead.add(lead)
		if c.lead > 0 {
			c.tally.jitter.add((lead - c.lead).Abs())
		}
		c.lead = lead
	}
}

// mark comes back when what was sent before it has been played.
func (c *caller) mark(frame wireFrame, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := now
	if c.until.After(now) {
		due = c.until
	}
	c.marks = append(c.marks, mark{frame, due})
}

// clear drops what is not played.
func (c *caller) clear(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.marks {
		c.marks[i].due = now
	}
	c.until = now
	if !c.cutting || !c.cleared.IsZero() {
		return
	}
	if c.script == clicks {
		c.tally.falsePauses.Add(1)
		return
	}
	c.cleared = now
	c.tally.fromOnset.add(now.Sub(c.began))
	if !c.interim.IsZero() {
		c.tally.fromInterim.add(now.Sub(c.interim))
	}
	for r := range c.requests {
		r.doomed = now
	}
}

func (c *caller) interrupting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cutting
}

// interimAt notes when the recognizer told of the interruption.
func (c *caller) interimAt(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.interim = at
}

// waited notes what a vendor kept the call waiting for.
func (c *caller) waited(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.vendor += d
}

// A request is one to the model or the voice that is under way.
type request struct {
	doomed time.Time // the reply was cut then
}

// request notes one; the function that it returns is called at its end.
func (c *caller) request(ctx context.Context) (done func()) {
	q := &request{}
	aborted := make(chan time.Time, 1)
	stop := context.AfterFunc(ctx, func() { aborted <- time.Now() })
	c.mu.Lock()
	if c.requests == nil {
		c.requests = map[*request]bool{}
	}
	c.requests[q] = true
	c.mu.Unlock()
	return func() {
		ended := !stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.requests, q)
		switch {
		case q.doomed.IsZero():
		case !ended:
			c.tally.unaborted.Add(1)
		default:
			c.tally.aborts.add((<-aborted).Sub(q.doomed))
		}
	}
}
