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
	now    int64 // samples heard
	asked  int64 // where the caller's last words ended; 0: nothing waits for an answer
	sound  int64 // where the agent was last loud
	words  []callerWords
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

// callerWords are something that the caller said, and what the line did.
type callerWords struct {
	text     string
	from     int64 // where it began on the line; -1: it has not
	to       int64 // where it ended; 0: it has not
	over     bool  // the agent was speaking
	stopped  int64 // samples from its beginning to the agent's silence; 0: the agent went on
	answered int64 // samples from its end to the agent's next word; 0: none came
}

// speak queues what the caller says next.
func (p *phone) speak(text string, pcm []int16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.toSay = append(p.toSay, pcm...)
	p.words = append(p.words, callerWords{text: text, from: -1})
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
	if talking {
		p.saidOn(&p.words[len(p.words)-1])
	}
	if p.record {
		p.said = append(p.said, frame...)
	}
}

// saidOn notes where something said begins and ends.
func (p *phone) saidOn(u *callerWords) {
	if u.from < 0 {
		u.from = p.now
		u.over = p.sound >= 0 && p.now-p.sound <= media.Samples(stretchGap, p.rate)
	}
	if len(p.toSay) == 0 {
		u.to, p.asked = p.now, max(p.now, 1)
	}
}

// hear takes the agent's next frame.
func (p *phone) hear(frame []int16) {
	p.mu.Lock()
	defer p.mu.Unlock()
	gap := media.Samples(stretchGap, p.rate)
	fresh := p.sound < 0 || p.now-p.sound > gap
	if n := len(p.words); n > 0 {
		u := &p.words[n-1]
		if fresh && u.over && u.stopped == 0 && u.from >= 0 {
			u.stopped = max(p.sound-u.from, 0) + int64(len(frame))
		}
		if fresh && loud(frame) && p.asked > 0 {
			u.answered = max(p.now-p.asked, 1)
		}
	}
	if loud(frame) {
		if fresh {
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

// spoke reports that the agent has callerWords after since.
func (p *phone) spoke(since int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sound >= since
}

// A saying is something that the caller said, by the line's clock.
type saying struct {
	text              string
	at                time.Duration // from the line's beginning
	over              bool          // the agent was speaking
	stopped, answered time.Duration // 0: not
}

// sayings returns what the caller has said so far.
func (p *phone) sayings() (all []saying) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.words {
		if u.from >= 0 {
			all = append(all, saying{u.text, media.Duration(u.from, p.rate), u.over,
				media.Duration(u.stopped, p.rate), media.Duration(u.answered, p.rate)})
		}
	}
	return all
}

// last returns what the caller said last.
func (p *phone) last() saying {
	if all := p.sayings(); len(all) > 0 {
		return all[len(all)-1]
	}
	return saying{}
}

// answers returns the times from the caller's last word to the agent's first,
// as measured on the line.
func (p *phone) answers() (all []time.Duration) {
	for _, u := range p.sayings() {
		if u.answered > 0 {
			all = append(all, u.answered)
		}
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
