package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/pquerna/otp/totp"

	"parley/control"
	"parley/control/api"
	"parley/control/identity"
)

// A visitor is a browser: it keeps its cookies.
type visitor struct {
	*plane
	cookies map[string]string
}

func (p *plane) visitor() *visitor { return &visitor{p, map[string]string{}} }

// ask sends a request as the browser does, from our own pages.
func (v *visitor) ask(status int, method, path string, body any) map[string]any {
	v.t.Helper()
	text := ""
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			v.t.Fatal(err)
		}
		text = string(raw)
	}
	var cookies []string
	for name, value := range v.cookies {
		cookies = append(cookies, name+"="+value)
	}
	resp, m := v.do(method, path, "", text, "Cookie", strings.Join(cookies, "; "), "Sec-Fetch-Site", "same-origin")
	if resp.StatusCode != status {
		if resp.StatusCode >= 500 {
			v.t.Log(v.log)
		}
		v.t.Errorf("%s %s: %d %v, want %d", method, path, resp.StatusCode, m, status)
	}
	v.keep(resp)
	if to := resp.Header.Get("Location"); to != "" {
		m = map[string]any{"location": to}
	}
	return m
}

func (v *visitor) keep(resp *http.Response) {
	for _, c := range resp.Cookies() {
		if v.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(v.cookies, c.Name)
		}
	}
}

func (v *visitor) login(status int) map[string]any {
	v.t.Helper()
	return v.ask(status, "POST", "/v1/auth/login", map[string]any{"email": "admin@example.com", "password": password})
}

// with changes the plane's options and makes its server anew.
func (p *plane) with(change func(*api.Options)) *plane {
	p.t.Helper()
	change(&p.o)
	var err error
	if p.Server, err = api.New(p.o); err != nil {
		p.t.Fatal(err)
	}
	return p
}

// code is of an authenticator app, some steps from now: now and the next one
// hold for at least half a minute.
func (p *plane) code(secret string, steps int) string {
	p.t.Helper()
	code, err := totp.GenerateCode(secret, time.Now().Add(time.Duration(steps)*30*time.Second))
	if err != nil {
		p.t.Fatal(err)
	}
	return code
}

func wantCode(t *testing.T, m map[string]any, code string) {
	t.Helper()
	if m["code"] != code {
		t.Errorf("%v, want code %s", m, code)
	}
}

// enrol gives the browser's person an authenticator app.
func (v *visitor) enrol() (secret string, codes []any) {
	v.t.Helper()
	m := v.ask(201, "POST", "/v1/auth/factors/totp", nil)
	secret, _ = m["secret"].(string)
	if url, _ := m["url"].(string); !strings.HasPrefix(url, "otpauth://totp/Parley:") {
		v.t.Errorf("url %q", url)
	}
	codes, _ = v.ask(200, "POST", "/v1/auth/factors/totp/confirm", map[string]any{"code": v.code(secret, 0)})["recovery_codes"].([]any)
	return secret, codes
}

func ticket(t *testing.T, m map[string]any) string {
	t.Helper()
	due, _ := m["second_factor"].(map[string]any)
	if due == nil || m["tenant_id"] != nil {
		t.Fatalf("%v is no ticket", m)
	}
	return due["ticket"].(string)
}

