package flow

import (
	"strings"
	"testing"
	"time"
)

func TestEscalation(t *testing.T) {
	f := mustParse(t, `{"defaults": {"voice": {"no_input": {"timeout_ms": 5000, "max": 3, "prompts": ["still there?", "hello?"]}}}, "nodes": [
		{"id": "q", "type": "question", "content": {"question": "yes or no?", "input_type": "yes_no", "voice": {"barge_in": false}},
		 "voice": {"no_match": {"max": 2, "prompts": ["say yes or no"], "then": "lost"}, "digits": {"max": 1, "inter_digit_ms": 800}, "speech": {"hints": ["aye"]}},
		 "connections": {"default": "@end", "no_input": "quiet"}},
		{"id": "quiet", "type": "message", "content": {"text": "quiet"}}, {"id": "lost", "type": "message", "content": {"text": "lost"}}]}`)
	t.Run("no-input", func(t *testing.T) {
		k := newTalk(t, f, Init{})
		k.step(Silence{epoch})
		k.want("still there?")
		k.step(Silence{epoch})
		k.want("hello?")
		k.step(Silence{epoch})
		k.want("quiet")
	})
	t.Run("no-match", func(t *testing.T) {
		k := newTalk(t, f, Init{})
		k.say("eh")
		k.want("say yes or no")
		k.say("what")
		k.want("lost")
	})
	t.Run("resolved", func(t *testing.T) {
		k := newTalk(t, f, Init{})
		ask := k.last[len(k.last)-1].(Ask)
		v := ask.Voice
		if !v.BargeIn.Off || v.NoInput != 5*time.Second || v.Digits.Max != 1 || v.Digits.InterDigit != 800*time.Millisecond || ask.Takes.Hints[0] != "aye" {
			t.Errorf("voice = %+v, hints %q", v, ask.Takes.Hints)
		}
		if o := ask.Takes.Options; len(o) != 2 || o[0].DTMF != "1" {
			t.Errorf("options = %+v, want yes and no", o)
		}
	})
}

func TestMaxRetries(t *testing.T) {
	f := mustParse(t, `{"nodes": [{"id": "q", "type": "question", "content": {"question": "n?", "input_type": "number", "max_retries": 1},
		"connections": {"default": "@end", "no_match": "m"}}, {"id": "m", "type": "message", "content": {"text": "gave up"}}]}`)
	k := newTalk(t, f, Init{})
	k.say("x")
	k.want("Sorry, I didn't get that.", "n?")
	k.say("x")
	k.want("gave up")
}

func TestGlobals(t *testing.T) {
	f := mustParse(t, `{"intents": {"talk to a person": ["agent", "human"], "help": ["help me"]},
		"globals": [{"when": {"intent": "talk to a person", "dtmf": "0"}, "then": "person"}, {"when": {"intent": "help"}, "then": "help", "return": true},
			{"when": {"phrases": ["repeat"]}, "do": "repeat_last"}, {"when": {"phrases": ["stop"]}, "do": "stop"}, {"when": {"phrases": ["bye"]}, "do": "hangup"}],
		"nodes": [{"id": "q", "type": "question", "content": {"question": "name?", "variable": "n"}, "connections": {"default": "@end"}},
			{"id": "person", "type": "message", "content": {"text": "a person"}}, {"id": "help", "type": "message", "content": {"text": "help"}}]}`)
	tests := []struct {
		in, mode, said, node, status string
	}{
		{"agent", "text", "a person", "", Completed},
		{"Can I talk to a human, please?", "speech", "name?", "q", Active}, // not one of the phrases: an answer of its own
		{"I want to talk to a person now", "speech", "a person", "", Completed},
		{"0", "dtmf", "a person", "", Completed},
		{"help me", "speech", "help|name?", "q", Active},
		{"repeat", "speech", "name?", "q", Active},
		{"stop", "speech", "", "", Completed},
		{"bye", "speech", "Goodbye.", "", Completed},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			k := newTalk(t, f, Init{})
			k.step(Input{epoch, tt.in, tt.mode, 0})
			if tt.in == "Can I talk to a human, please?" {
				if k.s.Variables["n"] != tt.in {
					t.Errorf("stored %v", k.s.Variables["n"])
				}
				return
			}
			if got := strings.Join(k.said, "|"); got != tt.said {
				t.Errorf("said %q, want %q", got, tt.said)
			}
			k.wantAt(tt.node, tt.status)
			if len(k.s.System.Frames) != 1 {
				t.Errorf("%d frames, want 1", len(k.s.System.Frames))
			}
		})
	}
}

