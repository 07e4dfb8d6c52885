package flow

import (
	"encoding/json"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var epoch = At{time.Date(2026, 3, 2, 9, 0, 0, 0, time.UTC)} // a Monday

func mustParse(t testing.TB, doc string) *Flow {
	t.Helper()
	f, err := Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// A talk drives a flow as a host without audio does.
type talk struct {
	t    testing.TB
	f    *Flow
	s    State
	said []string
	last []Effect
}

func newTalk(t testing.TB, f *Flow, init Init) *talk {
	t.Helper()
	if init.ID == "" {
		init.ID = "s1"
	}
	k := &talk{t: t, f: f, s: New(f, init)}
	k.step(Start{epoch})
	return k
}

// step sends an event and checks what holds for every step.
func (k *talk) step(ev Event) {
	k.t.Helper()
	before, err := EncodeState(k.s)
	if err != nil {
		k.t.Fatal(err)
	}
	next, effects := Step(k.f, k.s, ev)
	if after, _ := EncodeState(k.s); string(after) != string(before) {
		k.t.Fatalf("Step changed its argument:\n%s\n%s", before, after)
	}
	b, err := EncodeState(next)
	if err != nil {
		k.t.Fatal(err)
	}
	if next, err = DecodeState(b, Hash(b)); err != nil {
		k.t.Fatal(err)
	}
	if again, _ := EncodeState(next); string(again) != string(b) {
		k.t.Fatalf("state changes when stored:\n%s\n%s", b, again)
	}
	k.said = nil
	for i, e := range effects {
		switch e := e.(type) {
		case Say:
			k.hear(e.Messages)
		case Ask:
			k.hear(e.Messages)
			if i != len(effects)-1 {
				k.t.Errorf("Ask is effect %d of %d, want the last", i, len(effects))
			}
		}
	}
	k.s, k.last = next, effects
}

func (k *talk) hear(messages []Message) {
	for _, m := range messages {
		k.said = append(k.said, m.Text)
	}
}

func (k *talk) say(text string) { k.t.Helper(); k.step(Input{epoch, text, "text", 0}) }

func (k *talk) want(said ...string) {
	k.t.Helper()
	if !slices.Equal(k.said, said) {
		k.t.Errorf("said %q, want %q", k.said, said)
	}
}

func (k *talk) wantAt(node, status string) {
	k.t.Helper()
	if k.s.Session.CurrentNode != node || k.s.Session.Status != status {
		k.t.Errorf("at %q, %s, want %q, %s", k.s.Session.CurrentNode, k.s.Session.Status, node, status)
	}
}

const seedQuestion = `{"nodes": [
  {"id": "welcome_msg", "type": "message", "content": {"messages": [
    {"type": "text", "content": "Welcome to Bookbot! 📚", "typing_delay": 1.5},
    {"type": "image", "url": "https://example.com/bookbot.gif", "alt": "Bookbot waving"}]}, "connections": {"default": "ask_name"}},
  {"id": "ask_name", "type": "question", "content": {"question": "What's your name?", "input_type": "text", "variable": "user_name",
    "validation": {"required": true, "pattern": "^[a-zA-Z\\s]{2,50}$", "error_message": "Please enter a valid name"}},
   "connections": {"default": "greet_user"}},
  {"id": "greet_user", "type": "message", "content": {"messages": [{"type": "text", "content": "Hi {user_name} and {{ user_name }}, {not a ref} \\{user_name}"}]}}]}`

func TestSeedMessageAndQuestion(t *testing.T) {
	k := newTalk(t, mustParse(t, seedQuestion), Init{})
	say := k.last[0].(Say)
	if got := string(say.Messages[0].Extra["typing_delay"]); got != "1.5" {
		t.Errorf("typing_delay = %s, want 1.5", got)
	}
	if got := say.Messages[1]; got.Type != "image" || got.URL != "https://example.com/bookbot.gif" || got.Alt != "Bookbot waving" {
		t.Errorf("image = %+v", got)
	}
	for _, bad := range []string{"", "A", "R2D2", strings.Repeat("a", 51)} {
		k.say(bad)
		k.want("Please enter a valid name", "What's your name?")
		k.wantAt("ask_name", Active)
		if len(k.s.Variables) != 0 {
			t.Errorf("variables = %v after a bad answer", k.s.Variables)
		}
	}
	k.say("Ada")
	k.want("Hi Ada and Ada, {not a ref} {user_name}")
	k.wantAt("", Completed)
}

func TestUserTextIsNeverExpanded(t *testing.T) {
	f := mustParse(t, `{"nodes": [{"id": "q", "type": "question", "content": {"question": "?", "variable": "x"}, "connections": {"default": "m"}},
		{"id": "m", "type": "message", "content": {"text": "{x}"}}]}`)
	for _, evil := range []string{"{user.id}", "{{x}}", "{secret:key}", `\{x}`} {
		k := newTalk(t, f, Init{User: map[string]any{"id": "u1"}})
		k.say(evil)
		k.want(evil)
	}
}

func TestSeedCondition(t *testing.T) {
	f := mustParse(t, `{"nodes": [{"id": "check_age", "type": "condition", "content": {"conditions": [
		{"if": {"and": [{"var": "user.age", "gte": 13}, {"var": "user.age", "lt": 18}]}, "then": "teen_content"},
		{"if": {"var": "user.age", "gte": 18}, "then": "adult_content"}], "else": "child_content"}},
		{"id": "teen_content", "type": "message", "content": {"text": "teen"}},
		{"id": "adult_content", "type": "message", "content": {"text": "adult"}},
		{"id": "child_content", "type": "message", "content": {"text": "child"}}]}`)
	for age, want := range map[any]string{12: "child", 13: "teen", 15: "teen", 17: "teen", 18: "adult", "15": "teen", "x": "child", nil: "child", 17.5: "teen"} {
		k := newTalk(t, f, Init{User: map[string]any{"age": age}})
		k.want(want)
	}
}

func TestFrontDesk(t *testing.T) {
	doc, err := os.ReadFile("../../examples/front-desk/flow.json")
	if err != nil {
		t.Fatal(err)
	}
	f := mustParse(t, string(doc))
	for _, p := range f.Check() {
		t.Error(p)
	}
	k := newTalk(t, f, Init{})
	for _, s := range []string{"book a table", "4", "Friday", "yes", "no"} {
		k.say(s)
	}
	k.wantAt("", Completed)
	if n, ok := k.s.Variables["party_size"].(json.Number); !ok || n != "4" {
		t.Errorf("party_size = %v", k.s.Variables["party_size"])
	}
}

func TestTransfer(t *testing.T) {
	f := mustParse(t, `{"nodes": [{"id": "x", "type": "transfer", "content": {"to": "+1555", "timeout": 20}, "connections": {"busy": "b", "error": "e"}},
		{"id": "b", "type": "message", "content": {"text": "busy"}}, {"id": "e", "type": "message", "content": {"text": "error"}}]}`)
	tests := []struct{ outcome, said, status string }{
		{"answered", "", Transferred}, {"busy", "busy", Completed}, {"no_answer", "error", Completed},
		{"declined", "error", Completed}, {"nonsense", "error", Completed},
	}
	for _, tt := range tests {
		t.Run(tt.outcome, func(t *testing.T) {
			k := newTalk(t, f, Init{})
			tr, ok := k.last[0].(Transfer)
			if !ok || tr.To != "+1555" || tr.Timeout != 20*time.Second || tr.ID != "s1:x:1" {
				t.Fatalf("effects = %+v", k.last)
			}
			if !reflect.DeepEqual(k.s.Pending(), []Effect{tr}) {
				t.Errorf("pending = %+v, want the transfer", k.s.Pending())
			}
			k.say("hello?")
			k.step(Result{At: epoch, ID: "other", Outcome: "answered"})
			k.wantAt("x", Active)
			k.step(Result{At: epoch, ID: tr.ID, Outcome: tt.outcome})
			if got := strings.Join(k.said, ""); got != tt.said || k.s.Session.Status != tt.status {
				t.Errorf("said %q, %s, want %q, %s", got, k.s.Session.Status, tt.said, tt.status)
			}
		})
	}
}