// The whole life of an authenticator app, and what each code opens once.
func TestSignInWithAuthenticatorApp(t *testing.T) {
	p := newPlane(t)
	v := p.visitor()
	v.login(200)
	secret, codes := v.enrol()
	if len(codes) != 10 {
		t.Fatalf("%d recovery codes, want 10", len(codes))
	}
	v.ask(409, "POST", "/v1/auth/factors/totp", nil)
	v.ask(201, "POST", "/v1/keys", map[string]any{"name": "k", "scopes": []string{"calls.read"}}) // the factor was given just now

	w := p.visitor()
	wantCode(t, w.ask(401, "POST", "/v1/auth/login", map[string]any{"email": "admin@example.com", "password": "wrong"}), "unauthenticated")
	tk := ticket(t, w.login(200))
	if w.cookies["parley_session"] != "" {
		t.Fatal("a password alone signs in")
	}
	mfa := func(status int, code string) map[string]any {
		return w.ask(status, "POST", "/v1/auth/mfa", map[string]any{"ticket": tk, "code": code})
	}
	wantCode(t, mfa(401, "000000"), "wrong_factor")
	wantCode(t, mfa(401, p.code(secret, 0)), "wrong_factor") // used up by enrolling
	mfa(200, p.code(secret, 1))
	w.ask(200, "GET", "/v1/auth/factors", nil)
	wantCode(t, mfa(401, p.code(secret, 1)), "ticket_expired")

	// A recovery code opens once, and says how many are left.
	x := p.visitor()
	tk = ticket(t, x.login(200))
	m := x.ask(200, "POST", "/v1/auth/mfa", map[string]any{"ticket": tk, "recovery_code": strings.ToUpper(codes[0].(string))})
	if m["recovery_codes_left"] != 9.0 {
		t.Errorf("%v, want 9 left", m)
	}
	tk = ticket(t, p.visitor().login(200))
	x.ask(401, "POST", "/v1/auth/mfa", map[string]any{"ticket": tk, "recovery_code": codes[0]})

	// Removed, the password alone signs in again, and the codes are gone with it.
	v.ask(204, "DELETE", "/v1/auth/factors/totp", nil)
	if m := v.ask(200, "GET", "/v1/auth/factors", nil); m["recovery_codes_left"] != 0.0 || m["totp_since"] != nil {
		t.Errorf("left over: %v", m)
	}
	p.visitor().login(200)
	for _, action := range []string{"factor.add", "factor.remove", "factor.codes", "factor.recover", "user.step_up", "user.sign_in_failed"} {
		p.audited(action)
	}
}

// audited wants an entry of an action.
func (p *plane) audited(action string) control.AuditEntry {
	p.t.Helper()
	list, err := p.store.AuditTrail(control.WithTenant(p.t.Context(), p.demo.Tenant), control.AuditFilter{Action: action, Limit: 1})
	if err != nil || len(list) == 0 {
		p.t.Errorf("no audit entry %s (%v)", action, err)
		return control.AuditEntry{}
	}
	return list[0]
}

// Five tries in five minutes, however many tickets there are; the sixth is not
// even looked at.
func TestSecondFactorIsNotGuessed(t *testing.T) {
	p := newPlane(t)
	v := p.visitor()
	v.login(200)
	secret, _ := v.enrol()
	for i := range 5 {
		w := p.visitor()
		w.ask(401, "POST", "/v1/auth/mfa", map[string]any{"ticket": ticket(t, w.login(200)), "code": fmt.Sprintf("%06d", i)})
	}
	w := p.visitor()
	wantCode(t, w.ask(429, "POST", "/v1/auth/mfa", map[string]any{"ticket": ticket(t, w.login(200)), "code": p.code(secret, 1)}), "too_many")
	wantCode(t, v.ask(429, "POST", "/v1/auth/step-up", map[string]any{"code": p.code(secret, 1)}), "too_many")
	p.super(`UPDATE second_factors SET tries_since = now() - interval '6 minutes'`)
	w.ask(200, "POST", "/v1/auth/mfa", map[string]any{"ticket": ticket(t, w.login(200)), "code": p.code(secret, 1)})
}

// dump is all that stands in tables.
func (p *plane) dump(tables ...string) string {
	p.t.Helper()
	var all strings.Builder
	for _, table := range tables {
		all.WriteString(p.super(`SELECT r::text FROM ` + table + ` r`))
	}
	return all.String()
}

