package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/agent/flow"
)

// Pitfalls of such systems, as their users report them, by number.

// Case 4: after an interruption the model sees who said what in the order in
// which it was heard.
func TestCase04MessagesKeepTheirOrderAfterAnInterruption(t *testing.T) {
	var m *promptLLM
	play(t, func(s *scene) {
		m = byPrompt(s)
		s.results = []string{"tell me a rather long story about the king and his castle.", "Stop please.", "And now?"}
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(2 * time.Second)
		s.line.say(800 * time.Millisecond)
		s.wait(3 * time.Second)
		s.line.say(600 * time.Millisecond)
		s.wait(3 * time.Second)
		s.hangUp()
		last := m.prompts[len(m.prompts)-1].Messages
		var roles []string
		for i, msg := range last {
			roles = append(roles, msg.Role)
			if i > 0 && msg.Role == last[i-1].Role {
				t.Errorf("two messages of %s in a row: %+v", msg.Role, last)
			}
		}
		if got := strings.Join(roles, " "); got != "assistant user assistant user assistant user" {
			t.Errorf("order is %s", got)
		}
		if cut := last[2].Text; !strings.HasPrefix("You said: tell me a rather long story about the king and his castle.", cut) || len(cut) > 60 {
			t.Errorf("the cut answer is remembered as %q", cut)
		}
		for i, turn := range s.journal.turns {
			if turn.Index != i {
				t.Errorf("turn %d is recorded as the %d.", turn.Index, i)
			}
		}
	})
}

// Case 28: the caller speaks, presses keys or hangs up while a request of the
// flow is under way: the flow does not stay at its node.
func TestCase28SpeakingDuringARequestDoesNotStickTheFlow(t *testing.T) {
	for at := 300 * time.Millisecond; at < 4*time.Second; at += 370 * time.Millisecond {
		t.Run(at.String(), func(t *testing.T) {
			var calls []string
			play(t, func(s *scene) {
				atSlow(s, "", 3*time.Second, &calls)
				s.results = []string{"Bob.", "hello are you there"}
			}, func(s *scene) {
				s.wait(2 * time.Second)
				s.line.say(600 * time.Millisecond)
				s.wait(at)
				s.line.say(900 * time.Millisecond)
				s.wait(12 * time.Second)
				s.hangUp()
				got := s.journal.said()
				if !strings.Contains(got, "Found you.") && !strings.Contains(got, "What else?") {
					t.Errorf("said:\n%s", got)
				}
				last := s.journal.commits[len(s.journal.commits)-2] // before the hang-up
				if last.Node != "more" && last.Node != "" {
					t.Errorf("the flow waits at %q", last.Node)
				}
				for _, id := range calls[1:] {
					if id != calls[0] {
						t.Errorf("called by ids %q: not the same request", calls)
					}
				}
			})
		})
	}
}

func TestCase28HangUpDuringARequestEndsIt(t *testing.T) {
	var calls []string
	play(t, func(s *scene) {
		atSlow(s, "", time.Hour, &calls)
		s.results = []string{"Bob."}
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(600 * time.Millisecond)
		s.wait(2 * time.Second)
		s.hangUp() // within two seconds
		if last := s.journal.commits[len(s.journal.commits)-1]; last.Status != flow.Abandoned {
			t.Errorf("the flow is %s at %q", last.Status, last.Node)
		}
	})
}

// Case 29: the opening of a node is said once, whatever the model or the caller
// does meanwhile; a request is made once.
func TestCase29OpeningOfANodeIsSaidOnce(t *testing.T) {
	var calls []string
	play(t, func(s *scene) {
		atSlow(s, "", 100*time.Millisecond, &calls)
		s.results = []string{"Bob.", "mhm"}
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(600 * time.Millisecond)
		s.wait(900 * time.Millisecond)
		s.line.say(300 * time.Millisecond)
		s.wait(5 * time.Second)
		s.hangUp()
		got := s.journal.said()
		if strings.Count(got, "Found you.") != 1 || strings.Count(got, "What else?") != 1 || len(calls) != 1 {
			t.Errorf("%d calls; said:\n%s", len(calls), got)
		}
	})
}

// Case 29: a model that answers a tool's transition by white space alone does
// not leave the line silent, and its tool is not run twice.
func TestCase29WhiteSpaceWithATransitionIsNotSilence(t *testing.T) {
	silence := counted(t, misbehaved, "silence")
	play(t, func(s *scene) {
		s.results = []string{"Sales please."}
		s.spec.Prompt.Transfers = map[string]string{"sales": "+15550123"}
		s.llm.answers = append(s.llm.answers, call(" \n", "transfer", `{"to":"sales"}`), text("  "))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(800 * time.Millisecond)
		if e := s.ended(10 * time.Second); e.Reason != "transfer" || e.Transfer != "+15550123" {
			t.Errorf("ended by %+v", e)
		}
		s.want("agent: Hello there.\ncaller: Sales please.\nagent: " + wordless[moveTransfer])
	})
	if counted(t, misbehaved, "silence") != silence+1 {
		t.Error("not counted")
	}
}

