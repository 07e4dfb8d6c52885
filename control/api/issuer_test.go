package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/oauth2-proxy/mockoidc"

	"parley/control"
	"parley/control/api"
	"parley/control/identity"
)

// trust lists an issuer for the demo tenant.
func (p *plane) trust(i *issuer, more string) map[string]any {
	p.t.Helper()
	body := `{"issuer":"` + i.Issuer() + `","settings":{"scopes":{"calls":["calls.read"],"boss":["keys.manage","calls.read"]}` + more + `}}`
	return p.want(201, "POST", "/v1/auth/issuers", p.demo.APIKey, body)
}

// Tokens of an issuer that a tenant lists do what the list says, and nobody
// else's do anything.
func TestTrustedIssuer(t *testing.T) {
	p, i := newPlane(t), newIssuer(t)
	mine := p.trust(i, "")
	audience := "https://parley.example/tenants/" + p.demo.Tenant.String()
	if mine["audience"] != audience {
		t.Errorf("audience %v, want %s", mine["audience"], audience)
	}
	token := func(change func(jwt.MapClaims)) string {
		now := time.Now()
		c := jwt.MapClaims{"iss": i.Issuer(), "aud": audience, "sub": "billing-service", "scope": "calls boss other",
			"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
		if change != nil {
			change(c)
		}
		return i.sign(c)
	}
	p.want(200, "GET", "/v1/calls", token(nil), "")
	p.want(200, "GET", "/v1/calls", token(nil), "")
	p.want(403, "GET", "/v1/agents", token(nil), "")
	p.want(403, "GET", "/v1/keys", token(nil), "") // only with a second factor
	mfa := func(at time.Time) func(jwt.MapClaims) {
		return func(c jwt.MapClaims) { c["amr"], c["auth_time"] = []string{"mfa"}, at.Unix() }
	}
	p.want(200, "GET", "/v1/keys", token(mfa(time.Now())), "")
	p.want(403, "GET", "/v1/keys", token(mfa(time.Now().Add(-13*time.Hour))), "")

	for name, change := range map[string]func(jwt.MapClaims){
		"unlisted-issuer": func(c jwt.MapClaims) { c["iss"] = "https://evil.example" },
		"other-audience":  func(c jwt.MapClaims) { c["aud"] = "other" },
		"no-audience":     func(c jwt.MapClaims) { delete(c, "aud") },
		"expired":         func(c jwt.MapClaims) { c["exp"] = time.Now().Add(-2 * time.Minute).Unix() },
		"no-expiry":       func(c jwt.MapClaims) { delete(c, "exp") },
		"future":          func(c jwt.MapClaims) { c["iat"] = time.Now().Add(2 * time.Minute).Unix() },
		"not-yet":         func(c jwt.MapClaims) { c["nbf"] = time.Now().Add(2 * time.Minute).Unix() },
		"no-subject":      func(c jwt.MapClaims) { delete(c, "sub") },
	} {
		t.Run(name, func(t *testing.T) { p.want(401, "GET", "/v1/calls", token(change), "") })
	}
	forged, err := mockoidc.RandomKeypair(2048)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := forged.SignJWT(jwt.MapClaims{"iss": i.Issuer(), "aud": audience, "sub": "x", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Minute).Unix()})
	if err != nil {
		t.Fatal(err)
	}
	p.want(401, "GET", "/v1/calls", stranger, "")

	// Another tenant trusts nobody: its name beside a token opens nothing.
	other := p.ensure("other@example.com", false)
	p.want(401, "GET", "/v1/calls", token(nil), "", "X-Parley-Tenant", other.Tenant.String())
	p.want(200, "GET", "/v1/calls", token(nil), "", "X-Parley-Tenant", p.demo.Tenant.String())

	// Each use is in the trail, once a minute a subject.
	list, err := p.store.AuditTrail(control.WithTenant(t.Context(), p.demo.Tenant), control.AuditFilter{Action: "issuer.use"})
	if err != nil || len(list) != 1 || !strings.HasPrefix(list[0].Actor, "service:") || !strings.Contains(string(list[0].Detail), "billing-service") {
		t.Errorf("%+v, %v: want one use", list, err)
	}
	p.want(204, "DELETE", "/v1/auth/issuers/"+mine["id"].(string), p.demo.APIKey, "")
	p.want(401, "GET", "/v1/calls", token(nil), "")
}

