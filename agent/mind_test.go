package agent

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestModelThatDoesNotKeepToItsTask(t *testing.T) {
	// repeats streams a text n times; deaf to a consumer that leaves, it would
	// not end.
	repeats := func(s string, n int) func(func(Delta, error) bool) {
		return func(yield func(Delta, error) bool) {
			for range n {
				if !yield(Delta{Text: s}, nil) {
					return
				}
			}
		}
	}
	rounds := func(n int, say string) (all []func(func(Delta, error) bool)) {
		for range n {
			all = append(all, call(say, "x", "{}"))
		}
		return all
	}
	one := func(f func(func(Delta, error) bool)) []func(func(Delta, error) bool) {
		return []func(func(Delta, error) bool){f}
	}
	thousands := strings.Repeat("word and another word and more, ", 2500)
	tests := map[string]struct {
		answers []func(func(Delta, error) bool)
		said    string // the agent's last turn
		most    int    // characters of it, if it only begins so
		counted string
		ends    bool
	}{
		"says-nothing":          {answers: nil, said: wordless[moveListen], counted: "silence"},
		"says-white-space":      {answers: one(text("  \n ")), said: wordless[moveListen], counted: "silence"},
		"says-symbols":          {answers: one(text("*** --- ")), said: wordless[moveListen], counted: "silence"},
		"calls-what-is-not":     {answers: rounds(9, ""), said: wordless[moveListen], counted: "tool_rounds"},
		"calls-in-circles":      {answers: rounds(9, "Let me see. "), said: "Let me see. Let me see. Let me see. Let me see.", counted: "tool_rounds"},
		"only-ends-call":        {answers: one(call("", "end_call", "{}")), said: wordless[moveEnd], counted: "silence", ends: true},
		"ten-thousand-words":    {answers: one(text(thousands)), said: "word and another word and more,", most: 600, counted: "length"},
		"one-endless-word":      {answers: one(repeats("wordword", 1e6)), said: "", most: 600, counted: "length"},
		"same-sentence-forever": {answers: one(repeats("The same sentence once again. ", 1e6)), said: "The same sentence once again. The same sentence once again.", counted: "repetition"},
		"two-sentences-forever": {answers: one(repeats("I will look that up. Please wait for a moment. ", 1e6)),
			said: "I will look that up. Please wait for a moment. I will look that up.", counted: "repetition"},
		"repeats-a-little": {answers: one(text("No. No. No. Never.")), said: "No. No. No. Never."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			before := map[string]float64{}
			for _, what := range []string{"silence", "length", "repetition", "tool_rounds"} {
				before[what] = counted(t, misbehaved, what)
			}
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
					s.wait(7 * time.Second)
					s.hangUp()
				}
				turns := s.turns("agent")
				last := turns[len(turns)-1]
				if !strings.HasPrefix(last.Generated, tt.said) || len(last.Generated) > max(tt.most, len(tt.said)) {
					t.Errorf("the agent made %d characters: %.100q", len(last.Generated), last.Generated)
				}
			})
			if tt.counted != "" && counted(t, misbehaved, tt.counted) == before[tt.counted] {
				t.Errorf("%s is not counted", tt.counted)
			}
			for what, n := range before {
				if got := counted(t, misbehaved, what); got > n && tt.counted == "" {
					t.Errorf("counted as %s", what)
				}
			}
		})
	}
}

// What a call may cost is bounded: then it ends politely, once what was begun
// is said.
func TestCallOverItsBudgetEndsPolitely(t *testing.T) {
	play(t, func(s *scene) {
		s.spec.Prompt.CallTokens = 1000
		s.results = []string{"Hello.", "And again.", "And more.", "And more still."}
		costly := func(yield func(Delta, error) bool) {
			_ = yield(Delta{Text: "Here you are."}, nil) && yield(Delta{Finish: "stop", Usage: &Usage{PromptTokens: 500, CompletionTokens: 20}}, nil)
		}
		s.llm.answers = append(s.llm.answers, costly, costly, costly, costly)
	}, func(s *scene) {
		s.wait(2 * time.Second)
		for range 3 {
			s.line.say(800 * time.Millisecond)
			s.wait(3 * time.Second)
		}
		if e := s.ended(10 * time.Second); e.Reason != "limit" {
			t.Errorf("ended by %+v", e)
		}
		if n := len(s.llm.prompts); n != 2 {
			t.Errorf("%d requests", n)
		}
		if got := s.journal.said(); !strings.HasSuffix(strings.TrimSpace(got), "agent: "+limitNotice) {
			t.Errorf("said:\n%s", got)
		}
	})
}

// A vendor that tells no usage is estimated, a request that was dropped too.
func TestTokensAreEstimatedWithoutUsage(t *testing.T) {
	m := newPromptMind(PromptSpec{System: strings.Repeat("x", 4000), Models: []Model{{Vendor: "v", LLM: &promptLLM{}}}}, slog.New(slog.DiscardHandler))
	if _, err := m.reply(t.Context(), input{kind: inputSaid, mode: "speech", text: "hello"}, func(line) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if got := m.spent(); got < 1000 || got > 1300 {
		t.Errorf("spent %d tokens", got)
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

// A call whose line was lost goes on where it was: with what the agent said
// last, or with the answer that the caller still waits for.
func TestPromptAgentGoesOn(t *testing.T) {
	before := []Turn{{Speaker: "agent", Heard: "Hello there.", Generated: "Hello there."},
		{Index: 1, Speaker: "caller", Heard: "A table, please."},
		{Index: 2, Speaker: "agent", Heard: "For which", Generated: "For which day?", Interrupted: true},
		{Index: 3, Speaker: "caller", Heard: "Friday."}}
	for n, want := range map[int]string{3: "agent: For which day?", 4: "agent: Friday it is."} {
		play(t, func(s *scene) {
			s.spec.Prompt.History, s.spec.Turns = before[:n], n
			s.llm.answers = append(s.llm.answers, text("Friday it is."))
		}, func(s *scene) {
			s.wait(4 * time.Second)
			s.hangUp()
			s.want(want)
		})
	}
}
