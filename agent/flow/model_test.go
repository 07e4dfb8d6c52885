package flow

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// model is the question to a model among the last effects.
func (k *talk) model() Model {
	k.t.Helper()
	for _, e := range k.last {
		if m, ok := e.(Model); ok {
			return m
		}
	}
	k.t.Fatalf("no model is asked; last effects %+v", k.last)
	return Model{}
}

// reply answers for the model.
func (k *talk) reply(proposal string) {
	k.t.Helper()
	k.step(Result{At: epoch, ID: k.model().ID, Outcome: "success", Data: json.RawMessage(proposal)})
}

// down answers for a model that is not there.
func (k *talk) down() {
	k.t.Helper()
	k.step(Result{At: epoch, ID: k.model().ID, Outcome: "error"})
}

const bookingAgent = `{"globals": [{"when": {"phrases": ["operator"], "dtmf": "0"}, "then": "person"}, {"when": {"phrases": ["help"]}, "then": "help", "return": true}],
 "nodes": [
 {"id": "a", "type": "agent", "content": {
   "prompt": "You book tables for {user.name}.", "greeting": "What can I do for you?", "max_turns": 4, "max_cost": 1000,
   "slots": [{"name": "day", "type": "date"}, {"name": "people", "type": "number", "validate": {"min": 1, "max": 8}}],
   "must_collect": ["day", "people"],
   "exits": [{"name": "booked", "when": "all is known", "if": {"var": "people", "lte": 6}}, {"name": "person", "must_collect": []}],
   "tools": [{"name": "find", "about": "free tables", "args": [{"name": "day", "type": "date"}],
              "actions": [{"type": "set_variable", "variable": "temp.found", "value": ["19:00", "{temp.args.day}"]}], "returns": "{temp.found}"},
             {"name": "fetch", "args": [], "action": {"type": "api_call", "url": "https://x.example/free", "response_variable": "temp.free"}, "returns": "{temp.free.n} free"}]},
  "connections": {"exit:booked": "ok", "exit:person": "person", "limit": "long", "error": "sorry", "no_input": "gone"}},
 {"id": "ok", "type": "message", "content": {"text": "Booked {day} for {people}."}},
 {"id": "person", "type": "message", "content": {"text": "A person."}},
 {"id": "help", "type": "message", "content": {"text": "Help."}},
 {"id": "long", "type": "message", "content": {"text": "Too long."}},
 {"id": "gone", "type": "message", "content": {"text": "Gone."}},
 {"id": "sorry", "type": "message", "content": {"text": "Sorry."}}]}`

func newAgent(t *testing.T) *talk {
	t.Helper()
	f := mustParse(t, bookingAgent)
	for _, p := range f.Check() {
		if p.Severity == "error" {
			t.Error(p)
		}
	}
	k := newTalk(t, f, Init{User: map[string]any{"name": "Ada"}})
	k.want("What can I do for you?")
	return k
}

func TestAgentConverses(t *testing.T) {
	k := newAgent(t)
	k.say("a table please")
	m := k.model()
	if m.Kind != "agent" || m.Prompt != "You book tables for Ada." || len(m.Tools) != 2 || len(m.Exits) != 2 || len(m.Slots) != 2 {
		t.Errorf("asked %+v", m)
	}
	if len(m.Said) != 2 || m.Said[0].Text != "What can I do for you?" || m.Said[1] != (Line{Who: ByCaller, Text: "a table please"}) {
		t.Errorf("said %+v", m.Said)
	}
	k.reply(`{"say": "For which {secret:x} {day}?", "tokens": 10}`)
	k.want("For which {secret:x} {day}?") // a model's words are no template
	k.say("friday for four")
	k.reply(`{"slots": {"day": "2026-03-06", "people": 4}, "exit": "booked", "say": "Booked!"}`)
	k.want("Booked!", "Booked 2026-03-06 for 4.")
	k.wantAt("", Completed)
}

