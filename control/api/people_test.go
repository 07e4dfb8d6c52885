package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// enter returns the cookie header of a person, and the answer.
func (p *plane) enter(email, password string) (string, map[string]any) {
	p.t.Helper()
	resp, m := p.do("POST", "/v1/auth/login", "", `{"email":"`+email+`","password":"`+password+`"}`)
	if resp.StatusCode != 200 {
		p.t.Fatalf("sign in as %s: %d %v", email, resp.StatusCode, m)
	}
	return cookieHeader(p, resp), m
}

func cookieHeader(p *plane, resp *http.Response) string {
	p.t.Helper()
	for _, c := range resp.Cookies() {
		if strings.HasSuffix(c.Name, "parley_session") {
			return c.Name + "=" + c.Value
		}
	}
	p.t.Fatal("no session's cookie")
	return ""
}

// An owner invites, gives roles, resets and removes, by cookie.
func TestColleagues(t *testing.T) {
	p := newPlane(t)
	boss, _ := p.enter("admin@example.com", password)
	i := p.want(201, "POST", "/v1/invitations", "", `{"email":"eve@example.com","role":"editor"}`, "Cookie", boss)
	if i["status"] != "open" || !strings.HasPrefix(i["link"].(string), "https://parley.example/join#parley_invite_") || i["invited_by"] == nil {
		t.Errorf("invitation %v", i)
	}
	p.want(409, "POST", "/v1/invitations", "", `{"email":"eve@example.com","role":"editor"}`, "Cookie", boss)
	p.want(422, "POST", "/v1/invitations", "", `{"email":"eve","role":"editor"}`, "Cookie", boss)
	p.want(422, "POST", "/v1/invitations", "", `{"email":"e@example.com","role":"king"}`, "Cookie", boss)
	id := i["id"].(string)
	i = p.want(200, "POST", "/v1/invitations/"+id+"/resend", "", "", "Cookie", boss)
	listed := p.want(200, "GET", "/v1/invitations", "", "", "Cookie", boss)["items"].([]any)[0].(map[string]any)
	if listed["token"] != nil || listed["link"] != nil || listed["id"] != id {
		t.Errorf("listed %v", listed)
	}
	body := `{"token":"` + i["token"].(string) + `","password":"seven amber gulls wade","name":"Eve"}`
	joined := p.want(201, "POST", "/v1/auth/accept-invitation", "", body)
	if joined["role"] != "editor" {
		t.Errorf("joined %v", joined)
	}
	p.want(422, "POST", "/v1/auth/accept-invitation", "", body)
	eve, _ := p.enter("eve@example.com", "seven amber gulls wade")

	me := p.want(200, "GET", "/v1/auth/me", "", "", "Cookie", eve)
	user := me["user"].(map[string]any)
	if me["role"] != "editor" || me["platform"] != false || user["name"] != "Eve" || len(me["tenants"].([]any)) != 1 || len(me["permissions"].([]any)) < 5 {
		t.Errorf("me %v", me)
	}
	path := "/v1/users/" + user["id"].(string)
	resp, got := p.do("GET", path, "", "", "Cookie", eve)
	if resp.Header.Get("ETag") != `"1"` || got["email"] != "eve@example.com" || got["locked_until"] != nil {
		t.Errorf("user %v, ETag %s", got, resp.Header.Get("ETag"))
	}
	if n := len(p.want(200, "GET", "/v1/users", "", "", "Cookie", eve)["items"].([]any)); n != 2 {
		t.Errorf("%d people, want 2", n)
	}
	p.want(403, "PATCH", path, "", `{"role":"owner"}`, "Cookie", eve)
	p.want(412, "PATCH", path, "", `{"role":"viewer"}`, "Cookie", boss, "If-Match", `"7"`)
	p.want(412, "PATCH", path, "", `{"role":"viewer"}`, "Cookie", boss, "If-Match", `"x"`)
	if got := p.want(200, "PATCH", path, "", `{"role":"viewer"}`, "Cookie", boss, "If-Match", `"1"`); got["role"] != "viewer" || got["revision"] != 2.0 {
		t.Errorf("changed %v", got)
	}
	p.want(401, "GET", "/v1/auth/me", "", "", "Cookie", eve)

	link := p.want(201, "POST", path+"/reset-password", "", "", "Cookie", boss)
	p.want(204, "POST", "/v1/auth/reset-password", "", `{"token":"`+link["token"].(string)+`","password":"nine copper herons nap"}`)
	p.want(422, "POST", "/v1/auth/reset-password", "", `{"token":"`+link["token"].(string)+`","password":"nine copper herons nap"}`)
	eve, _ = p.enter("eve@example.com", "nine copper herons nap")
	p.want(204, "DELETE", path, "", "", "Cookie", boss)
	p.want(401, "GET", "/v1/auth/me", "", "", "Cookie", eve)
	p.want(404, "GET", path, "", "", "Cookie", boss)
	owner := p.want(200, "GET", "/v1/auth/me", "", "", "Cookie", boss)["user"].(map[string]any)["id"].(string)
	p.want(422, "DELETE", "/v1/users/"+owner, "", "", "Cookie", boss)
	// A key with every scope makes no owners.
	p.want(403, "POST", "/v1/invitations", p.demo.APIKey, `{"email":"o@example.com","role":"owner"}`)
	p.want(201, "POST", "/v1/invitations", p.demo.APIKey, `{"email":"o@example.com","role":"admin"}`)
}

