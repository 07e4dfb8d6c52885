package signaling

import (
	"encoding/binary"
	"io"
	"sync"
	"time"

	"parley/media"
)

// CarrierTest is the carrier of calls that no line carries: see [ScriptedLeg].
const CarrierTest = "test"

// ScriptedRate is the sample rate of a [ScriptedLeg], in hertz.
const ScriptedRate = 16000

// An Act is one thing that a scripted caller does, in its turn: once the agent
// has spoken and is silent again.
type Act struct {
	Speech    []int16       // said, at ScriptedRate
	Keys      string        // pressed: 0-9 * # A-D
	Rest      time.Duration // silence that is kept first
	Interrupt bool          // while the agent speaks, rather than after it
}

const (
	scriptedTurn     = 700 * time.Millisecond  // of silence are the end of what the agent says
	scriptedOverlap  = time.Second             // of the agent's speech come before an interruption
	scriptedBreath   = 300 * time.Millisecond  // of silence are in the middle of what it says
	scriptedPatience = 15 * time.Second        // with an agent that says nothing
	scriptedLast     = 1500 * time.Millisecond // of silence are the end of its last answer
	scriptedKey      = 200 * time.Millisecond  // from key to key
	scriptedAudible  = 300                     // of 32767: what is louder is speech
)

// A ScriptedLeg is a caller who is not there: it does as a script says, in real
// time, and hangs up when that is over and answered. A [media.Leg] without a
// line: what is written counts as heard at once.
type ScriptedLeg struct {
	events chan media.LegEvent
	done   chan struct{}

	// Of the goroutine that reads.
	acts  []Act
	ticks ticks
	frame []int16
	from  time.Time // since when it waits for its turn
	keyed time.Time

	mu     sync.Mutex
	ended  bool
	spoke  time.Time // when the agent began what it last said
	silent time.Time // until when what it has said lasts
}

var _ media.Leg = (*ScriptedLeg)(nil)

// NewScriptedLeg returns a leg that owns acts.
func NewScriptedLeg(acts []Act) *ScriptedLeg {
	return &ScriptedLeg{acts: acts, done: make(chan struct{}), frame: make([]int16, ScriptedRate/50),
		events: make(chan media.LegEvent, 1024)}
}

// Info implements [media.Leg].
func (l *ScriptedLeg) Info() media.LegInfo {
	return media.LegInfo{Carrier: CarrierTest, Rate: ScriptedRate, Encoding: media.L16}
}

// Events implements [media.Leg].
func (l *ScriptedLeg) Events() <-chan media.LegEvent { return l.events }

// ReadFrame implements [media.Leg].
func (l *ScriptedLeg) ReadFrame() (media.Frame, error) {
	if l.ticks.due.IsZero() {
		l.from = time.Now()
	}
	due, skipped, ok := l.ticks.wait(l.done)
	if !ok {
		return media.Frame{}, io.EOF
	}
	clear(l.frame)
	l.act(due)
	return media.Frame{Rate: ScriptedRate, PCM: l.frame, Skipped: skipped}, nil
}

// act goes on with the script by one tick.
func (l *ScriptedLeg) act(now time.Time) {
	if len(l.acts) == 0 {
		if l.quiet(now, scriptedLast) {
			l.end("caller")
		}
		return
	}
	a := &l.acts[0]
	switch {
	case !l.from.IsZero() && a.Interrupt && !l.into(now), !l.from.IsZero() && !a.Interrupt && !l.quiet(now, scriptedTurn):
		return // not yet its turn
	case a.Rest > 0:
		l.from = time.Time{}
		a.Rest -= media.Ptime
		return
	case len(a.Speech) > 0:
		l.from = time.Time{}
		a.Speech = a.Speech[copy(l.frame, a.Speech):]
	case a.Keys != "" && now.Sub(l.keyed) >= scriptedKey:
		l.from, l.keyed = time.Time{}, now
		l.tell(media.LegEvent{Kind: media.Digit, At: now, Digit: a.Keys[0]})
		a.Keys = a.Keys[1:]
	}
	if len(a.Speech) == 0 && a.Keys == "" {
		l.acts, l.from = l.acts[1:], now
	}
}

// quiet tells that the agent has spoken since the caller last did and has been
// silent for d, or that it says nothing at all.
func (l *ScriptedLeg) quiet(now time.Time, d time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent.After(l.from) {
		return now.Sub(l.silent) >= d
	}
	return now.Sub(l.from) >= scriptedPatience
}

// into tells that the agent is in the middle of something, or says nothing at all.
func (l *ScriptedLeg) into(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.silent) < scriptedBreath {
		return now.Sub(l.spoke) >= scriptedOverlap
	}
	return now.Sub(l.from) >= scriptedPatience
}

// Write implements [media.Leg].
func (l *ScriptedLeg) Write(audio []byte) error {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return media.ErrClosed
	}
	if !audible(audio) {
		return nil
	}
	if now.Sub(l.silent) > scriptedTurn {
		l.spoke = now
	}
	l.silent = now.Add(media.Duration(int64(len(audio)/2), ScriptedRate))
	return nil
}

func audible(audio []byte) bool {
	for i := 0; i+1 < len(audio); i += 2 {
		if s := int16(binary.LittleEndian.Uint16(audio[i:])); s > scriptedAudible || s < -scriptedAudible {
			return true
		}
	}
	return false
}

// Mark implements [media.Leg]: there are none.
func (l *ScriptedLeg) Mark(uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return media.ErrClosed
	}
	return nil
}

// Flush implements [media.Leg]: nothing waits.
func (l *ScriptedLeg) Flush() error { return l.Mark(0) }

// Notify implements [media.Leg]: there is no screen.
func (l *ScriptedLeg) Notify([]byte) {}

// Close implements [media.Leg].
func (l *ScriptedLeg) Close(reason string) error {
	l.end(reason)
	return nil
}

func (l *ScriptedLeg) tell(e media.LegEvent) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	select {
	case l.events <- e:
	default: // more than a script can do
	}
}

func (l *ScriptedLeg) end(reason string) {
	l.tell(media.LegEvent{Kind: media.HungUp, At: time.Now(), Reason: reason})
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.ended = true
		close(l.events)
		close(l.done)
	}
}
