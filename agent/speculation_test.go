package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/agent/flow"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// counted returns a counter's value.
func counted(t *testing.T, c *prometheus.CounterVec, label string) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.WithLabelValues(label).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func TestSpeculationBegins(t *testing.T) {
	now := time.Now()
	quiet := func(d time.Duration, text string) utterance {
		return utterance{started: now.Add(-2 * time.Second), ended: now.Add(-d), spoken: time.Second, interim: text}
	}
	with := func(u utterance, f func(*utterance)) utterance { f(&u); return u }
	tests := map[string]struct {
		u    utterance
		s    Speculation
		exp  Expectation
		want bool
	}{
		"candidate":        {u: quiet(200*time.Millisecond, "a table for four"), want: true},
		"no-candidate-yet": {u: quiet(150*time.Millisecond, "a table for four")},
		"still-speaking":   {u: with(quiet(0, "a table"), func(u *utterance) { u.speaking = true })},
		"eager":            {u: with(quiet(0, "a table"), func(u *utterance) { u.speaking, u.eager = true, true }), want: true},
		"will-go-on":       {u: quiet(200*time.Millisecond, "a table for")},
		"no-words":         {u: quiet(200*time.Millisecond, "")},
		"switched-off":     {u: quiet(200*time.Millisecond, "a table for four"), s: Speculation{Off: true}},
		"spoke-long":       {u: with(quiet(200*time.Millisecond, "a table"), func(u *utterance) { u.spoken = 11 * time.Second })},
		"tried-enough":     {u: with(quiet(200*time.Millisecond, "a table"), func(u *utterance) { u.guesses = 3 })},
		"digits-missing":   {u: quiet(200*time.Millisecond, "one two"), exp: Expectation{Kind: "digits", Digits: 4}},
		"digits-complete":  {u: quiet(200*time.Millisecond, "one two three four"), exp: Expectation{Kind: "digits", Digits: 4}, want: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e := Endpointing{FinalWait: time.Second}.withDefaults()
			if got := tt.s.withDefaults().begins(&tt.u, e, tt.exp, now); got != tt.want {
				t.Errorf("begins: %v", got)
			}
		})
	}
}

