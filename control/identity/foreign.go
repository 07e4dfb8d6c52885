package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/uuid"

	"parley/control"
)

// IssuerSettings is what of an issuer's tokens a tenant trusts.
type IssuerSettings struct {
	JWKS string `json:"jwks_url,omitempty" maxLength:"500" doc:"Where its keys are. Without: where its discovery document says."`
	// Cognito takes access tokens of Amazon Cognito, which have no audience: the
	// audience is their client_id.
	Cognito bool `json:"cognito,omitempty" doc:"Access tokens of Amazon Cognito: the audience is their client_id, and token_use must be access."`
	// Claim whose values Scopes maps; default "scope". Words or a list.
	Claim  string                          `json:"claim,omitempty" maxLength:"100" doc:"Whose values are mapped; default scope."`
	Scopes map[string][]control.Permission `json:"scopes" doc:"Value of the claim → what it lets do. What only administrators may do needs amr mfa of the last 12 hours in the token besides."`
	// Subjects that may come; empty: all.
	Subjects []string `json:"subjects,omitempty" maxItems:"200" doc:"Subjects that may come; without: all."`
}

// A TrustedIssuer is one whose tokens call the API of a tenant.
type TrustedIssuer struct {
	ID        uuid.UUID
	Issuer    string // as its tokens have it
	Audience  string // that they must be made for
	Settings  IssuerSettings
	Enabled   bool
	Revision  int
	CreatedAt time.Time
	UpdatedAt time.Time
}

// A TrustedIssuerStore keeps the issuers that a tenant trusts.
type TrustedIssuerStore interface {
	TrustedIssuers(ctx context.Context, p control.Page) ([]TrustedIssuer, error)
	TrustedIssuer(ctx context.Context, id uuid.UUID) (TrustedIssuer, error)
	// IssuersNamed returns the enabled ones of a name, with all audiences.
	IssuersNamed(ctx context.Context, issuer string) ([]TrustedIssuer, error)
	InsertTrustedIssuer(ctx context.Context, i TrustedIssuer) (TrustedIssuer, error)
	// UpdateTrustedIssuer stores what changed of one of the revision, 0 for any;
	// control.ErrConflict if it is not that any more.
	UpdateTrustedIssuer(ctx context.Context, i TrustedIssuer, revision int) (TrustedIssuer, error)
	DeleteTrustedIssuer(ctx context.Context, id uuid.UUID) error
}

// TrustedIssuers lets other services' tokens call the API: each tenant trusts
// whom it lists, for what it lists, and nobody else.
type TrustedIssuers struct {
	Store   TrustedIssuerStore
	Issuers *Issuers
	Audit   control.Audit
	// Noted tells whether a subject was seen just now: each is written to the
	// audit once a minute.
	Noted control.Single
	// PublicURL of the server, which audiences are made of.
	PublicURL string
}

// Audience is the audience by which a token says which tenant it is for. A token
// for another one comes with the tenant's id beside it: see [ForTenant].
func (s *TrustedIssuers) Audience(tenant uuid.UUID) string {
	return s.audiences() + tenant.String()
}

func (s *TrustedIssuers) audiences() string {
	return strings.TrimSuffix(s.PublicURL, "/") + "/tenants/"
}

type forTenantKey struct{}

// ForTenant returns ctx for a request that names the tenant whose list of
// issuers is to be looked into. It lets nobody in by itself.
func ForTenant(ctx context.Context, tenant string) context.Context {
	id, err := uuid.Parse(tenant)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, forTenantKey{}, id)
}

// Create lists an issuer for the tenant of ctx.
func (s *TrustedIssuers) Create(ctx context.Context, i TrustedIssuer) (TrustedIssuer, error) {
	i.ID = control.NewID()
	if tenant, ok := control.TenantOf(ctx); ok && i.Audience == "" {
		i.Audience = s.Audience(tenant)
	}
	if err := s.mayTrust(ctx, i); err != nil {
		return i, err
	}
	return s.Store.InsertTrustedIssuer(ctx, i)
}

// Update stores what changed. Revision 0 is any.
func (s *TrustedIssuers) Update(ctx context.Context, i TrustedIssuer, revision int) (TrustedIssuer, error) {
	if err := s.mayTrust(ctx, i); err != nil {
		return i, err
	}
	return s.Store.UpdateTrustedIssuer(ctx, i, revision)
}

// mayTrust refuses what is malformed by an [*control.Invalid], and to let others
// do what one may not do oneself.
func (s *TrustedIssuers) mayTrust(ctx context.Context, i TrustedIssuer) error {
	by := control.PrincipalOf(ctx)
	switch {
	case strings.TrimSuffix(i.Issuer, "/") == strings.TrimSuffix(s.PublicURL, "/"):
		return control.Invalidf("issuer", "is this server, whose own tokens are trusted already")
	case !secureURL(i.Issuer):
		return control.Invalidf("issuer", "must be an address as https://login.example.com")
	case i.Settings.JWKS != "" && !secureURL(i.Settings.JWKS):
		return control.Invalidf("settings.jwks_url", "must be an address as https://login.example.com/keys")
	case i.Audience == "" || len(i.Audience) > 500:
		return control.Invalidf("audience", "must be 1 to 500 bytes: whom the tokens are made for")
	case len(i.Settings.Scopes) == 0 || len(i.Settings.Scopes) > 100:
		return control.Invalidf("settings.scopes", "must map 1 to 100 values")
	}
	for _, scopes := range i.Settings.Scopes {
		for _, p := range scopes {
			if !slices.Contains(control.Scopes(), p) {
				return control.Invalidf("settings.scopes", "must map to scopes, as calls.read")
			}
			if by.Kind != "" && control.Allow(by, p, control.Object{}) != nil {
				return control.Invalidf("settings.scopes", "give more than you may do")
			}
		}
	}
	return nil
}

