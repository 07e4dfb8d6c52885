package identity

import (
	"cmp"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"

	"parley/control"
)

// clockSkew is how far an issuer's clock may be from ours.
const clockSkew = time.Minute

// signingAlgs are taken: none, and nothing that is keyed by a shared secret, is
// not among them.
func signingAlgs() []string {
	return []string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}
}

// verifierConfig is how all tokens of issuers are checked.
func verifierConfig(audience string) *oidc.Config {
	return &oidc.Config{ClientID: audience, SupportedSigningAlgs: signingAlgs(),
		Now: func() time.Time { return time.Now().Add(-clockSkew) }}
}

// checkTimes refuses a token from the future, and one without its times.
func checkTimes(c claims, now time.Time) error {
	ahead := now.Add(clockSkew).Unix()
	switch {
	case c.Issued == 0:
		return errors.New("the token does not say when it was issued")
	case int64(c.Issued) > ahead:
		return errors.New("the token was issued in the future: the issuer's clock is ahead by more than a minute")
	case int64(c.NotBefore) > ahead:
		return errors.New("the token is not valid yet")
	}
	return nil
}

// claims are what we read of tokens.
type claims struct {
	Issuer    string  `json:"iss"`
	Subject   string  `json:"sub"`
	Issued    float64 `json:"iat"` // Unix seconds, some with a fraction
	NotBefore float64 `json:"nbf"`
	Party     string  `json:"azp"`
	AuthTime  float64 `json:"auth_time"`

	Email    string    `json:"email"`
	Verified loose     `json:"email_verified"`
	Domain   loose     `json:"xms_edov"` // Entra: the directory owns the address's domain
	Name     string    `json:"name"`
	Username string    `json:"preferred_username"`
	AMR      oneOrMany `json:"amr"`
	ACR      string    `json:"acr"`

	Workspace string `json:"hd"`        // Google: the organisation that gave the account out
	Object    string `json:"oid"`       // Entra
	Directory string `json:"tid"`       // Entra
	Use       string `json:"token_use"` // Cognito

	// Elsewhere names the claims that stand at another address than the token
	// (OpenID Connect Core 1.0 §5.6.2): Entra's groups, where they are too many.
	Elsewhere map[string]json.RawMessage `json:"_claim_names"`
}

// loose is a boolean that some issuers write as a string or a number.
type loose bool

// UnmarshalJSON implements json.Unmarshaler.
func (l *loose) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	*l = s == "true" || s == "1"
	return nil
}

// oneOrMany is a list that some issuers write as a string.
type oneOrMany []string

// UnmarshalJSON implements json.Unmarshaler.
func (o *oneOrMany) UnmarshalJSON(b []byte) error {
	var s string
	if json.Unmarshal(b, &s) == nil {
		*o = strings.Fields(strings.ReplaceAll(s, ",", " "))
		return nil
	}
	var list []string
	if json.Unmarshal(b, &list) != nil {
		list = nil // of another form: it names no group of ours
	}
	*o = list
	return nil
}

// An outsider is who an issuer says somebody is.
type outsider struct {
	issuer, subject string
	email           string // proven; else ""
	name            string
	groups          []string
	factorAt        time.Time // of a second factor that the issuer's word is taken for
}

// verifyID checks an ID token as OpenID Connect Core 1.0 §3.1.3.7 has it, and as
// the provider's kind needs, and returns who it is of.
func (s ProviderSettings) verifyID(ctx context.Context, p *oidc.Provider, token *oauth2.Token, nonce string) (outsider, error) {
	raw, _ := token.Extra("id_token").(string)
	if raw == "" {
		return outsider{}, errors.New("the issuer gave no ID token")
	}
	cfg := verifierConfig(s.ClientID)
	cfg.SkipIssuerCheck = s.Kind == KindMicrosoft && s.manyDirectories() // checked by its directory below
	id, err := p.VerifierContext(ctx, cfg).Verify(ctx, raw)
	if err != nil {
		return outsider{}, err
	}
	var c claims
	if err := id.Claims(&c); err != nil {
		return outsider{}, fmt.Errorf("the token's claims: %w", err)
	}
	switch {
	case subtle.ConstantTimeCompare([]byte(id.Nonce), []byte(nonce)) != 1 || nonce == "":
		return outsider{}, errors.New("the token is not of this sign-in: its nonce is another")
	case len(id.Audience) > 1 && c.Party != s.ClientID, c.Party != "" && c.Party != s.ClientID:
		return outsider{}, errors.New("the token was made for another client")
	case c.Subject == "":
		return outsider{}, errors.New("the token has no subject")
	}
	if id.AccessTokenHash != "" {
		if err := id.VerifyAccessToken(token.AccessToken); err != nil {
			return outsider{}, err
		}
	}
	if err := checkTimes(c, time.Now()); err != nil {
		return outsider{}, err
	}
	var all map[string]json.RawMessage
	if err := id.Claims(&all); err != nil {
		return outsider{}, fmt.Errorf("the token's claims: %w", err)
	}
	return s.outsider(c, all)
}

