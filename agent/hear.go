package agent

import (
	"errors"
	"io"
	"sync/atomic"
	"time"

	"parley/media"
)

// onset finds where the caller's speech begins and ends in a row of frames. It
// is pure: one call a frame.
type onset struct {
	window   uint8 // the last frames, newest in bit 0
	speaking bool
	began    time.Time // of the stretch that goes on
	last     time.Time // end of the last speech frame
	quiet    int       // frames without speech since
	echo     float64   // dBFS of what comes back while the agent speaks, smoothed
}

const (
	onsetFrames = 6 // of the last seven must be speech
	echoMargin  = 6 // dB that the caller must be above the agent's own echo
)

// change is what a frame did.
type change int

const (
	same change = iota
	speechBegan
	speechEnded
)

// frame takes one frame's activity. at is the frame's end.
func (o *onset) frame(a media.Activity, at time.Time, agentSpeaks bool, silence int) change {
	speech := a.Speech
	if agentSpeaks && !o.speaking {
		// What comes back of the agent's voice is steady over a call: what does
		// not stand out of it is not the caller.
		if o.echo == 0 {
			o.echo = a.NoiseDB
		}
		if speech && a.LevelDB < o.echo+echoMargin {
			speech = false
		}
		if !speech {
			o.echo += (a.LevelDB - o.echo) / 32
		}
	}
	o.window = o.window<<1 | bit(speech)
	if speech {
		o.last, o.quiet = at, 0
	} else {
		o.quiet++
	}
	switch {
	case !o.speaking && ones(o.window&0x7f) >= onsetFrames:
		o.speaking = true
		o.began = at.Add(-7 * media.Ptime)
		if o.window&0x40 == 0 {
			o.began = at.Add(-6 * media.Ptime)
		}
		return speechBegan
	case o.speaking && o.quiet >= silence:
		o.speaking, o.window = false, 0
		return speechEnded
	}
	return same
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

func ones(b uint8) (n int) {
	for ; b != 0; b &= b - 1 {
		n++
	}
	return n
}

// A detector tells which frames are speech: [media.VAD] or [media.NeuralVAD].
type detector interface {
	Detect(f media.Frame) media.Activity
}

// newDetector returns the one that asks the network w, if there is one.
func newDetector(w *media.VADWeights, rate int) (detector, error) {
	if w == nil {
		return media.NewVAD(rate)
	}
	return media.NewNeuralVAD(w, rate)
}

// ears carry the caller's audio from the leg to the recorder, the voice
// activity detector and the recognizer: goroutine one of a session.
type ears struct {
	leg    media.Leg
	vad    detector
	rec    *recognizer
	record *tap
	tones  *media.ToneDetector // nil unless asked for
	post   func(event)

	agentSpeaks atomic.Bool
	silence     atomic.Int64 // frames of quiet that end a stretch of speech
	onset       onset
}

// setSilence tells how much quiet ends a stretch of speech.
func (e *ears) setSilence(d time.Duration) { e.silence.Store(int64(max(1, d/media.Ptime))) }

// run hears until the leg ends.
func (e *ears) run() error {
	for {
		f, err := e.leg.ReadFrame()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		now := time.Now()
		e.record.frame(f.PCM)
		if e.tones != nil {
			if d, ok := e.tones.Detect(f); ok {
				e.post(keyPressed{digit: d, at: now})
			}
		}
		ch := e.onset.frame(e.vad.Detect(f), now, e.agentSpeaks.Load(), int(e.silence.Load()))
		if ch == speechBegan {
			e.rec.speech(true)
		}
		e.rec.write(f)
		switch ch {
		case speechBegan:
			e.post(speechStarted{at: e.onset.began, faint: true})
		case speechEnded:
			e.rec.speech(false)
			e.post(speechStopped{at: e.onset.last})
		}
	}
}

// A tap writes both sides of the call to the recording, on the caller's clock.
type tap struct {
	player *media.Player
	to     Recording // nil: not recorded
	agent  []int16
	fail   func(error) // once; the call goes on without a recording
	paused atomic.Bool // sensitive input: silence is recorded
	blank  []int16
}

// A Recording takes a call's two channels in step.
type Recording interface {
	// Write takes equal numbers of samples of both sides, at the leg's rate.
	// It keeps neither.
	Write(caller, agent []int16) error
}

func (t *tap) frame(caller []int16) {
	if t.to == nil {
		return
	}
	if len(t.agent) != len(caller) {
		t.agent, t.blank = make([]int16, len(caller)), make([]int16, len(caller))
	}
	t.player.Recorded(t.agent)
	if t.paused.Load() {
		caller = t.blank
	}
	if err := t.to.Write(caller, t.agent); err != nil {
		t.to = nil
		t.fail(err)
	}
}