func TestSpecialTargets(t *testing.T) {
	f := mustParse(t, `{"defaults": {"errors": {"say": {"en-US": "oops", "es": "vaya"}, "then": "sorry"}}, "nodes": [
		{"id": "a", "type": "question", "content": {"question": "a?"}, "connections": {"default": "b"}},
		{"id": "b", "type": "question", "content": {"question": "b?", "input_type": "choice", "options": ["back", "again", "err", "bye", "end"]},
		 "connections": {"$0": "@back", "$1": "@repeat", "err": "@error", "bye": "@hangup", "end": "@end"}},
		{"id": "sorry", "type": "message", "content": {"text": "sorry"}}]}`)
	tests := []struct{ in, locale, said, node, status string }{
		{"back", "", "a?", "a", Active}, {"again", "", "b?", "b", Active}, {"err", "en-GB", "oops|sorry", "", Completed},
		{"err", "es-MX", "vaya|sorry", "", Completed}, {"bye", "", "Goodbye.", "", Completed}, {"end", "", "", "", Completed},
	}
	for _, tt := range tests {
		t.Run(tt.in+tt.locale, func(t *testing.T) {
			k := newTalk(t, f, Init{Locale: tt.locale})
			k.say("x")
			k.say(tt.in)
			if got := strings.Join(k.said, "|"); got != tt.said {
				t.Errorf("said %q, want %q", got, tt.said)
			}
			k.wantAt(tt.node, tt.status)
		})
	}
}

func TestSpeechIsWaitedForOnlyByWhatActs(t *testing.T) {
	f := mustParse(t, `{"nodes": [{"id": "m", "type": "message", "content": {"text": "hello"}, "connections": {"default": "q"}},
		{"id": "q", "type": "question", "content": {"question": "name?", "variable": "n"}, "connections": {"default": "ack"}},
		{"id": "ack", "type": "message", "content": {"text": "listen to this", "wait_for_ack": true}, "connections": {"default": "q2"}},
		{"id": "q2", "type": "question", "content": {"question": "and?", "variable": "m"}}]}`)
	k := newTalk(t, f, Init{Channel: "voice"})
	k.want("hello", "name?")
	say, ask := k.last[0].(Say), k.last[len(k.last)-1].(Ask)
	if k.s.System.Playing != ask.ID {
		t.Errorf("playing %q, want %q", k.s.System.Playing, ask.ID)
	}
	k.step(Played{At: epoch, ID: say.ID, Heard: "hello"})
	k.step(Played{At: epoch, ID: ask.ID, Heard: "name", Interrupted: true})
	if k.s.System.Playing != "" || k.s.System.Heard != "name" {
		t.Errorf("playing %q, heard %q", k.s.System.Playing, k.s.System.Heard)
	}
	if p := k.s.Pending(); len(p) != 1 || p[0].(Ask).ID != ask.ID {
		t.Errorf("pending %+v, want the question until it is answered", p)
	}
	k.say("Ada")
	k.want("listen to this")
	k.wantAt("ack", Active)
	spoken := k.s
	t.Run("heard", func(t *testing.T) {
		k := *k
		k.t, k.s = t, spoken
		k.step(Played{At: epoch, ID: spoken.System.Playing, Heard: "listen to this"})
		k.want("and?")
	})
	t.Run("spoken-over", func(t *testing.T) {
		k := *k
		k.t, k.s = t, spoken
		k.say("more")
		k.want()
		k.wantAt("", Completed)
		if k.s.Variables["m"] != "more" {
			t.Errorf("m = %v, want what was said over the message", k.s.Variables["m"])
		}
	})
}