func TestAgentExitsAreGuarded(t *testing.T) {
	k := newAgent(t)
	k.say("book it")
	k.reply(`{"exit": "booked"}`)
	if m := k.model(); m.Said[len(m.Said)-1].Wish != WishExit || !strings.Contains(m.Said[len(m.Said)-1].Text, "still missing: day, people") {
		t.Errorf("the model is told %+v", m.Said)
	}
	k.reply(`{"slots": {"day": "soon", "people": 99, "user.role": "admin"}}`)
	m := k.model()
	for _, l := range m.Said[len(m.Said)-3:] {
		if l.Wish != WishSlots || !strings.HasPrefix(l.Text, "refused") {
			t.Errorf("the model is told %+v", l)
		}
	}
	k.reply(`{"slots": {"day": "2026-03-06", "people": 8}, "exit": "booked"}`) // the test wants 6 at most
	if m := k.model(); !strings.Contains(m.Said[len(m.Said)-1].Text, "condition does not hold") {
		t.Errorf("the model is told %+v", m.Said)
	}
	k.reply(`{"exit": "ok", "say": "Done."}`)
	k.want("Done.")
	k.reply(`{"exit": "sorry"}`)
	k.want(sayAgain) // it went in circles
	if _, ok := k.s.User["role"]; ok {
		t.Error("an undeclared slot was written")
	}
	k.wantAt("a", Active)
}

