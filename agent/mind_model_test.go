package agent

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"parley/agent/flow"
)

const talkFlow = `{"id":"talk","entry":"desk","globals":[{"when":{"phrases":["operator"]},"then":"person"}],"nodes":[
 {"id":"desk","type":"agent","content":{"prompt":"You are a desk.","greeting":"Hello there.",
   "slots":[{"name":"day","type":"date"}],
   "tools":[{"name":"find","action":{"type":"api_call","url":"https://x.example/free","response_variable":"temp.free"},"returns":"{temp.free}"}],
   "exits":[{"name":"done","must_collect":["day"]}]},
  "connections":{"exit:done":"bye","error":"sorry","no_input":"bye"}},
 {"id":"person","type":"hangup","content":{"text":"Here is a person."}},
 {"id":"sorry","type":"hangup","content":{"text":"Sorry, call again."}},
 {"id":"bye","type":"hangup","content":{"text":"Goodbye then."}}]}`

const listenFlow = `{"id":"listen","entry":"table","nodes":[
 {"id":"table","type":"listen","content":{"slots":[{"name":"day","type":"date","prompt":"Which day?"},{"name":"people","type":"number","prompt":"How many people?"}]},
  "connections":{"filled":"bye"}},
 {"id":"bye","type":"hangup","content":{"text":"A table for {people}."}}]}`

// atModel sets a scene with a flow whose nodes the scene's model helps.
func atModel(s *scene, doc string) {
	s.spec.Prompt = nil
	s.spec.Flow = &FlowSpec{Flow: mustFlow(s.t, doc), Init: flow.Init{ID: "c1", Locale: "en-US"}, Models: proposer(s.llm)}
}

