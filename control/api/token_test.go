package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/control"
)

// signIn returns tokens of the demo's admin, narrowed to scope if there is one.
func (p *plane) signIn(scope string) (access, refresh string) {
	p.t.Helper()
	m := p.want(200, "POST", "/v1/auth/token", "", fmt.Sprintf(`{"grant_type":"password","email":"admin@example.com","password":%q,"scope":%q}`, password, scope))
	access, _ = m["access_token"].(string)
	refresh, _ = m["refresh_token"].(string)
	if access == "" || refresh == "" || m["token_type"] != "Bearer" || m["expires_in"] != 900.0 {
		p.t.Fatalf("tokens: %v", m)
	}
	return access, refresh
}

// cookie signs a browser in.
func (p *plane) cookie() string {
	p.t.Helper()
	resp, _ := p.do("POST", "/v1/auth/login", "", `{"email":"admin@example.com","password":"`+password+`"}`)
	for _, c := range resp.Cookies() {
		if c.Name == "parley_session" {
			return c.Name + "=" + c.Value
		}
	}
	p.t.Fatalf("login: %d", resp.StatusCode)
	return ""
}

// noted lists the actions of the audit trail on an object, the newest first.
func (p *plane) noted(object string) (actions []string) {
	p.t.Helper()
	for _, e := range p.want(200, "GET", "/v1/audit?limit=200", p.demo.APIKey, "")["items"].([]any) {
		if m := e.(map[string]any); object == "" || strings.HasPrefix(m["object"].(string), object) {
			actions = append(actions, m["action"].(string))
		}
	}
	return actions
}

func TestAccessAndRefresh(t *testing.T) {
	p := newPlane(t)
	p.want(401, "POST", "/v1/auth/token", "", `{"grant_type":"password","email":"admin@example.com","password":"wrong"}`)
	access, refresh := p.signIn("")
	p.want(200, "GET", "/v1/agents", access, "")
	p.want(200, "GET", "/v1/keys", access, "") // an owner, by the role that is looked up
	narrow, _ := p.signIn("agents.read calls.read")
	p.want(200, "GET", "/v1/agents", narrow, "")
	p.want(403, "GET", "/v1/flows", narrow, "")
	p.want(422, "POST", "/v1/auth/token", "", `{"grant_type":"password","email":"admin@example.com","password":"`+password+`","scope":"all"}`)

	m := p.want(200, "POST", "/v1/auth/refresh", "", `{"refresh_token":"`+refresh+`"}`)
	next := m["refresh_token"].(string)
	p.want(200, "GET", "/v1/agents", m["access_token"].(string), "")
	p.want(200, "GET", "/v1/agents", access, "") // until it ends by itself
	p.want(401, "GET", "/v1/agents", next, "")   // a refresh token opens nothing

	// The old one again: whoever copied it, all tokens of the sign-in end.
	if m := p.want(401, "POST", "/v1/auth/refresh", "", `{"refresh_token":"`+refresh+`"}`); !strings.Contains(m["detail"].(string), "sign in again") {
		t.Errorf("reuse says %v", m)
	}
	p.want(401, "POST", "/v1/auth/refresh", "", `{"refresh_token":"`+next+`"}`)
	p.want(401, "GET", "/v1/agents", access, "")
	p.want(200, "GET", "/v1/agents", narrow, "") // another sign-in goes on
	if got := p.noted("grant:"); !slices.Equal(got, []string{"token.reuse", "token.grant", "token.grant"}) {
		t.Errorf("audited: %v", got)
	}
	if !strings.Contains(p.log.String(), "refresh token reused") {
		t.Error("no security event in the log")
	}
	// What only looks like one ends nothing.
	_, refresh = p.signIn("")
	p.want(401, "POST", "/v1/auth/refresh", "", `{"refresh_token":"`+refresh[:len(refresh)-2]+`AA"}`)
	p.want(200, "POST", "/v1/auth/refresh", "", `{"refresh_token":"`+refresh+`"}`)
}

