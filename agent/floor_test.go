package agent

import (
	"context"
	"iter"
	"strings"
	"testing"
	"time"

	"parley/media"
)

const story = "Once upon a time there was a king who lived in a castle by the sea and had three daughters."

// told has the caller ask for a story, which the agent then tells from about
// 1.2 s after the question on.
func told(s *scene, results ...string) {
	s.results = append([]string{"Tell me a story."}, results...)
	s.llm.answers = append(s.llm.answers, text(story), text("Alright."))
}

// listenTo asks for the story and listens to it for d.
func (s *scene) listenTo(d time.Duration) {
	s.wait(2 * time.Second)
	s.line.say(time.Second)
	s.wait(700*time.Millisecond + d)
}

func (s *scene) turns(speaker string) (out []Turn) {
	for _, t := range s.journal.turns {
		if t.Speaker == speaker {
			out = append(out, t)
		}
	}
	return out
}

func TestInterruptedTurnWasNotAllSent(t *testing.T) {
	play(t, func(s *scene) { told(s, "Stop please.") }, func(s *scene) {
		s.listenTo(2 * time.Second)
		s.line.say(800 * time.Millisecond)
		s.wait(3 * time.Second)
		s.hangUp()
		for _, turn := range s.turns("agent") {
			if turn.Interrupted && (turn.Sent == turn.Generated || !strings.HasPrefix(turn.Sent, turn.Heard)) {
				t.Errorf("of %q, %q was sent and %q heard", turn.Generated, turn.Sent, turn.Heard)
			}
		}
	})
}

func TestLineLostAndBackGoesOnWithoutOldSpeech(t *testing.T) {
	tests := map[string]time.Duration{"while-thinking": -500 * time.Millisecond, "while-speaking": time.Second}
	for name, at := range tests {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) { told(s) }, func(s *scene) {
				s.listenTo(at)
				s.line.events <- media.LegEvent{Kind: media.Away, At: time.Now()}
				s.wait(6 * time.Second)
				heard := s.line.heardFor()
				s.line.events <- media.LegEvent{Kind: media.Back, At: time.Now()}
				s.wait(8 * time.Second)
				rest := s.line.heardFor() - heard
				all := time.Duration(len(story)) * toneChar
				if most := all - max(0, at) + 700*time.Millisecond; rest > most {
					t.Errorf("%v of speech after the line was back, want at most %v", rest, most)
				}
				s.hangUp()
				s.want("agent: Hello there.\ncaller: Tell me a story.\nagent: " + story)
			})
		})
	}
}

func TestDrainOfALostLineEnds(t *testing.T) {
	var commands chan Command
	play(t, func(s *scene) { told(s); commands = make(chan Command, 2); s.spec.Commands = commands }, func(s *scene) {
		s.listenTo(time.Second)
		s.line.events <- media.LegEvent{Kind: media.Away, At: time.Now()}
		s.wait(time.Second)
		commands <- Command{Do: "drain"}
		commands <- Command{Do: "drain"} // twice is not twice the goodbye
		if e := s.ended(20 * time.Second); e.Reason != "drain" {
			t.Errorf("ended by %+v", e)
		}
	})
}

func TestDrainSaysOneGoodbye(t *testing.T) {
	for name, at := range map[string]time.Duration{"while-thinking": -300 * time.Millisecond, "while-speaking": time.Second} {
		t.Run(name, func(t *testing.T) {
			var commands chan Command // of the scene's own time
			play(t, func(s *scene) { told(s); commands = make(chan Command, 2); s.spec.Commands = commands }, func(s *scene) {
				s.listenTo(at)
				commands <- Command{Do: "drain"}
				s.wait(time.Second)
				commands <- Command{Do: "drain"}
				close(commands)
				if e := s.ended(20 * time.Second); e.Reason != "drain" {
					t.Errorf("ended by %+v", e)
				}
				if got := s.journal.said(); !strings.HasSuffix(strings.TrimSpace(got), "agent: "+drainNotice) || strings.Count(got, drainNotice) != 1 {
					t.Errorf("said:\n%s", got)
				}
			})
		})
	}
}

func TestGoodbyeDuringAVerdictIsHeardOut(t *testing.T) {
	play(t, func(s *scene) {
		s.results = []string{"Bye.", "wait"}
		s.llm.answers = append(s.llm.answers, func(yield func(Delta, error) bool) {
			if !yield(Delta{Text: "Thank you for the call and have a very nice day. "}, nil) {
				return
			}
			s.wait(time.Second)
			yield(Delta{Call: &ToolCall{ID: "c1", Name: "end_call", Arguments: "{}"}}, nil)
		})
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(600 * time.Millisecond)
		s.wait(1250 * time.Millisecond)
		s.line.say(600 * time.Millisecond)
		if e := s.ended(20 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v; said:\n%s", e, s.journal.said())
		}
	})
}

func TestMaxDurationEndsWhateverHappens(t *testing.T) {
	play(t, func(s *scene) {
		s.spec.MaxDuration = 20 * time.Second
		s.spec.Idle = time.Hour
	}, func(s *scene) {
		s.wait(15 * time.Second)
		s.line.events <- media.LegEvent{Kind: media.Away, At: time.Now()}
		if e := s.ended(21 * time.Second); e.Reason != "limit" {
			t.Errorf("ended by %+v", e)
		}
	})
}

