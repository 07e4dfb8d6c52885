package flow

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func decoded(t testing.TB, s string) map[string]any {
	t.Helper()
	v, err := decodeValue([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return v.(map[string]any)
}

func TestPatchMergesDeep(t *testing.T) {
	f := mustParse(t, `{"nodes":[{"id":"q","type":"question","content":{"question":"?","variable":"a"}}]}`)
	k := newTalk(t, f, Init{User: map[string]any{"id": "u1", "home": map[string]any{"city": "Bonn", "zip": json.Number("53111")}}})
	k.step(Patch{epoch, decoded(t, `{"user":{"home":{"city":"Köln"},"tags":["x"]},"variables":{"big":9007199254740993}}`)})
	want := decoded(t, `{"id":"u1","home":{"city":"Köln","zip":53111},"tags":["x"]}`)
	if !reflect.DeepEqual(k.s.User, want) || k.s.Variables["big"] != json.Number("9007199254740993") {
		t.Errorf("user %v, variables %v", k.s.User, k.s.Variables)
	}
	if k.s.System.Revision != 2 || k.s.System.Waiting.For != ForInput {
		t.Errorf("revision %d, waits for %q: want 2, input", k.s.System.Revision, k.s.System.Waiting.For)
	}
}

func TestCheckPatch(t *testing.T) {
	s := New(mustParse(t, `{"nodes":[{"id":"a","type":"message","content":{"text":"a"}}]}`), Init{ID: "s"})
	deep := strings.Repeat(`{"x":`, MaxStateDepth) + "1" + strings.Repeat("}", MaxStateDepth)
	for name, tt := range map[string]struct{ updates, path string }{
		"session": {`{"session":{"id":"x"}}`, "/session"},
		"system":  {`{"user":{},"system":{}}`, "/system"},
		"secret":  {`{"secret":{"k":"v"}}`, "/secret"},
		"unknown": {`{"a/b":{}}`, "/a~1b"},
		"text":    {`{"user":"me"}`, "/user"},
		"deep":    {`{"user":` + deep + `}`, "/user" + strings.Repeat("/x", MaxStateDepth-2)},
		"big":     {`{"temp":{"x":"` + strings.Repeat("y", MaxStateBytes) + `"}}`, "/"},
		"good":    {`{"temp":{"x":1},"context":{"locale":"de"}}`, ""},
	} {
		var refused *PatchError
		err := CheckPatch(s, decoded(t, tt.updates))
		if errors.As(err, &refused) != (tt.path != "") || refused != nil && refused.Path != tt.path {
			t.Errorf("%s: %.80v, want a fault at %q", name, err, tt.path)
		}
	}
	if len(s.Temp) > 0 {
		t.Error("checking changes the state")
	}
}

func TestClose(t *testing.T) {
	f := mustParse(t, `{"on_hangup":"b","nodes":[{"id":"q","type":"question","content":{"question":"?","variable":"a"}},{"id":"b","type":"message","content":{"text":"b"}}]}`)
	k := newTalk(t, f, Init{})
	k.step(Close{epoch, Completed})
	if k.s.Session.Status != Completed || k.s.Session.CurrentNode != "" || len(k.s.Pending()) > 0 || len(k.said) > 0 {
		t.Errorf("closed: %+v, said %q", k.s.Session, k.said)
	}
}

func TestEventsAreStoredWhole(t *testing.T) {
	for _, ev := range []Event{
		Start{epoch}, Input{epoch, "hi", "text", .5}, Silence{epoch}, Played{epoch, "id", "hea", true},
		Result{epoch, "id", "success", json.RawMessage(`{"a":12345678901234567890}`), "e", Spent{1, 2, 3}}, Hangup{At: epoch},
		Patch{epoch, map[string]any{"user": map[string]any{"n": json.Number("12345678901234567890")}}}, Close{epoch, Failed},
	} {
		b, err := EncodeEvent(ev)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeEvent(b)
		if err != nil || !reflect.DeepEqual(got, ev) {
			t.Errorf("%s: %#v, %v, want %#v", b, got, err, ev)
		}
	}
}

func TestDiff(t *testing.T) {
	got, err := Diff(
		[]byte(`{"entry":"a","nodes":[{"id":"a","content":{"text":"x"}},{"id":"b"},{"id":"c"}],"tags":[1,2]}`),
		[]byte(`{"nodes":[{"id":"c"},{"id":"a","content":{"text":"y"}},{"id":"d/e"}],"tags":[2,1],"x":null}`))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, c := range got {
		lines = append(lines, c.Op+" "+c.Path)
	}
	want := "remove /entry, replace /nodes/a/content/text, remove /nodes/b, add /nodes/d~1e, replace /tags, add /x"
	if s := strings.Join(lines, ", "); s != want {
		t.Errorf("got  %s\nwant %s", s, want)
	}
	if same, err := Diff([]byte(`{"a":1.0}`), []byte(`{ "a": 1 }`)); err != nil || len(same) > 0 {
		t.Errorf("equal documents differ: %v, %v", same, err)
	}
}