// Case 30: a tool of an answer that is cut runs once, and its result is known
// to the model in the next turn.
func TestCase30ToolOfACutAnswerRunsOnce(t *testing.T) {
	pressed := 0
	play(t, func(s *scene) {
		s.results = []string{"Press one please.", "Stop, what was that?"}
		s.llm.answers = append(s.llm.answers, call("Pressing it now, one moment. ", "press_digits", `{"digits":"1"}`),
			text("I have pressed the key, and now we wait for the machine to answer us."), text("I pressed one."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(800 * time.Millisecond)
		s.wait(4 * time.Second)
		s.line.say(900 * time.Millisecond)
		s.wait(4 * time.Second)
		s.hangUp()
		last := s.llm.prompts[len(s.llm.prompts)-1].Messages
		for _, m := range last {
			if m.Role == "tool" && m.Text == "pressed" {
				pressed++
			}
		}
	})
	if pressed != 1 {
		t.Errorf("the model knows of %d presses", pressed)
	}
}

// Case 34: a response time is never as long as a turn of the caller, however
// long the recognizer takes to begin.
func TestCase34LatencyCountsFromTheEndOfSpeech(t *testing.T) {
	play(t, func(s *scene) {
		s.llm.answers = append(s.llm.answers, text("I see."))
		s.spec.Recognizers[0].Dial = func(ctx context.Context, _ Hearing) (STT, error) {
			return &patientSTT{scriptedSTT: scriptedSTT{ctx: ctx, out: make(chan Transcript, 10), fail: s.sttFail}}, nil
		}
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(20 * time.Second)
		s.wait(4 * time.Second)
		s.hangUp()
		for _, turn := range s.turns("agent")[1:] {
			if l := turn.Latency; l.EndOfTurn > 500*time.Millisecond || l.FirstAudio > time.Second || l.FirstAudio < l.EndOfTurn {
				t.Errorf("latency %+v", l)
			}
		}
	})
}

// patientSTT gives another word of a sentence a second, and ends it on demand.
type patientSTT struct {
	scriptedSTT
	words int
	more  *time.Timer
}

func (s *patientSTT) Speech(on bool) error {
	if !on {
		s.more.Stop()
		time.AfterFunc(100*time.Millisecond, func() { s.out <- Transcript{Text: "It is so very long.", Final: true, Flushed: true} })
		return nil
	}
	s.more = time.AfterFunc(time.Second, func() {
		s.words++
		s.out <- Transcript{Text: "It is" + strings.Repeat(" so", s.words)}
		s.more.Reset(time.Second)
	})
	return nil
}

// timedSTT gives transcripts at times after the onset of speech, and answers
// pauses by nothing more.
type timedSTT struct {
	scriptedSTT
	at map[time.Duration]Transcript
}

func (s *timedSTT) Speech(on bool) error {
	if !on {
		time.AfterFunc(50*time.Millisecond, func() { s.out <- Transcript{Final: true, Flushed: true} })
		return nil
	}
	for after, t := range s.at {
		time.AfterFunc(after, func() { s.out <- t })
	}
	s.at = nil
	return nil
}

func recognizesAt(s *scene, at map[time.Duration]Transcript) {
	s.spec.Recognizers[0].Dial = func(ctx context.Context, _ Hearing) (STT, error) {
		return &timedSTT{scriptedSTT{ctx: ctx, out: make(chan Transcript, 10), fail: s.sttFail}, at}, nil
	}
}

// Case 14: a recognizer that takes a turn for ended while the caller speaks
// makes nobody deaf for what follows.
func TestCase14RecognizersEndOfTurnInMidSpeechLosesNothing(t *testing.T) {
	play(t, func(s *scene) {
		byPrompt(s)
		recognizesAt(s, map[time.Duration]Transcript{
			1000 * time.Millisecond: {Text: "I want a table.", Final: true, EOU: true},
			1900 * time.Millisecond: {Text: "For four people."},
			2300 * time.Millisecond: {Text: "For four people.", Final: true, EOU: true},
		})
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(2400 * time.Millisecond)
		s.wait(6 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: I want a table. For four people.\nagent: You said: I want a table. For four people.")
	})
}

// A motor behind the caller is speech to the detector: the recognizer's end of
// turn ends it, and the next turn is heard as well.
func TestNoiseBehindTheCallerDoesNotHoldTheTurn(t *testing.T) {
	play(t, func(s *scene) {
		byPrompt(s)
		recognizesAt(s, map[time.Duration]Transcript{
			1000 * time.Millisecond: {Text: "I want a table.", Final: true, EOU: true},
			9000 * time.Millisecond: {Text: "For four people.", Final: true, EOU: true},
		})
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(13 * time.Second)
		s.wait(4 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: I want a table.\nagent: You said: I want a table.\n" +
			"caller: For four people.\nagent: You said: For four people.")
	})
}

// What is said over speech that may not be interrupted answers the next
// question, on a node too.
func TestBargeInFalseKeepsWhatWasSaidForTheNextQuestion(t *testing.T) {
	play(t, func(s *scene) {
		atDesk(s)
		s.spec.Flow.Flow = mustFlow(t, strings.Replace(deskFlow, `"type":"message","content":{"messages":["Hello, this is the desk."]}`,
			`"type":"message","content":{"messages":["Hello, this is the desk, and this call is recorded for training."],"voice":{"barge_in":false}}`, 1))
		s.results = []string{"booking"}
	}, func(s *scene) {
		s.wait(600 * time.Millisecond)
		s.line.say(600 * time.Millisecond)
		s.wait(9 * time.Second)
		s.hangUp()
		got := s.journal.said()
		if !strings.Contains(got, "recorded for training.") || !strings.Contains(got, "caller: booking\nagent: For how many?") {
			t.Errorf("said:\n%s", got)
		}
	})
}

// A recognizer slower than its bound: the interim is taken, and what it says
// later corrects the turn while nothing of the answer was heard.
func TestLateFinalCorrectsATurnOrIsDropped(t *testing.T) {
	tests := map[string]struct {
		lag    time.Duration
		final  string
		action string
		want   string
	}{
		"the-same":      {800 * time.Millisecond, "A table for two.", "", "caller: a table for two\nagent: You said: a table for two"},
		"before-a-word": {700 * time.Millisecond, "a table for ten", "corrected", "caller: a table for ten\nagent: You said: a table for ten"},
		// Found deaf, it is dialed anew, and is not to hear the turn again.
		"never-in-time":   {2500 * time.Millisecond, "a table for ten", "", "caller: a table for two\nagent: You said: a table for two"},
		"behind-the-word": {1500 * time.Millisecond, "a table for ten", "dropped", "caller: a table for two\nagent: You said: a table for two"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := map[string]float64{}
			for _, a := range []string{"corrected", "dropped"} {
				before[a] = counted(t, lateTurns, a)
			}
			play(t, func(s *scene) {
				byPrompt(s)
				s.spec.Endpointing.FinalWait = 300 * time.Millisecond
				recognizes(s, "a table for two", tt.lag-200*time.Millisecond, tt.final)
			}, func(s *scene) {
				s.wait(2 * time.Second)
				s.line.say(time.Second)
				s.wait(6 * time.Second)
				s.hangUp()
				s.want("agent: Hello there.\n" + tt.want)
			})
			for _, a := range []string{"corrected", "dropped"} {
				if got := counted(t, lateTurns, a) - before[a]; (got == 1) != (a == tt.action) {
					t.Errorf("%v %s", got, a)
				}
			}
		})
	}
}

// The wait for the final transcript is what the vendor was measured to need,
// over calls.
func TestWaitForTheFinalFollowsTheVendor(t *testing.T) {
	lag := &Lag{}
	ends := func(s *scene, answer time.Duration) time.Duration {
		recognizes(s, "a table for two.", answer, "a table for two.")
		s.spec.Recognizers[0].Lag = lag
		return 0
	}
	hear := func(answer time.Duration, times int) (l Latency) {
		play(t, func(s *scene) { byPrompt(s); ends(s, answer) }, func(s *scene) {
			s.wait(2 * time.Second)
			for range times {
				s.line.say(600 * time.Millisecond)
				s.wait(4 * time.Second)
			}
			s.hangUp()
			turns := s.turns("agent")
			l = turns[len(turns)-1].Latency
		})
		return l
	}
	hear(200*time.Millisecond, lagEnough)
	if b := lag.Bound(); b < 200*time.Millisecond || b > 260*time.Millisecond {
		t.Errorf("after %d answers in 200 ms it is waited for %v", lagEnough, b)
	}
	// It falls silent: the interim is taken once the bound has passed.
	if l := hear(time.Hour, 1); l.EndOfTurn > 480*time.Millisecond {
		t.Errorf("the turn ended after %v", l.EndOfTurn)
	}
}

// A caller who goes on after the agent was ready to answer gets more time.
func TestWaitAdaptsToTheCaller(t *testing.T) {
	var asked int
	play(t, func(s *scene) {
		m := byPrompt(s)
		m.delay = 2 * time.Second // nothing is heard before the caller goes on
		s.spec.Endpointing.Undecided = 400 * time.Millisecond
		for i := range 12 {
			s.results = append(s.results, fmt.Sprint("thing ", i))
		}
		s.spec.Observe = func(e Event) {
			if e.Type == "state" && e.State == "thinking" {
				asked++
			}
		}
	}, func(s *scene) {
		s.wait(2 * time.Second)
		for range 6 {
			s.line.say(500 * time.Millisecond)
			s.wait(700 * time.Millisecond)
		}
		s.wait(8 * time.Second)
		s.hangUp()
	})
	if asked > 1+4 { // the greeting, and not each of the six pauses
		t.Errorf("answered %d times", asked-1)
	}
}
