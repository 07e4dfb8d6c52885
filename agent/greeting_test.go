package agent

import (
	"context"
	"strings"
	"testing"
	"time"

	"parley/agent/flow"
)

// firstHeard is when the caller first hears the agent, after the answer.
func firstHeard(s *scene, began time.Time) time.Duration {
	if len(s.line.heard) == 0 {
		s.t.Fatal("nothing was heard")
	}
	return s.line.heard[0].at.Add(-s.line.delay).Sub(began)
}

func TestCachedGreetingStartsWithin300msOfTheAnswer(t *testing.T) {
	cache := &SpeechCache{}
	var first, second time.Duration
	for _, after := range []*time.Duration{&first, &second} {
		play(t, func(s *scene) {
			s.spec.Cache = cache
			s.tts.delay = 900 * time.Millisecond // a slow voice
		}, func(s *scene) {
			began := time.Now()
			s.wait(3 * time.Second)
			s.hangUp()
			*after = firstHeard(s, began)
		})
	}
	if first < 900*time.Millisecond {
		t.Errorf("a greeting never made before was heard after %v", first)
	}
	if second > 300*time.Millisecond {
		t.Errorf("a cached greeting was heard after %v", second)
	}
	t.Logf("%v made anew, %v cached", first, second)
}

const slowFlow = `{"id":"f","entry":"q","nodes":[
 {"id":"q","type":"question","content":{"question":"Your name?","variable":"n"},"connections":{"default":"w"}},
 {"id":"w","type":"webhook","content":{"url":"https://api.example.com/find"%s},"connections":{"success":"found","error":"lost"}},
 {"id":"found","type":"message","content":{"messages":["Found you."]},"connections":{"default":"more"}},
 {"id":"lost","type":"message","content":{"messages":["That did not work."]},"connections":{"default":"more"}},
 {"id":"more","type":"question","content":{"question":"What else?","variable":"m"},"connections":{"default":"more"}}]}`

// atSlow sets a scene with a flow whose one call takes so long. It counts calls.
func atSlow(s *scene, extra string, takes time.Duration, calls *[]string) {
	s.spec.Prompt = nil
	s.spec.Flow = &FlowSpec{Flow: mustFlow(s.t, strings.Replace(slowFlow, "%s", extra, 1)), Init: flow.Init{ID: "c1", Locale: "en-US"},
		Perform: func(ctx context.Context, e flow.Effect) flow.Result {
			c, ok := e.(flow.Call)
			if !ok {
				return flow.Result{}
			}
			*calls = append(*calls, c.ID)
			select {
			case <-time.After(takes):
				return flow.Result{At: flow.At{At: time.Now()}, ID: c.ID, Outcome: "success"}
			case <-ctx.Done():
				return flow.Result{At: flow.At{At: time.Now()}, ID: c.ID, Outcome: "error"}
			}
		}}
}

func TestToolSlowerThan1200msGetsAHoldLine(t *testing.T) {
	tests := map[string]struct {
		extra string
		takes time.Duration
		want  string
	}{
		"fast":         {"", 800 * time.Millisecond, "Found you."},
		"slow":         {"", 2 * time.Second, holdLine("en") + " Found you."},
		"slow-its-own": {`,"say_while":[{"type":"text","text":"Let me look that up."}]`, 2 * time.Second, "Let me look that up. Found you."},
		"its-own-time": {`,"say_while":[{"type":"text","text":"Let me look."}],"voice":{"filler_after_ms":500}`, 800 * time.Millisecond, "Let me look. Found you."},
		"very-slow":    {"", 8 * time.Second, holdLine("en") + " " + holdLine("en") + " Found you."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var calls []string
			play(t, func(s *scene) {
				atSlow(s, tt.extra, tt.takes, &calls)
				s.results = []string{"Bob."}
			}, func(s *scene) {
				s.wait(2 * time.Second)
				s.line.say(600 * time.Millisecond)
				s.wait(500*time.Millisecond + 1200*time.Millisecond + 300*time.Millisecond)
				if early := s.line.heardFor() > 700*time.Millisecond; early != (tt.takes > time.Second || tt.extra != "" || name == "fast") {
					t.Errorf("heard for %v", s.line.heardFor())
				}
				s.wait(12 * time.Second)
				s.hangUp()
				if got := s.journal.said(); !strings.Contains(got, "caller: Bob.\nagent: "+tt.want) {
					t.Errorf("said:\n%s", got)
				}
				if len(calls) != 1 {
					t.Errorf("called %d times", len(calls))
				}
			})
		})
	}
}

// A noise of the line that a recognizer takes for a word, before the detector
// knows it for what it is, does not count; a word a moment later does.
func TestWordsOfASettlingLineDoNotCount(t *testing.T) {
	for from, counts := range map[time.Duration]bool{0: false, 600 * time.Millisecond: true} {
		t.Run(from.String(), func(t *testing.T) {
			play(t, func(s *scene) {
				s.spec.Prompt.Greeting = story
				s.spec.Recognizers[0].Interims = false
				s.results = []string{"Stop."}
				s.llm.answers = append(s.llm.answers, text("Alright."))
				if from == 0 {
					s.line.talk = time.Now().Add(900 * time.Millisecond)
				}
			}, func(s *scene) {
				if from > 0 {
					s.wait(from)
					s.line.say(900 * time.Millisecond)
				}
				s.wait(8 * time.Second)
				s.hangUp()
				if g := s.turns("agent")[0]; g.Interrupted != counts {
					t.Errorf("interrupted: %v, heard %q", g.Interrupted, g.Heard)
				}
			})
		})
	}
}

// A line that is loud from its first frame on, as a street or a machine is, does
// not cut the greeting; words over it do.
func TestNoiseOfTheLineIsNoInterruption(t *testing.T) {
	for _, words := range []string{"", "Stop please."} {
		t.Run(words, func(t *testing.T) {
			play(t, func(s *scene) {
				s.spec.Prompt.Greeting = story
				s.line.talk = time.Now().Add(4 * time.Second)
				s.results = []string{words}
				s.llm.answers = append(s.llm.answers, text("Alright."))
			}, func(s *scene) {
				s.wait(8 * time.Second)
				s.hangUp()
				if g := s.turns("agent")[0]; g.Interrupted != (words != "") {
					t.Errorf("interrupted: %v, heard %q", g.Interrupted, g.Heard)
				}
			})
		})
	}
}