func TestAgentUsesTools(t *testing.T) {
	k := newAgent(t)
	k.say("what is free on friday")
	k.reply(`{"say": "Let me see.", "tools": [{"name": "find", "args": {"day": "2026-03-06", "evil": 1}}, {"name": "transfer", "args": {}}, {"name": "find"}, {"name": "fetch"}]}`)
	k.want("Let me see.")
	var call Call
	for _, e := range k.last {
		if c, ok := e.(Call); ok {
			call = c
		}
	}
	if call.ID == "" {
		t.Fatalf("effects %+v, want a call", k.last)
	}
	k.step(Result{At: epoch, ID: call.ID, Outcome: "success", Data: json.RawMessage(`{"n": 3}`)})
	var told []string
	for _, l := range k.model().Said {
		if l.Who == ByWish {
			told = append(told, l.Wish+l.Args+": "+l.Text)
		}
	}
	want := []string{`find{"day":"2026-03-06"}: ["19:00","2026-03-06"]`, `transfer{}: refused: there is no such tool`, `find{}: refused: day is missing`, `fetch{}: 3 free`}
	if strings.Join(told, "\n") != strings.Join(want, "\n") {
		t.Errorf("the model is told\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
	k.reply(`{"say": "Seven is free."}`)
	k.want("Seven is free.")
}

func TestAgentEnds(t *testing.T) {
	tests := []struct {
		name string
		play func(k *talk)
		want string
	}{
		{"model down", func(k *talk) { k.say("hi"); k.down() }, "Sorry."},
		{"turns", func(k *talk) {
			for range 4 {
				k.say("hi")
				k.reply(`{"say": "hello"}`)
			}
			k.say("hi")
		}, "Too long."},
		{"cost", func(k *talk) { k.say("hi"); k.reply(`{"say": "hello", "tokens": 1000}`); k.say("hi") }, "Too long."},
		{"cost without a word", func(k *talk) { k.say("hi"); k.reply(`{"tools": [{"name": "find"}], "tokens": 5000}`) }, "Too long."},
		{"global", func(k *talk) { k.say("operator") }, "A person."},
		{"key", func(k *talk) { k.step(Input{epoch, "0", "dtmf", 0}) }, "A person."},
		{"no words", func(k *talk) {
			for range 3 {
				k.say("hi")
				k.reply(`{}`)
			}
		}, "Sorry."},
		{"silence", func(k *talk) { k.step(Silence{epoch}); k.want(stillOn); k.step(Silence{epoch}); k.step(Silence{epoch}) }, "Gone."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newAgent(t)
			tt.play(k)
			k.want(tt.want)
			k.wantAt("", Completed)
		})
	}
}

// A global that returns finds the talk where it was.
func TestAgentGoesOnAfterAGlobal(t *testing.T) {
	k := newAgent(t)
	k.say("hi")
	k.reply(`{"say": "For which day?"}`)
	k.say("help")
	k.want("Help.", "For which day?")
	k.say("friday")
	m := k.model()
	if len(m.Said) != 5 || m.Said[1].Text != "hi" {
		t.Errorf("said %+v", m.Said)
	}
}

// The model sees what was heard, not what was made.
func TestAgentSeesWhatWasHeard(t *testing.T) {
	f := mustParse(t, bookingAgent)
	k := newTalk(t, f, Init{Channel: "voice"})
	k.step(Played{At: epoch, ID: k.s.System.Playing, Heard: "What can I", Interrupted: true})
	k.say("stop, a table")
	if m := k.model(); m.Said[0].Text != "What can I" {
		t.Errorf("said %+v", m.Said)
	}
	k.reply(`{"say": "For which day would you", "spoken": true, "cut": true}`)
	ask := k.last[len(k.last)-1].(Ask)
	if !ask.Spoken {
		t.Error("what was spoken is said again")
	}
	k.s.System.Heard = "" // nothing of it
	k.say("friday")
	if m := k.model(); len(m.Said) != 3 || m.Said[2].Text != "friday" {
		t.Errorf("said %+v", m.Said)
	}
}

const tableListen = `{"intents": {"cancel": ["forget it", "never mind"]}, "nodes": [
 {"id": "l", "type": "listen", "content": {"question": "When, and for how many?",
   "slots": [{"name": "day", "type": "date", "prompt": "Which day?", "confirm": "always"},
             {"name": "people", "type": "number", "prompt": "How many people?", "validate": {"max": 8, "error_message": "Eight at most."}},
             {"name": "name", "prompt": "What is your name?"}]},
  "voice": {"no_match": {"max": 3}, "no_input": {"max": 2}},
  "connections": {"filled": "ok", "gave_up": "no", "no_input": "gone", "intent:cancel": "bye"}},
 {"id": "ok", "type": "message", "content": {"text": "{day}, {people}, {name}"}},
 {"id": "no", "type": "message", "content": {"text": "no"}}, {"id": "gone", "type": "message", "content": {"text": "gone"}},
 {"id": "bye", "type": "message", "content": {"text": "bye"}}]}`

func newListen(t *testing.T, init Init) *talk {
	t.Helper()
	f := mustParse(t, tableListen)
	for _, p := range f.Check() {
		t.Error(p)
	}
	return newTalk(t, f, init)
}

func TestListenFillsSeveralAndCorrects(t *testing.T) {
	k := newListen(t, Init{})
	k.want("When, and for how many?")
	k.say("tuesday for four")
	if m := k.model(); m.Kind != "listen" || len(m.Slots) != 3 || len(m.Among) != 1 || m.Among[0].Name != "cancel" {
		t.Errorf("asked %+v", m)
	}
	k.reply(`{"slots": {"day": "2026-03-03", "people": 4}}`)
	k.want("What is your name?")
	k.say("it's Bob Miller")
	k.reply(`{"slots": {"name": "Bob Miller"}}`)
	k.want("I have day: 2026-03-03. Is that right?")
	k.say("no, wednesday, and we are five")
	k.reply(`{"slots": {"day": "2026-03-04", "people": 5}}`)
	k.want("I have day: 2026-03-04, people: 5. Is that right?")
	k.say("no")
	k.want("What should I change?")
	k.say("the day is thursday")
	k.reply(`{"slots": {"day": "2026-03-05"}}`)
	k.want("I have day: 2026-03-05. Is that right?")
	k.say("yes")
	k.want("2026-03-05, 5, Bob Miller")
}

// Without a model it asks for one slot at a time and reads by type.
func TestListenWithoutAModel(t *testing.T) {
	k := newListen(t, Init{})
	k.say("tomorrow")
	k.down()
	k.want("How many people?")
	k.say("a lot")
	k.down()
	k.want("Eight at most.", "How many people?")
	k.say("four")
	k.down()
	k.want("What is your name?")
	k.say("Bob")
	k.down()
	k.want("I have day: 2026-03-03. Is that right?")
	k.say("no, friday")
	k.down()
	k.want("I have day: 2026-03-06. Is that right?")
	k.say("yes please")
	k.want("2026-03-06, 4, Bob")
}

func TestListenEnds(t *testing.T) {
	tests := []struct {
		name string
		init map[string]any
		play func(k *talk)
		want string
	}{
		{"filled before", map[string]any{"day": "2026-03-03", "people": json.Number("2"), "name": "Ada"}, func(*talk) {}, "2026-03-03, 2, Ada"},
		{"gives up", nil, func(k *talk) {
			for range 3 {
				k.say("what do you mean")
				k.reply(`{}`)
			}
		}, "no"},
		{"silence", nil, func(k *talk) { k.step(Silence{epoch}); k.step(Silence{epoch}) }, "gone"},
		{"intent by example", nil, func(k *talk) { k.say("Never mind!") }, "bye"},
		{"intent by model", nil, func(k *talk) { k.say("I do not want it any more"); k.reply(`{"intent": "cancel", "confidence": 0.9}`) }, "bye"},
		{"unsure intent", nil, func(k *talk) { k.say("I do not want it any more"); k.reply(`{"intent": "cancel", "confidence": 0.2}`) }, "Sorry, I didn't get that."},
		{"undeclared intent", nil, func(k *talk) { k.say("well"); k.reply(`{"intent": "ok", "exit": "ok", "say": "ok"}`) }, "Sorry, I didn't get that."},
		{"last slot needs no model", map[string]any{"name": "Ada", "day": "2026-03-03"}, func(k *talk) { k.say("four") }, "2026-03-03, 4, Ada"},
		{"keys", map[string]any{"name": "Ada", "day": "2026-03-03"}, func(k *talk) { k.step(Input{epoch, "4", "dtmf", 0}) }, "2026-03-03, 4, Ada"},
		{"doubt", map[string]any{"name": "Ada", "day": "2026-03-03"}, func(k *talk) { k.step(Input{epoch, "four", "speech", 0.3}) }, "I have people: 4. Is that right?"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newListen(t, Init{Variables: tt.init})
			tt.play(k)
			if k.said[0] != tt.want {
				t.Errorf("said %q, want %q", k.said, tt.want)
			}
		})
	}
}

