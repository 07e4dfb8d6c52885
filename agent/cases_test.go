package agent

import (
	"strings"
	"testing"
	"time"
)

// TestCases plays what users of other systems complain about, by the number of
// the pitfall: each is a scene in virtual time.
func TestCases(t *testing.T) {
	tests := map[string]struct {
		setup func(*scene)
		act   func(*scene)
	}{
		// The words heard before an interruption are neither lost nor said again.
		"01_heard_words_are_kept": {func(s *scene) { told(s, "Stop please.") }, func(s *scene) {
			s.interrupted(2*time.Second, 800*time.Millisecond)
			heard := s.turns("agent")[1].Heard
			if heard == "" || !strings.HasPrefix(story, heard) || heard == story {
				s.t.Errorf("heard %q", heard)
			}
		}},
		"02_unspoken_text_is_not_in_the_context": {func(s *scene) { told(s, "Stop please.") }, func(s *scene) {
			s.interrupted(time.Second, 800*time.Millisecond)
			for _, m := range s.llm.prompts[len(s.llm.prompts)-1].Messages {
				if m.Role == "assistant" && strings.Contains(m.Text, "daughters") {
					s.t.Errorf("the model remembers %q", m.Text)
				}
			}
		}},
		"03_cut_greeting_has_its_heard_words": {func(s *scene) {
			s.spec.Prompt.Greeting = story
			s.results = []string{"Stop please."}
			s.llm.answers = append(s.llm.answers, text("Alright."))
		}, func(s *scene) {
			s.wait(2 * time.Second)
			s.line.say(800 * time.Millisecond)
			s.wait(3 * time.Second)
			s.hangUp()
			if g := s.turns("agent")[0]; !g.Interrupted || g.Heard == "" || g.Heard == story {
				s.t.Errorf("heard of the greeting: %+v", g)
			}
		}},
		// An answer right behind a cut one is not measured by the cut one's audio.
		"05_07_next_answer_is_measured_by_itself": {func(s *scene) {
			told(s, "Stop please.")
			s.llm.answers[1] = text("Alright then.")
		}, func(s *scene) {
			s.interrupted(time.Second, 800*time.Millisecond)
			if last := s.turns("agent")[2]; last.Heard != "Alright then." || last.Interrupted {
				s.t.Errorf("heard of the next answer: %+v", last)
			}
		}},
		"08_sent_is_not_heard": {func(s *scene) { told(s, "Stop please.") }, func(s *scene) {
			s.interrupted(2*time.Second, 800*time.Millisecond)
			if a := s.turns("agent")[1]; len(a.Heard) >= len(a.Sent) || len(a.Sent) >= len(a.Generated) {
				s.t.Errorf("heard %q, sent %q, generated %q", a.Heard, a.Sent, a.Generated)
			}
		}},
		// A false interruption costs at most a word: nothing is skipped.
		"10_cough_resumes_without_a_gap": {func(s *scene) { told(s, "") }, func(s *scene) {
			s.listenTo(2 * time.Second)
			s.line.say(300 * time.Millisecond)
			s.wait(6 * time.Second)
			all := time.Duration(len(story)+len("Hello there.")) * toneChar
			if d := s.line.heardFor() - all; d < -5*time.Millisecond || d > 350*time.Millisecond {
				s.t.Errorf("%v more than the reply was heard, want none skipped and 300ms repeated at most", d)
			}
			s.hangUp()
			s.want("agent: Hello there.\ncaller: Tell me a story.\nagent: " + story)
		}},
		"12_greeting_echo_neither_interrupts_nor_mutes": {func(s *scene) {
			s.spec.Prompt.Greeting = "Hello, this is the desk, how may I help you today?"
			s.results = []string{"Tell me."}
			s.llm.answers = append(s.llm.answers, text("Alright."))
		}, func(s *scene) {
			s.wait(900 * time.Millisecond)
			for _, heard := range []string{"hello", "hello this", "hello this is the desk"} {
				s.stt.out <- Transcript{Text: heard}
				s.wait(300 * time.Millisecond)
			}
			s.stt.out <- Transcript{Text: "Hello, this is the desk.", Final: true, Flushed: true}
			s.wait(4 * time.Second)
			s.line.say(800 * time.Millisecond)
			s.wait(3 * time.Second)
			s.hangUp()
			s.want("agent: " + s.spec.Prompt.Greeting + "\ncaller: Tell me.\nagent: Alright.")
		}},
		"13_long_speech_interrupts_despite_min_words": {func(s *scene) { told(s, "banana banana") }, func(s *scene) {
			s.interrupted(time.Second, 1500*time.Millisecond)
			if !s.turns("agent")[1].Interrupted {
				s.t.Errorf("said:\n%s", s.journal.said())
			}
		}},
		"15_listening_resumes": {func(s *scene) { told(s, "uh-huh okay") }, func(s *scene) {
			s.listenTo(2 * time.Second)
			s.line.say(500 * time.Millisecond)
			s.wait(6 * time.Second)
			s.hangUp()
			s.want("agent: Hello there.\ncaller: Tell me a story.\ncaller: uh-huh okay\nagent: " + story)
		}},
		"18_hang_up_during_a_verdict_ends_at_once": {func(s *scene) { told(s, "") }, func(s *scene) {
			s.listenTo(2 * time.Second)
			go s.line.say(2 * time.Second)
			s.wait(400 * time.Millisecond) // paused
			s.hangUp()
			if a := s.turns("agent")[1]; !a.Interrupted || a.Heard == story {
				s.t.Errorf("heard %q", a.Heard)
			}
		}},
		"two_interruptions_within_a_second": {func(s *scene) { told(s, "", "", "Stop please.") }, func(s *scene) {
			s.listenTo(time.Second)
			for range 2 {
				s.line.say(200 * time.Millisecond)
				s.wait(450 * time.Millisecond)
			}
			s.line.say(800 * time.Millisecond)
			s.wait(3 * time.Second)
			s.hangUp()
			if got := s.journal.said(); !strings.Contains(got, " -\ncaller: Stop please.\nagent: Alright.") {
				s.t.Errorf("said:\n%s", got)
			}
		}},
		"keys_over_speech": {func(s *scene) { told(s, "uh four") }, func(s *scene) {
			s.listenTo(time.Second)
			go s.line.say(600 * time.Millisecond)
			s.wait(100 * time.Millisecond)
			s.line.press("4#")
			s.wait(4 * time.Second)
			s.hangUp()
			if got := s.journal.said(); !strings.Contains(got, " -\ncaller: 4\nagent: Alright.") {
				s.t.Errorf("said:\n%s", got)
			}
		}},
		"agents_own_word_is_an_answer": {func(s *scene) {
			told(s, "daughters")
		}, func(s *scene) {
			s.interrupted(3500*time.Millisecond, 700*time.Millisecond)
			if got := s.journal.said(); !strings.Contains(got, " -\ncaller: daughters\nagent: Alright.") {
				s.t.Errorf("said:\n%s", got)
			}
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { play(t, tt.setup, tt.act) })
	}
}

// interrupted listens to the story for a while, speaks over it, waits for the
// answer and hangs up.
func (s *scene) interrupted(after, speech time.Duration) {
	s.t.Helper()
	s.listenTo(after)
	s.line.say(speech)
	s.wait(3 * time.Second)
	s.hangUp()
	if n := len(s.turns("agent")); n < 3 {
		s.t.Fatalf("%d turns of the agent:\n%s", n, s.journal.said())
	}
}
