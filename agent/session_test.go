package agent

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"parley/media"
)

// line is a phone line in virtual time: it feeds a caller's audio, plays what
// it is given like a carrier, and knows what the caller heard.
type phoneLine struct {
	info   media.LegInfo
	delay  time.Duration // each way
	jitter time.Duration // more than that at most, in order
	rnd    *rand.Rand
	down   time.Time // when the last message arrives at the far end
	up     time.Time // … and at ours
	marks  []*phoneMark
	events chan media.LegEvent
	next   time.Time
	frame  []int16
	sounds int // frames of speech so far

	mu      sync.Mutex
	talk    time.Time // the caller speaks until then
	free    time.Time // when all that was written will have been played
	heard   []heardAudio
	closed  bool
	reason  string
	stopped chan struct{}
}

type heardAudio struct {
	at time.Time
	n  int
}

func newPhoneLine(delay time.Duration) *phoneLine {
	return &phoneLine{
		info:  media.LegInfo{Carrier: "test", Rate: 8000, Encoding: media.PCMU, Lead: 300 * time.Millisecond, Marks: true},
		delay: delay, events: make(chan media.LegEvent, 100), stopped: make(chan struct{}),
		next: time.Now(), frame: make([]int16, 160),
	}
}

func (l *phoneLine) Info() media.LegInfo           { return l.info }
func (l *phoneLine) Events() <-chan media.LegEvent { return l.events }
func (l *phoneLine) Notify([]byte)                 {}

func (l *phoneLine) ReadFrame() (media.Frame, error) {
	l.next = l.next.Add(media.Ptime)
	select {
	case <-time.After(time.Until(l.next)):
	case <-l.stopped:
		return media.Frame{}, io.EOF
	}
	l.mu.Lock()
	talking := time.Now().Before(l.talk)
	l.mu.Unlock()
	clear(l.frame)
	if talking {
		voiced(l.frame, l.sounds)
		l.sounds++
	}
	return media.Frame{Rate: 8000, PCM: l.frame}, nil
}

// voiced fills the n-th frame with something that a voice activity detector takes
// for speech: a pulse train with formants, of syllables of 160 ms, as what is steady
// is noise.
func voiced(pcm []int16, n int) {
	formant, peak := 600.0, 3000.0
	if n/8%2 == 1 {
		formant, peak = 1200, 2000
	}
	for i := range pcm {
		t := float64(i) / 8000
		v := 0.0
		for h := 1; h < 20; h++ {
			f := 130 * float64(h)
			v += math.Sin(2*math.Pi*f*t) / (1 + math.Abs(f-formant)/400)
		}
		pcm[i] = int16(peak * v)
	}
}

// say has the caller make speech sounds for d.
func (l *phoneLine) say(d time.Duration) {
	l.mu.Lock()
	l.talk = time.Now().Add(d)
	l.mu.Unlock()
	time.Sleep(d)
}

// arrival is when a message sent at a time arrives behind the last one.
func (l *phoneLine) arrival(sent time.Time, last *time.Time) time.Time {
	at := sent.Add(l.delay)
	if l.jitter > 0 {
		at = at.Add(time.Duration(l.rnd.Int64N(int64(l.jitter))))
	}
	if !at.After(*last) {
		at = last.Add(1) // timers of one instant have no order
	}
	*last = at
	return at
}

func (l *phoneLine) Write(audio []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if arrive := l.arrival(time.Now(), &l.down); l.free.Before(arrive) {
		l.free = arrive
	}
	l.heard = append(l.heard, heardAudio{l.free, len(audio)})
	l.free = l.free.Add(media.Duration(int64(len(audio)), 8000))
	return nil
}

// A phoneMark comes back when it is reached, or flushed.
type phoneMark struct {
	id    uint64
	timer *time.Timer
}

func (l *phoneLine) Mark(id uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	reached := l.arrival(time.Now(), &l.down)
	if l.free.After(reached) {
		reached = l.free
	}
	m := &phoneMark{id: id}
	m.timer = time.AfterFunc(time.Until(reached), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.returned(m)
	})
	l.marks = append(l.marks, m)
	return nil
}

// returned sends a mark back.
func (l *phoneLine) returned(m *phoneMark) {
	i := slices.Index(l.marks, m)
	if i < 0 {
		return
	}
	l.marks = slices.Delete(l.marks, i, i+1)
	time.AfterFunc(time.Until(l.arrival(time.Now(), &l.up)), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.closed {
			l.events <- media.LegEvent{Kind: media.Marked, Mark: m.id, At: time.Now()}
		}
	})
}

