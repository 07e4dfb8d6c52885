package flow

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestActions(t *testing.T) {
	tests := []struct{ name, action, ref, want, end string }{
		{"set", `{"type": "set_variable", "variable": "profile.completed", "value": true}`, "profile.completed", `true`, "ok"},
		{"set-typed", `{"type": "set_variable", "variable": "x", "value": "{{ list }}"}`, "x", `[1,2,2]`, "ok"},
		{"set-nested", `{"type": "set_variable", "variable": "user.x", "value": {"a": ["{n}", "n is {n}"]}}`, "user.x", `{"a":[5,"n is 5"]}`, "ok"},
		{"increment", `{"type": "increment", "variable": "n"}`, "n", `6`, "ok"},
		{"increment-missing", `{"type": "increment", "variable": "temp.c", "amount": 2.5}`, "temp.c", `2.5`, "ok"},
		{"decrement", `{"type": "decrement", "variable": "n", "amount": "{n}"}`, "n", `0`, "ok"},
		{"increment-text", `{"type": "increment", "variable": "s"}`, "s", `"text"`, "failed"},
		{"delete", `{"type": "delete_variable", "variable": "n"}`, "n", `null`, "ok"},
		{"append", `{"type": "append", "variable": "list", "value": 3}`, "list", `[1,2,2,3]`, "ok"},
		{"append-missing", `{"type": "append", "variable": "new", "value": "a"}`, "new", `["a"]`, "ok"},
		{"append-text", `{"type": "append", "variable": "s", "value": "a"}`, "s", `"text"`, "failed"},
		{"remove", `{"type": "remove", "variable": "list", "value": 2}`, "list", `[1]`, "ok"},
		{"aggregate-cel", `{"type": "aggregate", "expression": "sum(list) + n", "target": "x"}`, "x", `10`, "ok"},
		{"aggregate-cel-error", `{"type": "aggregate", "expression": "nothing + 1", "target": "x"}`, "x", `null`, "failed"},
		{"aggregate-sum", `{"type": "aggregate", "source": "rows", "field": "v", "operation": "sum", "target": "x"}`, "x", `0.3`, "ok"},
		{"aggregate-merge", `{"type": "aggregate", "source": "{maps}", "operation": "merge", "target": "x"}`, "x", `{"a":3,"b":1}`, "ok"},
		{"aggregate-count", `{"type": "aggregate", "source": "rows", "operation": "count", "target": "x"}`, "x", `2`, "ok"},
		{"aggregate-avg", `{"type": "aggregate", "source": "rows", "field": "v", "operation": "avg", "target": "x"}`, "x", `0.15`, "ok"},
		{"read-only", `{"type": "set_variable", "variable": "session.id", "value": 1}`, "session.id", `"s1"`, "failed"},
		{"unknown", `{"type": "launch"}`, "n", `5`, "failed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := mustParse(t, `{"nodes": [{"id": "a", "type": "action", "content": {"actions": [`+tt.action+`]}, "connections": {"success": "ok", "error": "failed"}},
				{"id": "ok", "type": "message", "content": {"text": "ok {`+tt.ref+`}"}}, {"id": "failed", "type": "message", "content": {"text": "failed {`+tt.ref+`}"}}]}`)
			k := newTalk(t, f, Init{Variables: map[string]any{
				"n": 5, "s": "text", "list": []any{1, 2, 2}, "rows": []any{map[string]any{"v": 0.1}, map[string]any{"v": 0.2}},
				"maps": []any{map[string]any{"a": 1}, map[string]any{"a": 2, "b": 1}},
			}})
			if !strings.HasPrefix(k.said[0], tt.end) {
				t.Errorf("said %q, want %s", k.said, tt.end)
			}
			tn := &turn{f: f, s: k.s}
			r := parseRef(tt.ref, "variables")
			v, _ := tn.resolve(&r)
			if got := string(appendCanonical(nil, v)); got != tt.want {
				t.Errorf("%s = %s, want %s", tt.ref, got, tt.want)
			}
		})
	}
}

// call returns the call that a step gave out.
func (k *talk) call() Call {
	k.t.Helper()
	for _, e := range k.last {
		if c, ok := e.(Call); ok {
			return c
		}
	}
	k.t.Fatalf("no call in %+v", k.last)
	return Call{}
}

func joined(t *testing.T, parts []Part, place Place) string {
	t.Helper()
	s, err := Join(parts, place, func(key string) (string, error) { return `t"0p`, nil })
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSeedWebhook(t *testing.T) {
	f := mustParse(t, `{"nodes": [{"id": "get_recommendations", "type": "webhook", "content": {
		"url": "https://api.wriveted.com/recommendations", "method": "POST",
		"headers": {"Authorization": "Bearer {secret:wriveted_api_token}"},
		"body": {"user_id": "{user.id}", "preferences": "{book_preferences}", "age": "{user.age}"},
		"response_mapping": {"recommendations": "$.data.books", "count": "$.data.total", "first": "$.data.books.0", "gone": "$.nothing"},
		"timeout": 5000, "retry": {"attempts": 3, "delay": 1000}},
		"connections": {"success": "show_books", "error": "fallback_recommendations"}},
		{"id": "show_books", "type": "message", "content": {"text": "{count} books, first {first}, {gone}"}},
		{"id": "fallback_recommendations", "type": "message", "content": {"text": "none"}}]}`)
	begin := func() *talk {
		return newTalk(t, f, Init{User: map[string]any{"id": "u1", "age": 15}, Variables: map[string]any{"book_preferences": []any{"adventure", `"quoted"`}, "gone": "kept"}})
	}
	k := begin()
	c := k.call()
	if c.ID != "s1:get_recommendations:1" || c.Timeout != 5*time.Second || c.Retry.Attempts != 3 || c.Retry.Delay != time.Second {
		t.Errorf("call = %+v", c)
	}
	if got, want := joined(t, c.Body, InJSON), `{"age":15,"preferences":["adventure","\"quoted\""],"user_id":"u1"}`; got != want || !c.JSON {
		t.Errorf("body = %s, want %s", got, want)
	}
	if got := joined(t, c.Headers[0].Value, InHeader); got != `Bearer t"0p` {
		t.Errorf("header = %s", got)
	}
	if b, _ := EncodeState(k.s); strings.Contains(string(b), "t0p") {
		t.Error("a secret is in the state")
	}
	k.step(Result{At: epoch, ID: c.ID, Outcome: "success", Data: json.RawMessage(`{"data": {"books": ["A", "B"], "total": 2}}`)})
	k.want("2 books, first A, kept")
	k = begin()
	k.step(Result{At: epoch, ID: k.call().ID, Outcome: "timeout"})
	k.want("none")
}

func TestSeedAPICall(t *testing.T) {
	doc := `{"nodes": [{"id": "get", "type": "action", "content": {"actions": [{"type": "api_call", "config": {
		"endpoint": "/api/users/{user.id}/recommendations", "method": "POST",
		"body": {"user_id": "{{user.id}}", "preferences": {"genres": "{{temp.selected_genres}}", "age": "{{user.age}}"}, "limit": 5},
		"response_mapping": {"recommendations": "recommendations", "count": "recommendation_count"},
		"circuit_breaker": {"failure_threshold": 3, "timeout": 30.0}%s}}]},
		"connections": {"success": "show", "failure": "sorry"}},
		{"id": "show", "type": "message", "content": {"text": "{recommendation_count}"}}, {"id": "sorry", "type": "message", "content": {"text": "sorry"}}]}`
	tests := []struct{ name, extra, outcome, data, said string }{
		{"success", ``, "success", `{"count": 3}`, "3"},
		{"failure", ``, "error", ``, "sorry"},
		{"fallback", `, "fallback_response": {"count": 0}`, "error", ``, "0"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := mustParse(t, fmt.Sprintf(doc, tt.extra))
			k := newTalk(t, f, Init{User: map[string]any{"id": "../u/1", "age": 9}, Temp: map[string]any{"selected_genres": []any{"x"}}})
			c := k.call()
			if got := joined(t, c.URL, InText); got != "/api/users/..%2Fu%2F1/recommendations" {
				t.Errorf("url = %s", got)
			}
			if c.Breaker == nil || c.Breaker.Failures != 3 || c.Breaker.Timeout != 30*time.Second || c.Route != "POST /api/users/{user.id}/recommendations" {
				t.Errorf("breaker = %+v, route %q", c.Breaker, c.Route)
			}
			if got, want := joined(t, c.Body, InJSON), `{"limit":5,"preferences":{"age":9,"genres":["x"]},"user_id":"../u/1"}`; got != want {
				t.Errorf("body = %s, want %s", got, want)
			}
			k.step(Result{At: epoch, ID: c.ID, Outcome: tt.outcome, Data: json.RawMessage(tt.data)})
			k.want(tt.said)
		})
	}
}

