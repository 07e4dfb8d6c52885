package api_test

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"github.com/oauth2-proxy/mockoidc"

	"parley/control"
	"parley/control/api"
	"parley/control/identity"
)

// An issuer is a real OpenID Connect provider in this process; spoil changes
// the claims of the ID tokens that it gives.
type issuer struct {
	*mockoidc.MockOIDC
	t      *testing.T
	claims map[string]any // over its own; nil deletes
	forge  func(jwt.MapClaims) string
	iss    bool // says that it names itself in its answers
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	m, err := mockoidc.NewServer(nil)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{MockOIDC: m, t: t}
	if err := m.AddMiddleware(i.rewrite); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(l, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Shutdown() })
	return i
}

// rewrite changes tokens on their way out.
func (i *issuer) rewrite(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		next.ServeHTTP(rec, r)
		var body map[string]any
		_ = json.Unmarshal(rec.Body.Bytes(), &body)
		if r.URL.Path == mockoidc.DiscoveryEndpoint && i.iss {
			body["authorization_response_iss_parameter_supported"] = true
		}
		if raw, ok := body["id_token"].(string); ok {
			body["id_token"] = i.remade(raw)
		}
		maps.Copy(w.Header(), rec.Header())
		w.Header().Del("Content-Length")
		w.WriteHeader(rec.Code)
		if body == nil {
			_, _ = w.Write(rec.Body.Bytes())
			return
		}
		_ = json.NewEncoder(w).Encode(body)
	})
}

func (i *issuer) remade(raw string) string {
	var c jwt.MapClaims
	text, err := base64.RawURLEncoding.DecodeString(strings.Split(raw, ".")[1])
	if err != nil || json.Unmarshal(text, &c) != nil {
		i.t.Error("the mock's token cannot be read")
	}
	for k, v := range i.claims {
		if c[k] = v; v == nil {
			delete(c, k)
		}
	}
	if i.forge != nil {
		return i.forge(c)
	}
	return i.sign(c)
}

func (i *issuer) sign(c jwt.Claims) string {
	i.t.Helper()
	token, err := i.Keypair.SignJWT(c)
	if err != nil {
		i.t.Error(err)
	}
	return token
}

// named is the issuer as one of the operator's providers.
func (i *issuer) named(name string, more func(*identity.OperatorProvider)) identity.OperatorProvider {
	i.t.Helper()
	p := identity.OperatorProvider{Name: name, Secret: i.ClientSecret,
		Settings: identity.ProviderSettings{Kind: identity.KindGeneric, Issuer: i.Issuer(), ClientID: i.ClientID, Scopes: []string{"email", "profile", "groups"}}}
	if more != nil {
		more(&p)
	}
	settings, err := p.Settings.Check()
	if err != nil {
		i.t.Fatal(err)
	}
	p.Settings = settings
	return p
}

// abroad is a plane of https whose operator names an issuer "corp".
func abroad(t *testing.T, more func(*identity.OperatorProvider)) (*plane, *issuer) {
	t.Helper()
	i := newIssuer(t)
	p := newPlane(t)
	p.o.PublicURL = "https://parley.example"
	p.o.OIDC.Operator = []identity.OperatorProvider{i.named("corp", func(o *identity.OperatorProvider) {
		if more != nil {
			o.Tenant = p.demo.Tenant
			more(o)
		}
	})}
	return p.with(func(*api.Options) {}), i
}

func domain(o *identity.OperatorProvider) {
	o.Settings.Domains, o.Settings.Role = []string{"example.com"}, control.RoleViewer
}

// away goes to the issuer and returns where it sends the browser back to.
func (v *visitor) away(provider string) *url.URL {
	v.t.Helper()
	to, _ := v.ask(303, "GET", "/v1/auth/oidc/"+provider+"/start?return_to=/console", nil)["location"].(string)
	return v.follow(to)
}

func (v *visitor) follow(to string) *url.URL {
	v.t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(to)
	if err != nil {
		v.t.Fatal(err)
	}
	defer resp.Body.Close()
	back, err := resp.Location()
	if err != nil {
		body, _ := io.ReadAll(resp.Body)
		v.t.Fatalf("the issuer answers %d: %s", resp.StatusCode, body)
	}
	if back.Scheme+"://"+back.Host != "https://parley.example" {
		v.t.Fatalf("sent back to %s", back)
	}
	return back
}