func TestTenants(t *testing.T) {
	p := newPlane(t)
	boss, _ := p.enter("admin@example.com", password)
	mine := "/v1/tenants/" + p.demo.Tenant.String()
	resp, got := p.do("GET", mine, p.demo.APIKey, "")
	if got["name"] != "Demo" || resp.Header.Get("ETag") != `"1"` {
		t.Errorf("tenant %v", got)
	}
	if got := p.want(200, "PATCH", mine, "", `{"name":"Mine"}`, "Cookie", boss, "If-Match", `"1"`); got["name"] != "Mine" || got["revision"] != 2.0 {
		t.Errorf("renamed %v", got)
	}
	p.want(412, "PATCH", mine, "", `{"name":"Again"}`, "Cookie", boss, "If-Match", `"1"`)
	p.want(422, "PATCH", mine, "", `{"name":" "}`, "Cookie", boss)
	p.want(403, "GET", "/v1/tenants", p.demo.APIKey, "")

	made := p.want(201, "POST", "/v1/tenants", "", `{"name":"Acme","owner_email":"acme@example.com"}`, "Cookie", boss)
	id, token := made["id"].(string), made["invitation"].(map[string]any)["token"].(string)
	if n := len(p.want(200, "GET", "/v1/tenants", "", "", "Cookie", boss)["items"].([]any)); n != 2 {
		t.Errorf("%d tenants, want 2", n)
	}
	p.want(404, "GET", "/v1/tenants/"+id, "", "", "Cookie", boss) // its data are its own
	p.want(201, "POST", "/v1/auth/accept-invitation", "", `{"token":"`+token+`","password":"seven amber gulls wade"}`)
	acme, _ := p.enter("acme@example.com", "seven amber gulls wade")
	key := p.want(201, "POST", "/v1/keys", "", `{"name":"k","scopes":["agents.read","chat"]}`, "Cookie", acme)["secret"].(string)
	p.want(403, "GET", "/v1/tenants", "", "", "Cookie", acme)
	p.want(403, "POST", mine+"/suspend", "", "", "Cookie", acme)

	p.want(200, "POST", "/v1/tenants/"+id+"/suspend", "", "", "Cookie", boss)
	for name, credentials := range map[string][]string{"cookie": {"Cookie", acme}, "key": {"Authorization", "Bearer " + key}} {
		if m := p.want(403, "GET", "/v1/agents", "", "", credentials...); m["code"] != "suspended" {
			t.Errorf("by %s: %v", name, m)
		}
		if m := p.want(403, "POST", "/chat/start", "", `{"flow_id":"front-desk"}`, credentials...); m["code"] != "suspended" {
			t.Errorf("a chat by %s: %v", name, m)
		}
	}
	if m := p.want(403, "POST", "/v1/auth/login", "", `{"email":"acme@example.com","password":"seven amber gulls wade"}`); m["code"] != "suspended" {
		t.Errorf("sign in: %v", m)
	}
	p.want(409, "POST", mine+"/suspend", "", "", "Cookie", boss)
	p.want(404, "POST", "/v1/tenants/"+uuid.NewString()+"/suspend", "", "", "Cookie", boss)
	p.want(200, "POST", "/v1/tenants/"+id+"/resume", "", "", "Cookie", boss)
	p.want(200, "GET", "/v1/agents", key, "")
}

func TestOwnSessions(t *testing.T) {
	p := newPlane(t)
	here, first := p.enter("admin@example.com", password)
	there, _ := p.enter("admin@example.com", password)
	if first["failed_sign_ins"] != 0.0 || first["expires_at"] == nil {
		t.Errorf("signed in: %v", first)
	}
	items := p.want(200, "GET", "/v1/auth/sessions", "", "", "Cookie", here)["items"].([]any)
	var other string
	for _, v := range items {
		if b := v.(map[string]any); b["current"] == false {
			other = b["id"].(string)
		}
	}
	if len(items) != 2 || other == "" {
		t.Fatalf("sessions %v", items)
	}
	p.want(403, "GET", "/v1/auth/sessions", p.demo.APIKey, "")
	p.want(403, "DELETE", "/v1/auth/sessions", p.demo.APIKey, "")
	p.want(404, "DELETE", "/v1/auth/sessions/"+other, p.demo.APIKey, "")
	p.want(204, "DELETE", "/v1/auth/sessions/"+other, "", "", "Cookie", here)
	p.want(401, "GET", "/v1/auth/me", "", "", "Cookie", there)
	there, _ = p.enter("admin@example.com", password)
	p.want(204, "DELETE", "/v1/auth/sessions", "", "", "Cookie", here)
	p.want(401, "GET", "/v1/auth/me", "", "", "Cookie", there)

	p.want(404, "POST", "/v1/auth/switch", "", `{"tenant_id":"`+uuid.NewString()+`"}`, "Cookie", here)
	resp, _ := p.do("POST", "/v1/auth/switch", "", `{"tenant_id":"`+p.demo.Tenant.String()+`"}`, "Cookie", here)
	if resp.StatusCode != 200 {
		t.Fatalf("switch: %d", resp.StatusCode)
	}
	p.want(401, "GET", "/v1/auth/me", "", "", "Cookie", here)
	here = cookieHeader(p, resp)
	p.want(403, "POST", "/v1/auth/password", "", `{"old_password":"wrong","password":"seven amber gulls wade"}`, "Cookie", here)
	p.want(422, "POST", "/v1/auth/password", "", `{"old_password":"`+password+`","password":"short"}`, "Cookie", here)
	p.want(204, "POST", "/v1/auth/password", "", `{"old_password":"`+password+`","password":"seven amber gulls wade"}`, "Cookie", here)
	p.want(403, "POST", "/v1/auth/password", p.demo.APIKey, `{"old_password":"x","password":"y"}`)
	p.enter("admin@example.com", "seven amber gulls wade")
}