func TestCallsInOrder(t *testing.T) {
	f := mustParse(t, `{"nodes": [{"id": "a", "type": "action", "content": {"actions": [
		{"type": "set_variable", "variable": "x", "value": "one"}, {"type": "api_call", "url": "/a/{x}", "response_mapping": {"v": "x"}},
		{"type": "api_call", "url": "/b/{x}"}, {"type": "set_variable", "variable": "x", "value": "done"}]},
		"connections": {"success": "m", "error": "m"}}, {"id": "m", "type": "message", "content": {"text": "{x}"}}]}`)
	k := newTalk(t, f, Init{})
	first := k.call()
	k.step(Result{At: epoch, ID: first.ID, Outcome: "success", Data: json.RawMessage(`{"v": "a b"}`)})
	second := k.call()
	if first.ID == second.ID || joined(t, second.URL, InText) != "/b/a%20b" {
		t.Errorf("second call %s to %s after %s", second.ID, second.URL, first.ID)
	}
	k.step(Result{At: epoch, ID: first.ID, Outcome: "success"}) // given out twice: nothing more happens
	k.wantAt("a", Active)
	k.step(Result{At: epoch, ID: second.ID, Outcome: "error"})
	k.want("a b")
}

func TestRefusedAddresses(t *testing.T) {
	for _, u := range []string{"//evil.example/x", "{x}", "ftp://a.example", "{secret:k}", ""} {
		f := mustParse(t, fmt.Sprintf(`{"nodes": [{"id": "w", "type": "webhook", "content": {"url": %q}, "connections": {"error": "m"}}, {"id": "m", "type": "message", "content": {"text": "refused"}}]}`, u))
		newTalk(t, f, Init{Variables: map[string]any{"x": "https://evil.example"}}).want("refused")
	}
}

