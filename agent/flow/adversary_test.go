package flow

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// What may be reached from each node of the adversary's flows, by the document.
const hostileFlow = `{"on_hangup": "left", "defaults": {"limits": {"steps_per_turn": 60, "turns": 500}, "errors": {"then": "@end"}},
 "nodes": [
 {"id": "i", "type": "intent", "content": {"question": "?", "intents": {"agent": ["talk"], "form": []}}, "connections": {"agent": "a", "form": "l", "no_match": "c"}},
 {"id": "c", "type": "question", "content": {"question": "Which?", "options": ["one", "two"], "input_type": "choice", "store": "value", "variable": "pick", "model": true},
  "voice": {"no_match": {"max": 3}}, "connections": {"$0": "a", "$1": "l", "no_match": "i"}},
 {"id": "a", "type": "agent", "content": {"prompt": "Help {user.name}.", "greeting": "Hello.", "max_turns": 6, "max_cost": 5000,
   "slots": [{"name": "day", "type": "date"}, {"name": "n", "type": "number", "validate": {"min": 1, "max": 9}}, {"name": "size", "type": "choice", "options": ["s", "l"]}],
   "must_collect": ["n"], "exits": [{"name": "ok", "if": {"var": "n", "gte": 5}}, {"name": "help", "must_collect": []}],
   "tools": [{"name": "look", "args": [{"name": "n", "type": "number"}], "action": {"type": "api_call", "url": "https://x.example/{temp.args.n}", "headers": {"K": "{secret:key}"}, "response_variable": "temp.seen"}, "returns": "{temp.seen}"},
             {"name": "note", "args": ["text"], "actions": [{"type": "append", "variable": "temp.notes", "value": "{temp.args.text}"}]}]},
  "connections": {"exit:ok": "done", "exit:help": "l", "limit": "i", "error": "c", "no_input": "c"}},
 {"id": "l", "type": "listen", "content": {"question": "When?", "reset": true, "max_turns": 8,
   "slots": [{"name": "day", "type": "date", "confirm": "always"}, {"name": "mail", "type": "email"}]},
  "voice": {"no_match": {"max": 3}}, "connections": {"filled": "i", "gave_up": "a", "intent:stop": "done", "no_input": "i"}},
 {"id": "done", "type": "message", "content": {"text": "Done."}, "connections": {"default": "i"}},
 {"id": "locked", "type": "action", "content": {"actions": [{"type": "set_variable", "variable": "user.admin", "value": true}]}, "connections": {"default": "i"}},
 {"id": "left", "type": "action", "content": {"actions": []}}]}`

var hostileEdges = map[string]string{"i": "a l c", "c": "a l i", "a": "done l i c", "l": "i a done", "done": "i", "locked": "", "left": ""}

// hostile makes what a broken, tricked or malicious model may answer.
type hostile struct{ r *rand.Rand }

func (h hostile) of(list ...string) string { return list[h.r.IntN(len(list))] }

func (h hostile) word() string {
	return h.of("ok", "OK", "help", "exit:ok", "locked", "done", "@hangup", "@error", "@out:ok", "$0", "left", "", "agent", "form", "one", "two", "stop", "default", "none",
		"look", "note", "fill_slots", "leave", "choose", "{secret:key}", "{{user.name}}", "{n}", "../..", "\x00", "\xff", "session.id", "context.caller", "user.admin", "system", "env.x",
		strings.Repeat("x", 1+h.r.IntN(500)), "a.b.c.d", "n", "day", "mail", "size", "temp.args", "variables", "9", "-1", "1e999", "2026-03-06", "ada@example.com", "true", "l")
}

func (h hostile) value(depth int) any {
	switch h.r.IntN(9) {
	case 0:
		return h.r.IntN(20)
	case 1:
		return h.r.Float64() * 1e300
	case 2:
		return nil
	case 3:
		return h.r.IntN(2) == 0
	case 4, 5:
		if depth > 0 {
			m := map[string]any{}
			for range h.r.IntN(4) {
				m[h.word()] = h.value(depth - 1)
			}
			return m
		}
	case 6:
		if depth > 0 {
			list := []any{}
			for range h.r.IntN(30) {
				list = append(list, h.value(depth-1))
			}
			return list
		}
	}
	return h.word()
}

// reply is a proposal, or bytes that are none.
func (h hostile) reply() []byte {
	switch h.r.IntN(12) {
	case 0:
		return []byte(h.of("", "null", "[]", `"exit"`, "{", `{"exit":`, "\xff\xfe", strings.Repeat("[", 5000), `{"say":"a"}{"exit":"ok"}`, "9", `{"exit":"help","exit":"locked"}`))
	case 1:
		b, _ := json.Marshal(h.value(6))
		return b
	}
	m := map[string]any{}
	for range 1 + h.r.IntN(4) {
		switch h.r.IntN(8) {
		case 0:
			m["say"] = cut(strings.Repeat(h.word()+" ", h.r.IntN(300)), 30_000)
		case 1:
			m["exit"] = h.word()
		case 2:
			m["intent"] = h.word()
		case 3:
			m["slots"] = map[string]any{h.word(): h.value(4), h.of("n", "day", "mail", "size"): h.value(2)}
		case 4:
			m["tools"] = []any{map[string]any{"name": h.of("look", "note", h.word()), "args": h.value(3)}, map[string]any{"name": h.word(), "args": map[string]any{"n": h.value(1), "text": h.word()}}}
		case 5:
			m[h.of("outcome", "node", "target", "then", "goto", "state", "system", "status", "spoken", "cut")] = h.value(2)
		case 6:
			m["tokens"] = h.of("9", "-5", "1e99")
		case 7:
			m["confidence"] = h.value(1)
		}
	}
	b, _ := json.Marshal(m)
	return b
}

