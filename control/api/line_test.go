package api_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// An agent goes from a draft to what calls run, and back.
func TestAgentReleases(t *testing.T) {
	p := newPlane(t)
	key, path := p.demo.APIKey, "/v1/agents/helper"
	settings := func(prompt string) string { return `{"kind":"prompt","prompt":"` + prompt + `"}` }
	live := func(prompt string, number float64) {
		t.Helper()
		a := p.want(200, "GET", path, key, "")
		if got := a["settings"].(map[string]any)["prompt"]; got != prompt || a["number"] != number {
			t.Errorf("live is %v, number %v, want %s, %v", got, a["number"], prompt, number)
		}
	}
	p.want(201, "POST", "/v1/agents", key, `{"name":"helper","settings":`+settings("one")+`}`)
	live("one", 1)
	p.want(200, "PATCH", path, key, `{"settings":`+settings("two")+`}`) // at once
	live("two", 2)
	p.want(200, "PATCH", path, key, `{"public":true,"settings":`+settings("two")+`}`) // nothing new: no version
	live("two", 2)

	p.want(404, "GET", path+"/draft", key, "")
	p.want(200, "PUT", path+"/draft", key, `{"settings":{"kind":"prompt","llm":[{"vendor":"openai","model":"odd"}]}}`)
	draft := p.want(200, "GET", path+"/draft", key, "")
	if got := fmt.Sprint(draft["problems"]); !strings.Contains(got, "settings.prompt") || !strings.Contains(got, "warning") {
		t.Errorf("problems of the draft: %s", got)
	}
	p.want(422, "POST", path+"/versions", key, `{}`) // it has a fault
	resp, _ := p.do("PUT", path+"/draft", key, `{"settings":`+settings("three")+`}`)
	etag := resp.Header.Get("ETag")
	p.want(412, "PUT", path+"/draft", key, `{"settings":`+settings("x")+`}`, "If-Match", `"1"`)
	p.want(201, "POST", path+"/versions", key, `{"label":"before the sale"}`, "If-Match", etag)
	p.want(404, "GET", path+"/draft", key, "")
	live("two", 2) // not yet
	p.want(200, "POST", path+"/publish", key, "")
	live("three", 3)
	if v := p.want(200, "GET", path+"/versions/3", key, ""); v["label"] != "before the sale" || v["settings"].(map[string]any)["prompt"] != "three" {
		t.Errorf("version 3: %v", v)
	}
	diff := p.want(200, "GET", path+"/diff?from=1", key, "")["changes"].([]any)
	if len(diff) != 1 || diff[0].(map[string]any)["path"] != "/prompt" {
		t.Errorf("diff: %v", diff)
	}
	p.want(200, "POST", path+"/rollback", key, "")
	live("two", 2)
	if n := len(p.want(200, "GET", path+"/versions", key, "")["items"].([]any)); n != 3 {
		t.Errorf("%d versions, want 3", n)
	}
	if n := len(p.want(200, "GET", path+"/publications", key, "")["items"].([]any)); n != 4 {
		t.Errorf("%d publications, want 4", n)
	}
	actions := auditActions(p, "agent.")
	for _, want := range []string{"agent.create", "agent.version", "agent.publish", "agent.rollback"} {
		if !slices.Contains(actions, want) {
			t.Errorf("audit has %v, not %s", actions, want)
		}
	}
	if v := p.want(200, "POST", path+"/validate", key, `{"settings":{"kind":"prompt","prompt":"x","tts":[{"vendor":"acme"}],"language":"??"}}`); v["valid"] != false || len(v["problems"].([]any)) != 2 {
		t.Errorf("validity: %v", v)
	}
	p.want(412, "DELETE", path, key, "", "If-Match", `"1"`)
	p.want(204, "DELETE", path, key, "")
	p.want(404, "GET", path, key, "")
}

func auditActions(p *plane, prefix string) (list []string) {
	for _, e := range p.want(200, "GET", "/v1/audit?limit=200", p.demo.APIKey, "")["items"].([]any) {
		if action := e.(map[string]any)["action"].(string); strings.HasPrefix(action, prefix) {
			list = append(list, action)
		}
	}
	return list
}

