package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/control"
	"parley/control/identity"
)

// Directories of Entra, as its tid has them.
const (
	ourDirectory   = "0b6e3a2c-6f0f-4c35-9d0a-5f6d1f1f0001"
	theirDirectory = "0b6e3a2c-6f0f-4c35-9d0a-5f6d1f1f0002"
)

// entra is an address before the issuer that has its documents as Entra has
// them: one a directory, and that of all, which names its issuer with a
// placeholder.
func (i *issuer) entra() string {
	i.t.Helper()
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		directory, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/"), "/v2.0/.well-known/openid-configuration")
		if !ok {
			http.NotFound(w, r)
			return
		}
		if directory == "organizations" {
			directory = "{tenantid}"
		}
		resp, err := http.Get(i.DiscoveryEndpoint())
		if err != nil {
			i.t.Error(err)
			return
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		var body map[string]any
		if err != nil || json.Unmarshal(text, &body) != nil {
			i.t.Errorf("%s, %v", text, err)
		}
		body["issuer"] = s.URL + "/" + directory + "/v2.0"
		_ = json.NewEncoder(w).Encode(body)
	}))
	i.t.Cleanup(s.Close)
	return s.URL
}

// What of a provider's tokens is believed, by its kind: who somebody is, whose
// address it is, and which groups they are in.
func TestOIDCKinds(t *testing.T) {
	p, i := abroad(t, nil)
	entra := i.entra()
	settings := func(kind string, more identity.ProviderSettings) identity.ProviderSettings {
		more.Kind, more.ClientID, more.Scopes = kind, i.ClientID, []string{"email", "profile", "groups"}
		if more.Issuer == "" {
			more.Issuer = i.Issuer()
		}
		return more
	}
	roles := map[string]control.Role{"design": control.RoleViewer, "voice": control.RoleAdmin}
	example := []string{"example.com"}
	google := settings(identity.KindGoogle, identity.ProviderSettings{Domains: []string{"example.com", "gmail.com"}, Role: control.RoleViewer})
	single := settings(identity.KindMicrosoft, identity.ProviderSettings{Issuer: entra + "/" + ourDirectory + "/v2.0", Domains: example, Role: control.RoleViewer})
	many := settings(identity.KindMicrosoft, identity.ProviderSettings{Issuer: entra + "/organizations/v2.0", Directories: []string{ourDirectory}, Role: control.RoleViewer})
	grouped := settings(identity.KindMicrosoft, identity.ProviderSettings{Issuer: many.Issuer, Directories: many.Directories, Groups: roles})
	pool := settings(identity.KindCognito, identity.ProviderSettings{Groups: roles})
	poolDomain := settings(identity.KindCognito, identity.ProviderSettings{Domains: example, Role: control.RoleEditor})
	generic := settings(identity.KindGeneric, identity.ProviderSettings{Groups: roles, GroupsClaim: "roles"})

	type claims map[string]any
	ours := func(more claims) claims {
		c := claims{"iss": entra + "/" + ourDirectory + "/v2.0", "tid": ourDirectory}
		for k, v := range more {
			c[k] = v
		}
		return c
	}
	tooMany := claims{"_claim_names": claims{"groups": "src1"}, "_claim_sources": claims{"src1": claims{"endpoint": "https://graph.example/groups"}}}
	for _, tt := range []struct {
		name     string
		settings identity.ProviderSettings
		claims   claims // beside email NAME@example.com, which is proven, sub and oid NAME
		want     string // the role, or the code of the refusal
	}{
		{"google-workspace", google, claims{"hd": "example.com"}, "viewer"},
		{"google-second-domain", google, claims{"hd": "example.net"}, "viewer"},
		{"google-no-workspace", google, claims{}, "not_admitted"}, // the address may be another's by now
		{"google-gmail", google, claims{"email": "google-gmail@gmail.com"}, "viewer"},
		{"google-like-gmail", google, claims{"email": "x@notgmail.com"}, "not_admitted"},
		{"google-unproven", google, claims{"hd": "example.com", "email_verified": false}, "not_admitted"},
		{"google-other-domain", google, claims{"hd": "example.com", "email": "x@example.org"}, "not_admitted"}, // hd admits nobody

		{"entra", many, ours(nil), "viewer"},
		{"entra-other-directory", many, claims{"iss": entra + "/" + theirDirectory + "/v2.0", "tid": theirDirectory}, "issuer_refused"},
		{"entra-claims-our-directory", many, ours(claims{"iss": entra + "/" + theirDirectory + "/v2.0"}), "issuer_refused"},
		{"entra-placeholder", many, ours(claims{"iss": entra + "/{tenantid}/v2.0"}), "issuer_refused"},
		{"entra-of-all", many, ours(claims{"iss": many.Issuer}), "issuer_refused"},
		{"entra-no-tid", many, ours(claims{"tid": nil}), "issuer_refused"},
		{"entra-no-oid", many, ours(claims{"oid": nil}), "issuer_refused"},
		{"entra-one", single, ours(claims{"xms_edov": true}), "viewer"},
		{"entra-one-as-text", single, ours(claims{"xms_edov": "1"}), "viewer"},
		{"entra-address-of-nobody", single, ours(nil), "not_admitted"}, // whatever an administrator wrote
		{"entra-domain-not-owned", single, ours(claims{"xms_edov": false}), "not_admitted"},
		{"entra-one-other", single, claims{"iss": entra + "/" + theirDirectory + "/v2.0", "tid": theirDirectory}, "issuer_refused"},
		{"entra-groups", grouped, ours(claims{"groups": []string{"voice"}}), "admin"},
		{"entra-no-group", grouped, ours(claims{"groups": []string{"sales"}}), "not_admitted"},
		{"entra-many-groups", grouped, ours(tooMany), "issuer_refused"},
		{"entra-many-groups-unasked", many, ours(tooMany), "viewer"},

		{"cognito", pool, claims{"token_use": "id", "cognito:groups": []string{"design", "voice"}}, "admin"},
		{"cognito-access-token", pool, claims{"token_use": "access", "cognito:groups": []string{"voice"}}, "issuer_refused"},
		{"cognito-no-use", pool, claims{"cognito:groups": []string{"voice"}}, "issuer_refused"},
		{"cognito-other-claim", pool, claims{"token_use": "id", "groups": []string{"voice"}}, "not_admitted"},
		{"cognito-verified-as-text", poolDomain, claims{"token_use": "id", "email_verified": "true"}, "editor"},
		{"cognito-unverified-as-text", poolDomain, claims{"token_use": "id", "email_verified": "false"}, "not_admitted"},

		{"any", generic, claims{"roles": []string{"voice"}}, "admin"},
		{"any-as-words", generic, claims{"roles": "sales design"}, "viewer"},
		{"any-as-object", generic, claims{"roles": claims{"voice": true}}, "not_admitted"},
		{"any-as-numbers", generic, claims{"roles": []int{1}}, "not_admitted"},
		{"any-other-claim", generic, claims{"groups": []string{"voice"}}, "not_admitted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.o.OIDC.Operator = []identity.OperatorProvider{{Name: "corp", Settings: tt.settings, Secret: i.ClientSecret, Tenant: p.demo.Tenant}}
			i.claims = map[string]any{"sub": tt.name, "oid": tt.name, "email": tt.name + "@example.com", "email_verified": true, "groups": nil}
			for k, v := range tt.claims {
				i.claims[k] = v
			}
			v := p.visitor()
			m := v.ask(map[string]int{"issuer_refused": 401, "not_admitted": 403}[tt.want]+
				map[bool]int{true: 303}[tt.want != "issuer_refused" && tt.want != "not_admitted"], "GET", v.away("corp").RequestURI(), nil)
			if v.cookies["parley_session"] == "" {
				wantCode(t, m, tt.want)
				return
			}
			if me := v.ask(200, "GET", "/v1/auth/me", nil); me["role"] != tt.want {
				t.Errorf("%v, want %s", me["role"], tt.want)
			}
			// Signing out ends the session here, whatever the issuer thinks.
			v.ask(204, "POST", "/v1/auth/logout", nil)
			v.ask(401, "GET", "/v1/auth/me", nil)
		})
	}
}

