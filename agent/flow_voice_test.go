package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/agent/flow"
	"parley/media"
)

// withFlow sets a scene with a flow.
func withFlow(s *scene, doc string) {
	s.spec.Prompt = nil
	s.spec.Flow = &FlowSpec{Flow: mustFlow(s.t, doc), Init: flow.Init{ID: "c1", Locale: "en-US"}}
}

// lastState is the conversation's state as it was committed last.
func (s *scene) lastState() flow.State {
	s.t.Helper()
	s.journal.mu.Lock()
	defer s.journal.mu.Unlock()
	c := s.journal.commits[len(s.journal.commits)-1]
	st, err := flow.DecodeState(c.State, c.Hash)
	if err != nil {
		s.t.Fatal(err)
	}
	return st
}

// mailbox keeps messages in memory.
type mailbox struct {
	mu      sync.Mutex
	kept    map[string]time.Duration
	dropped int
	fail    error
}

type memo struct {
	box     *mailbox
	name    string
	rate    int
	samples int64
}

func (b *mailbox) Take(_ context.Context, effect string, rate int) (Memo, error) {
	return &memo{box: b, name: effect, rate: rate}, b.fail
}
func (m *memo) Write(pcm []int16) error { m.samples += int64(len(pcm)); return nil }
func (m *memo) Keep() (id, url string, err error) {
	m.box.mu.Lock()
	defer m.box.mu.Unlock()
	if m.box.kept == nil {
		m.box.kept = map[string]time.Duration{}
	}
	m.box.kept[m.name] = media.Duration(m.samples, m.rate)
	return m.name, "/messages/" + m.name, nil
}
func (m *memo) Drop() { m.box.dropped++ }

func (b *mailbox) only(t *testing.T) time.Duration {
	t.Helper()
	if len(b.kept) != 1 {
		t.Fatalf("%d messages are kept, want 1", len(b.kept))
	}
	for _, d := range b.kept {
		return d
	}
	return 0
}

const voicemailFlow = `{"id":"vm","entry":"leave","on_hangup":"gone","nodes":[
 {"id":"leave","type":"voicemail","content":{"text":"Leave a message.","max":20,"silence":2,"finish_key":"#","transcribe":true,"variable":"message"},
  "connections":{"recorded":"thanks","empty":"nothing"}},
 {"id":"thanks","type":"hangup","content":{"text":"Thank you."}},
 {"id":"nothing","type":"hangup","content":{"text":"Nothing was said."}},
 {"id":"gone","type":"action","content":{"actions":[{"type":"set_variable","variable":"left","value":true}]},"connections":{"default":"@end"}}]}`

// talk makes sounds of speech, a second every two.
func talk(s *scene, times int) {
	for range times {
		s.line.say(time.Second)
		s.wait(time.Second)
	}
}

