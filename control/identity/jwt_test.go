package identity

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"parley/control"
)

// shelf keeps signing keys in memory.
type shelf struct{ keys []SigningKey }

func (s *shelf) SigningKeys(context.Context) ([]SigningKey, error) { return s.keys, nil }

func (s *shelf) InsertSigningKey(_ context.Context, k SigningKey, newest uuid.UUID) error {
	if len(s.keys) == 0 || s.keys[0].ID == newest {
		s.keys = append([]SigningKey{k}, s.keys...)
	}
	return nil
}

func (s *shelf) RevokeSigningKeys(_ context.Context, but uuid.UUID, at time.Time) error {
	for i := range s.keys {
		if s.keys[i].ID != but {
			s.keys[i].RevokedAt = at
		}
	}
	return nil
}

func newSigner(t testing.TB, store SigningStore) *Signer {
	t.Helper()
	ring, err := control.NewKeyring([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	return &Signer{Store: store, Ring: ring}
}

// The vectors of RFC 8037, appendix A: key, thumbprint, signature.
func TestEd25519Vectors(t *testing.T) {
	const (
		d = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"
		x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
		// A.4: the payload "Example of Ed25519 signing" under {"alg":"EdDSA"}.
		signed    = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
		signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
	)
	seed, _ := base64.RawURLEncoding.DecodeString(d)
	private := ed25519.NewKeyFromSeed(seed)
	public := private.Public().(ed25519.PublicKey)
	if got := newJWK(public, "").X; got != x {
		t.Errorf("public key %s, want %s", got, x)
	}
	if got := thumbprint(public); got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Errorf("thumbprint %s", got)
	}
	sum, err := jwt.SigningMethodEdDSA.Sign(signed, private)
	if got := base64.RawURLEncoding.EncodeToString(sum); got != signature || err != nil {
		t.Errorf("signature %s, %v, want %s", got, err, signature)
	}
	if err := jwt.SigningMethodEdDSA.Verify(signed, sum, public); err != nil {
		t.Errorf("the signature is refused: %v", err)
	}
}

// forge returns a token of a header and claims, signed as the method does.
func forge(t *testing.T, m jwt.SigningMethod, key any, head, claims map[string]any) string {
	t.Helper()
	enc := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := enc(head) + "." + enc(claims)
	sum, err := m.Sign(text, key)
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sum)
}

