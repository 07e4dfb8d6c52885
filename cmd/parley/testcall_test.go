package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/control"
)

// A scripted caller talks to an agent at any of its versions; the call is one as
// any other.
func TestTestCall(t *testing.T) {
	s := newSite(t, directly)
	n := s.start("a", "127.0.0.1:0")
	const agent = "/v1/agents/front-desk"
	settled := func(status int, made map[string]any) map[string]any {
		t.Helper()
		if status != 202 || made["carrier"] != "test" {
			t.Fatalf("test call: %d %v", status, made)
		}
		s.await(time.Minute, "the call to end", func() bool {
			c, _ := s.recordsOf("test", made["carrier_call_id"].(string))
			return c.Status == control.CallEnded
		})
		_, made = n.ask(s, "GET", "/v1/calls/"+made["id"].(string), "")
		return made
	}

	c := settled(n.ask(s, "POST", agent+"/test-call", `{"script":[{"press":"2"},{"press":"4#"}]}`))
	_, a := n.ask(s, "GET", agent, "")
	if c["end_reason"] != "goodbye" || c["agent_version_id"] != a["version_id"] {
		t.Errorf("the call: %v, want version %v", c, a["version_id"])
	}
	_, turns := n.ask(s, "GET", "/v1/calls/"+c["id"].(string)+"/transcript", "")
	var said []string
	for _, item := range turns["items"].([]any) {
		said = append(said, item.(map[string]any)["text"].(string))
	}
	got := strings.Join(said, " | ")
	for _, want := range []string{"red or blue?", "| 2 |", "how many people?", "goodbye."} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}

	// A version that is not published speaks to test calls alone.
	flow := a["settings"].(map[string]any)["flow_id"]
	status, v := n.ask(s, "POST", agent+"/versions", fmt.Sprintf(`{"settings":{"kind":"flow","flow_id":%q}}`, flow))
	if status != 201 {
		t.Fatalf("version: %d %v", status, v)
	}
	made := make([]map[string]any, 2)
	for i, version := range []string{"0", fmt.Sprint(v["number"])} {
		if status, made[i] = n.ask(s, "POST", agent+"/test-call", `{"number":`+version+`}`); status != 202 {
			t.Fatalf("version %s: %d %v", version, status, made[i])
		}
	}
	if status, refused := n.ask(s, "POST", agent+"/test-call", `{}`); status != 503 || refused["code"] != "busy" {
		t.Errorf("a third at once: %d %v", status, refused)
	}
	for i, want := range []bool{true, false} {
		if c := settled(202, made[i]); c["recorded"] != want || c["end_reason"] != "caller" || (c["agent_version_id"] == v["id"]) == want {
			t.Errorf("call %d: %v, want recorded %v, ended by the caller", i, c, want)
		}
	}

	for body, want := range map[string]int{`{"number":9}`: 422, `{"script":[{}]}`: 422, `{"script":[{"press":"x"}]}`: 422,
		`{"script":[{"say":"a","press":"1"}]}`: 422, `{"script":[{"wait_seconds":61}]}`: 422} {
		if status, answer := n.ask(s, "POST", agent+"/test-call", body); status != want {
			t.Errorf("%s: %d %v, want %d", body, status, answer, want)
		}
	}
	if status, _ := n.ask(s, "POST", "/v1/agents/nobody/test-call", `{}`); status != 404 {
		t.Errorf("of no agent: %d", status)
	}
}