func (l *phoneLine) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	cut := l.arrival(time.Now(), &l.down)
	l.free = cut
	for i, h := range l.heard {
		if h.at.After(cut) {
			l.heard = l.heard[:i]
			break
		}
		if end := h.at.Add(media.Duration(int64(h.n), 8000)); end.After(cut) {
			l.heard[i].n = int(media.Samples(cut.Sub(h.at), 8000))
		}
	}
	pending := slices.Clone(l.marks)
	time.AfterFunc(time.Until(cut), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, m := range pending {
			l.returned(m)
		}
	})
	return nil
}

func (l *phoneLine) Close(reason string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.closed, l.reason = true, reason
		close(l.stopped)
		close(l.events)
	}
	return nil
}

func (l *phoneLine) hangUp() {
	l.events <- media.LegEvent{Kind: media.HungUp, Reason: "caller", At: time.Now()}
}

func (l *phoneLine) press(keys string) {
	for _, k := range keys {
		l.events <- media.LegEvent{Kind: media.Digit, Digit: byte(k), At: time.Now()}
	}
}

// heardFor is how much of the agent the caller has heard by now.
func (l *phoneLine) heardFor() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var n int64
	for _, h := range l.heard {
		if played := media.Samples(time.Since(h.at), 8000); played > 0 {
			n += min(played, int64(h.n))
		}
	}
	return media.Duration(n, 8000)
}

// scriptedSTT recognizes, in turn, what the test says.
type scriptedSTT struct {
	ctx context.Context
	out chan Transcript
	// results are given in order, one an utterance, after delay.
	results *[]string
	rest    atomic.Pointer[string] // of every utterance after them, "" if nil
	delay   time.Duration
	interim bool
	fail    chan error
}

func (s *scriptedSTT) WriteFrame(media.Frame) error { return nil }
func (s *scriptedSTT) Expect(Expectation)           {}
func (s *scriptedSTT) Close() error                 { return nil }

func (s *scriptedSTT) Speech(on bool) error {
	if on && s.interim && len(*s.results) > 0 {
		text := (*s.results)[0]
		time.AfterFunc(200*time.Millisecond, func() { s.out <- Transcript{Text: text} })
	}
	if !on {
		text := ""
		if len(*s.results) > 0 {
			text, *s.results = (*s.results)[0], (*s.results)[1:]
		} else if rest := s.rest.Load(); rest != nil {
			text = *rest
		}
		time.AfterFunc(s.delay, func() { s.out <- Transcript{Text: text, Final: true, Flushed: true} })
	}
	return nil
}

func (s *scriptedSTT) Recv() (Transcript, error) {
	select {
	case t := <-s.out:
		return t, nil
	case err := <-s.fail:
		return Transcript{}, err
	case <-s.ctx.Done():
		return Transcript{}, s.ctx.Err()
	}
}

// toneTTS speaks 60 ms a character after a delay.
type toneTTS struct {
	delay time.Duration
	err   error
}

const toneChar = 60 * time.Millisecond

func (t *toneTTS) Rate() int    { return 16000 }
func (t *toneTTS) Close() error { return nil }
func (t *toneTTS) Say(ctx context.Context, c Clause) iter.Seq2[Speech, error] {
	return func(yield func(Speech, error) bool) {
		select {
		case <-time.After(t.delay):
		case <-ctx.Done():
			yield(Speech{}, ctx.Err())
			return
		}
		if t.err != nil {
			yield(Speech{}, t.err)
			return
		}
		n := media.Samples(time.Duration(len(c.Text))*toneChar, 16000)
		pcm := make([]int16, n)
		for i := range pcm {
			pcm[i] = int16(8000 * math.Sin(float64(i)*0.2))
		}
		for len(pcm) > 0 {
			k := min(len(pcm), 1600)
			if !yield(Speech{PCM: pcm[:k]}, nil) {
				return
			}
			pcm = pcm[k:]
		}
	}
}

// scriptedLLM answers from a list.
type scriptedLLM struct {
	mu      sync.Mutex
	answers []func(yield func(Delta, error) bool)
	prompts []Prompt
	delay   time.Duration
}

func (l *scriptedLLM) Reply(ctx context.Context, p Prompt) iter.Seq2[Delta, error] {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prompts = append(l.prompts, p)
	var answer func(func(Delta, error) bool)
	if len(l.answers) > 0 {
		answer, l.answers = l.answers[0], l.answers[1:]
	}
	return func(yield func(Delta, error) bool) {
		select {
		case <-time.After(l.delay):
		case <-ctx.Done():
			yield(Delta{}, ctx.Err())
			return
		}
		if answer != nil {
			answer(yield)
		}
	}
}