func TestForgedTokens(t *testing.T) {
	s := newSigner(t, &shelf{})
	k, err := s.current(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, other, _ := ed25519.GenerateKey(nil)
	now := time.Now().Unix()
	verify := func(token string) error {
		return s.verify(t.Context(), token, typeService, "us", "them", new(serviceClaims))
	}
	make := func(m jwt.SigningMethod, key any, alg string, head, claims map[string]any) string {
		h := map[string]any{"alg": alg, "typ": typeService, "kid": k.kid}
		c := map[string]any{"iss": "us", "aud": "them", "sub": "x", "iat": now, "nbf": now, "exp": now + 60}
		for into, from := range map[*map[string]any]map[string]any{&h: head, &c: claims} {
			maps.Copy(*into, from)
			maps.DeleteFunc(*into, func(_ string, v any) bool { return v == nil })
		}
		return forge(t, m, key, h, c)
	}
	ed := func(head, claims map[string]any) string {
		return make(jwt.SigningMethodEdDSA, k.private, "EdDSA", head, claims)
	}
	if err := verify(ed(nil, nil)); err != nil {
		t.Fatalf("a good token: %v", err)
	}
	type m = map[string]any
	none := make(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "none", nil, nil)
	pem := []byte(k.public())
	for name, token := range map[string]string{
		"none":                    none,
		"none-in-capitals":        make(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "NONE", nil, nil),
		"no-signature":            ed(nil, nil)[:strings.LastIndexByte(ed(nil, nil), '.')+1],
		"hs256-by-the-public-key": make(jwt.SigningMethodHS256, pem, "HS256", nil, nil),
		"hs256-by-its-text":       make(jwt.SigningMethodHS256, []byte(newJWK(k.public(), "").X), "HS256", nil, nil),
		"another-key":             make(jwt.SigningMethodEdDSA, other, "EdDSA", nil, nil),
		"unknown-kid":             ed(m{"kid": "x"}, nil),
		"no-kid":                  ed(m{"kid": nil}, nil),
		"kid-is-a-number":         ed(m{"kid": 1}, nil),
		"jku":                     ed(m{"jku": "https://evil.example"}, nil),
		"jwk":                     ed(m{"jwk": newJWK(other.Public().(ed25519.PublicKey), "x")}, nil),
		"x5u":                     ed(m{"x5u": "https://evil.example"}, nil),
		"crit":                    ed(m{"crit": []string{"b64"}}, nil),
		"another-type":            ed(m{"typ": typeAccess}, nil),
		"no-type":                 ed(m{"typ": nil}, nil),
		"another-issuer":          ed(nil, m{"iss": "them"}),
		"no-issuer":               ed(nil, m{"iss": nil}),
		"another-audience":        ed(nil, m{"aud": "us"}),
		"no-audience":             ed(nil, m{"aud": nil}),
		"expired":                 ed(nil, m{"iat": now - 200, "nbf": now - 200, "exp": now - 61}),
		"no-expiry":               ed(nil, m{"exp": nil}),
		"not-yet":                 ed(nil, m{"nbf": now + 70}),
		"no-nbf":                  ed(nil, m{"nbf": nil}),
		"issued-ahead":            ed(nil, m{"iat": now + 70}),
		"no-iat":                  ed(nil, m{"iat": nil}),
		"padded":                  ed(nil, nil) + "=",
		"empty":                   "..",
	} {
		if err := verify(token); !errors.Is(err, control.ErrCredentials) {
			t.Errorf("%s: %v, want ErrCredentials", name, err)
		}
	}
	// Clocks may differ by a minute, and what is more is said.
	for name, claims := range map[string]m{"ahead": {"iat": now + 55, "nbf": now + 55}, "late": {"exp": now - 55}} {
		if err := verify(ed(nil, claims)); err != nil {
			t.Errorf("%s by 55 s: %v", name, err)
		}
	}
	if err := verify(ed(nil, m{"iat": now + 300, "nbf": now + 300, "exp": now + 600})); !strings.Contains(err.Error(), "the clock of the machine") {
		t.Errorf("a clock that is off: %v", err)
	}
}

func TestServiceTokens(t *testing.T) {
	s := &ServiceTokens{Signer: newSigner(t, &shelf{}), Issuer: "us"}
	v := Service{Name: "parley", Audience: "billing", Actor: "user:1", Tenant: uuid.New(), Scopes: []control.Permission{control.CallsRead}}
	token, err := s.Mint(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Verify(t.Context(), token, "billing")
	if err != nil || p.Kind != control.PrincipalService || p.Actor != "user:1" || p.Tenant != v.Tenant || len(p.Scopes) != 1 ||
		time.Until(p.Expires) > ServiceLife {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := s.Verify(t.Context(), token, "calendar"); !errors.Is(err, control.ErrCredentials) {
		t.Errorf("another audience: %v", err)
	}
	// A life of more than five minutes is nobody's to give.
	claims := serviceClaims{Tenant: v.Tenant, RegisteredClaims: jwt.RegisteredClaims{Issuer: "us", Subject: "x", Audience: jwt.ClaimStrings{"billing"},
		IssuedAt: jwt.NewNumericDate(time.Now()), NotBefore: jwt.NewNumericDate(time.Now()), ExpiresAt: jwt.NewNumericDate(time.Now().Add(time.Hour)), ID: uuid.NewString()}}
	if token, err = s.Signer.sign(t.Context(), typeService, claims); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(t.Context(), token, "billing"); !errors.Is(err, control.ErrCredentials) {
		t.Errorf("a life of an hour: %v", err)
	}
}

// Keys follow each other without a restart: the next is announced, takes over,
// and the one before stays until its tokens have ended, on all nodes alike.
func TestSigningKeysFollowEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &shelf{}
		a, b := newSigner(t, store), newSigner(t, store)
		kids := func(s *Signer) (list []string) {
			set, err := s.JWKS(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, k := range set.Keys {
				list = append(list, k.ID)
			}
			return list
		}
		signs := func(s *Signer) string {
			k, err := s.current(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return k.kid
		}
		first := signs(a)
		if signs(b) != first || len(kids(a)) != 1 {
			t.Fatal("two nodes sign with different keys")
		}
		time.Sleep(SigningPeriod - signingAhead + time.Minute)
		if got := kids(a); len(got) != 2 || signs(a) != first {
			t.Fatalf("ahead: %v", got)
		}
		next := kids(a)[0]
		time.Sleep(signingAhead)
		if signs(a) != next || signs(b) != next || len(kids(b)) != 2 {
			t.Fatalf("in time: %s signs, of %v", signs(b), kids(b))
		}
		time.Sleep(AccessLife + 3*ClockSkew)
		if got := kids(b); len(got) != 1 || got[0] != next {
			t.Errorf("after: %v", got)
		}
		if _, err := b.public(t.Context(), first); !errors.Is(err, control.ErrCredentials) {
			t.Errorf("the key before: %v", err)
		}
		// One that was made now, elsewhere, is found when it is named.
		time.Sleep(2 * time.Second)
		if err := a.Rotate(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if _, err := b.public(t.Context(), signs(a)); err != nil {
			t.Errorf("a key of another node: %v", err)
		}
		if _, err := b.public(t.Context(), next); err == nil {
			t.Error("a revoked key is taken")
		}
		// One that was revoked elsewhere is refused as soon as a node is told, with
		// nothing new having come by; untold, when what it has read is old.
		c, last := newSigner(t, store), signs(b)
		if _, err := c.public(t.Context(), last); err != nil {
			t.Fatal(err)
		}
		if err := a.Rotate(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		c.Changed()
		if _, err := c.public(t.Context(), last); !errors.Is(err, control.ErrCredentials) {
			t.Errorf("told of a revocation: %v", err)
		}
		if _, err := b.public(t.Context(), last); err != nil {
			t.Errorf("untold, at once: %v: this shows nothing of being told", err)
		}
		time.Sleep(signingFresh)
		if _, err := b.public(t.Context(), last); !errors.Is(err, control.ErrCredentials) {
			t.Errorf("untold, later: %v", err)
		}
	})
}

func TestNetwork(t *testing.T) {
	for in, want := range map[string]string{"203.0.113.9": "203.0.113.0/24", "::ffff:203.0.113.9": "203.0.113.0/24",
		"2001:db8:1:2::3": "2001:db8:1::/48", "2001:db8:1:2::/64": "2001:db8:1::/48", "fe80::1%eth0": "fe80::/48", "unix": "", "": ""} {
		if got := Network(in); got != want {
			t.Errorf("Network(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzBearer(f *testing.F) {
	ring, err := control.NewKeyring([]byte(strings.Repeat("k", 32)))
	if err != nil {
		f.Fatal(err)
	}
	s := newSigner(f, &shelf{})
	calls, m := &CallTokens{Ring: ring}, marked{ring, temporaryHead}
	for _, seed := range []string{"", "eyJ.a.b", "eyJhbGciOiJub25lIn0.e30.", "parley_temp_a.b", "parley_call_.", "parley_refresh_" + strings.Repeat("A", 90)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, bearer string) {
		_, _ = IssuerOf(bearer), typeOf(bearer)
		_ = Leaked(bearer)
		if _, err := m.open(bearer); err == nil {
			t.Error("a token that nobody made is opened")
		}
		if _, err := calls.Verify(bearer, Visit{}); err == nil {
			t.Error("a call token that nobody made passes")
		}
		if err := s.verify(t.Context(), bearer, typeAccess, "us", "them", new(accessClaims)); err == nil {
			t.Error("a JWT that nobody signed passes")
		}
	})
}
