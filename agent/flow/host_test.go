package flow

import (
	"encoding/json"
	"testing"
	"time"
)

func TestHostNodes(t *testing.T) {
	f := mustParse(t, `{"nodes": [
		{"id": "l", "type": "switch_language", "content": {"locale": "es-US"}, "connections": {"default": "s"}},
		{"id": "s", "type": "say", "content": {"text": "hola {context.locale}"}, "connections": {"default": "d"}},
		{"id": "d", "type": "send_dtmf", "content": {"digits": "1w{n}x"}, "connections": {"default": "w"}},
		{"id": "w", "type": "wait", "content": {"ms": 1500}, "connections": {"default": "v"}},
		{"id": "v", "type": "voicemail", "content": {"text": "speak", "max": 30, "variable": "rec"}, "connections": {"recorded": "m"}},
		{"id": "m", "type": "menu", "content": {"question": "?", "options": ["a", "b"]}, "connections": {"$1": "e"}},
		{"id": "e", "type": "play", "content": {"url": "https://x.example/a.wav"}}]}`)
	for _, p := range f.Check() {
		if p.Severity == "error" {
			t.Error(p)
		}
	}
	k := newTalk(t, f, Init{Variables: map[string]any{"n": 42}})
	k.want("hola es-US")
	if _, ok := k.last[0].(SwitchLanguage); !ok {
		t.Errorf("first effect %T, want SwitchLanguage", k.last[0])
	}
	if d := k.last[2].(SendDigits); d.Digits != "1w42" {
		t.Errorf("digits %q", d.Digits)
	}
	w := k.last[3].(Wait)
	if w.After != 1500*time.Millisecond {
		t.Errorf("wait %v", w.After)
	}
	k.step(Result{At: epoch, ID: w.ID, Outcome: "timeout"})
	k.want("speak")
	r := k.last[1].(Record)
	if r.Max != 30*time.Second || !r.Beep {
		t.Errorf("record %+v", r)
	}
	k.step(Result{At: epoch, ID: r.ID, Outcome: "recorded", Data: json.RawMessage(`{"seconds": 3}`)})
	k.want("?")
	k.say("b")
	k.wantAt("", Completed)
}