func TestVoicemail(t *testing.T) {
	words := "please call me back"
	tests := map[string]struct {
		act     func(*scene)
		said    string
		atLeast time.Duration // kept; 0: nothing is
		atMost  time.Duration
		node    string
	}{
		"ends-by-silence": {func(s *scene) {
			s.line.say(1500 * time.Millisecond)
			s.wait(500 * time.Millisecond)
			s.line.say(time.Second)
			s.wait(6 * time.Second)
		},
			"agent: Leave a message.\ncaller: " + words + "\nagent: Thank you.", 5 * time.Second, 6 * time.Second, ""},
		"ends-by-key": {func(s *scene) { s.line.say(2 * time.Second); s.line.press("5#"); s.wait(4 * time.Second) },
			"agent: Leave a message.\ncaller: " + words + "\nagent: Thank you.", 2 * time.Second, 3 * time.Second, ""},
		"ends-at-its-most": {func(s *scene) { talk(s, 12); s.wait(4 * time.Second) },
			"agent: Leave a message.\ncaller: " + words + "\nagent: Thank you.", 20 * time.Second, 20*time.Second + 100*time.Millisecond, ""},
		"nobody-speaks": {func(s *scene) { s.wait(9 * time.Second) }, "agent: Leave a message.\nagent: Nothing was said.", 0, 0, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			box := &mailbox{}
			play(t, func(s *scene) {
				withFlow(s, voicemailFlow)
				s.spec.Mailbox, s.results = box, []string{words}
			}, func(s *scene) {
				s.wait(2200 * time.Millisecond) // the prompt and the beep
				tt.act(s)
				if e := s.ended(10 * time.Second); e.Reason != "goodbye" {
					t.Errorf("ended by %+v", e)
				}
				s.want(tt.said)
				st := s.lastState()
				if st.Session.Status != flow.Completed {
					t.Errorf("status %s", st.Session.Status)
				}
				m, _ := st.Variables["message"].(map[string]any)
				if tt.atLeast == 0 {
					if len(box.kept) != 0 || box.dropped != 1 || m != nil {
						t.Errorf("kept %v, dropped %d, variable %v", box.kept, box.dropped, m)
					}
					return
				}
				if d := box.only(t); d < tt.atLeast || d > tt.atMost {
					t.Errorf("the message is %v long, want %v to %v", d, tt.atLeast, tt.atMost)
				}
				if m["transcript"] != words || m["id"] == nil || !strings.HasPrefix(fmt.Sprint(m["url"]), "/messages/") {
					t.Errorf("the variable holds %v", m)
				}
			})
		})
	}
}

func TestVoicemailOfCallerWhoHangsUp(t *testing.T) {
	box := &mailbox{}
	play(t, func(s *scene) {
		withFlow(s, voicemailFlow)
		s.spec.Mailbox, s.results = box, []string{"call me"}
	}, func(s *scene) {
		s.wait(2200 * time.Millisecond)
		s.line.say(2 * time.Second)
		s.wait(500 * time.Millisecond)
		s.hangUp()
		if d := box.only(t); d < 2500*time.Millisecond || d > 3500*time.Millisecond {
			t.Errorf("the message is %v long", d)
		}
		st := s.lastState()
		m, _ := st.Variables["message"].(map[string]any)
		if st.Session.Status != flow.Abandoned || st.Variables["left"] != true || m["transcript"] != "call me" {
			t.Errorf("status %s, variables %v", st.Session.Status, st.Variables)
		}
	})
}

func TestVoicemailAndLostLine(t *testing.T) {
	box := &mailbox{}
	var stored Commit
	play(t, func(s *scene) {
		withFlow(s, voicemailFlow)
		s.spec.Mailbox, s.results = box, []string{"call me"}
	}, func(s *scene) {
		s.wait(2200 * time.Millisecond)
		s.line.say(2 * time.Second)
		s.line.events <- lineLost()
		s.ended(3 * time.Second)
		box.only(t)
		stored = s.journal.commits[len(s.journal.commits)-1]
	})
	play(t, func(s *scene) {
		withFlow(s, voicemailFlow)
		s.spec.Flow.State, s.spec.Flow.Hash = stored.State, stored.Hash
	}, func(s *scene) {
		s.ended(10 * time.Second)
		s.want("agent: Thank you.")
	})
}

// Who knows the prompt presses a key and speaks at once.
func TestVoicemailPromptIsSkipped(t *testing.T) {
	box := &mailbox{}
	play(t, func(s *scene) {
		withFlow(s, voicemailFlow)
		s.spec.Mailbox, s.results = box, []string{"call me"}
	}, func(s *scene) {
		s.wait(500 * time.Millisecond)
		s.line.press("#")
		s.wait(200 * time.Millisecond)
		s.line.say(time.Second)
		s.ended(10 * time.Second)
		if d := box.only(t); d < 2500*time.Millisecond || d > 4*time.Second {
			t.Errorf("the message is %v long", d)
		}
	})
}