// What is said at a sensitive node no model sees, and no state keeps but the
// slot itself.
func TestSensitiveNodesAskNoModel(t *testing.T) {
	f := mustParse(t, `{"nodes": [{"id": "l", "type": "listen", "voice": {"sensitive": true},
		"content": {"slots": [{"name": "pin", "type": "digits", "prompt": "PIN?"}, {"name": "code", "prompt": "Code?"}]}, "connections": {"default": "a"}},
		{"id": "a", "type": "agent", "voice": {"sensitive": true}, "content": {"prompt": "x", "exits": ["y"]}, "connections": {"error": "e"}},
		{"id": "e", "type": "message", "content": {"text": "refused"}}]}`)
	k := newTalk(t, f, Init{})
	k.want("PIN?")
	k.say("one two three four")
	k.want("Code?")
	if b, _ := EncodeState(k.s); strings.Count(string(b), "1234") != 1 || strings.Contains(string(b), "two three") {
		t.Errorf("the state keeps more than the slot: %s", b)
	}
	k.say("blue")
	k.want("refused")
}

func TestIntent(t *testing.T) {
	f := mustParse(t, `{"intents": {"hours": ["when are you open", "opening times"], "booking": ["book a table"]}, "nodes": [
		{"id": "i", "type": "intent", "content": {"question": "How can I help?", "threshold": 0.6, "variable": "intent"},
		 "connections": {"hours": "h", "booking": "b", "no_match": "n"}},
		{"id": "h", "type": "message", "content": {"text": "hours {intent}"}}, {"id": "b", "type": "message", "content": {"text": "booking"}},
		{"id": "n", "type": "message", "content": {"text": "none"}}]}`)
	for _, p := range f.Check() {
		t.Error(p)
	}
	tests := []struct{ said, reply, want string }{
		{"Um, opening times please?", "", "hours hours"},
		{"you open when", "", ""},
		{"I would like to eat", `{"intent": "booking"}`, "booking"},
		{"I would like to eat", `{"intent": "Booking", "confidence": 0.7}`, "booking"},
		{"I would like to eat", `{"intent": "booking", "confidence": "0.59"}`, "none"},
		{"I would like to eat", `{"intent": "booking", "confidence": 0.5}`, "none"},
		{"I would like to eat", `{"intent": "n"}`, "none"},
		{"I would like to eat", `{"intent": "@hangup", "say": "x", "exit": "h"}`, "none"},
		{"I would like to eat", `[1`, "none"},
		{"book me a nice table", "down", "booking"},
		{"book", "down", "none"},
	}
	for _, tt := range tests {
		k := newTalk(t, f, Init{})
		k.want("How can I help?")
		k.say(tt.said)
		switch tt.reply {
		case "":
		case "down":
			k.down()
		default:
			k.reply(tt.reply)
		}
		if tt.want != "" {
			k.want(tt.want)
		}
	}
}