func (v *visitor) back(status int, to *url.URL) map[string]any {
	v.t.Helper()
	m := v.ask(status, "GET", to.RequestURI(), nil)
	if signed := v.cookies["parley_session"] != ""; signed != (status == 303) {
		v.t.Errorf("signed in: %v after %d", signed, status)
	}
	return m
}

// who is the signed-in person's id.
func (v *visitor) who() string {
	v.t.Helper()
	user, _ := v.ask(200, "GET", "/v1/auth/me", nil)["user"].(map[string]any)
	id, _ := user["id"].(string)
	return id
}

func jane(i *issuer, change func(*mockoidc.MockUser)) {
	u := mockoidc.DefaultUser()
	if change != nil {
		change(u)
	}
	i.QueueUser(u)
}

func TestOIDC(t *testing.T) {
	p, i := abroad(t, domain)
	v := p.visitor()
	if to := v.back(303, v.away("corp"))["location"]; to != "/console" {
		t.Errorf("sent to %v", to)
	}
	if m := v.ask(200, "GET", "/v1/auth/me", nil); m["role"] != "viewer" {
		t.Errorf("%v, want a viewer", m)
	}
	v.ask(403, "GET", "/v1/keys", nil)
	// Known by issuer and subject from now on, whatever the address is.
	jane(i, func(u *mockoidc.MockUser) { u.Email, u.EmailVerified = "married@elsewhere.example", false })
	w := p.visitor()
	w.back(303, w.away("corp"))
	if a, b := v.who(), w.who(); a != b || a == "" {
		t.Errorf("%v and %v are two", a, b)
	}
	p.audited("identity.add")
	p.want(204, "DELETE", "/v1/users/"+w.who(), p.demo.APIKey, "") // with the member goes what they came by
	p.audited("identity.remove")
	if m := p.want(200, "GET", "/v1/auth/oidc", "", ""); len(m["items"].([]any)) != 1 {
		t.Errorf("%v", m)
	}
	p.want(404, "GET", "/v1/auth/oidc/nobody/start", "", "")
	p.want(404, "GET", "/v1/auth/oidc/"+uuid.NewString()+"/start", "", "")
}

// What does not fit together signs nobody in.
func TestOIDCAttacks(t *testing.T) {
	p, i := abroad(t, domain)
	other := newIssuer(t)
	p.o.OIDC.Operator = append(p.o.OIDC.Operator, other.named("other", func(o *identity.OperatorProvider) {
		domain(o)
		o.Tenant = p.demo.Tenant
	}))
	with := func(to *url.URL, key, value string) *url.URL {
		u := *to
		q := u.Query()
		q.Set(key, value)
		u.RawQuery = q.Encode()
		return &u
	}
	for name, attack := range map[string]func(v *visitor){
		"replayed-state": func(v *visitor) {
			to := v.away("corp")
			v.back(303, to)
			delete(v.cookies, "parley_session")
			wantCode(t, v.back(401, to), "sign_in_expired")
		},
		"state-of-another-browser": func(v *visitor) { // and of one without a cookie
			to := p.visitor().away("corp")
			wantCode(t, v.back(401, to), "sign_in_expired")
			v.away("corp")
			wantCode(t, v.back(401, p.visitor().away("corp")), "sign_in_expired")
		},
		"invented-state": func(v *visitor) { v.back(401, with(v.away("corp"), "state", strings.Repeat("A", 43))) },
		"no-state":       func(v *visitor) { v.back(401, with(v.away("corp"), "state", "")) },
		"injected-code": func(v *visitor) { // somebody else's code in one's own sign-in: PKCE
			stolen := p.visitor().away("corp").Query().Get("code")
			wantCode(t, v.back(401, with(v.away("corp"), "code", stolen)), "issuer_refused")
		},
		"refused":      func(v *visitor) { v.back(401, with(with(v.away("corp"), "code", ""), "error", "access_denied")) },
		"mixed-up-iss": func(v *visitor) { v.back(401, with(v.away("corp"), "iss", other.Issuer())) },
		"mixed-up-callback": func(v *visitor) {
			to := v.away("corp")
			to.Path = strings.Replace(to.Path, "/corp/", "/other/", 1)
			wantCode(t, v.back(401, to), "sign_in_expired")
		},
	} {
		t.Run(name, func(t *testing.T) { attack(p.visitor()) })
	}
	for name, claims := range map[string]map[string]any{
		"wrong-nonce":     {"nonce": "another"},
		"no-nonce":        {"nonce": nil},
		"wrong-issuer":    {"iss": "https://evil.example"},
		"wrong-audience":  {"aud": "another-client"},
		"many-audiences":  {"aud": []string{i.ClientID, "another"}},
		"other-party":     {"azp": "another"},
		"expired":         {"exp": time.Now().Add(-2 * time.Minute).Unix()},
		"no-expiry":       {"exp": nil},
		"from-the-future": {"iat": time.Now().Add(2 * time.Minute).Unix()},
		"not-yet":         {"nbf": time.Now().Add(2 * time.Minute).Unix()},
		"no-subject":      {"sub": ""},
		"odd-subject":     {"sub": "1234567890\x00"},
	} {
		t.Run(name, func(t *testing.T) {
			i.claims = claims
			defer func() { i.claims = nil }()
			v := p.visitor()
			wantCode(t, v.back(401, v.away("corp")), "issuer_refused")
		})
	}
	t.Run("clock-of-a-minute", func(t *testing.T) {
		i.claims = map[string]any{"exp": time.Now().Add(-30 * time.Second).Unix(), "iat": time.Now().Add(30 * time.Second).Unix()}
		defer func() { i.claims = nil }()
		v := p.visitor()
		v.back(303, v.away("corp"))
	})
	p.audited("user.sign_in_failed")
}

