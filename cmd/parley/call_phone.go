package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"parley/media"
)

// A phone is the caller's end of a line: what the caller says next, and what
// both sides heard, frame after frame on the line's clock. Its methods may be
// called from any goroutine; say and hear never block.
type phone struct {
	rate int

	mu     sync.Mutex
	toSay  []int16
	now    int64   // samples heard
	asked  int64   // where the caller's last words ended; 0: nothing waits for an answer
	sound  int64   // where the agent was last loud
	begun  int64   // where the agent's present stretch of speech began
	lags   []int64 // samples from the caller's last word to the agent's first
	record bool
	said   []int16 // waits for the frame heard with it
	left   []int16 // recorded: the caller
	right  []int16 // recorded: the agent
}

func newPhone(rate int) *phone { return &phone{rate: rate, sound: -1} }

const (
	// loudness that is speech: the local voice's pauses stay below 20, speech
	// is above 500.
	speechLevel = 150

	// pause between two stretches of the agent's speech.
	stretchGap = 300 * time.Millisecond
)

// lineRate is the sample rate of a line's audio.
func lineRate(via string) int {
	if via == "twilio" {
		return 8000
	}
	return media.OpusRate
}

// keep records from now on.
func (p *phone) keep() { p.record = true }

// speak queues what the caller says next.
func (p *phone) speak(pcm []int16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toSay = append(p.toSay, pcm...)
	p.asked = 0
}

// say fills the caller's next frame: the voice, or silence.
func (p *phone) say(frame []int16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	talking := len(p.toSay) > 0
	n := copy(frame, p.toSay)
	p.toSay = p.toSay[n:]
	clear(frame[n:])
	if talking && len(p.toSay) == 0 {
		p.asked = p.now
	}
	if p.record {
		p.said = append(p.said, frame...)
	}
}

// hear takes the agent's next frame.
func (p *phone) hear(frame []int16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gap := media.Samples(stretchGap, p.rate)
	if loud(frame) {
		if p.sound < 0 || p.now-p.sound > gap {
			p.begun = p.now
			if p.asked > 0 {
				p.lags = append(p.lags, p.now-p.asked)
			}
			p.asked = 0
		}
		p.sound = p.now
	}
	p.now += int64(len(frame))
	if p.record {
		p.keepFrame(frame)
	}
}

// keepFrame puts what was said meanwhile beside what was heard. The two run on
// one clock; a hiccup of either is evened out within a tenth of a second.
func (p *phone) keepFrame(frame []int16) {
	if most := p.rate / 10; len(p.said) > most {
		p.said = p.said[len(p.said)-len(frame):]
	}
	p.right = append(p.right, frame...)
	at := len(p.left)
	p.left = append(p.left, frame...)
	n := copy(p.left[at:], p.said)
	clear(p.left[at+n:])
	p.said = p.said[n:]
}

func loud(frame []int16) bool {
	var sum int64
	for _, s := range frame {
		if s < 0 {
			sum -= int64(s)
		} else {
			sum += int64(s)
		}
	}
	return sum > speechLevel*int64(len(frame))
}

// saying reports that the caller is speaking.
func (p *phone) saying() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.toSay) > 0
}

// mark returns where the line's clock stands, for the two that follow.
func (p *phone) mark() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// quiet reports that the agent has been silent for d, counted from no earlier
// than since.
func (p *phone) quiet(since int64, d time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now-max(since, p.sound) >= media.Samples(d, p.rate)
}

// spoke reports that the agent has spoken after since.
func (p *phone) spoke(since int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sound >= since
}

// answers returns the times from the caller's last word to the agent's first,
// as measured on the line.
func (p *phone) answers() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []time.Duration
	for _, n := range p.lags {
		all = append(all, media.Duration(n, p.rate))
	}
	return all
}

// writeRecording writes what was kept.
func (p *phone) writeRecording(w io.Writer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	both := make([]int16, 0, 2*len(p.left))
	for i, s := range p.left {
		both = append(both, s, p.right[i])
	}
	return media.WriteWAV(w, p.rate, 2, both)
}

// readVoice reads a WAV file as one channel at rate.
func readVoice(path string, rate int) ([]int16, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("the caller's voice: %w", err)
	}
	defer f.Close()
	from, channels, pcm, err := media.ReadWAV(f)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be played (%w): save it as WAV of 16-bit PCM, µ-law or A-law", path, err)
	}
	one := make([]int16, len(pcm)/channels)
	for i := range one {
		sum := 0
		for _, s := range pcm[i*channels : (i+1)*channels] {
			sum += int(s)
		}
		one[i] = int16(sum / channels)
	}
	out, err := resample(one, from, rate)
	if errors.Is(err, media.ErrRate) {
		return nil, fmt.Errorf("%s is at %d Hz, which cannot be played: save it at 8000, 16000, 22050, 24000, 32000, 44100 or 48000 Hz", path, from)
	}
	return out, err
}

func resample(pcm []int16, from, to int) ([]int16, error) {
	r, err := media.NewResampler(from, to)
	if err != nil {
		return nil, err
	}
	return r.Process(nil, pcm), nil
}
