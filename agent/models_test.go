package agent

import (
	"testing"
	"time"
)

// failing answers with an error, always, and counts how often.
func failing(n *int, err error) func(func(Delta, error) bool) {
	return func(yield func(Delta, error) bool) {
		*n++
		yield(Delta{}, err)
	}
}

func TestModelsThatFail(t *testing.T) {
	for _, tt := range []struct {
		name  string
		err   error
		turns int
		asked int // the first model in those turns
	}{
		{"rests for the turns that follow", ErrUnavailable, 2, 1},
		{"is not asked again with a refused key", ErrCredentials, 2, 1},
		{"is not asked while it is busy", &RefusedError{Status: 429, RetryAfter: time.Minute, Err: ErrBusy}, 2, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var asked int
			play(t, func(s *scene) {
				s.results = []string{"Hello there, agent.", "And another thing."}
				bad := &scriptedLLM{}
				for range 10 {
					bad.answers = append(bad.answers, failing(&asked, tt.err))
				}
				s.spec.Prompt.Models = append([]Model{{Vendor: "bad", LLM: bad}}, s.spec.Prompt.Models...)
				s.llm.answers = append(s.llm.answers, text("Here I am."), text("Again."))
			}, func(s *scene) {
				s.wait(2 * time.Second)
				s.line.say(800 * time.Millisecond)
				s.wait(4 * time.Second)
				s.line.say(800 * time.Millisecond)
				s.wait(4 * time.Second)
				s.hangUp()
				s.want("agent: Hello there.\ncaller: Hello there, agent.\nagent: Here I am.\ncaller: And another thing.\nagent: Again.")
			})
			if asked != tt.asked {
				t.Errorf("it was asked %d times, want %d", asked, tt.asked)
			}
		})
	}
	t.Run("alone is asked once more", func(t *testing.T) {
		var asked int
		play(t, func(s *scene) {
			s.results = []string{"Hello there, agent."}
			s.llm.answers = append(s.llm.answers, failing(&asked, ErrUnavailable), text("Here I am."))
		}, func(s *scene) {
			s.wait(2 * time.Second)
			s.line.say(800 * time.Millisecond)
			s.wait(4 * time.Second)
			s.hangUp()
			s.want("agent: Hello there.\ncaller: Hello there, agent.\nagent: Here I am.")
		})
	})
}
