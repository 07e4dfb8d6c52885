package flow

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// caller calls once, and again for every answer.
const caller = `{"defaults": {"errors": {"say": "Enough."}, "limits": %s}, "nodes": [
	{"id": "call", "type": "webhook", "content": {"url": "https://a.example/", "fallback_response": {"n": 0}, "response_mapping": {"n": "$.n"}},
	 "connections": {"success": "ask", "error": "ask"}},
	{"id": "ask", "type": "question", "content": {"question": "again? {n}"}, "connections": {"default": "call"}}]}`

// emitted returns the events of a type in the last step.
func (k *talk) emitted(typ string) (all []string) {
	for _, e := range k.last {
		if e, ok := e.(Emit); ok && e.Type == typ {
			all = append(all, string(e.Data))
		}
	}
	return all
}

func TestCallsAreLimited(t *testing.T) {
	tests := []struct {
		name, limits, which string
		spent               Spent
		calls               int // that fit
	}{
		{"calls", `{"calls": 2}`, "calls", Spent{Calls: 1}, 2},
		{"tries", `{"calls": 4}`, "calls", Spent{Calls: 3}, 2},
		{"bytes", `{"call_bytes": 1000}`, "call_bytes", Spent{1, 400, 0}, 3},
		{"seconds", `{"call_seconds": 3}`, "call_seconds", Spent{1, 0, 3 * time.Second}, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newTalk(t, mustParse(t, fmt.Sprintf(caller, tt.limits)), Init{})
			for range tt.calls {
				k.step(Result{At: epoch, ID: k.call().ID, Outcome: "success", Data: json.RawMessage(`{"n":1}`), Spent: tt.spent})
				k.step(Input{At: epoch, Text: "yes"})
			}
			if k.s.Session.Status != Failed || !slices.Contains(k.said, "Enough.") {
				t.Errorf("%s, said %q", k.s.Session.Status, k.said)
			}
			if e := k.emitted("limit_exceeded"); len(e) != 1 || !strings.Contains(e[0], `"`+tt.which+`"`) {
				t.Errorf("limit_exceeded: %q", e)
			}
		})
	}
}

// A budget that the host keeps ends the conversation, whatever the node would
// do about a failure; so does the same within an action.
func TestOverBudget(t *testing.T) {
	for name, doc := range map[string]string{
		"webhook": fmt.Sprintf(caller, `{}`),
		"action": `{"defaults": {"errors": {"say": "Enough."}}, "nodes": [{"id": "call", "type": "action", "content": {"on_error": "continue",
			"actions": [{"type": "api_call", "url": "https://a.example/"}, {"type": "api_call", "url": "https://a.example/"}]}}]}`,
	} {
		k := newTalk(t, mustParse(t, doc), Init{})
		k.step(Result{At: epoch, ID: k.call().ID, Outcome: OverBudget, Error: "tenant.calls"})
		if e := k.emitted("limit_exceeded"); len(e) != 1 || !strings.Contains(e[0], `"tenant.calls"`) || k.s.Session.Status != Failed || k.said[len(k.said)-1] != "Enough." {
			t.Errorf("%s: %s, %q, said %q", name, k.s.Session.Status, e, k.said)
		}
	}
}

// A call that came too late is an error: no fallback, no answer.
func TestStaleCall(t *testing.T) {
	k := newTalk(t, mustParse(t, `{"nodes": [
		{"id": "call", "type": "webhook", "content": {"url": "https://a.example/", "async": true, "fallback_response": {"n": 0}},
		 "connections": {"success": "good", "fallback": "good", "error": "bad"}},
		{"id": "good", "type": "message", "content": {"text": "good"}}, {"id": "bad", "type": "message", "content": {"text": "bad"}}]}`), Init{})
	k.step(Result{At: epoch, ID: k.call().ID, Outcome: Stale})
	if e := k.emitted("task_stale"); len(e) != 1 || k.said[len(k.said)-1] != "bad" {
		t.Errorf("%q, said %q", e, k.said)
	}
}

// An old answer takes "stale" where that is connected, else "success".
func TestCachedAnswer(t *testing.T) {
	for connected, want := range map[string]string{`"stale": "old", `: "old 7 open", ``: "new 7 open"} {
		k := newTalk(t, mustParse(t, `{"nodes": [
			{"id": "call", "type": "webhook", "content": {"url": "https://a.example/", "response_mapping": {"n": "$.n"}},
			 "connections": {`+connected+`"success": "new", "error": "bad"}},
			{"id": "old", "type": "message", "content": {"text": "old {n}"}}, {"id": "new", "type": "message", "content": {"text": "new {n}"}},
			{"id": "bad", "type": "message", "content": {"text": "bad"}}]}`), Init{})
		k.step(Result{At: epoch, ID: k.call().ID, Outcome: Cached, Data: json.RawMessage(`{"n":7}`), Error: "open"})
		if e := k.emitted("stale_answer"); len(e) != 1 || !strings.Contains(e[0], `"open"`) || k.said[0]+" open" != want {
			t.Errorf("%q, said %q, want %q", e, k.said, want)
		}
	}
}

func TestAsynchronousActions(t *testing.T) {
	k := newTalk(t, mustParse(t, `{"nodes": [{"id": "a", "type": "action", "content": {"async": true, "actions": [{"type": "api_call", "url": "https://a.example/"}]}}]}`), Init{})
	if !k.call().Async {
		t.Error("the calls of an asynchronous action are not")
	}
}