func TestSwitchLanguage(t *testing.T) {
	doc := `{"id":"l","locales":{"default":"en-US","others":["es-US"]},"entry":"hi","defaults":{"voice":{"tts":{"voice":{"en-US":"ann","es-US":"eva"}}}},"nodes":[
	 {"id":"hi","type":"question","content":{"question":{"en-US":"Hello?","es-US":"¿Hola?"},"variable":"a"},"connections":{"default":"es"}},
	 {"id":"es","type":"switch_language","content":{"locale":"es-US"},"connections":{"default":"q"}},
	 {"id":"q","type":"question","content":{"question":{"en-US":"Sure?","es-US":"¿Seguro?"},"input_type":"yes_no","variable":"b"},"connections":{"default":"bye"}},
	 {"id":"bye","type":"hangup","content":{"text":{"en-US":"Bye.","es":"Adiós."}}}]}`
	var heard, spoken []string
	play(t, func(s *scene) {
		withFlow(s, doc)
		s.results = []string{"hello", "sí"}
		dial, say := s.spec.Recognizers[0].Dial, s.spec.Synthesizers[0].Dial
		s.spec.Recognizers[0].Dial = func(ctx context.Context, h Hearing) (STT, error) {
			heard = append(heard, h.Language)
			return dial(ctx, h)
		}
		s.spec.Synthesizers[0].Dial = func(ctx context.Context, d Delivery) (TTS, error) {
			if d.Voice != "" {
				spoken = append(spoken, d.Voice)
			}
			return say(ctx, d)
		}
	}, func(s *scene) {
		s.wait(3 * time.Second)
		s.line.say(600 * time.Millisecond)
		s.wait(4 * time.Second)
		s.line.say(500 * time.Millisecond)
		s.ended(10 * time.Second)
		s.want("agent: Hello?\ncaller: hello\nagent: ¿Seguro?\ncaller: sí\nagent: Adiós.")
		if got := strings.Join(heard, " "); got != "en-US es-US" {
			t.Errorf("recognizers are dialed for %q", got)
		}
		if got := strings.Join(spoken, " "); !strings.Contains(got, "ann eva") {
			t.Errorf("voices are dialed: %q", got)
		}
		if st := s.lastState(); st.Variables["b"] != true {
			t.Errorf("variables %v", st.Variables)
		}
	})
}