func TestOIDCForgedTokens(t *testing.T) {
	p, i := abroad(t, domain)
	for name, forge := range map[string]func(jwt.MapClaims) string{
		"alg-none": func(c jwt.MapClaims) string {
			token, _ := jwt.NewWithClaims(jwt.SigningMethodNone, c).SignedString(jwt.UnsafeAllowNoneSignatureType)
			return token
		},
		"key-confusion": func(c jwt.MapClaims) string { // the public key as a shared secret
			jwks, _ := i.Keypair.JWKS()
			token, _ := jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(jwks)
			return token
		},
		"another-key": func(c jwt.MapClaims) string {
			k, err := mockoidc.RandomKeypair(2048)
			if err != nil {
				t.Error(err)
			}
			token, _ := k.SignJWT(c)
			return token
		},
		"cut":    func(c jwt.MapClaims) string { s := i.sign(c); return s[:strings.LastIndexByte(s, '.')+1] },
		"no-jwt": func(jwt.MapClaims) string { return "x" },
		"none":   func(jwt.MapClaims) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			i.forge = forge
			v := p.visitor()
			wantCode(t, v.back(401, v.away("corp")), "issuer_refused")
		})
	}
}

// RFC 9207: who says that it names itself must.
func TestOIDCIssuerNamesItself(t *testing.T) {
	p, i := abroad(t, domain)
	i.iss = true
	v := p.visitor()
	to := v.away("corp")
	v.back(401, to)
	to = v.away("corp")
	to.RawQuery += "&iss=" + url.QueryEscape(i.Issuer())
	v.back(303, to)
}

// Where a sign-in ends is a path of ours.
func TestOIDCReturnTo(t *testing.T) {
	p, _ := abroad(t, nil)
	for _, to := range []string{"https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)", "evil", "/a\nb",
		"/\t/evil.example", "///evil.example", "http:evil.example", "/%5c" + strings.Repeat("a", 1001)} {
		resp, m := p.do("GET", "/v1/auth/oidc/corp/start?return_to="+url.QueryEscape(to), "", "")
		if resp.StatusCode != 422 {
			t.Errorf("return_to %q: %d %v", to, resp.StatusCode, m)
		}
	}
	for _, to := range []string{"", "/", "/console?tab=1#x"} {
		p.want(303, "GET", "/v1/auth/oidc/corp/start?return_to="+url.QueryEscape(to), "", "")
	}
}