// TestAdversarialReplies has ten thousand replies of a model that obeys nobody:
// no transition outside the graph, no turn without an end, no variable but the
// declared, no secret, and a state that can be stored.
func TestAdversarialReplies(t *testing.T) {
	f := mustParse(t, hostileFlow)
	h := hostile{rand.New(rand.NewPCG(4, 10_000))}
	replies, visited := 0, map[string]int{}
	for session := 0; replies < 10_000; session++ {
		s := New(f, Init{ID: fmt.Sprint("h", session), Channel: h.of("chat", "voice"), User: map[string]any{"name": "Ada"}})
		s = hostileStep(t, f, s, Start{epoch})
		for range 60 {
			if s.Session.Status != Active {
				break
			}
			visited[s.Session.CurrentNode]++
			s = hostileStep(t, f, s, h.event(s, &replies))
		}
	}
	for _, n := range []string{"i", "c", "a", "l"} {
		if visited[n] < 200 {
			t.Errorf("node %s was seen %d times only: %v", n, visited[n], visited)
		}
	}
}

// event is what happens next: the model answers if it was asked, else the caller.
func (h hostile) event(s State, replies *int) Event {
	if w := s.System.Waiting; w.For == ForResult {
		for _, p := range s.System.Pending {
			if _, call := p.Effect.(Call); call && p.ID == w.ID {
				return Result{At: epoch, ID: w.ID, Outcome: h.of("success", "error"), Data: json.RawMessage(`{"n":1}`)}
			}
		}
		*replies++
		if h.r.IntN(10) == 0 {
			return Result{At: epoch, ID: w.ID, Outcome: h.word(), Data: h.reply()}
		}
		return Result{At: epoch, ID: w.ID, Outcome: "success", Data: h.reply()}
	}
	if h.r.IntN(10) == 0 {
		return Silence{epoch}
	}
	return Input{epoch, h.of("what", "talk to me", "no", "yes", "{secret:key}", "a longer thing that nobody knows", h.word()), h.of("text", "speech"), h.r.Float64()}
}

// hostileStep takes a step and checks what must hold after each.
func hostileStep(t *testing.T, f *Flow, s State, ev Event) State {
	t.Helper()
	before := len(s.Session.History)
	next, effects := Step(f, s, ev)
	at := s.Session.CurrentNode
	for _, id := range next.Session.History[min(before, len(next.Session.History)):] {
		if at != "" && len(s.Session.History) < maxHistory && !slices.Contains(strings.Fields(hostileEdges[at]), id) {
			t.Fatalf("from %s to %s, which no connection allows, on %+v", at, id, ev)
		}
		at = id
	}
	if r, ok := ev.(Result); ok && s.Session.CurrentNode == "a" && len(next.Session.History) > before && next.Session.History[before] == "done" {
		p, _ := proposal(r)
		if n, ok := numeric(next.Variables["n"], false); fold(p.Exit) != "ok" || !ok || compareNumbers(n, "5") < 0 {
			t.Fatalf("exit ok was taken with n = %v on %+v", next.Variables["n"], p)
		}
	}
	if next.Session.Status != Active {
		t.Fatalf("the conversation is %s after %+v", next.Session.Status, ev)
	}
	for k := range next.User {
		if k != "name" {
			t.Fatalf("user.%s was written", k)
		}
	}
	for k := range next.Variables {
		if !slices.Contains([]string{"n", "day", "size", "mail", "pick"}, k) {
			t.Fatalf("variable %s was written", k)
		}
	}
	if len(effects) > 40 {
		t.Fatalf("%d effects of one reply", len(effects))
	}
	for _, e := range effects {
		if c, ok := e.(Call); ok && (c.Route != "GET https://x.example/{temp.args.n}" || !strings.HasPrefix(c.URL[0].Text, "https://x.example/")) {
			t.Fatalf("calls %+v", c)
		}
		if m, ok := e.(Model); ok {
			told := 0
			for _, l := range m.Said {
				told += len(l.Text) + len(l.Args)
			}
			if told > 2*maxTold {
				t.Fatalf("the model is shown %d bytes", told)
			}
		}
	}
	if next.System.Revision%4 > 0 {
		return next
	}
	b, err := EncodeState(next)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := DecodeState(b, Hash(b))
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// FuzzProposal gives the guard any bytes.
func FuzzProposal(f *testing.F) {
	h := hostile{rand.New(rand.NewPCG(1, 2))}
	for range 40 {
		f.Add(h.reply(), h.reply(), "book me")
	}
	f.Add([]byte(`{"slots":{"n":7},"exit":"ok","say":"Bye."}`), []byte(`{"intent":"agent"}`), "talk")
	f.Fuzz(func(t *testing.T, one, two []byte, said string) {
		fl := mustParse(t, hostileFlow)
		s := hostileStep(t, fl, New(fl, Init{ID: "f", User: map[string]any{"name": "Ada"}}), Start{epoch})
		for i := range 24 {
			if s.Session.Status != Active {
				return
			}
			var ev Event = Input{epoch, said, "text", 0}
			if s.System.Waiting.For == ForResult {
				ev = Result{At: epoch, ID: s.System.Waiting.ID, Outcome: "success", Data: [][]byte{one, two}[i%2]}
			}
			s = hostileStep(t, fl, s, ev)
		}
	})
}
