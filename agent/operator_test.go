package agent

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// ordered is a scene whose session takes commands.
func ordered(t *testing.T, setup func(*scene), act func(*scene, chan Command)) {
	t.Helper()
	var commands chan Command // of the scene's own time
	play(t, func(s *scene) {
		commands = make(chan Command, 4)
		s.spec.Commands = commands
		setup(s)
	}, func(s *scene) { act(s, commands) })
}

func TestOperatorEndsTheCall(t *testing.T) {
	tests := map[string]struct {
		do   Command
		want Ending
		last string
	}{
		"at-once":            {Command{Do: DoHangup}, Ending{Reason: "operator"}, ""},
		"behind-a-goodbye":   {Command{Do: DoHangup, Text: "We close now. Goodbye."}, Ending{Reason: "operator"}, "agent: We close now. Goodbye."},
		"transfer":           {Command{Do: DoTransfer, Target: "+15550009"}, Ending{Reason: "transfer", Transfer: "+15550009"}, ""},
		"transfer-announced": {Command{Do: DoTransfer, Target: "+15550009", Text: "I connect you."}, Ending{Reason: "transfer", Transfer: "+15550009"}, "agent: I connect you."},
	}
	for name, tt := range tests {
		for when, at := range map[string]time.Duration{"thinking": -300 * time.Millisecond, "speaking": time.Second, "listening": 20 * time.Second} {
			t.Run(name+"/"+when, func(t *testing.T) {
				ordered(t, func(s *scene) { told(s) }, func(s *scene, commands chan Command) {
					s.listenTo(at)
					commands <- tt.do
					if e := s.ended(20 * time.Second); e.Reason != tt.want.Reason || e.Transfer != tt.want.Transfer {
						t.Errorf("ended by %+v, want %+v", e, tt.want)
					}
					if got := s.journal.said(); tt.last != "" && !strings.HasSuffix(strings.TrimSpace(got), tt.last) {
						t.Errorf("said:\n%s\nwant at the end %q", got, tt.last)
					}
				})
			})
		}
	}
}

// What an operator whispers reaches the model with the caller's next words, and
// never the caller's ears.
func TestWhisperReachesTheModelAlone(t *testing.T) {
	const secret = "Offer twenty percent."
	var settled []string
	ordered(t, func(s *scene) { told(s, "Is it expensive?") }, func(s *scene, commands chan Command) {
		s.listenTo(20 * time.Second)
		commands <- Command{Do: DoNote, Text: secret, Settle: func(r string) { settled = append(settled, r) }}
		s.wait(time.Second)
		s.line.say(time.Second)
		s.wait(5 * time.Second)
		s.hangUp()
		if got := s.journal.said(); strings.Contains(got, secret) {
			t.Errorf("the caller heard it:\n%s", got)
		}
		last := s.llm.prompts[len(s.llm.prompts)-1]
		if !slices.ContainsFunc(last.Messages, func(m Message) bool { return m.Role == "system" && strings.Contains(m.Text, secret) }) {
			t.Errorf("the model was asked without it: %+v", last.Messages)
		}
		if !slices.Equal(settled, []string{""}) {
			t.Errorf("settled %q", settled)
		}
	})
}

// In a flow the node whose model talks is told, and nobody else; one without such a
// node says that it cannot be.
func TestWhisperReachesTheModelOfAFlow(t *testing.T) {
	const secret = "Offer twenty percent."
	settled := make(chan string, 1)
	whisper := Command{Do: DoNote, Text: secret, Settle: func(r string) { settled <- r }}
	ordered(t, func(s *scene) {
		atModel(s, talkFlow)
		s.results = []string{"Is it expensive?"}
		s.llm.answers = append(s.llm.answers, text("We find a price."))
	}, func(s *scene, commands chan Command) {
		s.wait(3 * time.Second)
		commands <- whisper
		s.wait(time.Second)
		s.line.say(time.Second)
		s.wait(5 * time.Second)
		s.hangUp()
		if r := <-settled; r != "" {
			t.Errorf("settled %q", r)
		}
		if got := s.journal.said(); strings.Contains(got, secret) || !strings.Contains(got, "agent: We find a price.") {
			t.Errorf("said:\n%s", got)
		}
		last := s.llm.prompts[len(s.llm.prompts)-1]
		if !slices.ContainsFunc(last.Messages, func(m Message) bool {
			return m.Role == "system" && strings.Contains(m.Text, secret) && strings.Contains(m.Text, "do not read it out")
		}) {
			t.Errorf("the model was asked without it: %+v", last.Messages)
		}
	})
	ordered(t, atDesk, func(s *scene, commands chan Command) {
		s.wait(3 * time.Second)
		commands <- whisper
		s.wait(time.Second)
		s.hangUp()
		if r := <-settled; !strings.Contains(r, "no node whose model talks") {
			t.Errorf("settled %q", r)
		}
	})
}

