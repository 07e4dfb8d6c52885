package agent

import (
	"strings"
	"testing"
	"time"

	"parley/agent/flow"
)

const deskFlow = `{"id":"desk","entry":"hello","nodes":[
 {"id":"hello","type":"message","content":{"messages":["Hello, this is the desk."]},"connections":{"default":"wish"}},
 {"id":"wish","type":"question","content":{"question":"Hours or booking?","input_type":"choice","variable":"wish","store":"value",
  "options":[{"label":"hours","value":"hours","dtmf":"1"},{"label":"booking","value":"booking","dtmf":"2"},{"label":"person","value":"person"}],
  "voice":{"no_input":{"timeout_ms":4000,"max":2,"prompts":["Please say hours or booking."]}}},
  "connections":{"$0":"hours","$1":"many","$2":"person","no_input":"bye"}},
 {"id":"hours","type":"message","content":{"messages":["We are open every day from nine in the morning until ten in the evening, all year round."]},"connections":{"default":"bye"}},
 {"id":"many","type":"question","content":{"question":"For how many?","input_type":"number","variable":"n"},"connections":{"default":"done"}},
 {"id":"done","type":"message","content":{"messages":["A table for {n}."]},"connections":{"default":"bye"}},
 {"id":"person","type":"transfer","content":{"to":"+15550100"},"connections":{"busy":"busy","error":"bye"}},
 {"id":"busy","type":"message","content":{"messages":["They are busy."]},"connections":{"default":"wish"}},
 {"id":"bye","type":"hangup","content":{"text":"Goodbye then."}}]}`

// atDesk sets a scene with the desk's flow.
func atDesk(s *scene) {
	f, err := flow.Parse([]byte(deskFlow))
	if err != nil {
		s.t.Fatal(err)
	}
	s.spec.Prompt = nil
	s.spec.Flow = &FlowSpec{Flow: f, Init: flow.Init{ID: "c1", Locale: "en-US"}}
}

