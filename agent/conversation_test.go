package agent

import (
	"strings"
	"testing"
	"time"
)

func TestGreetingAndAnswer(t *testing.T) {
	play(t, func(s *scene) {
		s.results = []string{"What time do you open?"}
		s.llm.answers = append(s.llm.answers, text("We open at nine. See you then."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(1200 * time.Millisecond)
		s.wait(5 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: What time do you open?\nagent: We open at nine. See you then.")
		var r Turn
		for _, t := range s.journal.turns {
			r = t
		}
		if r.Latency.FirstAudio < 250*time.Millisecond || r.Latency.FirstAudio > 900*time.Millisecond {
			t.Errorf("first audio %v after the end of speech", r.Latency.FirstAudio)
		}
		if l := r.Latency; l.EndOfTurn == 0 || l.FirstToken == 0 || l.FirstClause == 0 || l.FirstSpeech == 0 || l.MarkRoundTrip != 60*time.Millisecond {
			t.Errorf("latency is incomplete: %+v", l)
		}
	})
}

func TestInterruptionIsRememberedAsHeard(t *testing.T) {
	play(t, func(s *scene) {
		s.results = []string{"Tell me a story.", "Stop please."}
		s.llm.answers = append(s.llm.answers, text("Once upon a time there was a king who lived in a castle by the sea and had three daughters."), text("Alright."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(2500 * time.Millisecond)
		s.line.say(800 * time.Millisecond)
		s.wait(4 * time.Second)
		s.hangUp()
		said := s.journal.said()
		if !strings.Contains(said, "agent: Once upon a time") || !strings.Contains(said, " -\ncaller: Stop please.\nagent: Alright.") {
			t.Errorf("said:\n%s", said)
		}
		last := s.llm.prompts[len(s.llm.prompts)-1].Messages
		var told string
		for _, m := range last {
			if m.Role == "assistant" && strings.HasPrefix(m.Text, "Once") {
				told = m.Text
			}
		}
		if told == "" || strings.Contains(told, "daughters") {
			t.Errorf("the model remembers %q", told)
		}
		if !strings.Contains(said, "agent: "+told+" -") {
			t.Errorf("the model remembers %q, the record says:\n%s", told, said)
		}
	})
}

func TestBackchannelResumes(t *testing.T) {
	play(t, func(s *scene) {
		s.results = []string{"Tell me a story.", "uh-huh"}
		s.llm.answers = append(s.llm.answers, text("Once upon a time there was a king who lived in a castle by the sea and had three daughters."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(2500 * time.Millisecond)
		s.line.say(400 * time.Millisecond)
		s.wait(9 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: Tell me a story.\ncaller: uh-huh\n" +
			"agent: Once upon a time there was a king who lived in a castle by the sea and had three daughters.")
	})
}

func TestCoughResumes(t *testing.T) {
	play(t, func(s *scene) {
		s.results = []string{"Tell me a story.", ""}
		s.llm.answers = append(s.llm.answers, text("Once upon a time there was a king who lived in a castle by the sea and had three daughters."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(2500 * time.Millisecond)
		s.line.say(300 * time.Millisecond)
		s.wait(9 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: Tell me a story.\n" +
			"agent: Once upon a time there was a king who lived in a castle by the sea and had three daughters.")
	})
}

func TestCallerGoesOn(t *testing.T) {
	play(t, func(s *scene) {
		s.llm.delay = 700 * time.Millisecond
		s.results = []string{"I want a table.", "For four people."}
		s.llm.answers = append(s.llm.answers, text("Never heard."), text("For four, right."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(800 * time.Millisecond)
		s.wait(600 * time.Millisecond)
		s.line.say(800 * time.Millisecond)
		s.wait(5 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: I want a table. For four people.\nagent: For four, right.")
	})
}

func TestGoodbyeIsHeard(t *testing.T) {
	play(t, func(s *scene) {
		s.results = []string{"Thanks, bye."}
		s.llm.answers = append(s.llm.answers, call("Goodbye and have a very nice day.", "end_call", "{}"))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(800 * time.Millisecond)
		e := s.ended(10 * time.Second)
		if e.Reason != "goodbye" {
			t.Errorf("ended by %q", e.Reason)
		}
		want := time.Duration(len("Hello there."))*toneChar + time.Duration(len("Goodbye and have a very nice day."))*toneChar
		if got := s.line.heardFor(); got < want-300*time.Millisecond {
			t.Errorf("the caller heard %v of %v", got, want)
		}
		s.want("agent: Hello there.\ncaller: Thanks, bye.\nagent: Goodbye and have a very nice day.")
	})
}

func TestTransfer(t *testing.T) {
	play(t, func(s *scene) {
		s.spec.Prompt.Transfers = map[string]string{"sales": "+15550123"}
		s.results = []string{"Sales please."}
		s.llm.answers = append(s.llm.answers, call("One moment, I will connect you.", "transfer", `{"to":"sales"}`))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(800 * time.Millisecond)
		e := s.ended(10 * time.Second)
		if e.Reason != "transfer" || e.Transfer != "+15550123" {
			t.Errorf("ended by %+v", e)
		}
	})
}

func TestReturnedTransferIsTold(t *testing.T) {
	play(t, func(s *scene) {
		s.spec.Returned = "busy"
		s.llm.answers = append(s.llm.answers, text("They are busy."))
	}, func(s *scene) {
		s.wait(3 * time.Second)
		s.hangUp()
		s.want("agent: They are busy.")
		if m := s.llm.prompts[0].Messages; !strings.Contains(m[0].Text, "busy") {
			t.Errorf("the model was told %q", m[0].Text)
		}
	})
}

func TestSilenceIsAskedThenEnded(t *testing.T) {
	play(t, nil, func(s *scene) {
		e := s.ended(time.Minute)
		if e.Reason != "idle" {
			t.Errorf("ended by %q", e.Reason)
		}
		if n := len(s.journal.turns); n != 4 {
			t.Errorf("%d turns, want greeting, two prompts, goodbye:\n%s", n, s.journal.said())
		}
	})
}

func TestKeys(t *testing.T) {
	play(t, func(s *scene) {
		s.llm.answers = append(s.llm.answers, text("Four two, thank you."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.press("42#")
		s.wait(4 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: 42\nagent: Four two, thank you.")
	})
}

func TestVendorsFail(t *testing.T) {
	const apology = "agent: " + defaultApology
	tests := map[string]struct {
		setup func(*scene)
		act   func(*scene)
	}{
		"model-errors": {func(s *scene) {
			s.results = []string{"Hello."}
			down := func(y func(Delta, error) bool) { y(Delta{}, ErrUnavailable) }
			for range 2 * llmRounds { // to the guess, and for certain
				s.llm.answers = append(s.llm.answers, down)
			}
		}, nil},
		"model-never-answers": {func(s *scene) {
			s.results = []string{"Hello."}
			s.llm.delay = time.Hour
		}, nil},
		"speech-fails-later": {func(s *scene) {
			s.results = []string{"Hello."}
			s.llm.answers = append(s.llm.answers, text("Fine."))
		}, func(s *scene) { s.tts.err = ErrCredentials }},
		"recognizer-dies": {nil, func(s *scene) {
			for range 4 {
				s.sttFail <- ErrUnavailable
			}
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			play(t, tt.setup, func(s *scene) {
				s.wait(2 * time.Second)
				if tt.act != nil {
					tt.act(s)
				}
				s.line.say(800 * time.Millisecond)
				e := s.ended(20 * time.Second)
				if e.Reason != "vendor" {
					t.Errorf("ended by %+v", e)
				}
				if got := s.journal.said(); !strings.Contains(got, apology) {
					t.Errorf("no apology was heard:\n%s", got)
				}
			})
		})
	}
}

func TestHangUpAtAnyMoment(t *testing.T) {
	for at := time.Duration(0); at < 6*time.Second; at += 130 * time.Millisecond {
		play(t, func(s *scene) {
			s.results = []string{"Tell me.", "Stop."}
			s.llm.answers = append(s.llm.answers, text("A long answer that goes on for quite some time, as they do."), text("Yes."))
		}, func(s *scene) {
			go func() {
				s.wait(1500 * time.Millisecond)
				s.line.say(700 * time.Millisecond)
				s.wait(1500 * time.Millisecond)
				s.line.say(500 * time.Millisecond)
			}()
			s.wait(at)
			s.hangUp()
		})
	}
}