// A sentence of the operator's waits until the agent has finished, and the model
// knows of it.
func TestSayWaitsForTheFloor(t *testing.T) {
	const sentence = "A colleague is listening."
	settled := make(chan string, 1)
	ordered(t, func(s *scene) { told(s, "Good.") }, func(s *scene, commands chan Command) {
		s.listenTo(time.Second)
		commands <- Command{Do: DoSay, Text: sentence, Settle: func(r string) { settled <- r }}
		s.wait(25 * time.Second)
		got := s.journal.said()
		if !strings.Contains(got, "agent: "+story+"\nagent: "+sentence) {
			t.Errorf("said:\n%s", got)
		}
		if r := <-settled; r != "" {
			t.Errorf("settled %q", r)
		}
		s.line.say(time.Second)
		s.wait(4 * time.Second)
		last := s.llm.prompts[len(s.llm.prompts)-1]
		if !slices.ContainsFunc(last.Messages, func(m Message) bool { return m.Role == "assistant" && m.Text == sentence }) {
			t.Errorf("the model was asked without it: %+v", last.Messages)
		}
		s.hangUp()
	})
}

// A caller who holds hears so again and again, and is answered by nobody until
// the hold is over; then the agent says that nobody came.
func TestHoldAndReturn(t *testing.T) {
	ordered(t, func(s *scene) {
		told(s, "Hello?")
		s.llm.answers[1] = text("Sorry, my colleague is busy.")
	}, func(s *scene, commands chan Command) {
		s.listenTo(time.Second)
		commands <- Command{Do: DoHold, Text: "Please hold."}
		s.wait(5 * time.Second)
		s.line.say(time.Second)
		s.wait(20 * time.Second)
		asked := len(s.llm.prompts)
		commands <- Command{Do: DoReturn, Text: "busy"}
		s.wait(10 * time.Second)
		s.hangUp()
		got := s.journal.said()
		if strings.Count(got, "Please hold.") < 2 || !strings.Contains(got, "caller: Hello?") || !strings.Contains(got, "agent: Sorry, my colleague is busy.") {
			t.Errorf("said:\n%s", got)
		}
		if asked != 1 {
			t.Errorf("the model was asked %d times before the hold was over, want 1", asked)
		}
		last := s.llm.prompts[len(s.llm.prompts)-1]
		if m := last.Messages[len(last.Messages)-1]; !strings.Contains(m.Text, "busy") {
			t.Errorf("the model is told %+v", m)
		}
	})
}

// A flow whose caller nobody took says so, and asks its question again; and it
// hears what is whispered as an event.
func TestHoldAndWhisperInAFlow(t *testing.T) {
	ordered(t, func(s *scene) {
		withFlow(s, `{"entry":"which","nodes":[
			{"id":"which","type":"question","content":{"question":"Red or blue?","input_type":"choice","variable":"c","options":[
				{"label":"Red","value":"red"},{"label":"Blue","value":"blue"}]},"connections":{"red":"wait","blue":"wait","no_input":"bye","no_match":"bye"}},
			{"id":"wait","type":"wait","content":{"event":"operator_note","seconds":30,"variable":"note"},"connections":{"default":"told","timeout":"bye"}},
			{"id":"told","type":"hangup","content":{"text":"It is {note.text}."}},
			{"id":"bye","type":"hangup","content":{"text":"Goodbye."}}]}`)
		s.results = []string{"Red."}
	}, func(s *scene, commands chan Command) {
		s.wait(4 * time.Second)
		commands <- Command{Do: DoHold}
		s.wait(5 * time.Second)
		commands <- Command{Do: DoReturn, Text: "no_answer"}
		s.wait(8 * time.Second)
		if got := s.journal.said(); !strings.Contains(got, "agent: "+holdWords) || !strings.Contains(got, excuse+" Red or blue?") {
			t.Errorf("said:\n%s", got)
		}
		s.line.say(time.Second)
		s.wait(3 * time.Second)
		commands <- Command{Do: DoNote, Text: "free"}
		if e := s.ended(20 * time.Second); e.Reason != "goodbye" || !strings.Contains(s.journal.said(), "It is free.") {
			t.Errorf("ended by %+v; said:\n%s", e, s.journal.said())
		}
	})
}