// An account comes in by an invitation to its proven address, or a rule; and
// takes over nobody.
func TestOIDCAdmission(t *testing.T) {
	p, i := abroad(t, func(o *identity.OperatorProvider) {})
	try := func(status int, change func(*mockoidc.MockUser)) *visitor {
		t.Helper()
		jane(i, change)
		v := p.visitor()
		if m := v.back(status, v.away("corp")); status == 403 {
			wantCode(t, m, "not_admitted")
		}
		return v
	}
	try(403, nil)
	p.want(201, "POST", "/v1/invitations", p.demo.APIKey, `{"email":"jane.doe@example.com","role":"editor"}`)
	try(403, func(u *mockoidc.MockUser) { u.EmailVerified = false })
	try(403, func(u *mockoidc.MockUser) { u.Email = "jane.doe@example.com.evil.example" })
	v := try(303, nil)
	if m := v.ask(200, "GET", "/v1/auth/me", nil); m["role"] != "editor" {
		t.Errorf("%v, want an editor", m)
	}
	// The invitation is used up: the same address by another subject is nobody.
	try(403, func(u *mockoidc.MockUser) { u.Subject = "another" })
	// An address that a member has opens nothing: they link it themselves.
	try(403, func(u *mockoidc.MockUser) { u.Subject, u.Email = "thief", "admin@example.com" })

	owner := p.visitor()
	owner.ask(200, "POST", "/v1/auth/login", map[string]any{"email": "admin@example.com", "password": password})
	jane(i, func(u *mockoidc.MockUser) { u.Subject, u.Email = "admin-at-corp", "other@elsewhere.example" })
	to, _ := owner.ask(200, "POST", "/v1/auth/oidc/corp/link", map[string]any{})["url"].(string)
	owner.ask(303, "GET", owner.follow(to).RequestURI(), nil)
	v = try(303, func(u *mockoidc.MockUser) { u.Subject = "admin-at-corp" })
	if m := v.ask(200, "GET", "/v1/auth/me", nil); m["role"] != "owner" {
		t.Errorf("%v, want the owner", m)
	}
}

// Groups give roles anew at each sign-in, and make no owners unless it is said.
func TestOIDCGroups(t *testing.T) {
	p, i := abroad(t, func(o *identity.OperatorProvider) {
		o.Settings.Groups = map[string]control.Role{"design": control.RoleViewer, "voice": control.RoleAdmin}
	})
	role := func(status int, want string, groups ...string) {
		t.Helper()
		jane(i, func(u *mockoidc.MockUser) { u.Groups = groups })
		v := p.visitor()
		v.back(status, v.away("corp"))
		if status == 303 {
			if m := v.ask(200, "GET", "/v1/auth/me", nil); m["role"] != want {
				t.Errorf("groups %v: %v, want %s", groups, m["role"], want)
			}
		}
	}
	role(403, "", "engineering")
	role(303, "admin", "design", "voice")
	role(303, "viewer", "engineering", "design")
	role(403, "")
	p.audited("role.change")
	s := p.o.OIDC.Operator[0].Settings
	s.Groups = map[string]control.Role{"voice": control.RoleOwner}
	if _, err := s.Check(); err == nil {
		t.Error("groups make owners, and nobody said so")
	}
}

// A second factor of the issuer counts where its word is taken; else the
// member's own is asked for.
func TestOIDCSecondFactor(t *testing.T) {
	p, i := abroad(t, domain)
	p.o.SecondFactor = control.FactorRequired
	p.with(func(*api.Options) {})
	v := p.visitor()
	i.claims = map[string]any{"amr": []string{"pwd", "mfa"}, "auth_time": time.Now().Unix()}
	v.back(303, v.away("corp"))
	secret, _ := v.enrol()
	w := p.visitor()
	m := w.ask(303, "GET", w.away("corp").RequestURI(), nil)
	if m["location"] != "/console?second_factor=due" || w.cookies["parley_session"] != "" || w.cookies["parley_ticket"] == "" {
		t.Fatalf("%v, %v: want a ticket", m, w.cookies)
	}
	w.ask(200, "POST", "/v1/auth/mfa", map[string]any{"code": p.code(secret, 1)})

	p.o.OIDC.Operator[0].Settings.TrustFactor = true
	w = p.visitor()
	w.back(303, w.away("corp"))
	w.ask(201, "POST", "/v1/auth/factors/recovery-codes", nil)
	i.claims["auth_time"] = time.Now().Add(-11 * time.Minute).Unix()
	w = p.visitor()
	w.back(303, w.away("corp"))
	wantCode(t, w.ask(403, "POST", "/v1/auth/factors/recovery-codes", nil), "step_up_required")
	i.claims["amr"] = []string{"pwd"}
	w = p.visitor()
	w.ask(303, "GET", w.away("corp").RequestURI(), nil)
	if w.cookies["parley_session"] != "" {
		t.Error("a password at the issuer counts as a second factor")
	}
}