// Nobody trusts others with what they may not do, nor an issuer in clear.
func TestTrustedIssuerIsChecked(t *testing.T) {
	p := newPlane(t)
	small := p.want(201, "POST", "/v1/keys", p.demo.APIKey, `{"name":"small","scopes":["tenant.manage"]}`)["secret"].(string)
	for body, key := range map[string]string{
		`{"issuer":"https://i.example","settings":{"scopes":{"x":["keys.manage"]}}}`:                                     small,
		`{"issuer":"http://i.example","settings":{"scopes":{"x":["calls.read"]}}}`:                                       p.demo.APIKey,
		`{"issuer":"https://i.example","settings":{"scopes":{"x":["all"]}}}`:                                             p.demo.APIKey,
		`{"issuer":"https://i.example","settings":{"scopes":{}}}`:                                                        p.demo.APIKey,
		`{"issuer":"https://parley.example","settings":{"scopes":{"x":["calls.read"]}}}`:                                 p.demo.APIKey,
		`{"issuer":"https://i.example","settings":{"jwks_url":"http://10.0.0.1/keys","scopes":{"x":["calls.read"]}}}`:    p.demo.APIKey,
		`{"issuer":"https://u:p@i.example","settings":{"scopes":{"x":["calls.read"]}}}`:                                  p.demo.APIKey,
		`{"issuer":"https://i.example","audience":"` + strings.Repeat("a", 501) + `","settings":{"scopes":{"x":["a"]}}}`: p.demo.APIKey,
	} {
		p.want(422, "POST", "/v1/auth/issuers", key, body)
	}
}

// A tenant's own issuer lets people into that tenant alone: as persons of
// their own, whatever address it says they have.
func TestProviderOfATenant(t *testing.T) {
	i, p := newIssuer(t), newPlane(t)
	v := p.visitor()
	v.login(200)
	body := map[string]any{"name": "ours", "client_secret": i.ClientSecret, "settings": identity.ProviderSettings{Kind: identity.KindGeneric,
		Issuer: i.Issuer(), ClientID: i.ClientID, Scopes: []string{"email"}, Domains: []string{"example.com"}, Role: control.RoleViewer}}
	made := v.ask(201, "POST", "/v1/auth/providers", body)
	if raw, _ := json.Marshal(made); strings.Contains(string(raw), i.ClientSecret) || made["has_client_secret"] != true {
		t.Errorf("%s shows the secret, or knows of none", raw)
	}
	if strings.Contains(p.dump("identity_providers", "audit"), i.ClientSecret) {
		t.Error("the secret stands in the database in clear")
	}
	id := made["id"].(string)
	v.ask(422, "POST", "/v1/auth/providers", map[string]any{"name": "bad", "settings": map[string]any{"kind": "generic", "issuer": "http://i.example", "client_id": "c"}})
	p.o.PublicURL = "https://parley.example"
	p.with(func(*api.Options) {})

	small := p.want(201, "POST", "/v1/keys", p.demo.APIKey, `{"name":"small","scopes":["tenant.manage"]}`)["secret"].(string)
	p.want(422, "POST", "/v1/auth/providers", small, `{"name":"up","settings":{"kind":"generic","issuer":"https://i.example","client_id":"c","domains":["x.example"],"role":"admin"}}`)
	p.want(422, "POST", "/v1/auth/providers", p.demo.APIKey, `{"name":"up","settings":{"kind":"generic","issuer":"https://i.example","client_id":"c","owners":true,"role":"owner"}}`)

	// The issuer says that somebody is the owner of another tenant.
	other := p.ensure("other@example.com", false)
	jane(i, func(u *mockoidc.MockUser) { u.Email = "other@example.com" })
	w := p.visitor()
	w.back(303, w.away(id))
	me := w.ask(200, "GET", "/v1/auth/me", nil)
	if user, _ := me["user"].(map[string]any); user["email"] == "other@example.com" || me["tenant_id"] != p.demo.Tenant.String() || me["role"] != "viewer" {
		t.Errorf("%v: a tenant's issuer speaks for others", me)
	}
	if tenants, _ := me["tenants"].([]any); len(tenants) != 1 {
		t.Errorf("%v: more than one tenant", tenants)
	}
	w.ask(403, "POST", "/v1/auth/switch", map[string]any{"tenant_id": other.Tenant})
	w.ask(403, "POST", "/v1/auth/password", map[string]any{"old_password": password, "password": "another battery staple"})

	v.ask(200, "PATCH", "/v1/auth/providers/"+id, map[string]any{"enabled": false})
	p.want(http.StatusNotFound, "GET", "/v1/auth/oidc/"+id+"/start", "", "")
	v.ask(204, "DELETE", "/v1/auth/providers/"+id, nil)
}