func TestHangup(t *testing.T) {
	f := mustParse(t, `{"on_hangup": "left", "nodes": [{"id": "q", "type": "question", "content": {"question": "?"}},
		{"id": "left", "type": "message", "content": {"text": "unheard"}, "connections": {"default": "q"}}]}`)
	k := newTalk(t, f, Init{Channel: "voice"})
	k.step(Hangup{At: epoch})
	k.want()
	k.wantAt("", Abandoned)
	k.step(Hangup{At: epoch})
	if len(k.last) != 0 {
		t.Errorf("effects %v after the end", k.last)
	}
}

func TestLimits(t *testing.T) {
	loop := mustParse(t, `{"nodes": [{"id": "a", "type": "message", "content": {"text": "."}, "connections": {"default": "a"}}]}`)
	ask := mustParse(t, `{"defaults": {"limits": {"turns": 2, "minutes": 1}, "errors": {"say": "enough"}}, "nodes": [{"id": "q", "type": "question", "content": {"question": "?"}, "connections": {"default": "q"}}]}`)
	exceeded := func(k *talk, which string) {
		k.t.Helper()
		k.wantAt("", Failed)
		for _, e := range k.last {
			if m, ok := e.(Emit); ok && m.Type == "limit_exceeded" && strings.Contains(string(m.Data), which) {
				return
			}
		}
		k.t.Errorf("no event limit_exceeded of %s in %v", which, k.last)
	}
	exceeded(newTalk(t, loop, Init{}), "steps_per_turn")
	k := newTalk(t, ask, Init{})
	k.say("1")
	k.say("2")
	k.say("3")
	exceeded(k, "turns")
	k.want("enough")
	k = newTalk(t, ask, Init{})
	k.step(Input{At{epoch.At.Add(61 * time.Second)}, "late", "text", 0})
	exceeded(k, "minutes")
}

func TestFallbackOrder(t *testing.T) {
	tests := []struct{ outcome, wired, want string }{
		{"default", `"success": "s"`, "s"}, {"default", `"default": "d", "success": "s"`, "d"},
		{"success", `"default": "d"`, "d"}, {"error", `"failure": "f", "default": "d"`, "f"}, {"failure", `"error": "e"`, "e"},
		{"error", `"default": "d", "success": "s"`, "d"}, {"error", `"success": "s"`, ""}, {"fallback", `"success": "s", "default": "d"`, "s"},
		{"complete", `"default": "d"`, "d"}, {"$3", `"default": "d"`, "d"}, {"no_input", `"error": "e", "default": "d"`, "e"},
		{"no_match", `"NO_MATCH": "n"`, "n"}, {"timeout", `"default": "d"`, "d"}, {"busy", `"error": "e"`, "e"},
		{"machine", `"machine": [{"target": "a", "conditions": {"if": {"var": "x", "exists": true}}}, "b"]`, "b"},
	}
	for _, tt := range tests {
		f := mustParse(t, `{"nodes": [{"id": "q", "type": "question", "connections": {`+tt.wired+`}}]}`)
		tn := &turn{f: f, s: New(f, Init{})}
		tn.s.System.Frames = []Frame{{Node: "q"}}
		if got, _ := tn.edge(move{outcome: tt.outcome}); got != tt.want {
			t.Errorf("%s with %s goes to %q, want %q", tt.outcome, tt.wired, got, tt.want)
		}
	}
}

func TestVoiceOfEagernessAndFillers(t *testing.T) {
	f := mustParse(t, `{"defaults": {"voice": {"filler_after_ms": 800}}, "nodes": [
		{"id": "q", "type": "question", "content": {"question": "n?", "voice": {"speech": {"eager": false}}}, "connections": {"default": "w"}},
		{"id": "w", "type": "webhook", "content": {"url": "https://api.example.com/x", "say_while": [{"type": "text", "text": "Let me look."}]}}]}`)
	k := newTalk(t, f, Init{})
	if v := k.last[len(k.last)-1].(Ask).Voice; !v.Patient || v.Filler != 800*time.Millisecond {
		t.Errorf("voice = %+v", v)
	}
	k.step(Input{epoch, "x", "text", 0})
	if c := k.call(); c.Filler != 800*time.Millisecond || len(c.SayWhile) != 1 {
		t.Errorf("call = %+v", c)
	}
}