func TestIntentOfWhatWasSaidBefore(t *testing.T) {
	f := mustParse(t, `{"nodes": [{"id": "i", "type": "intent", "content": {"input": "{wish}", "intents": {"hours": ["opening times"], "booking": []}}, "connections": {"hours": "h"}},
		{"id": "h", "type": "message", "content": {"text": "hours"}}]}`)
	newTalk(t, f, Init{Variables: map[string]any{"wish": "opening times"}}).want("hours")
}

func TestChoiceByModel(t *testing.T) {
	doc := `{"nodes": [{"id": "q", "type": "question", "content": {"question": "Tea or coffee?", "input_type": "choice", "store": "value", "options": ["tea", "coffee"], "variable": "d"MODEL},
		"connections": {"$0": "t", "default": "o"}}, {"id": "t", "type": "message", "content": {"text": "tea {d}"}}, {"id": "o", "type": "message", "content": {"text": "other {d}"}}]}`
	f := mustParse(t, strings.Replace(doc, "MODEL", `, "model": true`, 1))
	tests := []struct{ reply, want string }{
		{`{"intent": "tea"}`, "tea tea"},
		{`{"intent": "coffee"}`, "other coffee"},
		{`{"intent": "o"}`, "Sorry, I didn't get that.|Tea or coffee?"},
		{`{"intent": "tea", "confidence": 0.1}`, "Sorry, I didn't get that.|Tea or coffee?"},
		{``, "Sorry, I didn't get that.|Tea or coffee?"},
	}
	for _, tt := range tests {
		k := newTalk(t, f, Init{})
		k.say("the leafy stuff")
		if m := k.model(); m.Kind != "choice" || len(m.Among) != 2 {
			t.Errorf("asked %+v", m)
		}
		if tt.reply == "" {
			k.down()
		} else {
			k.reply(tt.reply)
		}
		k.want(strings.Split(tt.want, "|")...)
	}
	k := newTalk(t, mustParse(t, strings.Replace(doc, "MODEL", "", 1)), Init{})
	k.say("the leafy stuff")
	k.want("Sorry, I didn't get that.", "Tea or coffee?") // off by default
}

func TestTalkIsBounded(t *testing.T) {
	var k Talk
	for range 500 {
		k.add(Line{Who: ByCaller, Text: strings.Repeat("x", 1500)})
	}
	if n := len(k.Said); n > maxLines || n*1500 > maxTold {
		t.Errorf("%d lines are kept", n)
	}
	f := mustParse(t, bookingAgent)
	c := newTalk(t, f, Init{})
	c.say(strings.Repeat("word ", 3000))
	c.reply(`{"say": "` + strings.Repeat("blah ", 10000) + `"}`)
	if n := len(c.said[0]); n > maxSay {
		t.Errorf("it says %d characters", n)
	}
	c.step(Input{At{epoch.At.Add(time.Hour)}, "hi", "text", 0})
}
