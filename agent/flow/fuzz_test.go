package flow

import (
	"os"
	"strings"
	"testing"
	"time"
)

// FuzzStep runs any document with any inputs: no panic, no endless turn, a
// state that can be stored, and the argument unchanged.
func FuzzStep(f *testing.F) {
	if doc, err := os.ReadFile("../../examples/front-desk/flow.json"); err == nil {
		f.Add(string(doc), "book a table\nten\nfriday\nyes\nbye")
	}
	f.Add(seedQuestion, "\nA\nAda")
	f.Add(everyKind, "1\ntea\n\nyes\n42\n!silence\n!result\n!played\n0\nhelp")
	f.Fuzz(func(t *testing.T, doc, inputs string) {
		fl, err := Parse([]byte(doc))
		if err != nil {
			return
		}
		fl.Check()
		s := New(fl, Init{ID: "f", Channel: []string{"voice", "chat"}[len(inputs)%2]})
		s = fuzzStep(t, fl, s, Start{epoch})
		for i, in := range strings.Split(inputs, "\n") {
			if i == 50 {
				break
			}
			at := At{epoch.At.Add(time.Duration(i) * time.Second)}
			var ev Event = Input{at, in, []string{"speech", "text", "dtmf"}[i%3], 0.5}
			switch in {
			case "!silence":
				ev = Silence{at}
			case "!hangup":
				ev = Hangup{At: at}
			case "!played":
				ev = Played{At: at, ID: s.System.Playing, Heard: in}
			case "!result":
				ev = Result{At: at, ID: s.System.Waiting.ID, Outcome: "success", Data: []byte(`{"status":200}`)}
			}
			s = fuzzStep(t, fl, s, ev)
		}
	})
}

func fuzzStep(t *testing.T, f *Flow, s State, ev Event) State {
	before, err := EncodeState(s)
	if err != nil {
		return s // larger than may be stored: the host refuses it
	}
	next, effects := Step(f, s, ev)
	if after, _ := EncodeState(s); string(after) != string(before) {
		t.Fatalf("Step changed its argument: %s %s", before, after)
	}
	for _, e := range effects {
		if m, ok := e.(Emit); ok && strings.Contains(string(m.Data), `"code":"internal"`) {
			t.Fatalf("the engine failed on %T", ev)
		}
	}
	if len(effects) > 12000 {
		t.Fatalf("%d effects in a turn", len(effects))
	}
	b, err := EncodeState(next)
	if err != nil {
		return next
	}
	stored, err := DecodeState(b, Hash(b))
	if err != nil {
		t.Fatalf("decode %s: %v", b, err)
	}
	return stored
}

// everyKind has each type of node and most ways out of them.
const everyKind = `{"entry": "m", "globals": [{"when": {"dtmf": "0", "phrases": ["help"]}, "then": "m2", "return": true}], "nodes": [
 {"id": "m", "type": "message", "content": {"text": "hi {user.name}", "wait_for_ack": true}, "connections": {"default": "q"}},
 {"id": "q", "type": "question", "content": {"question": "?", "input_type": "choice", "options": ["tea", "coffee"], "variable": "drink"}, "connections": {"$0": "c", "default": "y", "no_input": "@repeat"}},
 {"id": "y", "type": "question", "content": {"question": "?", "input_type": "yes_no", "variable": "user.ok"}, "connections": {"yes": "c", "no": "@back"}},
 {"id": "c", "type": "condition", "content": {"conditions": [{"if": "drink.label == 'tea'", "then": "t"}, {"if": {"var": "user.ok", "eq": true}, "then": "$1"}], "else": "n"}, "connections": {"$1": "n"}},
 {"id": "n", "type": "question", "content": {"question": "?", "input_type": "number", "variable": "temp.n", "validation": {"expr": "value > 1"}}, "connections": {"default": "t"}},
 {"id": "t", "type": "transfer", "content": {"to": "{env.desk}{drink}"}, "connections": {"busy": "m2", "success": "h", "error": "@error"}},
 {"id": "m2", "type": "message", "content": {"text": "help"}},
 {"id": "h", "type": "hangup", "content": {"text": "bye"}}]}`