// callClaims are what we read of a token that calls the API.
type callClaims struct {
	claims
	Client string `json:"client_id"`
}

// Verify returns the principal of a token of an issuer that is not ours: a
// service, which acts for the token's subject. What no list has, or does not
// hold, is control.ErrCredentials.
func (s *TrustedIssuers) Verify(ctx context.Context, issuer, token string) (control.Principal, error) {
	tenant, ok := s.tenantOf(ctx, token)
	if !ok {
		return control.Principal{}, control.ErrCredentials
	}
	ctx = control.WithTenant(ctx, tenant)
	listed, err := s.Store.IssuersNamed(ctx, issuer)
	if err != nil {
		return control.Principal{}, err
	}
	for _, i := range listed {
		c, all, err := s.check(ctx, i, token)
		if errors.Is(err, control.ErrUnavailable) {
			return control.Principal{}, err
		}
		if err != nil {
			continue
		}
		p := control.Principal{Kind: control.PrincipalService, Tenant: tenant, Actor: i.Issuer + " " + c.Subject,
			ID: uuid.NewSHA1(i.ID, []byte(c.Subject)), Scopes: i.Settings.scopes(c, all, time.Now())}
		return p, s.note(ctx, i, p, c.Subject)
	}
	return control.Principal{}, control.ErrCredentials
}

// tenantOf says whose list a token is looked for in: of the request, or of the
// token's audience. It checks nothing else.
func (s *TrustedIssuers) tenantOf(ctx context.Context, token string) (uuid.UUID, bool) {
	if id, ok := ctx.Value(forTenantKey{}).(uuid.UUID); ok {
		return id, true
	}
	var c struct {
		Audience oneOrMany `json:"aud"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return uuid.Nil, false
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &c) != nil {
		return uuid.Nil, false
	}
	for _, a := range c.Audience {
		if rest, ok := strings.CutPrefix(a, s.audiences()); ok && s.PublicURL != "" {
			id, err := uuid.Parse(rest)
			return id, err == nil && id.String() == rest
		}
	}
	return uuid.Nil, false
}

// check verifies a token as its entry in the list has it.
func (s *TrustedIssuers) check(ctx context.Context, i TrustedIssuer, token string) (callClaims, map[string]json.RawMessage, error) {
	var c callClaims
	var all map[string]json.RawMessage
	cfg := verifierConfig(i.Audience)
	if i.Settings.Cognito {
		cfg.ClientID, cfg.SkipClientIDCheck = "", true
	}
	verifier, err := s.verifier(ctx, i, cfg)
	if err != nil {
		return c, nil, err
	}
	t, err := verifier.Verify(s.Issuers.context(ctx), token)
	if err != nil {
		return c, nil, err
	}
	if err := errors.Join(t.Claims(&c), t.Claims(&all), checkTimes(c.claims, time.Now())); err != nil {
		return c, nil, err
	}
	switch {
	case i.Settings.Cognito && (c.Use != "access" || c.Client != i.Audience):
		return c, nil, errors.New("the token is not an access token of the client")
	case !storable(c.Subject):
		return c, nil, errors.New("the token has no subject")
	case len(i.Settings.Subjects) > 0 && !slices.Contains(i.Settings.Subjects, c.Subject):
		return c, nil, errors.New("the subject is not listed")
	}
	return c, all, nil
}

func (s *TrustedIssuers) verifier(ctx context.Context, i TrustedIssuer, cfg *oidc.Config) (*oidc.IDTokenVerifier, error) {
	if i.Settings.JWKS != "" {
		return oidc.NewVerifier(i.Issuer, s.Issuers.keys(i.Settings.JWKS), cfg), nil
	}
	p, err := s.Issuers.discover(ctx, i.Issuer, i.Issuer)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its keys: %w", i.Issuer, err)
	}
	return p.VerifierContext(ctx, cfg), nil
}

// scopes is what a token lets do.
func (s IssuerSettings) scopes(c callClaims, all map[string]json.RawMessage, now time.Time) []control.Permission {
	claim := s.Claim
	if claim == "" {
		claim = "scope"
	}
	var values oneOrMany
	if raw, ok := all[claim]; ok {
		_ = values.UnmarshalJSON(raw) // never fails: what is no list gives nothing
	}
	second := slices.Contains(c.AMR, "mfa") && now.Sub(c.given(now)) <= control.FactorLife
	var got []control.Permission
	for _, v := range values {
		for _, p := range s.Scopes[v] {
			if !slices.Contains(got, p) && (second || !p.Administers()) {
				got = append(got, p)
			}
		}
	}
	return got
}

// note writes a use to the tenant's audit, once a minute a subject.
func (s *TrustedIssuers) note(ctx context.Context, i TrustedIssuer, p control.Principal, subject string) error {
	if !s.Noted.Use(ctx, "issuer-use:"+p.ID.String(), time.Minute) {
		return nil
	}
	detail, err := json.Marshal(map[string]string{"issuer": i.Issuer, "subject": cut(subject, 200)})
	if err != nil {
		return err
	}
	return s.Audit.Note(control.WithPrincipal(ctx, p), control.AuditEntry{Action: "issuer.use", Object: "issuer:" + i.ID.String(), Detail: detail})
}