// One object id is another person in another directory; and one person under
// whatever address and subject, which Entra gives anew to each application.
func TestOIDCEntraPerson(t *testing.T) {
	p, i := abroad(t, nil)
	entra := i.entra()
	p.o.OIDC.Operator = []identity.OperatorProvider{{Name: "corp", Secret: i.ClientSecret, Tenant: p.demo.Tenant,
		Settings: identity.ProviderSettings{Kind: identity.KindMicrosoft, Issuer: entra + "/organizations/v2.0", ClientID: i.ClientID,
			Directories: []string{ourDirectory, theirDirectory}, Role: control.RoleViewer}}}
	person := func(directory, subject, email string) string {
		t.Helper()
		i.claims = map[string]any{"iss": entra + "/" + directory + "/v2.0", "tid": directory, "oid": "jane", "sub": subject, "email": email}
		v := p.visitor()
		v.back(303, v.away("corp"))
		return v.who()
	}
	a, again, other := person(ourDirectory, "s1", "jane@example.com"), person(ourDirectory, "s2", "doe@example.com"), person(theirDirectory, "s1", "jane@example.com")
	if a == "" || a != again || a == other {
		t.Errorf("%q, then %q, and %q of another directory", a, again, other)
	}
}

// Access tokens of Cognito have no audience: the client that they are of counts.
func TestTrustedCognito(t *testing.T) {
	p, i := newPlane(t), newIssuer(t)
	p.want(201, "POST", "/v1/auth/issuers", p.demo.APIKey, `{"issuer":"`+i.Issuer()+`","audience":"client-1","settings":{"cognito":true,"scopes":{"parley/calls":["calls.read"]}}}`)
	for name, tt := range map[string]struct {
		change jwt.MapClaims
		want   int
	}{
		"access":        {nil, 200},
		"id-token":      {jwt.MapClaims{"token_use": "id", "aud": "client-1"}, 401},
		"no-use":        {jwt.MapClaims{"token_use": nil}, 401},
		"other-client":  {jwt.MapClaims{"client_id": "client-2"}, 401},
		"no-client":     {jwt.MapClaims{"client_id": nil}, 401},
		"audience-only": {jwt.MapClaims{"client_id": nil, "aud": "client-1"}, 401},
		"other-scope":   {jwt.MapClaims{"scope": "openid"}, 403},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Now()
			c := jwt.MapClaims{"iss": i.Issuer(), "sub": "jane", "token_use": "access", "client_id": "client-1", "scope": "openid parley/calls",
				"iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix()}
			for k, v := range tt.change {
				if c[k] = v; v == nil {
					delete(c, k)
				}
			}
			p.want(tt.want, "GET", "/v1/calls", i.sign(c), "", "X-Parley-Tenant", p.demo.Tenant.String())
		})
	}
}

