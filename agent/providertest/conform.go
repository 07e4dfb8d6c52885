package providertest

import (
	"context"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"parley/agent"
	"parley/media"
)

const (
	// inTime is far above what an adapter needs, on a machine that stands still
	// for seconds too, and far below forever.
	inTime = time.Minute

	// briefly is how long an adapter waits for a vendor that says nothing.
	briefly = 300 * time.Millisecond
)

// limitOf is how long an adapter is to wait for a vendor of the manner: where it
// answers at all, a busy machine is not taken for silence.
func limitOf(m Manner) time.Duration {
	if m == Silent {
		return briefly
	}
	return inTime
}

// An STTCase is one vendor's stream as [TestSTT] dials it.
type STTCase struct {
	// Dial opens a stream to a stand-in of the manner, with [Canary] as key,
	// that waits so long for an answer; it closes the stand-in at the test's end.
	Dial func(t *testing.T, ctx context.Context, m Manner, limit time.Duration) (agent.STT, error)

	Rate   int
	Speech []int16 // an utterance; default a tone of a second
	Expect agent.Expectation
	Text   string // what the vendor hears of it
	// Interims says that the vendor listens as the caller speaks, and so can be
	// deaf.
	Interims bool
	Local    bool // no network: manners do not apply
}

// TestSTT holds a recognizer to the contract of [agent.STT].
func TestSTT(t *testing.T, c STTCase) {
	if c.Speech == nil {
		c.Speech = Tone(strings.Repeat("x", 16), c.Rate)
	}
	t.Run("hears", func(t *testing.T) { c.hears(t, Normal) })
	t.Run("close-drains", func(t *testing.T) { c.drains(t) })
	t.Run("flush-without-speech", func(t *testing.T) { c.silence(t) })
	t.Run("wrong-rate", func(t *testing.T) {
		s := c.dial(t, t.Context(), Normal)
		defer s.Close()
		if err := s.WriteFrame(media.Frame{Rate: 44100, PCM: make([]int16, 882)}); !errors.Is(err, media.ErrRate) {
			t.Errorf("WriteFrame at 44100 Hz = %v, want ErrRate", err)
		}
	})
	t.Run("cancel", func(t *testing.T) { c.cancel(t) })
	if c.Local {
		return
	}
	t.Run("slow", func(t *testing.T) { c.hears(t, Slow) })
	if c.Interims {
		t.Run("deaf", func(t *testing.T) { c.deaf(t) })
	}
	for _, m := range Manners() {
		t.Run(string(m), func(t *testing.T) { c.misbehave(t, m) })
	}
}

func (c STTCase) dial(t *testing.T, ctx context.Context, m Manner) agent.STT {
	t.Helper()
	s, err := c.Dial(t, ctx, m, limitOf(m))
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	s.Expect(c.Expect)
	return s
}

// utter writes one utterance as a session would, only faster.
func (c STTCase) utter(s agent.STT, end bool) error {
	frame := c.Rate / 50
	for i := 0; (i+1)*frame <= len(c.Speech); i++ {
		if i == 5 {
			if err := s.Speech(true); err != nil {
				return err
			}
		}
		start := time.Now()
		if err := s.WriteFrame(media.Frame{Rate: c.Rate, PCM: c.Speech[i*frame : (i+1)*frame]}); err != nil {
			return err
		}
		if d := time.Since(start); d > inTime {
			return errors.New("WriteFrame blocked for " + d.String())
		}
		// The ring holds 2 s, and drops what a vendor on a busy machine leaves:
		// long speech goes in twice as fast as life, no faster.
		if len(c.Speech) > 3*c.Rate/2 {
			<-time.After(10 * time.Millisecond)
		}
	}
	if !end {
		return nil
	}
	return s.Speech(false)
}

func (c STTCase) hears(t *testing.T, m Manner) {
	s := c.dial(t, t.Context(), m)
	defer s.Close()
	for range 2 {
		if err := c.utter(s, true); err != nil {
			t.Fatal(err)
		}
		var text []string
		for {
			tr, err := s.Recv()
			if err != nil {
				t.Fatalf("Recv: %v", err)
			}
			if tr.Start > tr.End || tr.Confidence < 0 || tr.Confidence > 1 {
				t.Errorf("transcript %+v is out of its ranges", tr)
			}
			if tr.Final && tr.Text != "" {
				text = append(text, tr.Text)
			}
			if tr.Flushed {
				break
			}
		}
		if got := strings.Join(text, " "); got != c.Text {
			t.Errorf("heard %q, want %q", got, c.Text)
		}
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Errorf("Close: %v", err)
	}
	c.end(t, s, io.EOF)
}