// signingIn is second factors and other issuers, reached on this machine.
func (p *plane) signingIn(ring *control.Keyring) {
	p.t.Helper()
	site, err := identity.NewSite("https://parley.example")
	if err != nil {
		p.t.Fatal(err)
	}
	s, pending := p.store, identity.Pending{Store: p.store, Ring: ring}
	p.o.SecondFactor = control.FactorEnrolled
	p.o.Factors = &identity.Factors{Store: s, Users: s, Pending: pending, Ring: ring, Audit: s, Passkeys: site}
	p.o.Users.Factors = p.o.Factors
	issuers := identity.NewIssuers(&http.Client{})
	p.o.OIDC = &identity.OIDC{Providers: &identity.Providers{Store: s, Ring: ring}, Issuers: issuers, Pending: pending, Users: p.o.Users,
		Invitations: s, Members: s, Audit: s, Ring: ring, PublicURL: "https://parley.example"}
	p.o.Issuers = &identity.TrustedIssuers{Store: s, Issuers: issuers, Audit: s, Noted: once{}, PublicURL: "https://parley.example"}
}

// What storage holds opens nothing: no secret, code, ticket or challenge of it
// stands there in clear.
func TestNoFactorIsStoredInClear(t *testing.T) {
	p := newPlane(t)
	v := p.visitor()
	v.login(200)
	secret, codes := v.enrol()
	tk := ticket(t, p.visitor().login(200))
	dump := p.dump("second_factors", "recovery_codes", "pending_sign_ins", "audit")
	for what, text := range map[string]string{"secret": secret, "code": codes[0].(string), "ticket": tk} {
		if strings.Contains(dump, text) || strings.Contains(p.log.String(), text) {
			t.Errorf("the %s stands in the database or the log", what)
		}
	}
}

// Dangerous acts need a factor of the last ten minutes, administering one of
// the last twelve hours; programs are held to their scopes.
func TestStepUp(t *testing.T) {
	p := newPlane(t)
	v := p.visitor()
	v.login(200)
	key := map[string]any{"name": "k", "scopes": []string{"calls.read"}}
	v.ask(201, "POST", "/v1/keys", key) // parley dev: who has none is not asked
	secret, codes := v.enrol()
	p.super(`UPDATE browser_sessions SET factor_at = now() - interval '11 minutes'`)
	wantCode(t, v.ask(403, "POST", "/v1/keys", key), "step_up_required")
	wantCode(t, v.ask(403, "DELETE", "/v1/auth/factors/totp", nil), "step_up_required")
	wantCode(t, v.ask(403, "POST", "/v1/auth/factors/passkey-challenge", nil), "step_up_required")
	v.ask(200, "GET", "/v1/keys", nil)
	p.super(`UPDATE browser_sessions SET factor_at = now() - interval '13 hours'`)
	wantCode(t, v.ask(403, "GET", "/v1/keys", nil), "second_factor_required")
	v.ask(200, "GET", "/v1/calls", nil)
	p.want(201, "POST", "/v1/keys", p.demo.APIKey, `{"name":"k2","scopes":["calls.read"]}`)

	old := v.cookies["parley_session"]
	v.ask(200, "POST", "/v1/auth/step-up", map[string]any{"code": p.code(secret, 1)})
	if v.cookies["parley_session"] == old {
		t.Error("the session may do more with the same cookie")
	}
	v.ask(201, "POST", "/v1/keys", key)
	v.ask(401, "POST", "/v1/auth/step-up", map[string]any{"code": p.code(secret, 1)})
	v.ask(200, "POST", "/v1/auth/step-up", map[string]any{"recovery_code": codes[3]})
	v.ask(422, "POST", "/v1/auth/step-up", map[string]any{"recovery_code": codes[4], "code": "1"})
}

