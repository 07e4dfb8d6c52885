package api_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"parley/agent"
	"parley/control"
)

const sizing = `{"nodes":[
	{"id":"hello","type":"message","content":{"text":"Hello."}},
	{"id":"size","type":"question","content":{"text":"Which size?","input_type":"choice","options":["small","large"]}},
	{"id":"bye","type":"message","content":{"text":"Bye."}}],
	"connections":[{"source":"hello","target":"size"},{"source":"size","target":"bye"}]}`

// What chats and a call come to is read by the API, after a roll-up.
func TestAnalytics(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	id := p.publish("sizes", sizing, true)
	done := p.chat(key, `{"flow_id":"`+id+`"}`)
	p.want(200, "POST", "/chat/sessions/"+done.token+"/interact", done.token, `{"input":"green"}`)
	p.want(200, "POST", "/chat/sessions/"+done.token+"/interact", done.token, `{"input":"large"}`)
	p.chat(key, `{"flow_id":"`+id+`"}`) // goes on

	c, err := p.o.Calls.Arrive(t.Context(), control.Arrival{Carrier: "webrtc", Agent: "front-desk"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, v, err := p.o.Calls.Begin(t.Context(), c.ID.String(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	v.Journal.Turn(ctx, agent.Turn{Index: 0, Speaker: "agent", Heard: "Hello", Interrupted: true, Pauses: []string{"words/yield"},
		End: time.Second, Latency: agent.Latency{FirstAudio: 300 * time.Millisecond}})
	v.Journal.Turn(ctx, agent.Turn{Index: 1, Speaker: "caller", Heard: "hi", Start: time.Second})
	if err := p.o.Calls.Finish(ctx, v, agent.Ending{Reason: "goodbye"}, ""); err != nil {
		t.Fatal(err)
	}
	if got := p.want(200, "GET", "/v1/analytics/calls", key, ""); got["late"] == 0.0 {
		t.Error("nothing waits for the roll-up")
	}
	p.exec(`INSERT INTO usage_entries (tenant_id, call_id, generation, turn, kind, vendor, agent_id, amount, currency, micros, at)
		SELECT tenant_id, id, 0, -1, 'line', 'twilio', agent_id, 60, 'USD', 8500, now() FROM calls WHERE id = $1`, c.ID)
	figures := &control.Figures{Store: p.store, Log: p.o.Log}
	if err := figures.RollUp(t.Context()); err != nil {
		t.Fatal(err)
	}

	got := p.want(200, "GET", "/v1/analytics/calls?by=agent&tz=Asia/Kolkata", key, "")
	total := got["total"].(map[string]any)
	if got["late"] != 0.0 || len(got["items"].([]any)) != 1 || total["calls"] != 1.0 || total["contained"] != 1.0 || total["cut_turns"] != 1.0 ||
		total["interruptions"].(map[string]any)["words/yield"] != 1.0 || total["cost"].(map[string]any)["USD"] != 0.0085 {
		t.Errorf("figures of calls: %v", got)
	}
	got = p.want(200, "GET", "/v1/analytics/latency?by=day&buckets=true", key, "")
	first := got["items"].([]any)[0].(map[string]any)["steps"].(map[string]any)["first_audio"].(map[string]any)
	if ms := first["p50_ms"].(float64); ms < 293 || ms > 307 || len(first["buckets"].(map[string]any)) != 1 {
		t.Errorf("latency: %v", got)
	}
	got = p.want(200, "GET", "/v1/analytics/flows/"+id, key, "")
	nodes := map[string]map[string]any{}
	for _, n := range got["nodes"].([]any) {
		nodes[n.(map[string]any)["node"].(string)] = n.(map[string]any)
	}
	if got["conversations"] != 1.0 || got["completion"] != 1.0 || nodes["size"]["entered"] != 1.0 || nodes["size"]["no_match"] != 1.0 ||
		nodes["bye"]["ended"].(map[string]any)["completed"] != 1.0 {
		t.Errorf("the flow: %v", got)
	}

	for query, field := range map[string]string{
		"calls?from=2025-01-01T00:00:00Z&to=2026-06-01T00:00:00Z":         "from",
		"calls?by=hour&from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z": "from",
		"calls?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z":         "to",
		"calls?tz=Mars/Olympus":       "tz",
		"latency?tz=../../etc/passwd": "tz",
		"flows/" + id + "?from=2020-01-01T00:00:00Z&to=2026-01-01T00:00:00Z": "from",
	} {
		if got := p.want(422, "GET", "/v1/analytics/"+query, key, ""); !strings.Contains(fmt.Sprint(got["errors"]), "location:"+field) {
			t.Errorf("%s: %v", query, got)
		}
	}
	p.want(404, "GET", "/v1/analytics/flows/"+c.ID.String(), key, "")
	// Without the bills there is no cost.
	poor := p.want(201, "POST", "/v1/keys", key, `{"name":"k","scopes":["analytics.read"]}`)["secret"].(string)
	if got := p.want(200, "GET", "/v1/analytics/calls", poor, ""); got["total"].(map[string]any)["cost"] != nil {
		t.Error("who may not read bills sees the cost")
	}
}

// Figures of now come at once, and again.
func TestAnalyticsLive(t *testing.T) {
	p := newPlane(t)
	if _, err := p.o.Calls.Arrive(t.Context(), control.Arrival{Carrier: "webrtc", Agent: "front-desk"}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(p.Handler())
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, "GET", server.URL+"/v1/analytics/live", nil)
	req.Header.Set("Authorization", "Bearer "+p.demo.APIKey)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	for range 2 {
		name, err := lines.ReadString('\n')
		data, err2 := lines.ReadString('\n')
		_, err3 := lines.ReadString('\n')
		if err != nil || err2 != nil || err3 != nil && err3 != io.EOF || name != "event: live\n" || !strings.Contains(data, `"calls":1`) || !strings.Contains(data, `"arrived":1`) {
			t.Fatalf("%q %q %v %v", name, data, err, err2)
		}
	}
}