// deaf wants a pause to be answered in the stead of a vendor that says nothing,
// and the answer to say so.
func (c STTCase) deaf(t *testing.T) {
	s := c.dial(t, t.Context(), Deaf)
	defer s.Close()
	if err := c.utter(s, true); err != nil {
		t.Fatal(err)
	}
	for {
		tr, err := s.Recv()
		if err != nil {
			t.Fatalf("Recv: %v", err)
		}
		if !tr.Flushed {
			continue
		}
		if !tr.Late || tr.Text != "" {
			t.Errorf("a deaf vendor's answer is %+v, want an empty one in its stead", tr)
		}
		return
	}
}

func (c STTCase) drains(t *testing.T) {
	s := c.dial(t, t.Context(), Normal)
	if err := c.utter(s, false); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	c.end(t, s, io.EOF)
	if err := s.WriteFrame(media.Frame{Rate: c.Rate, PCM: make([]int16, c.Rate/50)}); err == nil {
		t.Error("WriteFrame after Close took the frame")
	}
}

func (c STTCase) silence(t *testing.T) {
	s := c.dial(t, t.Context(), Normal)
	defer s.Close()
	if err := s.Speech(false); err != nil {
		t.Fatal(err)
	}
	tr, err := s.Recv()
	for err == nil && tr == (agent.Transcript{}) {
		tr, err = s.Recv() // a sign of life, and no more
	}
	if err != nil || !tr.Flushed || tr.Text != "" {
		t.Errorf("Recv after a pause without speech = %+v, %v; want an empty flush", tr, err)
	}
}

func (c STTCase) cancel(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("stream", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := c.dial(t, ctx, Normal)
		if err := c.utter(s, false); err != nil {
			t.Fatal(err)
		}
		cancel()
		start := time.Now()
		c.end(t, s, context.Canceled)
		_ = s.Close()
		if d := time.Since(start); d > inTime {
			t.Errorf("the stream took %v to end", d)
		}
	})
	noLeak(t, before)
}

// misbehave wants an error of the right kind, from Dial or from Recv.
func (c STTCase) misbehave(t *testing.T, m Manner) {
	before := runtime.NumGoroutine()
	t.Run("stream", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*inTime)
		defer cancel()
		s, err := c.Dial(t, ctx, m, limitOf(m))
		if err == nil {
			defer s.Close()
			_ = c.utter(s, true)
			for err == nil {
				_, err = s.Recv()
			}
		}
		wantFault(t, m, err)
	})
	noLeak(t, before)
}

// end reads s to its end and wants that.
func (c STTCase) end(t *testing.T, s agent.STT, want error) {
	t.Helper()
	for {
		if _, err := s.Recv(); err != nil {
			if !errors.Is(err, want) {
				t.Errorf("Recv ended with %v, want %v", err, want)
			}
			return
		}
	}
}

// wantFault checks that err is what the manner must come out as, without the
// key.
func wantFault(t *testing.T, m Manner, err error) {
	t.Helper()
	ok := false
	for _, want := range m.Want() {
		ok = ok || errors.Is(err, want)
	}
	if !ok {
		t.Errorf("%s came out as %v, want %v", m, err, m.Want())
	}
	if err != nil && strings.Contains(err.Error(), Canary) {
		t.Errorf("error holds the key: %v", err)
	}
	var refused *agent.RefusedError
	if m == Busy && (!errors.As(err, &refused) || refused.RetryAfter != 7*time.Second) {
		t.Errorf("%v does not tell to retry after 7s", err)
	}
}