func text(s string) func(func(Delta, error) bool) {
	return func(yield func(Delta, error) bool) {
		for _, w := range strings.SplitAfter(s, " ") {
			if !yield(Delta{Text: w}, nil) {
				return
			}
		}
	}
}

func call(say, name, args string) func(func(Delta, error) bool) {
	return func(yield func(Delta, error) bool) {
		if say != "" && !yield(Delta{Text: say}, nil) {
			return
		}
		yield(Delta{Call: &ToolCall{ID: "c1", Name: name, Arguments: args}, Finish: "tool_calls"}, nil)
	}
}

type memoryJournal struct {
	mu      sync.Mutex
	turns   []Turn
	commits []Commit
}

func (j *memoryJournal) Turn(_ context.Context, t Turn) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.turns = append(j.turns, t)
}

func (j *memoryJournal) Commit(_ context.Context, c Commit) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.commits = append(j.commits, c)
}

// said lists the turns as "speaker: heard", a cut one with a dash.
func (j *memoryJournal) said() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var b strings.Builder
	for _, t := range j.turns {
		cut := ""
		if t.Interrupted {
			cut = " -"
		}
		fmt.Fprintf(&b, "%s: %s%s\n", t.Speaker, t.Heard, cut)
	}
	return b.String()
}

// scene is a session in virtual time with scripted vendors.
type scene struct {
	t       *testing.T
	line    *phoneLine
	llm     *scriptedLLM
	tts     *toneTTS
	journal *memoryJournal
	results []string
	sttFail chan error
	stt     *scriptedSTT // dialed last
	spec    Spec
	end     chan Ending
	cancel  context.CancelFunc
}

// play runs a scene: setup changes the spec, act plays the caller.
func play(t *testing.T, setup func(*scene), act func(*scene)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &scene{t: t, line: newPhoneLine(30 * time.Millisecond), llm: &scriptedLLM{delay: 150 * time.Millisecond},
			tts: &toneTTS{delay: 100 * time.Millisecond}, journal: &memoryJournal{}, end: make(chan Ending, 1), sttFail: make(chan error, 8)}
		s.spec = Spec{
			Prompt: &PromptSpec{System: "be brief", Greeting: "Hello there.", Models: []Model{{Vendor: "test", LLM: s.llm}}},
			Recognizers: []Recognizer{{Vendor: "test", Rates: []int{8000}, Interims: true, Dial: func(ctx context.Context, _ Hearing) (STT, error) {
				s.stt = &scriptedSTT{ctx: ctx, out: make(chan Transcript, 10), results: &s.results, delay: 100 * time.Millisecond, interim: s.spec.Recognizers[0].Interims, fail: s.sttFail}
				return s.stt, nil
			}}},
			Synthesizers: []Synthesizer{{Vendor: "test", Voice: "test", Dial: func(context.Context, Delivery) (TTS, error) { return s.tts, nil }}},
			Journal:      s.journal,
		}
		if setup != nil {
			setup(s)
		}
		ctx, cancel := context.WithCancel(t.Context())
		s.cancel = cancel
		go func() { s.end <- Run(ctx, s.line, s.spec) }()
		synctest.Wait() // the recognizer is dialed
		act(s)
		cancel()
		time.Sleep(5 * time.Second) // virtual: stale timers of the line
	})
}

// wait sleeps in virtual time.
func (s *scene) wait(d time.Duration) { time.Sleep(d) }

// ended waits for the session's end.
func (s *scene) ended(within time.Duration) Ending {
	s.t.Helper()
	select {
	case e := <-s.end:
		return e
	case <-time.After(within):
		s.t.Fatalf("the session has not ended after %v; said:\n%s", within, s.journal.said())
		return Ending{}
	}
}

func (s *scene) hangUp() {
	s.t.Helper()
	s.line.hangUp()
	if e := s.ended(2 * time.Second); e.Reason != "caller" {
		s.t.Errorf("ended by %q, want caller", e.Reason)
	}
}

func (s *scene) want(said string) {
	s.t.Helper()
	if got := s.journal.said(); strings.TrimSpace(got) != strings.TrimSpace(said) {
		s.t.Errorf("said:\n%s\nwant:\n%s", got, said)
	}
}

func lineLost() media.LegEvent {
	return media.LegEvent{Kind: media.HungUp, Reason: "network", At: time.Now()}
}
