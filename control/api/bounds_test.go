package api_test

import "testing"

// A number that no column holds is the client's mistake wherever it is sent, and
// no fault of ours: in a path, a query, a body, or as the revision of If-Match.
func TestNumbersNoColumnHolds(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	call := "/v1/calls/" + p.recorded("x").String()
	flow := "/v1/flows/" + p.publish("desk", told("1.0.0", "one"), true)
	agent := "/v1/agents/" + p.demo.Agents[0].ID.String()
	p.publish("asks", asking, true)
	chat := p.chat(key, `{"flow_id":"asks"}`)
	session := "/chat/sessions/" + chat.token
	content := "/v1/content/" + p.want(201, "POST", "/v1/content", key, `{"type":"fact","content":{"text":"x"}}`)["id"].(string)
	number := "/v1/numbers/" + p.want(201, "POST", "/v1/numbers", key, `{"number":"+15550001111","agent_id":"`+p.demo.Agents[0].ID.String()+`"}`)["id"].(string)
	policy := `{"quiet_hours":{"from":"20:00","until":"09:00","time_zone":"UTC"},"concurrency":3,"number_concurrency":2,"per_minute":10,"daily_spend":5,"prefixes":[],"consent_required":false}`
	for _, n := range []string{"2147483648", "9223372036854775807"} {
		match := []string{"If-Match", `"` + n + `"`}
		for _, a := range []struct {
			status             int // 0: 404 or 422
			method, path, body string
			header             []string
		}{
			{0, "GET", agent + "/versions/" + n, "", nil},
			{0, "GET", flow + "/versions/" + n, "", nil},
			{0, "GET", agent + "/diff?from=" + n, "", nil},
			{0, "GET", flow + "/diff?from=1&to=" + n, "", nil},
			{0, "GET", flow + "/export?number=" + n, "", nil},
			{0, "GET", "/v1/analytics/calls?agent_version=" + n, "", nil},
			{0, "GET", "/v1/analytics/latency?flow_version=" + n, "", nil},
			{0, "GET", "/v1/analytics" + flow[3:] + "?version=" + n, "", nil},
			{0, "GET", call + "/transcript?after=" + n, "", nil},
			{0, "GET", call + "/turns?after=" + n, "", nil},
			{0, "GET", session + "/history?after=" + n, "", nil},
			{0, "POST", flow + "/publish", `{"number":` + n + `}`, nil},
			{0, "POST", agent + "/publish", `{"number":` + n + `}`, nil},
			{0, "POST", flow + "/simulate", `{"number":` + n + `,"inputs":[]}`, nil},
			{0, "POST", "/v1/sessions/" + chat.id + "/replay", `{"number":` + n + `}`, nil},
			{0, "POST", session + "/interact", `{"input":"x","expected_revision":` + n + `}`, nil},
			{0, "PATCH", session + "/state", `{"updates":{"a":1},"expected_revision":` + n + `}`, nil},
			{412, "PATCH", agent, `{"name":"x"}`, match},
			{412, "PUT", agent + "/draft", `{"settings":{"kind":"flow"}}`, match},
			{412, "PUT", flow + "/draft", `{"document":` + told("1.0.0", "two") + `}`, match},
			{412, "PATCH", content, `{"weight":1}`, match},
			{412, "PATCH", number, `{}`, match},
			{412, "PUT", "/v1/outbound-policy", policy, match},
			{422, "POST", call + "/hangup", "", match},
		} {
			resp, m := p.do(a.method, a.path, key, a.body, a.header...)
			if got := resp.StatusCode; got != a.status && (a.status != 0 || got != 404 && got != 422) {
				t.Errorf("%s %s %s %v: %d %v", a.method, a.path, a.body, a.header, got, m)
			}
		}
	}
}

// Whole numbers in paths and queries say up to where they go: what a column of 31
// bits is compared with must fit there. Positions and sequences have 63.
func TestParametersAreBounded(t *testing.T) {
	wide := map[string]bool{"/v1/audit after": true, "/v1/sessions/{id}/events after": true, "/v1/calls/{id}/events after": true}
	d := newPlane(t).document()
	paths, _ := d.at("paths").(map[string]any)
	seen := 0
	for path, item := range paths {
		for method := range item.(map[string]any) {
			list, _ := d.at("paths", path, method, "parameters").([]any)
			for _, p := range list {
				p := p.(map[string]any)
				schema, _ := p["schema"].(map[string]any)
				if schema["type"] != "integer" || wide[path+" "+p["name"].(string)] {
					continue
				}
				seen++
				if most, ok := schema["maximum"].(float64); !ok || most > 1<<31-1 {
					t.Errorf("%s %s: %s has no maximum that 31 bits hold: %v", method, path, p["name"], schema["maximum"])
				}
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d parameters looked at", seen)
	}
}
