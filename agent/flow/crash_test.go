package flow

import (
	"strings"
	"testing"
)

// A handler that fails is tried once more, then the way for errors is taken.
func TestHandlerThatFails(t *testing.T) {
	f := compile(t, `{"defaults":{"errors":{"say":"Something broke.","then":"person"}},"nodes":[
		{"id":"q","type":"question","content":{"question":"What?","variable":"what"},"connections":{"default":"set"}},
		{"id":"set","type":"action","content":{"actions":[{"type":"set_variable","variable":"kept","value":1}]},"connections":{"default":"bad"}},
		{"id":"bad","type":"message","content":{"text":"never"}},
		{"id":"person","type":"question","content":{"question":"A person?","variable":"p"}}]}`)
	f.root.nodes["bad"].kind.enter = func(*turn, *node) move { panic("a fault") }
	s, _ := Step(f, New(f, Init{ID: "s"}), Start{At: epoch})
	s, out := Step(f, s, Input{At: epoch, Text: "x", Mode: "text"})
	if got := saidIn(out); got != "Something broke.|What?" || s.Session.CurrentNode != "q" || s.Variables["what"] != nil || s.Variables["kept"] != nil {
		t.Errorf("first: %q at %s, %v", got, s.Session.CurrentNode, s.Variables)
	}
	s, out = Step(f, s, Input{At: epoch, Text: "x", Mode: "text"})
	if got := saidIn(out); got != "Something broke.|A person?" || s.Session.CurrentNode != "person" || s.System.Revision != 3 {
		t.Errorf("then: %q at %s, revision %d", got, s.Session.CurrentNode, s.System.Revision)
	}
	f.root.nodes["person"].kind.enter = func(*turn, *node) move { panic("a fault") }
	s, _ = Step(f, New(f, Init{ID: "s"}), Start{At: epoch})
	for range 2 {
		s, out = Step(f, s, Input{At: epoch, Text: "x", Mode: "text"})
	}
	if s.Session.Status != Failed || !strings.Contains(saidIn(out), "Something broke.") {
		t.Errorf("where the way for errors fails too: %s, %q", s.Session.Status, saidIn(out))
	}
}

func saidIn(effects []Effect) string {
	var out []string
	for _, e := range effects {
		switch e := e.(type) {
		case Say:
			out = append(out, Text(e.Messages))
		case Ask:
			out = append(out, Text(e.Messages))
		}
	}
	return strings.Join(out, "|")
}

