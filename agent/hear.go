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
	echo     echoTracker
	loudness loudness // of the stretch that goes on, at its beginning
}

const (
	onsetFrames = 6 // of the last onsetWindow must be speech
	onsetWindow = 7
	// echoMargin is by how much the caller must be above what comes back of the
	// agent's own voice, and the noise, to begin: 6 dB.
	echoMargin = 2.0
	// echoStay is the same while they speak: 3 dB.
	echoStay = 1.4
)

// change is what a frame did.
type change int

const (
	same change = iota
	speechBegan
	speechEnded
)

// frame takes one frame's activity and the power of what the party heard in it.
// at is the frame's end, silence how many frames without speech end a stretch.
func (o *onset) frame(a media.Activity, played float64, at time.Time, silence int) change {
	level, noise := amplitude(a.LevelDB), amplitude(a.NoiseDB)
	echo := o.echo.frame(played, level*level, noise*noise)
	speech := a.Speech
	margin := echoMargin
	if o.speaking {
		margin = echoStay
	}
	speech = speech && (echo == 0 || level*level >= margin*margin*(echo*echo+noise*noise))
	o.window = o.window<<1 | bit(speech)
	if speech {
		o.last, o.quiet = at, 0
	} else {
		o.quiet++
	}
	switch {
	case !o.speaking && ones(o.window&(1<<onsetWindow-1)) >= onsetFrames:
		o.speaking, o.loudness = true, o.echo.loudness()
		o.began = at.Add(-onsetWindow * media.Ptime)
		if o.window&(1<<(onsetWindow-1)) == 0 {
			o.began = at.Add(-onsetFrames * media.Ptime)
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
	leg     media.Leg
	player  *media.Player
	vad     detector
	rec     *recognizer
	record  *tap
	tones   *media.ToneDetector       // nil unless asked for
	message atomic.Pointer[voicemail] // that the caller is leaving
	post    func(event)

	silence atomic.Int64 // frames of quiet that end a stretch of speech
	nobody  atomic.Bool  // the agent paused in vain: what seemed speech was its echo
	onset   onset
	far     []int16 // what the party hears in the frame
}

// hearFar fills far with the n samples that the party hears meanwhile.
func (e *ears) hearFar(n int) {
	if len(e.far) != n {
		e.far = make([]int16, n)
	}
	e.player.Recorded(e.far)
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
		e.hearFar(len(f.PCM))
		e.record.skip(f)
		e.record.frame(f.PCM, e.far)
		if m := e.message.Load(); m != nil {
			m.write(f.PCM)
		}
		if e.tones != nil {
			if d, ok := e.tones.Detect(f); ok {
				e.post(keyPressed{digit: d, at: now})
			}
		}
		if e.nobody.Swap(false) {
			e.onset.echo.nobody()
		}
		ch := e.onset.frame(e.vad.Detect(f), power(e.far), now, int(e.silence.Load()))
		if ch == speechBegan {
			e.rec.speech(true)
		}
		e.rec.write(f)
		switch ch {
		case speechBegan:
			e.post(speechStarted{at: e.onset.began, loudness: e.onset.loudness})
		case speechEnded:
			e.rec.speech(false)
			e.post(speechStopped{at: e.onset.last})
		}
	}
}

// A tap writes both sides of the call to the recording, on our clock: what the
// leg had no frames for is silence, so that the recording is as long as the call.
type tap struct {
	to     Recording   // nil: not recorded
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

// tapSkip bounds the silence that one stall leaves in a recording: a machine that
// slept for hours is no reason to fill the disk.
const tapSkip = time.Minute

// skip writes the silence that stands for what was left out before f.
func (t *tap) skip(f media.Frame) {
	for left := min(f.Skipped, tapSkip); left >= media.Ptime; left -= media.Ptime {
		blank := t.silence(len(f.PCM))
		t.frame(blank, blank)
	}
}

func (t *tap) silence(n int) []int16 {
	if len(t.blank) != n {
		t.blank = make([]int16, n)
	}
	return t.blank
}

func (t *tap) frame(caller, agent []int16) {
	if t.to == nil {
		return
	}
	if t.paused.Load() {
		caller = t.silence(len(caller))
	}
	if err := t.to.Write(caller, agent); err != nil {
		t.to = nil
		t.fail(err)
	}
}