// parley serve: who has no second factor may enrol one, and not administer.
func TestSecondFactorRequired(t *testing.T) {
	p := newPlane(t).with(func(o *api.Options) { o.SecondFactor = control.FactorRequired })
	v := p.visitor()
	v.login(200)
	wantCode(t, v.ask(403, "GET", "/v1/keys", nil), "second_factor_required")
	v.ask(200, "GET", "/v1/calls", nil)
	v.enrol()
	v.ask(200, "GET", "/v1/keys", nil)
}

func TestPasskey(t *testing.T) {
	p := newPlane(t)
	v := p.visitor()
	v.login(200)
	const origin, site = "https://parley.example", "parley.example"
	device := newAuthenticator(t, origin, site)
	add := func(status int, a *authenticator, name string) map[string]any {
		t.Helper()
		m := v.ask(201, "POST", "/v1/auth/factors/passkey-challenge", nil)
		return v.ask(status, "POST", "/v1/auth/factors/passkeys", map[string]any{"name": name, "ceremony": m["ceremony"], "credential": a.create(m["options"])})
	}
	add(401, newAuthenticator(t, "https://evil.example", site), "phished")
	add(401, newAuthenticator(t, origin, "evil.example"), "phished")
	m := add(201, device, "laptop")
	id, _ := m["id"].(string)
	if codes, _ := m["recovery_codes"].([]any); len(codes) != 10 {
		t.Errorf("%v, want 10 recovery codes", m)
	}
	v.ask(204, "PATCH", "/v1/auth/factors/passkeys/"+id, map[string]any{"name": "old laptop"})
	p.audited("factor.change")

	t.Run("second-factor", func(t *testing.T) {
		w := p.visitor()
		tk := ticket(t, w.login(200))
		m := w.ask(200, "POST", "/v1/auth/mfa/begin", map[string]any{"ticket": tk})
		answer := map[string]any{"ticket": tk, "passkey": map[string]any{"ceremony": m["ceremony"], "credential": device.get(m["options"])}}
		w.ask(200, "POST", "/v1/auth/mfa", answer)
		again := ticket(t, p.visitor().login(200))
		answer["ticket"] = again
		w.ask(401, "POST", "/v1/auth/mfa", answer) // the challenge is used up
	})
	passwordless := func(status int, a *authenticator, spoil func(map[string]any)) {
		t.Helper()
		w := p.visitor()
		m := w.ask(200, "POST", "/v1/auth/passkey/begin", nil)
		answer := map[string]any{"ceremony": m["ceremony"], "credential": a.get(m["options"])}
		if spoil != nil {
			spoil(answer)
		}
		w.ask(status, "POST", "/v1/auth/passkey", map[string]any{"passkey": answer})
		if signed := w.cookies["parley_session"] != ""; signed != (status == 200) {
			t.Errorf("signed in: %v", signed)
		}
		if status == 200 {
			w.ask(201, "POST", "/v1/auth/factors/recovery-codes", nil) // both factors were given
			w.ask(401, "POST", "/v1/auth/passkey", map[string]any{"passkey": answer})
		}
	}
	passwordless(200, device, nil)
	device.unverified = true
	passwordless(401, device, nil)
	device.unverified = false
	stranger := newAuthenticator(t, origin, site)
	stranger.handle = device.handle
	passwordless(401, stranger, nil)
	stranger.id = device.id // knows the id and not the key
	passwordless(401, stranger, nil)
	passwordless(401, device, func(a map[string]any) { a["ceremony"] = strings.Repeat("A", 43) })
	phished := *device
	phished.origin = "https://evil.example"
	passwordless(401, &phished, nil)

	// A copy of the passkey counts on its own, and is found out.
	device.count -= 3
	passwordless(401, device, nil)
	p.audited("factor.copied")

	v.ask(204, "DELETE", "/v1/auth/factors/passkeys/"+id, nil)
	device.count += 100
	passwordless(401, device, nil)
}

