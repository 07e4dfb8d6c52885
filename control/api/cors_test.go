package api_test

import (
	"net/http"
	"testing"
)

// Only pages of listed origins may read what a chat answers, and never with a
// cookie; each flow has its own list.
func TestChatOrigins(t *testing.T) {
	p := newPlane(t)
	const shop, evil = "https://shop.example", "https://evil.example"
	listed, other := p.publish("listed", asking, true), p.publish("other", asking, true)
	for _, bad := range []string{"*", "https://*.example", "shop.example", "https://shop.example/", "https://Shop.example", "null", "ftp://shop.example", "https://u:p@shop.example", ""} {
		p.want(422, "PATCH", "/v1/flows/"+listed, p.demo.APIKey, `{"origins":["`+bad+`"]}`)
	}
	allowed := func(resp *http.Response) string {
		if resp.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Error("cookies are allowed across origins")
		}
		return resp.Header.Get("Access-Control-Allow-Origin")
	}
	ask := func(method, path, bearer, body, origin string) (string, int) {
		t.Helper()
		resp, _ := p.do(method, path, bearer, body, "Origin", origin, "Sec-Fetch-Site", "cross-site")
		return allowed(resp), resp.StatusCode
	}
	if got, status := ask("OPTIONS", "/chat/start", "", "", shop); got != "" || status != 204 {
		t.Errorf("before it is listed: %q, %d", got, status)
	}
	if m := p.want(200, "PATCH", "/v1/flows/"+listed, p.demo.APIKey, `{"origins":["`+shop+`","http://localhost:3000"]}`); len(m["origins"].([]any)) != 2 {
		t.Errorf("origins: %v", m["origins"])
	}
	p.want(200, "PATCH", "/v1/flows/"+listed, p.demo.APIKey, `{"public":true}`) // leaves them as they are
	s, theirs := p.chat("", `{"flow_id":"`+listed+`"}`), p.chat("", `{"flow_id":"`+other+`"}`)
	for name, tt := range map[string]struct {
		method, path, bearer, body, origin, want string
	}{
		"preflight":         {"OPTIONS", "/chat/start", "", "", shop, shop},
		"preflight-session": {"OPTIONS", "/chat/sessions/" + s.token + "/interact", "", "", shop, shop},
		"preflight-evil":    {"OPTIONS", "/chat/sessions/" + s.token + "/interact", "", "", evil, ""},
		"preflight-null":    {"OPTIONS", "/chat/start", "", "", "null", ""},
		"start":             {"POST", "/chat/start", "", `{"flow_id":"` + listed + `"}`, shop, shop},
		"start-local":       {"POST", "/chat/start", "", `{"flow_id":"` + listed + `"}`, "http://localhost:3000", "http://localhost:3000"},
		"start-evil":        {"POST", "/chat/start", "", `{"flow_id":"` + listed + `"}`, evil, ""},
		"start-other":       {"POST", "/chat/start", "", `{"flow_id":"` + other + `"}`, shop, ""},
		"get":               {"GET", "/chat/sessions/" + s.token, s.token, "", shop, shop},
		"get-evil":          {"GET", "/chat/sessions/" + s.token, s.token, "", evil, ""},
		"get-other":         {"GET", "/chat/sessions/" + theirs.token, theirs.token, "", shop, ""},
		"like":              {"GET", "/chat/sessions/" + s.token, s.token, "", shop + ".evil.example", ""},
		"another-port":      {"GET", "/chat/sessions/" + s.token, s.token, "", shop + ":8443", ""},
		"conflict":          {"POST", "/chat/sessions/" + s.token + "/interact", s.token, `{"input":"x","expected_revision":77}`, shop, shop},
		"unknown":           {"GET", "/chat/sessions/nobody", "nobody", "", shop, ""},
		"control-plane":     {"GET", "/v1/flows", p.demo.APIKey, "", shop, ""},
	} {
		if got, status := ask(tt.method, tt.path, tt.bearer, tt.body, tt.origin); got != tt.want || status >= 500 {
			t.Errorf("%s: %q, %d, want %q", name, got, status, tt.want)
		}
	}
}