func compile(t *testing.T, doc string) *Flow {
	t.Helper()
	f, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestStrict(t *testing.T) {
	for _, strict := range []string{"true", "false"} {
		f := compile(t, `{"strict":`+strict+`,"nodes":[
			{"id":"a","type":"action","content":{"actions":[{"type":"set_variable","variable":"x","value":1},{"type":"set_variable","variable":"y","value":"{none}"}]},"connections":{"success":"m","error":"m2"}},
			{"id":"m","type":"message","content":{"text":"Hi {none}."},"connections":{"default":"@end"}},
			{"id":"m2","type":"message","content":{"text":"Hi {none}."},"connections":{"default":"@end","error":"sorry"}},
			{"id":"sorry","type":"message","content":{"text":"{x} sorry."}}]}`)
		s, out := Step(f, New(f, Init{ID: "s"}), Start{At: epoch})
		want := "Hi ."
		if strict == "true" {
			want = "1 sorry."
		}
		if got := saidIn(out); got != want || s.Session.Status != Completed {
			t.Errorf("strict %s says %q, want %q", strict, got, want)
		}
	}
}

// Values cannot bring marks, and hosts without marks get plain text.
func TestSSML(t *testing.T) {
	doc := `{"nodes":[{"id":"m","type":"say","content":{"ssml":"<speak>Hi <break time=\"1s\"/><say-as interpret-as=\"characters\">ADA</say-as>, {user.name} &amp; <sub alias=\"doctor\">Dr.</sub> Lee</speak>"}}]}`
	f := compile(t, doc)
	init := Init{ID: "s", User: map[string]any{"name": "<audio src='x'/>"}}
	for _, channel := range []string{"voice", "chat"} {
		init.Channel = channel
		_, out := Step(f, New(f, init), Start{At: epoch})
		m := out[0].(Say).Messages[0]
		if m.Text != "Hi A D A, <audio src='x'/> & doctor Lee" {
			t.Errorf("%s: plain %q", channel, m.Text)
		}
		if channel == "chat" && m.SSML != "" || channel == "voice" && !strings.Contains(m.SSML, "&lt;audio src=&#39;x&#39;/&gt;") {
			t.Errorf("%s: marks %q", channel, m.SSML)
		}
	}
	if p := Lint([]byte(`{"nodes":[{"id":"m","type":"say","content":{"ssml":"<speak>Hi <b></speak>"}}]}`)); len(p) == 0 || p[0].Code != "bad-ssml" {
		t.Errorf("marks that are not closed: %v", p)
	}
}

// heard("…") holds for what was shown or truly heard, and for nothing else.
func TestHeard(t *testing.T) {
	f := compile(t, `{"nodes":[
		{"id":"m","type":"message","content":{"text":"Calls are recorded, always."},"connections":{"default":"q"}},
		{"id":"q","type":"question","content":{"question":"Go on?","variable":"x"},"connections":{"default":"c"}},
		{"id":"c","type":"condition","content":{"conditions":[{"if":"heard('are recorded always')","then":"yes"}],"else":"no"}},
		{"id":"yes","type":"message","content":{"text":"Yes."}},{"id":"no","type":"message","content":{"text":"No."}}]}`)
	for name, tt := range map[string]struct{ channel, heard, want string }{
		"shown": {"chat", "", "Yes."}, "heard": {"voice", "Calls are recorded, always. Go on?", "Yes."}, "cut": {"voice", "Calls are recorded,", "No."},
	} {
		s, _ := Step(f, New(f, Init{ID: "s", Channel: tt.channel}), Start{At: epoch})
		if tt.heard != "" {
			s = f.Heard(s, tt.heard)
		}
		if _, out := Step(f, s, Input{At: epoch, Text: "x", Mode: "text"}); saidIn(out) != tt.want {
			t.Errorf("%s: %q, want %q", name, saidIn(out), tt.want)
		}
	}
}

// Globals and special targets do the same by word and by key, in chat and on calls.
func TestGlobalsByWordAndKey(t *testing.T) {
	f := compile(t, `{"entry":"a","intents":{"person":["agent","talk to a human"]},
		"globals":[{"id":"p","when":{"intent":"person","dtmf":"0"},"then":"person"},{"id":"r","when":{"intent":"repeat","dtmf":"*"},"do":"repeat_last"},
			{"id":"s","when":{"intent":"stop","dtmf":"9"},"do":"stop"},{"id":"h","when":{"intent":"hang up","dtmf":"8"},"do":"hangup"}],
		"nodes":[{"id":"a","type":"question","content":{"question":"First?","variable":"a"},"connections":{"default":"b"}},
			{"id":"b","type":"question","content":{"question":"Second?","input_type":"number","variable":"b"},"connections":{"default":"@back","no_match":"@repeat"}},
			{"id":"person","type":"message","content":{"text":"A person comes."}}]}`)
	for _, channel := range []string{"chat", "voice"} {
		for _, tt := range []struct{ mode, in, said, status string }{
			{"text", "talk to a human", "A person comes.", Completed}, {"dtmf", "0", "A person comes.", Completed},
			{"text", "repeat please", "First?", Active}, {"dtmf", "*", "First?", Active},
			{"text", "stop", "", Completed}, {"dtmf", "9", "", Completed},
			{"text", "hang up", "Goodbye.", Completed}, {"dtmf", "8", "Goodbye.", Completed},
		} {
			s, _ := Step(f, New(f, Init{ID: "s", Channel: channel}), Start{At: epoch})
			s, out := Step(f, s, Input{At: epoch, Text: tt.in, Mode: tt.mode})
			if saidIn(out) != tt.said || s.Session.Status != tt.status {
				t.Errorf("%s, %s %q: %q, %s", channel, tt.mode, tt.in, saidIn(out), s.Session.Status)
			}
		}
		s, _ := Step(f, New(f, Init{ID: "s", Channel: channel}), Start{At: epoch})
		s, _ = Step(f, s, Input{At: epoch, Text: "x", Mode: "text"})
		if _, out := Step(f, s, Input{At: epoch, Text: "5", Mode: "text"}); saidIn(out) != "First?" {
			t.Errorf("@back asks %q", saidIn(out))
		}
	}
}
