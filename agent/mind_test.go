package agent

import (
	"strings"
	"testing"
	"time"
)

func TestModelThatDoesNotKeepToItsTask(t *testing.T) {
	forever := func(yield func(Delta, error) bool) {
		for yield(Delta{Text: "The same sentence again. "}, nil) {
		}
	}
	tests := map[string]struct {
		answers []func(func(Delta, error) bool)
		said    string // the agent's last turn begins so
		most    int    // characters of it
		ends    bool
	}{
		"says-nothing":      {answers: nil, said: wordless[moveListen], most: 40},
		"says-white-space":  {answers: []func(func(Delta, error) bool){text("  \n ")}, said: wordless[moveListen], most: 40},
		"calls-what-is-not": {answers: []func(func(Delta, error) bool){call("", "x", "{}"), call("", "x", "{}"), call("", "x", "{}"), call("", "x", "{}")}, said: wordless[moveListen], most: 40},
		"only-ends-call":    {answers: []func(func(Delta, error) bool){call("", "end_call", "{}")}, said: wordless[moveEnd], most: 40, ends: true},
		"never-stops":       {answers: []func(func(Delta, error) bool){forever}, said: "The same sentence again.", most: 700},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.spec.Prompt.MaxTokens = 100
				s.results = []string{"Hello there, agent."}
				s.llm.answers = tt.answers
			}, func(s *scene) {
				s.wait(2 * time.Second)
				s.line.say(800 * time.Millisecond)
				if tt.ends {
					if e := s.ended(20 * time.Second); e.Reason != "goodbye" {
						t.Errorf("ended by %+v", e)
					}
				} else {
					s.wait(6 * time.Second)
					s.hangUp()
				}
				turns := s.turns("agent")
				last := turns[len(turns)-1]
				if !strings.HasPrefix(last.Generated, tt.said) || len(last.Generated) > tt.most {
					t.Errorf("the agent made %d characters: %.60q", len(last.Generated), last.Generated)
				}
			})
		})
	}
}

func TestSilentModelIsReplacedByTheNext(t *testing.T) {
	play(t, func(s *scene) {
		s.results = []string{"Hello there, agent."}
		silent := &scriptedLLM{delay: time.Hour}
		s.spec.Prompt.Models = append([]Model{{Vendor: "silent", LLM: silent}}, s.spec.Prompt.Models...)
		s.llm.answers = append(s.llm.answers, text("Here I am."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(800 * time.Millisecond)
		s.wait(6 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: Hello there, agent.\nagent: Here I am.")
	})
}