// Nobody answers another's challenge, nor removes another's passkey.
func TestPasskeyOfAnother(t *testing.T) {
	p := newPlane(t)
	p.ensure("other@example.com", false)
	v, w := p.visitor(), p.visitor()
	v.login(200)
	w.ask(200, "POST", "/v1/auth/login", map[string]any{"email": "other@example.com", "password": password})
	device := newAuthenticator(t, "https://parley.example", "parley.example")
	m := v.ask(201, "POST", "/v1/auth/factors/passkey-challenge", nil)
	answer := map[string]any{"name": "mine", "ceremony": m["ceremony"], "credential": device.create(m["options"])}
	w.ask(401, "POST", "/v1/auth/factors/passkeys", answer)
	m = v.ask(201, "POST", "/v1/auth/factors/passkey-challenge", nil)
	answer["ceremony"], answer["credential"] = m["ceremony"], device.create(m["options"])
	m = v.ask(201, "POST", "/v1/auth/factors/passkeys", answer)
	w.ask(404, "DELETE", "/v1/auth/factors/passkeys/"+m["id"].(string), nil)
	w.ask(404, "PATCH", "/v1/auth/factors/passkeys/"+m["id"].(string), map[string]any{"name": "x"})
}

// An administrator takes the factors of who has lost them; an owner's, owners
// alone.
func TestResetFactors(t *testing.T) {
	p := newPlane(t)
	v := p.visitor()
	m := v.login(200)
	v.enrol()
	p.want(403, "DELETE", "/v1/users/"+m["user_id"].(string)+"/factors", p.demo.APIKey, "")
	v.ask(204, "DELETE", "/v1/users/"+m["user_id"].(string)+"/factors", nil)
	p.visitor().login(200)
	v.ask(404, "DELETE", "/v1/users/00000000-0000-4000-8000-000000000000/factors", nil)
}

// Whatever changes who may do what asks a person for a second factor of the
// last ten minutes.
func TestDangerousRoutesStepUp(t *testing.T) {
	p := newPlane(t)
	v := p.visitor()
	v.login(200)
	v.enrol()
	p.super(`UPDATE users SET platform = true`)
	p.super(`UPDATE browser_sessions SET factor_at = now() - interval '11 minutes'`)
	n := 0
	for _, r := range p.Routes() {
		if !r.Dangerous() {
			if r.NoStepUp == "" && r.Method != "GET" && slices.Contains([]control.Permission{control.KeysManage, control.SecretsManage,
				control.UsersManage, control.TenantManage, control.TokensMint, control.Platform}, r.Permission) {
				t.Errorf("%s %s asks for no second factor, and gives no reason", r.Method, r.Pattern)
			}
			continue
		}
		n++
		path := strings.NewReplacer("{id}", uuid.NewString(), "{provider}", "x").Replace(r.Pattern)
		wantCode(t, v.ask(403, r.Method, path, nil), "step_up_required")
	}
	if n < 15 {
		t.Errorf("%d dangerous routes were found", n)
	}
}

// Who a proxy says somebody is counts for nothing: no proxy signs it.
func TestForwardedIdentityIsIgnored(t *testing.T) {
	p := newPlane(t)
	user, err := p.store.LocateUser(t.Context(), "admin@example.com")
	if err != nil || len(user) == 0 {
		t.Fatal(err)
	}
	for _, h := range []string{"X-Forwarded-User", "X-Forwarded-Email", "X-User-Id", "X-Remote-User", "Remote-User", "X-Auth-Request-User",
		"X-Auth-Request-Email", "X-Amzn-Oidc-Identity", "X-Amzn-Oidc-Data", "X-Amzn-Oidc-Accesstoken", "Cf-Access-Jwt-Assertion",
		"Cf-Access-Authenticated-User-Email", "X-Goog-Authenticated-User-Email", "X-Goog-Iap-Jwt-Assertion", "X-Parley-Tenant"} {
		for _, value := range []string{"admin@example.com", user[0].ID.String(), p.demo.Tenant.String()} {
			p.want(401, "GET", "/v1/keys", "", "", h, value)
		}
	}
}