// replyAfter plays one question and returns how long after the end of the
// caller's speech the answer was on the wire, and its recorded latency.
func replyAfter(t *testing.T, setup func(*scene)) (after time.Duration, l Latency) {
	t.Helper()
	play(t, func(s *scene) {
		s.results = []string{"what time do you open"}
		s.llm.answers = append(s.llm.answers, text("We open at nine. See you then."))
		setup(s)
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(1200 * time.Millisecond)
		spoke := time.Now()
		s.wait(5 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: what time do you open\nagent: We open at nine. See you then.")
		for _, h := range s.line.heard {
			if h.at.After(spoke) {
				after = h.at.Add(-s.line.delay).Sub(spoke)
				break
			}
		}
		for _, turn := range s.turns("agent") {
			l = turn.Latency
		}
	})
	return after, l
}

// The main number: what the gateway adds to the recognizer's own end of turn
// and the vendors' times, by speculation, is less than nothing.
func TestSpeculationAnswersSoonerThanTheEndOfTurnAndGeneration(t *testing.T) {
	const generation = 250 * time.Millisecond // 150 ms to the first token, 100 ms to the first speech
	off := func(s *scene) { s.spec.Speculation.Off = true }
	plain, _ := replyAfter(t, off)
	early, l := replyAfter(t, func(*scene) {})
	t.Logf("by silence alone: %v without, %v with; latency %+v", plain, early, l)
	if early > plain-generation+50*time.Millisecond {
		t.Errorf("answers after %v, without speculation %v", early, plain)
	}
	if added := early - l.EndOfTurn - generation; added >= 0 {
		t.Errorf("adds %v to the end of turn and the generation", added)
	}

	// A recognizer that ends turns itself, and says before when one may be over.
	turns := func(s *scene) { eagerRecognizer(s, 300*time.Millisecond, 700*time.Millisecond) }
	plain, _ = replyAfter(t, func(s *scene) { turns(s); off(s) })
	early, l = replyAfter(t, turns)
	t.Logf("by the recognizer: %v without, %v with; latency %+v", plain, early, l)
	if added := early - 700*time.Millisecond - generation; added >= 0 {
		t.Errorf("adds %v to the recognizer's end of turn and the generation", added)
	}
	if plain-early < 200*time.Millisecond {
		t.Errorf("answers after %v, without speculation %v", early, plain)
	}
}

// eagerRecognizer replaces the scene's by one that ends turns itself.
func eagerRecognizer(s *scene, eager, final time.Duration) {
	s.spec.Recognizers = []Recognizer{{Vendor: "turns", Rates: []int{8000}, Interims: true, EndsTurns: true,
		Dial: func(ctx context.Context, _ Hearing) (STT, error) {
			return &turnsSTT{scriptedSTT: scriptedSTT{ctx: ctx, out: make(chan Transcript, 10), results: &s.results, fail: s.sttFail},
				eager: eager - 200*time.Millisecond, final: final - 200*time.Millisecond}, nil
		}}}
}

// turnsSTT tells eagerly and then finally of a turn's end, so long after the
// pause was told to it.
type turnsSTT struct {
	scriptedSTT
	eager, final time.Duration
}

func (s *turnsSTT) Speech(on bool) error {
	if on || len(*s.results) == 0 {
		return nil
	}
	text := (*s.results)[0]
	*s.results = (*s.results)[1:]
	time.AfterFunc(s.eager, func() { s.out <- Transcript{Text: text, Eager: true} })
	time.AfterFunc(s.final, func() { s.out <- Transcript{Text: text, Final: true, EOU: true, Flushed: true} })
	return nil
}

// Case 34 of the pitfalls known: the parts of the latency make up the silence
// that the caller hears, with speculation and without.
func TestCase34PartsOfTheLatencyMakeUpTheSilenceHeard(t *testing.T) {
	for _, off := range []bool{true, false} {
		after, l := replyAfter(t, func(s *scene) { s.spec.Speculation.Off = off })
		sum := l.EndOfTurn + max(0, l.FirstSpeech)
		if d := after - sum; d < -60*time.Millisecond || d > 60*time.Millisecond {
			t.Errorf("off %v: heard after %v, the parts are %v: %+v", off, after, sum, l)
		}
		if d := l.FirstAudio - after; d < -60*time.Millisecond || d > 60*time.Millisecond {
			t.Errorf("off %v: heard after %v, recorded %v", off, after, l.FirstAudio)
		}
		if off != (l.FirstToken > 0) {
			t.Errorf("off %v: the first token came %v after the end of turn", off, l.FirstToken)
		}
		if l.FirstToken > l.FirstSpeech || l.FirstClause > l.FirstSpeech {
			t.Errorf("off %v: out of order: %+v", off, l)
		}
	}
}

// splitSTT gives one interim at the pause and another text as final.
type splitSTT struct {
	scriptedSTT
	interim string
	final   []string
	lag     time.Duration
}

func (s *splitSTT) Speech(on bool) error {
	if on {
		text := s.interim
		time.AfterFunc(200*time.Millisecond, func() { s.out <- Transcript{Text: text} })
		return nil
	}
	time.AfterFunc(s.lag, func() {
		for i, text := range s.final {
			s.out <- Transcript{Text: text, Final: true, EOU: true, Flushed: i == len(s.final)-1}
		}
	})
	return nil
}

func recognizes(s *scene, interim string, lag time.Duration, final ...string) {
	s.spec.Recognizers = []Recognizer{{Vendor: "split", Rates: []int{8000}, Interims: true, Dial: func(ctx context.Context, _ Hearing) (STT, error) {
		return &splitSTT{scriptedSTT: scriptedSTT{ctx: ctx, out: make(chan Transcript, 10), fail: s.sttFail}, interim: interim, final: final, lag: lag}, nil
	}}}
}

// byPrompt answers by the last message.
func byPrompt(s *scene) *promptLLM {
	m := &promptLLM{delay: 150 * time.Millisecond}
	s.spec.Prompt.Models = []Model{{Vendor: "echo", LLM: m}}
	return m
}

func TestSpeculationOnOtherWordsIsDropped(t *testing.T) {
	dropped, tokens, clauses := counted(t, speculations, "dropped"), counted(t, wasted, "tokens"), counted(t, wasted, "clauses")
	var m *promptLLM
	var events []Event
	play(t, func(s *scene) {
		m = byPrompt(s)
		recognizes(s, "a table for two", 500*time.Millisecond, "A table for ten.")
		s.spec.Observe = func(e Event) { events = append(events, e) }
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(5 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: A table for ten.\nagent: You said: A table for ten.")
		for _, e := range events {
			if strings.Contains(e.Text, "You said: a table for two") || e.Type == "agent" && strings.Contains(e.Text, "two") {
				t.Errorf("shown: %+v", e)
			}
		}
		for _, p := range m.prompts[1:] {
			if got := fmt.Sprint(p.Messages); strings.Contains(got, "for two") {
				t.Errorf("the model remembers %s", got)
			}
		}
		if len(m.prompts) != 2 {
			t.Errorf("%d requests", len(m.prompts))
		}
	})
	if d := counted(t, speculations, "dropped") - dropped; d != 1 {
		t.Errorf("%v dropped", d)
	}
	if counted(t, wasted, "tokens") <= tokens || counted(t, wasted, "clauses") != clauses+1 {
		t.Errorf("wasted %v tokens and %v clauses", counted(t, wasted, "tokens")-tokens, counted(t, wasted, "clauses")-clauses)
	}
}

// A speculation that differs in case and punctuation alone is adopted, and the
// model's context has the text as it was spelled in the end.
func TestSpeculationIsAdoptedWhateverThePunctuation(t *testing.T) {
	adopted := counted(t, speculations, "adopted")
	var m *promptLLM
	play(t, func(s *scene) {
		m = byPrompt(s)
		recognizes(s, "a table for two", 200*time.Millisecond, "A table, for two.")
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(5 * time.Second)
		s.line.say(time.Second)
		s.wait(5 * time.Second)
		s.hangUp()
		if got := s.journal.said(); !strings.Contains(got, "caller: A table, for two.\nagent: You said: a table for two") {
			t.Errorf("said:\n%s", got)
		}
		if got := m.prompts[1].Messages[1].Text; got != "A table, for two." {
			t.Errorf("the model remembers %q", got)
		}
	})
	if d := counted(t, speculations, "adopted") - adopted; d != 2 {
		t.Errorf("%v adopted", d)
	}
}

func TestSpeculationEndsAtOnceWhenTheCallerGoesOn(t *testing.T) {
	var m *promptLLM
	play(t, func(s *scene) {
		m = byPrompt(s)
		m.delay = time.Minute
		s.results = []string{"I want a table", "For four."}
		s.spec.Endpointing.Undecided = 2 * time.Second
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(400 * time.Millisecond)
		if m.running() != 1 {
			t.Fatalf("%d requests run", m.running())
		}
		s.line.say(140 * time.Millisecond) // noticed after 120 ms
		s.wait(20 * time.Millisecond)
		if m.running() != 0 {
			t.Errorf("%d requests still run", m.running())
		}
		s.wait(time.Second)
		s.hangUp()
	})
}

func TestSpeculationIsTriedThreeTimesATurn(t *testing.T) {
	var m *promptLLM
	play(t, func(s *scene) {
		m = byPrompt(s)
		s.spec.Endpointing.Undecided = 2 * time.Second
		s.results = []string{"one thing", "two things", "three things", "four things", "five things"}
	}, func(s *scene) {
		s.wait(2 * time.Second)
		for range 5 {
			s.line.say(500 * time.Millisecond)
			s.wait(700 * time.Millisecond)
		}
		s.wait(6 * time.Second)
		s.hangUp()
		if len(m.prompts) != 4 {
			t.Errorf("%d requests, want three early ones and one for certain", len(m.prompts))
		}
		s.want("agent: Hello there.\ncaller: one thing two things three things four things five things\n" +
			"agent: You said: one thing two things three things four things five things")
	})
}

// Case 30: no tool runs, and no reply is heard, before the turn is certain.
func TestCase30SpeculationRunsNoTool(t *testing.T) {
	play(t, func(s *scene) {
		recognizes(s, "goodbye then", 500*time.Millisecond, "goodbye then but", "tell me the hours")
		s.llm.answers = append(s.llm.answers, call("Goodbye.", "end_call", "{}"), text("Yes?"))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(6 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: goodbye then but tell me the hours\nagent: Yes?")
	})
}

func TestCase30SpeculationCommitsNoFlowStepBeforeItIsAdopted(t *testing.T) {
	play(t, func(s *scene) {
		atDesk(s)
		recognizes(s, "hours", 700*time.Millisecond, "booking")
	}, func(s *scene) {
		s.wait(5 * time.Second)
		before := len(s.journal.commits)
		s.line.say(time.Second)
		s.wait(800 * time.Millisecond) // the candidate lies back 600 ms
		s.journal.mu.Lock()
		if n := len(s.journal.commits); n != before {
			t.Errorf("%d commits on a guess", n-before)
		}
		s.journal.mu.Unlock()
		s.wait(5 * time.Second)
		s.hangUp()
		if got := s.journal.said(); !strings.Contains(got, "caller: booking\nagent: For how many?") || strings.Contains(got, "every day") {
			t.Errorf("said:\n%s", got)
		}
	})
}

func TestSpeculationOfAFlow(t *testing.T) {
	for name, tt := range map[string]struct{ interim, final, after string }{
		"fits":              {"booking", "Booking.", "agent: For how many?"},
		"spelling-matters":  {"my name is bob", "My name is Bob.", "agent: Hello My name is Bob."},
		"spelling-misleads": {"right", "Right.", "agent: That had a full stop."},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				atDesk(s)
				if name != "fits" {
					s.spec.Flow.Flow = mustFlow(t, `{"id":"f","entry":"q","nodes":[
 {"id":"q","type":"question","content":{"question":"Hours or booking?","input_type":"text","variable":"x"},"connections":{"default":"c"}},
 {"id":"c","type":"condition","content":{"conditions":[{"if":{"var":"x","eq":"Right."},"then":"stop"}],"else":"hi"}},
 {"id":"hi","type":"message","content":{"messages":["Hello {x}"]},"connections":{"default":"z"}},
 {"id":"stop","type":"message","content":{"messages":["That had a full stop."]},"connections":{"default":"z"}},
 {"id":"z","type":"question","content":{"question":"More?","input_type":"text","variable":"y"}}]}`)
				}
				recognizes(s, tt.interim, 300*time.Millisecond, tt.final)
			}, func(s *scene) {
				s.wait(5 * time.Second)
				s.line.say(time.Second)
				s.wait(4 * time.Second)
				s.hangUp()
				if got := s.journal.said(); !strings.Contains(got, "caller: "+tt.final+"\n"+tt.after) {
					t.Errorf("said:\n%s", got)
				}
				for i, c := range s.journal.commits {
					if c.Revision != i+1 || c.Hash != flow.Hash(c.State) {
						t.Errorf("commit %d has revision %d", i, c.Revision)
					}
				}
			})
		})
	}
}