func TestKeysComeBeforeSpeech(t *testing.T) {
	play(t, func(s *scene) {
		s.results = []string{"uh four two"}
		s.llm.answers = append(s.llm.answers, text("Four two, thank you."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.press("4")
		s.line.say(700 * time.Millisecond)
		s.wait(800 * time.Millisecond)
		s.line.press("2#")
		s.wait(4 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: 42\nagent: Four two, thank you.")
	})
}

func TestKeysDialThroughTheMenu(t *testing.T) {
	play(t, atDesk, func(s *scene) {
		s.wait(time.Second)
		s.line.press("2")
		s.wait(20 * time.Millisecond)
		s.line.press("4#")
		if e := s.ended(10 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		if got := s.journal.said(); !strings.Contains(got, "caller: 4\nagent: A table for 4. Goodbye then.") {
			t.Errorf("said:\n%s", got)
		}
	})
}

func TestTypedTextWaitsForWhatMayNotBeCut(t *testing.T) {
	play(t, func(s *scene) {
		told(s)
		s.spec.Interruption.Never = true
	}, func(s *scene) {
		s.listenTo(time.Second)
		s.line.events <- media.LegEvent{Kind: media.Typed, Text: " And then? ", At: time.Now()}
		s.wait(9 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: Tell me a story.\nagent: " + story + "\ncaller: And then?\nagent: Alright.")
		if got := s.turns("caller")[1].Input; got != "text" {
			t.Errorf("the text came by %q", got)
		}
	})
}

func TestWordsOverWhatMayNotBeCutAreKept(t *testing.T) {
	play(t, func(s *scene) {
		told(s, "And the daughters?")
		s.spec.Interruption.Never = true
	}, func(s *scene) {
		s.listenTo(time.Second)
		s.line.say(800 * time.Millisecond)
		s.wait(9 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: Tell me a story.\nagent: " + story + "\ncaller: And the daughters?\nagent: Alright.")
	})
}

func TestSecondInterruptionWithinASecond(t *testing.T) {
	play(t, func(s *scene) {
		told(s, "", "Stop please.")
	}, func(s *scene) {
		s.listenTo(time.Second)
		s.line.say(300 * time.Millisecond)
		s.wait(500 * time.Millisecond)
		s.line.say(700 * time.Millisecond)
		s.wait(4 * time.Second)
		s.hangUp()
		if got := s.journal.said(); !strings.Contains(got, " -\ncaller: Stop please.\nagent: Alright.") {
			t.Errorf("said:\n%s", got)
		}
	})
}

// Nothing of the answer was heard: the caller was not done, and the two halves
// are one turn.
func TestInterruptionBeforeTheFirstWordIsMoreOfTheSameTurn(t *testing.T) {
	play(t, func(s *scene) {
		told(s, "About a king.")
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(530 * time.Millisecond)
		s.line.say(700 * time.Millisecond)
		s.wait(4 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: Tell me a story. About a king.\nagent: Alright.")
	})
}

func TestInterruptionAtTheEndIsTheNextTurn(t *testing.T) {
	play(t, func(s *scene) { told(s, "Thank you very much.") }, func(s *scene) {
		s.listenTo(time.Duration(len(story))*toneChar - 300*time.Millisecond)
		s.line.say(700 * time.Millisecond)
		s.wait(4 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: Tell me a story.\nagent: " + story + "\ncaller: Thank you very much.\nagent: Alright.")
	})
}

// What comes back of the agent's voice is too faint for a pause, but not for a
// recognizer: its words, from the first on, are neither an interruption nor a
// turn.
func TestOwnVoiceIsNoTurn(t *testing.T) {
	play(t, func(s *scene) { told(s) }, func(s *scene) {
		s.listenTo(1500 * time.Millisecond)
		for _, heard := range []Transcript{{Text: "upon"}, {Text: "upon a"}, {Text: "upon a time there"}, {Text: "Upon a time there was a king.", Final: true},
			{Text: "lift in"}, {Text: "lift in a castle by the sea", Final: true, Flushed: true}} {
			s.stt.out <- heard
			s.wait(500 * time.Millisecond)
		}
		s.wait(4 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: Tell me a story.\nagent: " + story)
	})
}

func TestNoiseDoesNotKeepTheAgentFromSpeaking(t *testing.T) {
	play(t, func(s *scene) {
		told(s, "")
		s.llm.delay = 2 * time.Second
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(700 * time.Millisecond)
		s.line.say(5 * time.Second)
		s.wait(6 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: Tell me a story.\nagent: " + story)
	})
}

func TestSensitiveWordsAreNeverShown(t *testing.T) {
	var shown []string
	play(t, func(s *scene) {
		atDesk(s)
		f := strings.Replace(deskFlow, `"input_type":"number","variable":"n"`, `"input_type":"text","variable":"n","sensitive":true,"voice":{"sensitive":true}`, 1)
		s.spec.Flow.Flow = mustFlow(t, f)
		s.results = []string{"booking", "my secret word"}
		s.spec.Observe = func(e Event) { shown = append(shown, e.Text+e.Digit) }
	}, func(s *scene) {
		s.wait(5 * time.Second)
		s.line.say(600 * time.Millisecond)
		s.wait(3 * time.Second)
		s.line.say(800 * time.Millisecond)
		s.ended(15 * time.Second)
		for _, text := range append(shown, s.journal.said()) {
			if strings.HasPrefix(text, "my secret") || strings.Contains(text, "caller: my secret") {
				t.Errorf("shown: %q", text)
			}
		}
	})
}

// A voice slower than speech has not said what it has not sent.
func TestHeardIsNotOvercountedOfASlowVoice(t *testing.T) {
	play(t, func(s *scene) {
		told(s, "Stop please.")
		s.spec.Synthesizers[0].Dial = func(context.Context, Delivery) (TTS, error) { return &realTimeTTS{}, nil }
	}, func(s *scene) {
		s.listenTo(3 * time.Second)
		s.line.say(700 * time.Millisecond)
		s.wait(5 * time.Second)
		s.hangUp()
		for _, turn := range s.turns("agent") {
			if turn.Interrupted && len(turn.Heard) > 4*len(story)/5 {
				t.Errorf("heard %q", turn.Heard)
			}
		}
	})
}

// realTimeTTS makes speech no faster than it is spoken.
type realTimeTTS struct{ toneTTS }

func (r *realTimeTTS) Say(ctx context.Context, c Clause) iter.Seq2[Speech, error] {
	return func(yield func(Speech, error) bool) {
		for s, err := range r.toneTTS.Say(ctx, c) {
			if !yield(s, err) {
				return
			}
			select {
			case <-time.After(media.Duration(int64(len(s.PCM)), 16000)):
			case <-ctx.Done():
				return
			}
		}
	}
}

func TestVoiceThatDiesInAClauseIsNotHeardToItsEnd(t *testing.T) {
	play(t, func(s *scene) {
		told(s)
		s.llm.answers[0] = text("Once upon a time there was a king who lived by the sea.")
		s.spec.Synthesizers = []Synthesizer{{Vendor: "rude", Voice: "rude", Dial: func(context.Context, Delivery) (TTS, error) {
			return &dyingTTS{}, nil
		}}}
	}, func(s *scene) {
		s.listenTo(9 * time.Second)
		if e := s.ended(time.Minute); e.Reason != "vendor" {
			t.Errorf("ended by %q, want vendor", e.Reason)
		}
		turns := s.turns("agent")
		if told := turns[1]; told.Heard == told.Generated || len(told.Heard) > 30 {
			t.Errorf("heard %q of %q", told.Heard, told.Generated)
		}
	})
}

// dyingTTS breaks off after 300 ms of a long clause.
type dyingTTS struct{ toneTTS }

func (d *dyingTTS) Say(ctx context.Context, c Clause) iter.Seq2[Speech, error] {
	return func(yield func(Speech, error) bool) {
		if len(c.Text) < 20 {
			d.toneTTS.Say(ctx, c)(yield)
			return
		}
		pcm := make([]int16, 4800)
		for i := range pcm {
			pcm[i] = int16(i % 100 * 80)
		}
		if yield(Speech{PCM: pcm}, nil) {
			yield(Speech{}, ErrUnavailable)
		}
	}
}

func TestLatencyIsOfTheFirstSampleOnTheWire(t *testing.T) {
	play(t, func(s *scene) { told(s) }, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		spoke := time.Now()
		s.wait(8 * time.Second)
		s.hangUp()
		var wire time.Duration
		for _, h := range s.line.heard {
			if h.at.After(spoke) {
				wire = h.at.Add(-s.line.delay).Sub(spoke)
				break
			}
		}
		turns := s.turns("agent")
		got := turns[len(turns)-1].Latency.FirstAudio
		if d := got - wire; d < -60*time.Millisecond || d > 60*time.Millisecond {
			t.Errorf("first audio after %v, on the wire after %v", got, wire)
		}
	})
}

// Whatever keeps pausing the agent for nothing does so a few times only; words
// still end the reply.
func TestPausesInVainComeToAnEnd(t *testing.T) {
	paused := 0
	play(t, func(s *scene) {
		told(s) // what seems speech and is none has no words
		s.spec.Observe = func(e Event) {
			if e.Type == "state" && e.State == "paused" {
				paused++
			}
		}
	}, func(s *scene) {
		s.listenTo(500 * time.Millisecond)
		for range 6 {
			s.line.say(350 * time.Millisecond)
			s.wait(450 * time.Millisecond)
		}
		words := "Stop please."
		s.stt.rest.Store(&words)
		s.line.say(800 * time.Millisecond)
		s.wait(3 * time.Second)
		s.hangUp()
		if got := s.journal.said(); !strings.Contains(got, " -\ncaller: Stop please.\nagent: Alright.") {
			t.Errorf("said:\n%s", got)
		}
	})
	if paused != tooManyEchoes {
		t.Errorf("paused %d times, want %d", paused, tooManyEchoes)
	}
}