func TestSessionsAndTheirTokens(t *testing.T) {
	p := newPlane(t)
	cookie := p.cookie()
	m := p.want(200, "POST", "/v1/auth/token", "", `{"grant_type":"session"}`, "Cookie", cookie, "Sec-Fetch-Site", "same-origin")
	access := m["access_token"].(string)
	p.want(200, "GET", "/v1/agents", access, "")
	p.want(401, "POST", "/v1/auth/token", "", `{"grant_type":"session"}`)
	p.want(401, "POST", "/v1/auth/token", "", `{"grant_type":"session"}`, "Cookie", cookie, "Sec-Fetch-Site", "cross-site")
	p.want(401, "POST", "/v1/auth/token", access, `{"grant_type":"session"}`) // tokens beget none
	p.want(401, "POST", "/v1/auth/token", p.demo.APIKey, `{"grant_type":"session"}`)
	p.want(204, "POST", "/v1/auth/logout", "", "", "Cookie", cookie, "Sec-Fetch-Site", "same-origin")
	p.want(401, "GET", "/v1/agents", access, "") // it ended with its session

	access, refresh := p.signIn("")
	p.want(204, "POST", "/v1/auth/logout", access, "")
	p.want(401, "GET", "/v1/agents", access, "")
	p.want(401, "POST", "/v1/auth/refresh", "", `{"refresh_token":"`+refresh+`"}`)

	access, refresh = p.signIn("")
	p.want(204, "POST", "/v1/auth/revoke", "", `{"token":"`+refresh+`"}`)
	p.want(204, "POST", "/v1/auth/revoke", "", `{"token":"nonsense"}`)
	p.want(401, "GET", "/v1/agents", access, "")
}

// Of two refreshes with one token at once exactly one gets tokens, and they end
// at once, since the token came twice.
func TestRefreshRace(t *testing.T) {
	p := newPlane(t)
	for range 5 {
		access, refresh := p.signIn("")
		var won []string
		var mu sync.Mutex
		var done sync.WaitGroup
		for range 4 {
			done.Go(func() {
				resp, m := p.do("POST", "/v1/auth/refresh", "", `{"refresh_token":"`+refresh+`"}`)
				mu.Lock()
				defer mu.Unlock()
				if resp.StatusCode == 200 {
					won = append(won, m["refresh_token"].(string))
				}
			})
		}
		done.Wait()
		if len(won) != 1 {
			t.Fatalf("%d refreshes with one token, want 1", len(won))
		}
		p.want(401, "POST", "/v1/auth/refresh", "", `{"refresh_token":"`+won[0]+`"}`)
		p.want(401, "GET", "/v1/agents", access, "")
	}
}

// A role that is taken away is gone from tokens that are about.
func TestTokensFollowTheRole(t *testing.T) {
	p := newPlane(t)
	access, _ := p.signIn("")
	minted := p.want(201, "POST", "/v1/tokens", access, `{"name":"t","scopes":["agents.read"]}`)["token"].(string)
	p.want(200, "GET", "/v1/agents", minted, "")
	p.super(`UPDATE memberships SET role = 'viewer'`)
	p.want(403, "GET", "/v1/keys", access, "")
	p.want(200, "GET", "/v1/agents", access, "")
	p.want(401, "GET", "/v1/agents", minted, "")
	p.super(`DELETE FROM memberships`)
	p.want(401, "GET", "/v1/agents", access, "")
}