// outsider reads who somebody is, by the provider's kind.
func (s ProviderSettings) outsider(c claims, all map[string]json.RawMessage) (outsider, error) {
	o := outsider{issuer: c.Issuer, subject: c.Subject, name: cut(c.Name, 200)}
	if c.Verified {
		o.email = c.Email
	}
	claim := s.GroupsClaim
	switch s.Kind {
	case KindGoogle:
		// An account may have been made with an address that somebody else owns by
		// now: Google vouches for its own, and for those of a Workspace
		// (https://developers.google.com/identity/openid-connect/openid-connect#an-id-tokens-payload).
		if c.Workspace == "" && !strings.HasSuffix(strings.ToLower(c.Email), "@gmail.com") {
			o.email = ""
		}
	case KindMicrosoft:
		if c.Object == "" || c.Directory == "" {
			return o, errors.New("the token lacks oid or tid, which name a person of Entra")
		}
		if len(s.Directories) > 0 && !slices.Contains(s.Directories, c.Directory) {
			return o, errors.New("the person's directory is not among those that may come")
		}
		if s.manyDirectories() && c.Issuer != entraIssuer(s.Issuer, c.Directory) {
			return o, errors.New("the token's issuer is not that of its directory")
		}
		// The address is whatever an administrator of the directory wrote, unless
		// Entra says that the directory owns its domain.
		o.subject, o.email = c.Directory+" "+c.Object, ""
		if c.Domain {
			o.email = c.Email
		}
	case KindCognito:
		if c.Use != "id" {
			return o, errors.New("the token is not one that says who somebody is: its token_use is not id")
		}
		claim = cmp.Or(claim, "cognito:groups")
	}
	if !storable(o.subject) || !storable(o.issuer) {
		return o, errors.New("the token's subject is too long, or holds what is no text")
	}
	if o.email != "" {
		proven, err := email(o.email)
		if err != nil {
			proven = ""
		}
		o.email = proven
	}
	claim = cmp.Or(claim, "groups")
	if _, ok := c.Elsewhere[claim]; ok && len(s.Groups) > 0 {
		return o, errors.New("the token does not list the person's groups, which are too many: have the issuer send only those that are assigned to this application")
	}
	var groups oneOrMany
	if raw, ok := all[claim]; ok {
		_ = groups.UnmarshalJSON(raw) // never fails: what is no list names no group
	}
	o.groups = groups
	if s.TrustFactor && (slices.Contains(c.AMR, "mfa") || c.ACR != "" && slices.Contains(s.ACR, c.ACR)) {
		o.factorAt = c.given(time.Now())
	}
	return o, nil
}

// given is when the person was asked, as the issuer says; never ahead.
func (c claims) given(now time.Time) time.Time {
	at := int64(c.AuthTime)
	if at == 0 {
		at = int64(c.Issued)
	}
	if at > now.Unix() {
		return now.UTC()
	}
	return time.Unix(at, 0).UTC()
}

// entraIssuer is the issuer of one directory, where the settings name that of many.
func entraIssuer(many, directory string) string {
	base := strings.TrimSuffix(strings.TrimSuffix(many, "/common/v2.0"), "/organizations/v2.0")
	return base + "/" + directory + "/v2.0"
}

// role is what the groups make of somebody, of several the most able; "" if
// they may not come.
func (s ProviderSettings) role(groups []string) control.Role {
	for _, r := range control.Roles() {
		for _, g := range groups {
			if s.Groups[g] == r {
				return r
			}
		}
	}
	return s.Role
}

func cut(s string, n int) string {
	if len(s) > n {
		return strings.ToValidUTF8(s[:n], "")
	}
	return s
}

// storable tells whether a name of somebody stays as it is in storage, so that
// no two become one.
func storable(s string) bool {
	return s != "" && len(s) <= 500 && utf8.ValidString(s) && !strings.ContainsRune(s, 0)
}