func TestSpeculationSpeaksAFlowSooner(t *testing.T) {
	first := func(off bool) (after time.Duration) {
		play(t, func(s *scene) {
			atDesk(s)
			s.spec.Speculation.Off = off
			recognizes(s, "booking", 500*time.Millisecond, "booking")
		}, func(s *scene) {
			s.wait(5 * time.Second)
			s.line.say(time.Second)
			s.wait(3 * time.Second)
			s.hangUp()
			turns := s.turns("agent")
			after = turns[len(turns)-1].Latency.FirstAudio
		})
		return after
	}
	plain, early := first(true), first(false)
	t.Logf("%v without, %v with", plain, early)
	if plain-early < 80*time.Millisecond {
		t.Errorf("answers after %v, without speculation %v", early, plain)
	}
}

func TestSpeculationThatFailsIsNoFailure(t *testing.T) {
	failed := counted(t, speculations, "failed")
	play(t, func(s *scene) {
		s.results = []string{"what time do you open"}
		for range llmRounds {
			s.llm.answers = append(s.llm.answers, func(y func(Delta, error) bool) { y(Delta{}, ErrBusy) })
		}
		s.llm.answers = append(s.llm.answers, text("At nine."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(5 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: what time do you open\nagent: At nine.")
	})
	if d := counted(t, speculations, "failed") - failed; d != 1 {
		t.Errorf("%v failed", d)
	}
}

// Hang-ups in and around a speculation leave nothing behind: the bubble would
// not end.
func TestHangUpDuringASpeculation(t *testing.T) {
	for at := time.Duration(0); at < 900*time.Millisecond; at += 60 * time.Millisecond {
		play(t, func(s *scene) {
			byPrompt(s)
			recognizes(s, "a table for two", 400*time.Millisecond, "a table for ten")
		}, func(s *scene) {
			s.wait(2 * time.Second)
			s.line.say(time.Second)
			s.wait(at)
			s.hangUp()
			if got := s.journal.said(); strings.Contains(got, "said: a table for two") {
				t.Errorf("said:\n%s", got)
			}
		})
	}
}

// turningSTT tells eagerly of an end of turn in the middle of speech, which then
// goes on.
type turningSTT struct{ scriptedSTT }

func (s *turningSTT) Speech(on bool) error {
	if !on {
		time.AfterFunc(50*time.Millisecond, func() {
			s.out <- Transcript{Text: "I want a table. For four.", Final: true, EOU: true, Flushed: true}
		})
		return nil
	}
	for after, t := range map[time.Duration]Transcript{
		600 * time.Millisecond:  {Text: "I want a table.", Eager: true},
		1000 * time.Millisecond: {Text: "I want a table. For"},
	} {
		time.AfterFunc(after, func() { s.out <- t })
	}
	return nil
}

func TestSpeculationOnAnEagerEndOfTurnEndsWhenItIsResumed(t *testing.T) {
	var m *promptLLM
	play(t, func(s *scene) {
		m = byPrompt(s)
		m.delay = time.Second
		s.spec.Recognizers = []Recognizer{{Vendor: "turns", Rates: []int{8000}, Interims: true, EndsTurns: true,
			Dial: func(ctx context.Context, _ Hearing) (STT, error) {
				return &turningSTT{scriptedSTT{ctx: ctx, out: make(chan Transcript, 10), fail: s.sttFail}}, nil
			}}}
	}, func(s *scene) {
		s.wait(2 * time.Second)
		go s.line.say(2 * time.Second)
		s.wait(900 * time.Millisecond)
		if m.running() != 1 {
			t.Errorf("%d requests run behind the eager end of turn", m.running())
		}
		s.wait(400 * time.Millisecond)
		if m.running() != 0 {
			t.Errorf("%d requests run behind the turn resumed", m.running())
		}
		s.wait(6 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: I want a table. For four.\nagent: You said: I want a table. For four.")
	})
}

func TestSpeculationWaitsOnANodeThatIsNotEager(t *testing.T) {
	play(t, func(s *scene) {
		atDesk(s)
		s.spec.Flow.Flow = mustFlow(t, strings.Replace(deskFlow, `"voice":{"no_input"`, `"voice":{"speech":{"eager":false},"no_input"`, 1))
		recognizes(s, "booking", 500*time.Millisecond, "booking")
	}, func(s *scene) {
		s.wait(5 * time.Second)
		s.line.say(time.Second)
		s.wait(3 * time.Second)
		s.hangUp()
		turns := s.turns("agent")
		if l := turns[len(turns)-1].Latency; l.FirstToken < 0 {
			t.Errorf("begun early: %+v", l)
		}
	})
}

// A caller who goes on again and again costs three early answers a turn, however
// often an answer is taken back.
func TestSpeculationAndTakingBackDoNotAddUp(t *testing.T) {
	var m *promptLLM
	thought, adopted := 0, counted(t, speculations, "adopted")
	play(t, func(s *scene) {
		m = byPrompt(s)
		m.delay = 2 * time.Second
		s.spec.Endpointing = Endpointing{Undecided: 400 * time.Millisecond, Steady: true}
		for i := range 12 {
			s.results = append(s.results, fmt.Sprint("thing ", i))
		}
		s.spec.Observe = func(e Event) {
			if e.Type == "state" && e.State == "thinking" {
				thought++
			}
		}
	}, func(s *scene) {
		s.wait(2 * time.Second)
		for range 8 {
			s.line.say(500 * time.Millisecond)
			s.wait(800 * time.Millisecond)
		}
		s.wait(8 * time.Second)
		s.hangUp()
		answered := thought - 1 // the greeting
		// An adopted one is no second request.
		if n := len(m.prompts); n > answered+3 {
			t.Errorf("%d requests for %d ends of turn", n, answered)
		}
		if n := len(s.turns("caller")); n != 1 {
			t.Errorf("%d turns of the caller", n)
		}
		if n := counted(t, speculations, "adopted") - adopted; n > 3 {
			t.Errorf("%v early answers in one turn", n)
		}
	})
}