func TestAgentNodeOnACall(t *testing.T) {
	play(t, func(s *scene) {
		atModel(s, talkFlow)
		s.results = []string{"What time do you open?", "Book me for friday then."}
		s.llm.answers = append(s.llm.answers, text("We open at nine. When will you come?"),
			call("Booked, see you.", "leave", `{"exit":"done"}`), // without a day it may not
			call("", "fill_slots", `{"day":"2026-03-06"}`), call("See you on Friday.", "leave", `{"exit":"done"}`))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(1200 * time.Millisecond)
		s.wait(6 * time.Second)
		s.line.say(1200 * time.Millisecond)
		if e := s.ended(20 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		s.want("agent: Hello there.\ncaller: What time do you open?\nagent: We open at nine. When will you come?\n" +
			"caller: Book me for friday then.\nagent: Booked, see you. See you on Friday. Goodbye then.")
		var r Turn
		for _, t := range s.journal.turns {
			if strings.HasPrefix(t.Heard, "We open") {
				r = t
			}
		}
		if l := r.Latency; l.FirstAudio < 250*time.Millisecond || l.FirstAudio > 900*time.Millisecond || r.Node != "desk" {
			t.Errorf("first audio %v after the end of speech, at %q", l.FirstAudio, r.Node)
		}
		for i, c := range s.journal.commits {
			if c.Revision != i+1 || c.Hash != flow.Hash(c.State) {
				t.Errorf("commit %d has revision %d", i, c.Revision)
			}
		}
		if last := s.journal.commits[len(s.journal.commits)-1]; last.Status != flow.Completed {
			t.Errorf("last commit is %s at %q", last.Status, last.Node)
		}
	})
}

// What the model is shown of its own words is what the caller heard of them.
func TestAgentNodeIsInterrupted(t *testing.T) {
	play(t, func(s *scene) {
		atModel(s, talkFlow)
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
		if !strings.Contains(said, " -\ncaller: Stop please.\nagent: Alright.") {
			t.Errorf("said:\n%s", said)
		}
		var told string
		for _, m := range s.llm.prompts[len(s.llm.prompts)-1].Messages {
			if m.Role == "assistant" && strings.HasPrefix(m.Text, "Once") {
				told = m.Text
			}
		}
		if told == "" || strings.Contains(told, "daughters") || !strings.Contains(said, "agent: "+told+" -") {
			t.Errorf("the model remembers %q, the record says:\n%s", told, said)
		}
	})
}

// A model that is cut off while it still speaks leaves the flow where it was.
func TestAgentNodeIsCutWhileItSpeaks(t *testing.T) {
	endless := func(yield func(Delta, error) bool) {
		for _, w := range strings.SplitAfter("Once upon a time. There was a king. He lived by the sea. He had three daughters. They were bold. ", " ") {
			<-time.After(300 * time.Millisecond)
			if !yield(Delta{Text: w}, nil) {
				return
			}
		}
	}
	play(t, func(s *scene) {
		atModel(s, talkFlow)
		s.results = []string{"Tell me a story.", "Stop please.", "Operator."}
		s.llm.answers = append(s.llm.answers, endless, text("Alright."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(3500 * time.Millisecond)
		s.line.say(800 * time.Millisecond)
		s.wait(4 * time.Second)
		s.line.say(800 * time.Millisecond)
		if e := s.ended(10 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		said := s.journal.said()
		if !strings.Contains(said, "caller: Tell me a story.\nagent: Once upon a time.") || !strings.Contains(said, "-\ncaller: Stop please.\nagent: Alright.\ncaller: Operator.\nagent: Here is a person.") {
			t.Errorf("said:\n%s", said)
		}
		var roles []string
		for _, m := range s.llm.prompts[len(s.llm.prompts)-1].Messages {
			roles = append(roles, m.Role)
		}
		if got := strings.Join(roles, " "); got != "assistant user assistant user" {
			t.Errorf("the model saw %s", got)
		}
	})
}

// A caller who goes on before a word was heard is answered once, to all of it.
func TestAgentNodeCallerGoesOn(t *testing.T) {
	play(t, func(s *scene) {
		atModel(s, talkFlow)
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
		last := s.llm.prompts[len(s.llm.prompts)-1].Messages
		if len(last) != 2 || last[1].Text != "I want a table. For four people." {
			t.Errorf("the model saw %+v", last)
		}
	})
}

func TestAgentNodeUsesAToolOnACall(t *testing.T) {
	play(t, func(s *scene) {
		atModel(s, talkFlow)
		s.spec.Flow.Perform = func(_ context.Context, e flow.Effect) flow.Result {
			<-time.After(500 * time.Millisecond)
			return flow.Result{ID: e.(flow.Call).ID, Outcome: "success", Data: json.RawMessage(`"seven"`)}
		}
		s.results = []string{"What is free?"}
		s.llm.answers = append(s.llm.answers, call("Let me see.", "find", `{}`), text("Seven is free."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		s.wait(6 * time.Second)
		s.hangUp()
		s.want("agent: Hello there.\ncaller: What is free?\nagent: Let me see. Seven is free.")
		last := s.llm.prompts[len(s.llm.prompts)-1].Messages
		if m := last[len(last)-1]; m.Role != "tool" || m.Text != "seven" {
			t.Errorf("the model saw %+v", last)
		}
	})
}

func TestAgentNodeWithoutAModelOnACall(t *testing.T) {
	play(t, func(s *scene) {
		atModel(s, talkFlow)
		s.spec.Flow.Models = nil
		s.results = []string{"What is free?"}
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(time.Second)
		if e := s.ended(10 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		s.want("agent: Hello there.\ncaller: What is free?\nagent: Sorry, call again.")
	})
}

func TestListenNodeOnACall(t *testing.T) {
	play(t, func(s *scene) {
		atModel(s, listenFlow)
		s.results = []string{"On friday, there are four of us."}
		s.llm.answers = append(s.llm.answers, call("I talk too much.", "fill_slots", `{"day":"2026-03-06","people":4}`))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(1500 * time.Millisecond)
		if e := s.ended(15 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		s.want("agent: Which day?\ncaller: On friday, there are four of us.\nagent: A table for 4.")
	})
}

// An agent node's answer is begun before the caller's turn has ended for
// certain, as any other.
func TestAgentNodeSpeculates(t *testing.T) {
	timed := func(off bool) time.Duration {
		var l Latency
		play(t, func(s *scene) {
			atModel(s, talkFlow)
			s.spec.Speculation.Off = off
			s.results = []string{"what time do you open"}
			s.llm.answers = append(s.llm.answers, text("We open at nine. See you then."))
		}, func(s *scene) {
			s.wait(2 * time.Second)
			s.line.say(1200 * time.Millisecond)
			s.wait(5 * time.Second)
			s.hangUp()
			s.want("agent: Hello there.\ncaller: what time do you open\nagent: We open at nine. See you then.")
			l = s.journal.turns[len(s.journal.turns)-1].Latency
			if n := len(s.llm.prompts); n != 1 {
				t.Errorf("the model was asked %d times", n)
			}
		})
		return l.FirstAudio
	}
	plain, early := timed(true), timed(false)
	if early > plain-150*time.Millisecond {
		t.Errorf("first audio after %v, without speculation %v", early, plain)
	}
}

// A model that reads slowly is waited for with a word; one that does not answer
// is done without.
func TestListenNodeOfASlowModel(t *testing.T) {
	for _, tt := range []struct {
		name  string
		delay time.Duration
		want  string
	}{
		{"slow", 2400 * time.Millisecond, "agent: Which day?\ncaller: On friday, there are four of us.\nagent: One moment, please. A table for 4."},
		{"dead", time.Hour, "agent: Which day?\ncaller: On friday, there are four of us.\nagent: One moment, please. Sorry, I didn't get that. Which day?"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			play(t, func(s *scene) {
				atModel(s, listenFlow)
				s.llm.delay = tt.delay
				s.results = []string{"On friday, there are four of us."}
				s.llm.answers = append(s.llm.answers, call("", "fill_slots", `{"day":"2026-03-06","people":4}`))
			}, func(s *scene) {
				s.wait(2 * time.Second)
				s.line.say(1500 * time.Millisecond)
				s.wait(14 * time.Second)
				if got := s.journal.said(); !strings.HasPrefix(got, tt.want) {
					t.Errorf("said:\n%s\nwant:\n%s", got, tt.want)
				}
			})
		})
	}
}

// A model that does not say a word is given up for the next, while the caller
// hears that somebody is there.
func TestAgentNodeFailsOverOnACall(t *testing.T) {
	play(t, func(s *scene) {
		atModel(s, talkFlow)
		dead := &scriptedLLM{delay: time.Hour}
		s.spec.Flow.Models = proposer(dead, s.llm)
		s.results = []string{"What time do you open?"}
		s.llm.answers = append(s.llm.answers, text("We open at nine."))
	}, func(s *scene) {
		s.wait(2 * time.Second)
		s.line.say(1200 * time.Millisecond)
		s.wait(9 * time.Second)
		s.hangUp()
		if got := s.journal.said(); !strings.HasSuffix(got, "agent: We open at nine.\n") && !strings.HasSuffix(got, "agent: One moment, please. We open at nine.\n") {
			t.Errorf("said:\n%s", got)
		}
	})
}
