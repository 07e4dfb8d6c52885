package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/outbound"
)

// Orders are checked when they are taken, stand as they were given, and are
// taken back once; the policy is replaced by who has read it.
func TestDialRoutes(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	agent := p.want(201, "POST", "/v1/agents", key, `{"name":"day","settings":{"kind":"prompt","prompt":"x"}}`)["id"].(string)
	p.want(201, "POST", "/v1/numbers", key, `{"number":"+12025550199","agent_id":"`+agent+`"}`)
	good := `{"agent_id":"day","to":"+12125550123","from":"+12025550199","at":"2030-01-15T17:00:00Z","reference":"r1","consent":{"given":true,"source":"form","at":"2026-01-01T00:00:00Z"}}`
	for name, change := range map[string][2]string{
		"agent":   {`"day"`, `"nobody"`},
		"callee":  {`+12125550123`, `+1212`},
		"risky":   {`+12125550123`, `+19005550123`},
		"abroad":  {`+12125550123`, `+493012345678`},
		"caller":  {`+12025550199`, `+12025550198`},
		"consent": {`"given":true`, `"given":false`},
		"retry":   {`"reference":"r1"`, `"retry":{"attempts":99}`},
		"ringing": {`"reference":"r1"`, `"ring_seconds":1`},
		"message": {`"reference":"r1"`, `"voicemail":{"mode":"leave_message"}`},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if m := p.want(422, "POST", "/v1/calls", key, strings.Replace(bad, `"at":"2030-01-15T17:00:00Z",`, "", 1)); m["detail"] == "" {
			t.Errorf("%s: the refusal says nothing: %v", name, m)
		}
	}
	p.want(422, "POST", "/v1/calls", key, good) // too far ahead
	d := p.want(202, "POST", "/v1/calls", key, strings.Replace(good, `"at":"2030-01-15T17:00:00Z",`, "", 1))
	path := "/v1/dials/" + d["id"].(string)
	if got := p.want(200, "GET", path, key, ""); got["to"] != "+12125550123" || got["reference"] != "r1" || got["attempts_made"] != 0.0 {
		t.Errorf("the order is %v", got)
	}
	for query, n := range map[string]int{"?reference=r1": 1, "?reference=r2": 0, "?to=%2B12125550123": 1, "?status=canceled": 0} {
		if got := p.want(200, "GET", "/v1/dials"+query, key, "")["items"].([]any); len(got) != n {
			t.Errorf("%s lists %d, want %d", query, len(got), n)
		}
	}
	if got := p.want(200, "POST", path+"/cancel", key, ""); got["status"] != "canceled" || got["finished_at"] == nil {
		t.Errorf("taken back: %v", got)
	}
	p.want(409, "POST", path+"/cancel", key, "")
	p.want(404, "GET", "/v1/dials/"+agent, key, "")
	p.want(404, "POST", "/v1/dials/"+agent+"/cancel", key, "")

	policy := `{"quiet_hours":{"from":"20:00","until":"09:00","time_zone":"Europe/Berlin"},"concurrency":3,"number_concurrency":2,"per_minute":10,"daily_spend":5,"prefixes":["+49"],"consent_required":false}`
	p.want(412, "PUT", "/v1/outbound-policy", key, policy, "If-Match", `"7"`)
	p.want(200, "PUT", "/v1/outbound-policy", key, policy, "If-Match", `"0"`)
	p.want(412, "PUT", "/v1/outbound-policy", key, policy, "If-Match", `"0"`)
	p.want(422, "PUT", "/v1/outbound-policy", key, strings.Replace(policy, "Europe/Berlin", "Moon/Tranquility", 1))
	p.want(422, "PUT", "/v1/outbound-policy", key, strings.Replace(policy, "20:00", "25:00", 1))
	p.want(422, "PUT", "/v1/outbound-policy", key, strings.Replace(policy, `"+49"`, `"49"`, 1))
}

// A stop is told to whoever orders and whoever reads the policy; the operator
// alone lifts it, and the second who does is told how it stands.
func TestOutboundStopRoutes(t *testing.T) {
	p := newPlane(t)
	key, ctx := p.demo.APIKey, control.WithTenant(t.Context(), p.demo.Tenant)
	boss, _ := p.enter("admin@example.com", password)
	p.want(201, "POST", "/v1/agents", key, `{"name":"day","settings":{"kind":"prompt","prompt":"x"}}`)
	stop := "/v1/tenants/" + p.demo.Tenant.String() + "/outbound"
	p.want(404, "GET", stop, "", "", "Cookie", boss)
	if m := p.want(409, "POST", stop+"/resume", "", "", "Cookie", boss); m["code"] != "not_stopped" {
		t.Errorf("lifted before it was stopped: %v", m)
	}
	if got := p.want(200, "GET", "/v1/outbound-policy", key, ""); got["stopped"] != nil {
		t.Errorf("the policy says stopped: %v", got)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if _, err := p.o.Stops.PutOutboundStop(ctx, outbound.Stop{Signal: outbound.NumberRange, Count: 21, Threshold: 20, About: "+121255510", By: "key:1", At: at}); err != nil {
		t.Fatal(err)
	}
	m := p.want(403, "POST", "/v1/calls", key, `{"agent_id":"day","to":"+12125550123","from":"+12025550199"}`)
	for _, want := range []string{"since 2026-01-02T03:04:05Z", "21 numbers that begin with +121255510", "POST " + stop + "/resume"} {
		if m["code"] != "outbound_stopped" || !strings.Contains(m["detail"].(string), want) {
			t.Errorf("the order is answered %v, without %q", m, want)
		}
	}
	stopped, _ := p.want(200, "GET", "/v1/outbound-policy", key, "")["stopped"].(map[string]any)
	if stopped["signal"] != "number_range" || stopped["stopped_at"] != "2026-01-02T03:04:05Z" {
		t.Errorf("the policy says of the stop: %v", stopped)
	}
	p.want(403, "POST", stop+"/resume", key, "") // not by itself
	p.want(403, "GET", stop, key, "")
	p.want(404, "POST", "/v1/tenants/"+uuid.NewString()+"/outbound/resume", "", "", "Cookie", boss)
	if got := p.want(200, "POST", stop+"/resume", "", "", "Cookie", boss); got["lifted_at"] == nil || got["count"] != 21.0 {
		t.Errorf("lifted: %v", got)
	}
	if m := p.want(409, "POST", stop+"/resume", "", "", "Cookie", boss); !strings.Contains(m["detail"].(string), "go on since") {
		t.Errorf("lifted twice: %v", m)
	}
	if got := p.want(200, "GET", stop, "", "", "Cookie", boss); got["lifted_at"] == nil {
		t.Errorf("the last stop: %v", got)
	}
	p.want(422, "POST", "/v1/calls", key, `{"agent_id":"day","to":"+12125550123","from":"+12025550199"}`)
}