// The key set checks our tokens, and nothing else is needed.
func TestJWKS(t *testing.T) {
	p := newPlane(t)
	access, _ := p.signIn("")
	resp, m := p.do("GET", "/.well-known/jwks.json", "", "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/jwk-set+json" {
		t.Fatalf("key set: %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	raw, _ := json.Marshal(m)
	if strings.Contains(string(raw), `"d"`) || len(m["keys"].([]any)) != 1 {
		t.Errorf("key set: %s", raw)
	}
	head, _, err := jwt.NewParser().ParseUnverified(access, jwt.MapClaims{})
	if err != nil {
		t.Fatal(err)
	}
	if k := m["keys"].([]any)[0].(map[string]any); k["kid"] != head.Header["kid"] || k["alg"] != "EdDSA" || k["kty"] != "OKP" || k["crv"] != "Ed25519" {
		t.Errorf("key %v for %v", k, head.Header)
	}
	claims := head.Claims.(jwt.MapClaims)
	for name, want := range map[string]any{"iss": "https://parley.test", "tenant": p.demo.Tenant.String()} {
		if claims[name] != want {
			t.Errorf("claim %s is %v, want %v", name, claims[name], want)
		}
	}
	if _, ok := claims["role"]; ok {
		t.Error("the token tells a role")
	}
	// After a rotation both keys are there, and the old token is still good.
	signer := p.o.Bearers.Grants.Signer
	if err := signer.Rotate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	p.want(200, "GET", "/v1/agents", access, "")
	newer, _ := p.signIn("")
	if got := p.want(200, "GET", "/.well-known/jwks.json", "", "")["keys"].([]any); len(got) != 2 {
		t.Errorf("%d keys after a rotation, want 2", len(got))
	}
	if err := signer.Rotate(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	p.want(401, "GET", "/v1/agents", access, "")
	p.want(401, "GET", "/v1/agents", newer, "")
	if got := p.want(200, "GET", "/.well-known/jwks.json", "", "")["keys"].([]any); len(got) != 1 {
		t.Errorf("%d keys after a revocation, want 1", len(got))
	}
}

func TestTemporaryTokens(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	m := p.want(201, "POST", "/v1/tokens", key, `{"name":"import","scopes":["agents.read"],"expires_in":60}`)
	token, id := m["token"].(string), m["id"].(string)
	p.want(200, "GET", "/v1/agents", token, "")
	p.want(200, "GET", "/v1/agents", "", "", "X-API-Key", token)
	p.want(403, "GET", "/v1/flows", token, "")
	p.want(401, "GET", "/v1/agents", token[:len(token)-1]+"-", "")

	once := p.want(201, "POST", "/v1/tokens", key, `{"name":"once","scopes":["agents.read"],"single_use":true}`)["token"].(string)
	p.want(200, "POST", "/v1/auth/introspect", key, `{"token":"`+once+`"}`) // looking is not using
	p.want(200, "GET", "/v1/agents", once, "")
	p.want(401, "GET", "/v1/agents", once, "")

	page := p.want(201, "POST", "/v1/tokens", key, `{"name":"page","scopes":["agents.read"],"origin":"https://shop.example"}`)["token"].(string)
	p.want(200, "GET", "/v1/agents", page, "", "Origin", "https://shop.example")
	p.want(401, "GET", "/v1/agents", page, "", "Origin", "https://evil.example")
	p.want(401, "GET", "/v1/agents", page, "")

	small := p.want(201, "POST", "/v1/keys", key, `{"name":"minter","scopes":["tokens.mint","calls.read"]}`)
	secret := small["secret"].(string)
	for name, body := range map[string]string{
		"more than its maker": `{"name":"x","scopes":["agents.read"]}`, "offspring": `{"name":"x","scopes":["tokens.mint"]}`,
		"no scope": `{"name":"x","scopes":[]}`, "too long": `{"name":"x","scopes":["calls.read"],"expires_in":3601}`,
		"no name": `{"name":"","scopes":["calls.read"]}`, "a key for a name": `{"name":"` + secret + `","scopes":["calls.read"]}`,
		"no origin": `{"name":"x","scopes":["calls.read"],"origin":"shop.example"}`,
	} {
		if resp, m := p.do("POST", "/v1/tokens", secret, body); resp.StatusCode != 422 {
			t.Errorf("%s: %d %v", name, resp.StatusCode, m)
		}
	}
	theirs := p.want(201, "POST", "/v1/tokens", secret, `{"name":"x","scopes":["calls.read"]}`)["token"].(string)
	p.want(200, "GET", "/v1/calls", theirs, "")
	p.want(204, "DELETE", "/v1/keys/"+small["id"].(string), key, "")
	p.want(401, "GET", "/v1/calls", theirs, "") // its maker is gone

	p.want(204, "DELETE", "/v1/tokens/"+id, key, "")
	p.want(401, "GET", "/v1/agents", token, "")
	if got := p.want(200, "GET", "/v1/tokens", key, "")["items"].([]any); len(got) != 4 || strings.Contains(fmt.Sprint(got), "parley_temp_") {
		t.Errorf("listed: %v", got)
	}
	if got := p.noted("token:" + id); !slices.Equal(got, []string{"token.revoke", "token.mint"}) {
		t.Errorf("audited: %v", got)
	}
	p.super(`UPDATE temporary_tokens SET expires_at = now() - interval '1 second'`)
	p.want(401, "GET", "/v1/agents", page, "", "Origin", "https://shop.example")
}

// One that is good once is good once, however many send it at the same time.
func TestSingleUseRace(t *testing.T) {
	p := newPlane(t)
	token := p.want(201, "POST", "/v1/tokens", p.demo.APIKey, `{"name":"once","scopes":["agents.read"],"single_use":true}`)["token"].(string)
	var mu sync.Mutex
	var done sync.WaitGroup
	got := map[int]int{}
	for range 6 {
		done.Go(func() {
			resp, _ := p.do("GET", "/v1/agents", token, "")
			mu.Lock()
			got[resp.StatusCode]++
			mu.Unlock()
		})
	}
	done.Wait()
	if got[200] != 1 || got[401] != 5 {
		t.Errorf("statuses %v, want one 200", got)
	}
}

func TestIntrospect(t *testing.T) {
	p := newPlane(t)
	other := p.ensure("other@example.com", false)
	key := p.demo.APIKey
	access, refresh := p.signIn("agents.read")
	ask := func(token string) map[string]any {
		t.Helper()
		return p.want(200, "POST", "/v1/auth/introspect", key, "token="+token, "Content-Type", "application/x-www-form-urlencoded")
	}
	m := ask(access)
	if m["active"] != true || m["kind"] != "user" || m["scope"] != "agents.read" || m["tenant_id"] != p.demo.Tenant.String() || m["exp"].(float64) < float64(time.Now().Unix()) {
		t.Errorf("access token: %v", m)
	}
	if m := ask(key); m["kind"] != "key" || m["exp"] != nil || len(m["scopes"].([]any)) != len(control.Scopes()) {
		t.Errorf("key: %v", m)
	}
	p.lists("https://shop.example")
	call := p.want(201, "POST", "/v1/agents/front-desk/call-tokens", key, `{"origin":"https://shop.example"}`)["token"].(string)
	if m := ask(call); m["kind"] != "call_token" || m["scope"] != "calls.start" || m["agent_id"] == nil {
		t.Errorf("call token: %v", m)
	}
	inactive := fmt.Sprint(ask("nonsense"))
	for name, token := range map[string]string{"refresh": refresh, "another tenant's": other.APIKey, "forged": access[:len(access)-4] + "AAAA",
		"unknown": "parley_aaaaaaaaaaaa_" + strings.Repeat("A", 43)} {
		if got := fmt.Sprint(ask(token)); got != inactive || got != "map[active:false]" {
			t.Errorf("%s: %s, want %s", name, got, inactive)
		}
	}
	made := p.want(201, "POST", "/v1/keys", key, `{"name":"short","scopes":["agents.read"]}`)
	if m := ask(made["secret"].(string)); m["active"] != true {
		t.Errorf("a key: %v", m)
	}
	p.want(204, "DELETE", "/v1/keys/"+made["id"].(string), key, "")
	if got := fmt.Sprint(ask(made["secret"].(string))); got != inactive {
		t.Errorf("a key that was just revoked: %s", got)
	}
	p.want(200, "POST", "/auth/validate-token", key, `{"token":"`+access+`"}`)
	p.want(403, "POST", "/v1/auth/introspect", access, `{"token":"`+access+`"}`)
	p.want(422, "POST", "/v1/auth/introspect", key, `{}`)
	p.want(400, "POST", "/v1/auth/introspect", key, `[`)
	p.want(415, "POST", "/v1/auth/introspect", key, `token=x`, "Content-Type", "text/plain")
}

// A key in the address is refused whatever it opens, and marked.
func TestKeyInTheAddress(t *testing.T) {
	p := newPlane(t)
	made := p.want(201, "POST", "/v1/keys", p.demo.APIKey, `{"name":"pasted","scopes":["agents.read"]}`)
	secret, path := made["secret"].(string), "/v1/keys/"+made["id"].(string)
	for _, q := range []string{"?key=" + secret, "?x=1&access_token=abc", "?api_key=", "?t=parley_temp_x.y"} {
		resp, m := p.do("GET", "/v1/agents"+q, p.demo.APIKey, "")
		if resp.StatusCode != http.StatusBadRequest || m["code"] != "key_in_address" || strings.Contains(fmt.Sprint(m), secret) {
			t.Errorf("%s: %d %v", q, resp.StatusCode, m)
		}
	}
	if p.want(200, "GET", path, p.demo.APIKey, "")["leaked_at"] == nil {
		t.Error("the key is not marked as leaked")
	}
	if got := p.noted("key:" + made["id"].(string)); !slices.Equal(got, []string{"key.leak", "key.create"}) {
		t.Errorf("audited: %v", got)
	}
	p.want(400, "GET", "/livez?token="+secret, "", "")
	p.want(200, "GET", "/v1/agents?limit=1", p.demo.APIKey, "")
	if strings.Contains(p.log.String(), secret) {
		t.Error("the key is in the log")
	}
}