// noLeak waits until no more goroutines run than before.
func noLeak(t *testing.T, before int) {
	t.Helper()
	late := time.After(inTime)
	for runtime.NumGoroutine() > before {
		select {
		case <-late:
			buf := make([]byte, 1<<16)
			t.Errorf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// An LLMCase is one vendor's model as [TestLLM] dials it. The stand-in replies
// with [LLMText] and then [LLMCalls].
type LLMCase struct {
	Dial func(t *testing.T, m Manner, limit time.Duration) (agent.LLM, error)
}

// LLMText and LLMCalls are what the stand-in of an [LLMCase] must reply.
const LLMText = "Of course, one moment please."

// LLMCalls returns the tool calls of that reply.
func LLMCalls() []agent.ToolCall {
	return []agent.ToolCall{
		{ID: "call_1", Name: "book", Arguments: `{"day":"tuesday"}`},
		{ID: "call_2", Name: "note", Arguments: `{"text":"window"}`},
	}
}

// TestLLM holds a model to the contract of [agent.LLM].
func TestLLM(t *testing.T, c LLMCase) {
	prompt := agent.Prompt{
		System:   "Be brief.",
		Messages: []agent.Message{{Role: "user", Text: "Book me a table."}},
		Tools:    []agent.Tool{{Name: "book", Description: "books", Parameters: []byte(`{"type":"object"}`)}},
	}
	for _, manner := range []Manner{Normal, Slow} {
		t.Run("replies"+string(manner), func(t *testing.T) {
			m, err := c.Dial(t, manner, limitOf(manner))
			if err != nil {
				t.Fatal(err)
			}
			var text string
			var calls []agent.ToolCall
			var last agent.Delta
			for d, err := range m.Reply(t.Context(), prompt) {
				if err != nil {
					t.Fatal(err)
				}
				text += d.Text
				if d.Call != nil {
					calls = append(calls, *d.Call)
				}
				last = d
			}
			if text != LLMText {
				t.Errorf("text %q, want %q", text, LLMText)
			}
			want := LLMCalls()
			if len(calls) != len(want) || calls[0] != want[0] || calls[1] != want[1] {
				t.Errorf("calls %+v, want %+v", calls, want)
			}
			if last.Finish != "tool_calls" || last.Usage == nil || last.Usage.PromptTokens == 0 {
				t.Errorf("last delta %+v lacks finish or usage", last)
			}
		})
	}
	t.Run("break", func(t *testing.T) {
		before := runtime.NumGoroutine()
		t.Run("stream", func(t *testing.T) {
			m, err := c.Dial(t, Normal, inTime)
			if err != nil {
				t.Fatal(err)
			}
			for range m.Reply(t.Context(), prompt) {
				break
			}
		})
		noLeak(t, before)
	})
	t.Run("cancel", func(t *testing.T) {
		m, err := c.Dial(t, Silent, inTime)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		start := time.Now()
		for _, err := range m.Reply(ctx, prompt) {
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Reply ended with %v, want context.Canceled", err)
			}
		}
		if d := time.Since(start); d > inTime {
			t.Errorf("Reply took %v to end", d)
		}
	})
	for _, manner := range Manners() {
		t.Run(string(manner), func(t *testing.T) {
			before := runtime.NumGoroutine()
			t.Run("stream", func(t *testing.T) {
				m, err := c.Dial(t, manner, limitOf(manner))
				for _, e := range m.Reply(t.Context(), prompt) {
					err = e
				}
				wantFault(t, manner, err)
			})
			noLeak(t, before)
		})
	}
}

// A TTSCase is one vendor's voice as [TestTTS] dials it.
type TTSCase struct {
	Dial   func(t *testing.T, ctx context.Context, m Manner, limit time.Duration) (agent.TTS, error)
	Aligns bool
	Local  bool
}

// TestTTS holds a voice to the contract of [agent.TTS].
func TestTTS(t *testing.T, c TTSCase) {
	clause := agent.Clause{Text: "Thank you for calling, how can I help you today?", Turn: 1, Last: true}
	dial := func(t *testing.T, m Manner, limit time.Duration) agent.TTS {
		t.Helper()
		v, err := c.Dial(t, t.Context(), m, limit)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, m := range []Manner{Normal, Slow} {
		t.Run("speaks"+string(m), func(t *testing.T) {
			v := dial(t, m, limitOf(m))
			for range 2 {
				samples, loud := 0, false
				var words []agent.Word
				for s, err := range v.Say(t.Context(), clause) {
					if err != nil {
						t.Fatal(err)
					}
					samples += len(s.PCM)
					words = append(words, s.Words...)
					for _, p := range s.PCM {
						loud = loud || p > 1000
					}
				}
				length := media.Duration(int64(samples), v.Rate())
				if length < time.Second || length > 10*time.Second || !loud {
					t.Errorf("spoke for %v, loud %v; want 1 to 10 s of sound", length, loud)
				}
				if c.Aligns && len(words) != len(strings.Fields(clause.Text)) {
					t.Errorf("%d words, want %d", len(words), len(strings.Fields(clause.Text)))
				}
				var at time.Duration
				for _, w := range words {
					if w.Start < at || w.End < w.Start || w.End > length {
						t.Errorf("word %+v after %v of %v", w, at, length)
					}
					at = w.Start
				}
			}
			if err := errors.Join(v.Close(), v.Close()); err != nil {
				t.Errorf("Close: %v", err)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		for s, err := range dial(t, Normal, inTime).Say(t.Context(), agent.Clause{Text: "  "}) {
			t.Errorf("nothing to say gave %d samples, %v", len(s.PCM), err)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		before := runtime.NumGoroutine()
		t.Run("stream", func(t *testing.T) {
			m := Silent
			if c.Local {
				m = Normal
			}
			v := dial(t, m, inTime)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(10*time.Millisecond, cancel)
			start := time.Now()
			for _, err := range v.Say(ctx, agent.Clause{Text: strings.Repeat(clause.Text+" ", 20)}) {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("Say ended with %v, want context.Canceled", err)
				}
			}
			if d := time.Since(start); d > inTime {
				t.Errorf("Say took %v to end", d)
			}
		})
		noLeak(t, before)
	})
	if c.Local {
		return
	}
	for _, m := range Manners() {
		t.Run(string(m), func(t *testing.T) {
			before := runtime.NumGoroutine()
			t.Run("stream", func(t *testing.T) {
				var err error
				for _, e := range dial(t, m, limitOf(m)).Say(t.Context(), clause) {
					err = e
				}
				wantFault(t, m, err)
			})
			noLeak(t, before)
		})
	}
}