func TestFlowToTheEnd(t *testing.T) {
	play(t, func(s *scene) {
		atDesk(s)
		s.results = []string{"booking", "four"}
	}, func(s *scene) {
		s.wait(5 * time.Second)
		s.line.say(600 * time.Millisecond)
		s.wait(3 * time.Second)
		s.line.say(500 * time.Millisecond)
		if e := s.ended(10 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		s.want("agent: Hello, this is the desk. Hours or booking?\ncaller: booking\nagent: For how many?\ncaller: four\n" +
			"agent: A table for 4. Goodbye then.")
		last := s.journal.commits[len(s.journal.commits)-1]
		if last.Status != flow.Completed {
			t.Errorf("last commit is %s at %q", last.Status, last.Node)
		}
		for i, c := range s.journal.commits {
			if c.Revision != i+1 || c.Hash != flow.Hash(c.State) {
				t.Errorf("commit %d has revision %d", i, c.Revision)
			}
		}
	})
}

func TestFlowIsAnsweredOverThePrompt(t *testing.T) {
	play(t, func(s *scene) {
		atDesk(s)
		s.results = []string{"booking"}
	}, func(s *scene) {
		s.wait(600 * time.Millisecond)
		s.line.say(900 * time.Millisecond)
		s.wait(4 * time.Second)
		s.hangUp()
		got := s.journal.said()
		if !strings.Contains(got, " -\ncaller: booking\nagent: For how many?") {
			t.Errorf("said:\n%s", got)
		}
	})
}

// Messages of a reply that is cut before all of it is spoken stay apart in what
// is kept of it.
func TestCutFlowReplyKeepsItsMessagesApart(t *testing.T) {
	story := strings.TrimSpace(strings.Repeat("We have rooms by the sea and in the hills. ", 12)) // more than is made ahead
	want := "Hello, this is the desk. " + story + " Hours or booking?"
	play(t, func(s *scene) {
		atDesk(s)
		f, err := flow.Parse([]byte(strings.Replace(deskFlow, `"question":"Hours`, `"question":"`+story+` Hours`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		s.spec.Flow.Flow = f
		s.results = []string{"booking"}
	}, func(s *scene) {
		s.wait(4 * time.Second)
		s.line.say(900 * time.Millisecond)
		s.wait(4 * time.Second)
		s.hangUp()
		if g := s.turns("agent")[0]; !g.Interrupted || g.Generated != want {
			t.Errorf("the reply is %+v, want all of\n%s", g, want)
		}
	})
}

func TestFlowByKeys(t *testing.T) {
	play(t, atDesk, func(s *scene) {
		s.wait(time.Second)
		s.line.press("2")
		s.wait(3 * time.Second)
		s.line.press("4#")
		if e := s.ended(10 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		if got := s.journal.said(); !strings.Contains(got, "caller: 2\nagent: For how many?\ncaller: 4\nagent: A table for 4. Goodbye then.") {
			t.Errorf("said:\n%s", got)
		}
	})
}

func TestFlowAsksAgainThenGivesUp(t *testing.T) {
	play(t, atDesk, func(s *scene) {
		if e := s.ended(40 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		s.want("agent: Hello, this is the desk. Hours or booking?\nagent: Please say hours or booking.\nagent: Goodbye then.")
	})
}

func TestFlowTransferComesBack(t *testing.T) {
	var stored Commit
	play(t, func(s *scene) {
		atDesk(s)
		s.results = []string{"person"}
	}, func(s *scene) {
		s.wait(5 * time.Second)
		s.line.say(600 * time.Millisecond)
		if e := s.ended(10 * time.Second); e.Reason != "transfer" || e.Transfer != "+15550100" {
			t.Errorf("ended by %+v", e)
		}
		stored = s.journal.commits[len(s.journal.commits)-1]
	})
	play(t, func(s *scene) {
		atDesk(s)
		s.spec.Flow.State, s.spec.Flow.Hash, s.spec.Returned = stored.State, stored.Hash, "busy"
	}, func(s *scene) {
		s.wait(6 * time.Second)
		s.hangUp()
		s.want("agent: They are busy. Hours or booking?")
		if first := s.journal.commits[0]; first.Revision != stored.Revision+1 {
			t.Errorf("goes on with revision %d after %d", first.Revision, stored.Revision)
		}
	})
}

func TestFlowComesBackToItsQuestion(t *testing.T) {
	var stored Commit
	play(t, func(s *scene) {
		atDesk(s)
		s.results = []string{"booking"}
	}, func(s *scene) {
		s.wait(5 * time.Second)
		s.line.say(600 * time.Millisecond)
		s.wait(1500 * time.Millisecond)
		s.line.events <- lineLost()
		if e := s.ended(3 * time.Second); e.Reason != "network" {
			t.Errorf("ended by %+v", e)
		}
		stored = s.journal.commits[len(s.journal.commits)-1]
	})
	play(t, func(s *scene) {
		atDesk(s)
		s.spec.Flow.State, s.spec.Flow.Hash = stored.State, stored.Hash
		s.results = []string{"four"}
	}, func(s *scene) {
		s.wait(2500 * time.Millisecond)
		s.line.say(500 * time.Millisecond)
		s.ended(10 * time.Second)
		s.want("agent: For how many?\ncaller: four\nagent: A table for 4. Goodbye then.")
	})
}

func mustFlow(t *testing.T, doc string) *flow.Flow {
	t.Helper()
	f, err := flow.Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A call whose line was lost in the middle of a message hears it again, and
// goes on after it.
func TestFlowComesBackToItsMessage(t *testing.T) {
	var stored Commit
	play(t, func(s *scene) { atDesk(s); s.results = []string{"hours"} }, func(s *scene) {
		s.wait(5 * time.Second)
		s.line.say(600 * time.Millisecond)
		s.wait(2500 * time.Millisecond)
		s.line.events <- lineLost()
		s.ended(time.Second)
		stored = s.journal.commits[len(s.journal.commits)-1]
	})
	play(t, func(s *scene) {
		atDesk(s)
		s.spec.Flow.State, s.spec.Flow.Hash = stored.State, stored.Hash
	}, func(s *scene) {
		if e := s.ended(30 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		s.want("agent: We are open every day from nine in the morning until ten in the evening, all year round. Goodbye then.")
	})
}

// An answer that was begun early goes on after its message was heard: what
// follows is not the answer once more.
func TestFlowActsAfterAMessageBegunEarly(t *testing.T) {
	play(t, func(s *scene) {
		s.spec.Prompt = nil
		s.spec.Flow = &FlowSpec{Init: flow.Init{ID: "c1", Locale: "en-US"}, Flow: mustFlow(t, `{"entry":"which","nodes":[
			{"id":"which","type":"question","content":{"question":"Which one?","variable":"one"},"connections":{"default":"told"}},
			{"id":"told","type":"message","content":{"text":"You said {one}."},"connections":{"default":"note"}},
			{"id":"note","type":"action","content":{"actions":[{"type":"append","variable":"list","value":"{one}"}]},"connections":{"success":"like"}},
			{"id":"like","type":"question","content":{"question":"Do you like it?","input_type":"yes_no","variable":"like"}}]}`)}
		recognizes(s, "the first one", 300*time.Millisecond, "the first one")
	}, func(s *scene) {
		s.wait(3 * time.Second)
		s.line.say(800 * time.Millisecond)
		s.wait(6 * time.Second)
		s.hangUp()
		s.want("agent: Which one?\ncaller: the first one\nagent: You said the first one. Do you like it?")
	})
}

// Many press the finish key behind every answer. Where one key was the answer
// already, it is not an answer to what follows, which it does not cut either.
func TestFlowByKeysThatAreClosedAllTheSame(t *testing.T) {
	play(t, atDesk, func(s *scene) {
		s.wait(3 * time.Second)
		s.line.press("2")
		s.wait(700 * time.Millisecond)
		s.line.press("#")
		s.wait(4 * time.Second)
		s.line.press("4#")
		if e := s.ended(10 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		if got := s.journal.said(); !strings.Contains(got, "caller: 2\nagent: For how many?\ncaller: 4\nagent: A table for 4. Goodbye then.") {
			t.Errorf("said:\n%s", got)
		}
	})
}