func TestJoinPassesErrors(t *testing.T) {
	boom := errors.New("boom")
	if _, err := Join([]Part{{Secret: "k"}}, InJSON, func(string) (string, error) { return "", boom }); !errors.Is(err, boom) {
		t.Errorf("error %v, want boom", err)
	}
}

const profiler = `{"entry": "before", "nodes": [
	{"id": "before", "type": "message", "content": {"text": "in"}, "connections": {"default": "c"}},
	{"id": "c", "type": "composite", "content": {%s
		"inputs": {"age": "{user.age}", "path": "user.age", "word": "hello there", "list": ["{user.age}"]},
		"outputs": {"level": "profile.level", "unset": "profile.unset"}},
	 "connections": {"complete": "done", "error": "bad", "vip": "vip"}},
	{"id": "done", "type": "message", "content": {"text": "{profile.level} {input.age}{local.x}{output.level}"}},
	{"id": "bad", "type": "message", "content": {"text": "bad"}}, {"id": "vip", "type": "message", "content": {"text": "vip"}}]}`

const inner = `"nodes": [
	{"type": "question", "content": {"question": "{input.age} {input.path} {input.word} {input.list}?", "variable": "local.x"}},
	{"type": "condition", "content": {"conditions": [{"if": {"var": "local.x", "eq": "vip"}, "then": "@out:vip"}, {"if": {"var": "local.x", "eq": "bad"}, "then": "$1"}]}, "connections": {"$1": "fail", "default": "set"}},
	{"id": "set", "type": "action", "content": {"actions": [{"type": "set_variable", "variable": "output.level", "value": "{local.x}"}]}, "connections": {"success": [], "default": "last"}},
	{"id": "fail", "type": "action", "content": {"actions": [{"type": "set_variable", "variable": "input.age", "value": 1}]}, "connections": {"success": "last"}},
	{"id": "last", "type": "message", "content": {"text": "out"}}]`

func TestComposite(t *testing.T) {
	sub := `{"entry": "q", ` + strings.Replace(strings.Replace(inner, `{"type": "question",`, `{"id": "q", "connections": {"default": "k"}, "type": "question",`, 1), `{"type": "condition",`, `{"id": "k", "type": "condition",`, 1) + `}`
	flows := map[string]*Flow{
		"inline":  mustParse(t, fmt.Sprintf(profiler, inner+",")),
		"by-name": mustParse(t, fmt.Sprintf(profiler, `"flow_id": "sub",`)).With(map[string]*Flow{"sub": mustParse(t, sub)}),
	}
	tests := []struct{ in, said, profile string }{
		{"high", "out|high ", `{"level":"high"}`}, {"vip", "vip", `null`}, {"bad", "bad", `null`},
	}
	for name, f := range flows {
		for _, tt := range tests {
			t.Run(name+" "+tt.in, func(t *testing.T) {
				k := newTalk(t, f, Init{User: map[string]any{"age": 9}})
				k.want("in", "9 9 hello there [9]?")
				if len(k.s.System.Frames) != 2 {
					t.Errorf("%d frames, want 2", len(k.s.System.Frames))
				}
				k.say(tt.in)
				if got := strings.Join(k.said, "|"); got != tt.said {
					t.Errorf("said %q, want %q", got, tt.said)
				}
				if got := string(appendCanonical(nil, k.s.Variables["profile"])); got != tt.profile {
					t.Errorf("profile = %s, want %s", got, tt.profile)
				}
			})
		}
	}
}

func TestDepth(t *testing.T) {
	f := mustParse(t, `{"nodes": [{"id": "c", "type": "composite", "content": {"flow": "self"}}]}`)
	f = f.With(map[string]*Flow{"self": f})
	k := newTalk(t, f, Init{})
	k.wantAt("", Failed)
}