func TestMustHear(t *testing.T) {
	doc := `{"id":"m","entry":"law","nodes":[
	 {"id":"law","type":"message","content":{"text":"This call is recorded and kept for ninety days.","must_hear":true},"connections":{"default":"q"}},
	 {"id":"q","type":"question","content":{"question":"How many?","input_type":"number","variable":"n"},"connections":{"default":"c"}},
	 {"id":"c","type":"condition","content":{"conditions":[{"if":"heard(\"kept for ninety days\") && !heard(\"how many\")","then":"@hangup"}],"else":"q"}}]}`
	play(t, func(s *scene) {
		withFlow(s, doc)
		s.results = []string{"four please"}
	}, func(s *scene) {
		s.wait(1200 * time.Millisecond)
		s.line.say(900 * time.Millisecond)
		if e := s.ended(15 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		got := s.journal.said()
		if !strings.Contains(got, " -\ncaller: four please\nagent: This call is recorded and kept for ninety days. Goodbye.") {
			t.Errorf("said:\n%s", got)
		}
		if st := s.lastState(); fmt.Sprint(st.Variables["n"]) != "4" {
			t.Errorf("variables %v", st.Variables)
		}
	})
}

func TestConfirm(t *testing.T) {
	doc := `{"id":"c","entry":"q","nodes":[
	 {"id":"q","type":"question","content":{"question":"Your code?","variable":"code","validation":{"pattern":"^[A-Z]{3}$"}},"voice":{"confirm":"always"},"connections":{"default":"bye"}},
	 {"id":"bye","type":"hangup","content":{"text":"{code}, bye."}}]}`
	play(t, func(s *scene) {
		withFlow(s, doc)
		s.results = []string{"A D A", "no, E D A", "yes"}
	}, func(s *scene) {
		for range 3 {
			s.wait(5 * time.Second)
			s.line.say(600 * time.Millisecond)
		}
		s.ended(10 * time.Second)
		s.want("agent: Your code?\ncaller: A D A\nagent: I heard A D A. Is that right?\ncaller: no, E D A\nagent: I heard E D A. Is that right?\ncaller: yes\nagent: EDA, bye.")
	})
}

func TestSensitiveAnswerIsNotKept(t *testing.T) {
	const secret = "4111111111111111"
	doc := `{"id":"s","entry":"m","nodes":[
	 {"id":"m","type":"message","content":{"text":"We need your card now, all of it.","wait_for_ack":true},"connections":{"default":"q"}},
	 {"id":"q","type":"question","content":{"question":"Card number?","input_type":"digits","variable":"card"},"voice":{"sensitive":true,"digits":{"max":16}},"connections":{"default":"bye"}},
	 {"id":"bye","type":"hangup","content":{"text":"Thanks."}}]}`
	tests := map[string]func(*scene){
		"keyed":             func(s *scene) { s.wait(5 * time.Second); s.line.press(secret) },
		"keyed-over-a-text": func(s *scene) { s.wait(time.Second); s.line.press(secret) },
		"spoken": func(s *scene) {
			s.wait(5 * time.Second)
			s.line.say(2 * time.Second)
		},
		"spoken-over-a-text": func(s *scene) {
			s.wait(time.Second)
			s.line.say(2 * time.Second)
		},
	}
	for name, act := range tests {
		t.Run(name, func(t *testing.T) {
			var events []Event
			tape := &tape{}
			play(t, func(s *scene) {
				withFlow(s, doc)
				s.results = []string{secret}
				s.spec.Observe = func(e Event) { events = append(events, e) }
				s.spec.Recording = tape
			}, func(s *scene) {
				act(s)
				s.ended(10 * time.Second)
				if st := s.lastState(); st.Variables["card"] != secret {
					t.Errorf("variables %v", st.Variables)
				}
				for _, e := range events {
					b, _ := json.Marshal(e)
					if strings.Contains(string(b), "4111") || e.Digit == "4" {
						t.Errorf("event %s", b)
					}
				}
				if said := s.journal.said(); strings.Contains(said, "4111") {
					t.Errorf("said:\n%s", said)
				}
				for _, c := range s.journal.commits {
					if in, ok := c.Event.(flow.Input); ok && !c.Sensitive {
						t.Errorf("the history keeps %+v", in)
					}
				}
				if name == "spoken" && tape.loud {
					t.Error("the caller's voice is in the recording")
				}
			})
		})
	}
}

// tape notes whether the caller was heard on it.
type tape struct{ loud bool }

func (t *tape) Write(caller, _ []int16) error {
	for _, v := range caller {
		t.loud = t.loud || v > 1000
	}
	return nil
}

func TestWaitForEvent(t *testing.T) {
	doc := `{"id":"w","entry":"pay","nodes":[
	 {"id":"pay","type":"message","content":{"text":"Please pay now."},"connections":{"default":"w"}},
	 {"id":"w","type":"wait","content":{"event":"paid","seconds":40,"variable":"got"},"connections":{"default":"ok","timeout":"late"}},
	 {"id":"ok","type":"hangup","content":{"text":"Thanks for {got.amount}."}},
	 {"id":"late","type":"hangup","content":{"text":"Too late."}}]}`
	paid := Command{Do: "event", Event: "paid", Data: json.RawMessage(`{"amount":12}`)}
	tests := map[string]struct {
		act  func(*scene, chan<- Command)
		want string
	}{
		"while-it-waits": {func(s *scene, c chan<- Command) { s.wait(20 * time.Second); c <- paid },
			"agent: Please pay now. One moment, please. One moment, please. Thanks for 12."},
		"before-it-waits": {func(s *scene, c chan<- Command) { s.wait(300 * time.Millisecond); c <- paid },
			"agent: Please pay now. Thanks for 12."},
		"never": {func(s *scene, c chan<- Command) { c <- Command{Do: "event", Event: "other"} },
			"agent: Please pay now. One moment, please. One moment, please. One moment, please. One moment, please. Too late."},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var commands chan Command
			play(t, func(s *scene) {
				withFlow(s, doc)
				commands = make(chan Command, 4)
				s.spec.Commands = commands
			}, func(s *scene) {
				tt.act(s, commands)
				if e := s.ended(60 * time.Second); e.Reason != "goodbye" {
					t.Errorf("ended by %+v", e)
				}
				var all []string
				for _, turn := range s.journal.turns {
					all = append(all, turn.Heard)
				}
				if got := "agent: " + strings.Join(all, " "); got != tt.want {
					t.Errorf("said %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// Speech over an action is the answer of the question that follows; where the
// author says so, it gives the action up.
func TestSpeechOverAction(t *testing.T) {
	doc := func(cancel bool) string {
		return fmt.Sprintf(`{"id":"a","entry":"w","nodes":[
	 {"id":"w","type":"webhook","content":{"url":"https://x.example/","cancel_on_barge_in":%v},"connections":{"success":"q","error":"q2"}},
	 {"id":"q","type":"question","content":{"question":"How many?","input_type":"number","variable":"n"},"connections":{"default":"bye"}},
	 {"id":"q2","type":"question","content":{"question":"Failed, how many?","input_type":"number","variable":"n"},"connections":{"default":"bye"}},
	 {"id":"bye","type":"hangup","content":{"text":"{n}, bye."}}]}`, cancel)
	}
	for _, cancel := range []bool{false, true} {
		t.Run(fmt.Sprint(cancel), func(t *testing.T) {
			var took time.Duration
			play(t, func(s *scene) {
				withFlow(s, doc(cancel))
				s.results = []string{"four"}
				s.spec.Flow.Perform = func(ctx context.Context, e flow.Effect) flow.Result {
					begun := time.Now()
					select {
					case <-time.After(6 * time.Second):
					case <-ctx.Done():
					}
					took = time.Since(begun)
					return flow.Result{ID: e.(flow.Call).ID, Outcome: "success"}
				}
			}, func(s *scene) {
				s.wait(3 * time.Second)
				s.line.say(600 * time.Millisecond)
				s.ended(20 * time.Second)
				if got := s.journal.said(); !strings.HasSuffix(got, "agent: 4, bye.\n") {
					t.Errorf("said:\n%s", got)
				}
				if given := took < 6*time.Second; given != cancel {
					t.Errorf("the call took %v", took)
				}
			})
		})
	}
}

func TestSoundFiles(t *testing.T) {
	doc := `{"id":"f","entry":"p","nodes":[
	 {"id":"p","type":"play","content":{"url":"https://x.example/jingle.wav","alt":"Our jingle."},"connections":{"default":"d"}},
	 {"id":"d","type":"send_dtmf","content":{"digits":"12w3"},"connections":{"default":"bye"}},
	 {"id":"bye","type":"hangup","content":{"text":"Bye."}}]}`
	length := 3 * time.Second
	for name, fail := range map[string]error{"plays": nil, "says-its-text": errors.New("gone")} {
		t.Run(name, func(t *testing.T) {
			play(t, func(s *scene) {
				withFlow(s, doc)
				s.spec.Audio = func(_ context.Context, url string) (int, []int16, error) {
					if url != "https://x.example/jingle.wav" {
						t.Errorf("fetches %q", url)
					}
					return 16000, make([]int16, media.Samples(length, 16000)), fail
				}
			}, func(s *scene) {
				s.ended(15 * time.Second)
				s.want("agent: Our jingle. Bye.")
				keys, err := keyTones("12w3", 8000)
				if err != nil {
					t.Fatal(err)
				}
				want := media.Duration(int64(len(keys)), 8000) + time.Duration(len("Bye."))*toneChar
				if fail == nil {
					want += length
				} else {
					want += time.Duration(len("Our jingle.")) * toneChar
				}
				if got := s.line.heardFor(); got < want-150*time.Millisecond || got > want+150*time.Millisecond {
					t.Errorf("heard %v, want %v", got, want)
				}
			})
		})
	}
}