func TestNumbersAndAccounts(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	agent := p.want(201, "POST", "/v1/agents", key, `{"name":"day","settings":{"kind":"prompt","prompt":"x"}}`)["id"].(string)
	night := p.want(201, "POST", "/v1/agents", key, `{"name":"night","settings":{"kind":"prompt","prompt":"x"}}`)["id"].(string)

	account := `{"name":"own","account_sid":"AC` + strings.Repeat("1", 32) + `","token_secret":"twilio"}`
	p.want(422, "POST", "/v1/carrier-accounts", key, account) // no such secret
	p.want(201, "PUT", "/v1/secrets/elsewhere", key, `{"value":"tok","hosts":["other.example"]}`)
	p.want(422, "POST", "/v1/carrier-accounts", key, strings.Replace(account, `"twilio"`, `"elsewhere"`, 1))
	p.want(201, "PUT", "/v1/secrets/twilio", key, `{"value":"tok","hosts":["api.twilio.com"]}`)
	p.want(422, "POST", "/v1/carrier-accounts", key, strings.ReplaceAll(account, strings.Repeat("1", 32), strings.Repeat("0", 32))) // the operator's
	id := p.want(201, "POST", "/v1/carrier-accounts", key, account)["id"].(string)
	p.want(409, "POST", "/v1/carrier-accounts", key, account)
	if got := p.want(200, "POST", "/v1/carrier-accounts/"+id+"/test", key, ""); got["ok"] != false || got["wrong"] == "" {
		t.Errorf("test: %v", got)
	}
	p.want(200, "PATCH", "/v1/carrier-accounts/"+id, key, `{"old_token_secret":"twilio"}`, "If-Match", `"1"`)
	p.want(412, "PATCH", "/v1/carrier-accounts/"+id, key, `{"old_token_secret":""}`, "If-Match", `"1"`)

	n := p.want(201, "POST", "/v1/numbers", key, `{"number":"+15550002222","agent_id":"`+agent+`","carrier_account_id":"`+id+`","timezone":"America/New_York",
		"routes":[{"name":"holiday","dates":["2026-12-25"],"message":"We are closed."},{"name":"night","from":"20:00","to":"06:00","agent_id":"`+night+`"}]}`)
	path := "/v1/numbers/" + n["id"].(string)
	for at, want := range map[string]string{
		"2026-12-25T15:00:00Z": "holiday", "2026-12-24T15:00:00Z": "", "2026-12-24T03:00:00Z": "night", "2026-12-26T04:59:00Z": "holiday",
	} {
		got := p.want(200, "GET", path+"/route?at="+at, key, "")
		if name, _ := got["name"].(string); name != want {
			t.Errorf("at %s: %v, want %q", at, got, want)
		}
	}
	p.want(422, "PATCH", path, key, `{"timezone":"Mars/Base"}`)
	p.want(422, "PATCH", path, key, `{"routes":[{"message":"x","agent_id":"`+night+`"}]}`)
	p.want(200, "PATCH", path, key, `{"display_name":"Support"}`, "If-Match", `"1"`)
	p.want(412, "PATCH", path, key, `{"display_name":"Sales"}`, "If-Match", `"1"`)
	if got := p.want(200, "GET", path, key, ""); got["display_name"] != "Support" || len(got["routes"].([]any)) != 2 {
		t.Errorf("number: %v", got)
	}
	for _, used := range []string{"/v1/agents/day", "/v1/agents/night", "/v1/carrier-accounts/" + id} {
		if got := p.want(409, "DELETE", used, key, ""); !strings.Contains(fmt.Sprint(got["detail"]), "numbers") {
			t.Errorf("%s: %v", used, got)
		}
	}
	p.want(204, "DELETE", path, key, "")
	p.want(204, "DELETE", "/v1/agents/night", key, "")
	p.want(204, "DELETE", "/v1/carrier-accounts/"+id, key, "")
}