// Each kind of provider refuses settings that would let in whom nobody meant.
func TestOIDCSettings(t *testing.T) {
	for name, s := range map[string]identity.ProviderSettings{
		"google-elsewhere":    {Kind: identity.KindGoogle, Issuer: "https://i.example", ClientID: "c"},
		"google-factor":       {Kind: identity.KindGoogle, ClientID: "c", TrustFactor: true},
		"entra-of-all":        {Kind: identity.KindMicrosoft, Issuer: "https://login.example/organizations/v2.0", ClientID: "c"},
		"entra-of-everybody":  {Kind: identity.KindMicrosoft, Issuer: "https://login.example/common/v2.0", ClientID: "c"},
		"directories-of-none": {Kind: identity.KindCognito, Issuer: "https://i.example", ClientID: "c", Directories: []string{ourDirectory}},
		"no-kind":             {Issuer: "https://i.example", ClientID: "c"},
		"in-clear":            {Kind: identity.KindGeneric, Issuer: "http://i.example", ClientID: "c"},
	} {
		if _, err := s.Check(); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
	if s, err := (identity.ProviderSettings{Kind: identity.KindGoogle, ClientID: "c"}).Check(); err != nil || s.Issuer != "https://accounts.google.com" {
		t.Errorf("google: %s, %v", s.Issuer, err)
	}
}
