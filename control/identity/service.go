package identity

import (
	"context"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"parley/control"
)

// ServiceLife is the longest that a service token may live.
const ServiceLife = 5 * time.Minute

// A Service says who calls whom, and for whom.
type Service struct {
	Name     string    // who calls: "parley", "billing"
	Audience string    // who is called: nobody else takes the token
	Actor    string    // on whose behalf; empty: its own
	Tenant   uuid.UUID // whose data it is about
	Scopes   []control.Permission
	Life     time.Duration // 0: [ServiceLife], which is also the most
}

// ServiceTokens lets our own services call each other: short signed tokens for
// one audience, which anybody who reads the key set can check.
type ServiceTokens struct {
	Signer *Signer
	Issuer string
}

type serviceClaims struct {
	jwt.RegisteredClaims
	Tenant uuid.UUID   `json:"tenant"`
	Scope  string      `json:"scope,omitempty"`
	Actor  *actorClaim `json:"act,omitempty"` // RFC 8693 §4.1
}

type actorClaim struct {
	Subject string `json:"sub"`
}

// Mint returns a token. The service acts ("act") on behalf of the subject, if
// there is an Actor; else it is the subject itself.
func (s *ServiceTokens) Mint(ctx context.Context, v Service) (string, error) {
	if v.Name == "" || v.Audience == "" {
		return "", control.Invalidf("audience", "a service token needs a name and an audience")
	}
	if v.Life <= 0 || v.Life > ServiceLife {
		v.Life = ServiceLife
	}
	now := time.Now().Truncate(time.Second)
	claims := serviceClaims{Tenant: v.Tenant, Scope: joinScopes(v.Scopes),
		RegisteredClaims: jwt.RegisteredClaims{Issuer: s.Issuer, Subject: v.Name, Audience: jwt.ClaimStrings{v.Audience},
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(v.Life)),
			ID: control.NewID().String()}}
	if v.Actor != "" {
		claims.Subject, claims.Actor = v.Actor, &actorClaim{v.Name}
	}
	return s.Signer.sign(ctx, typeService, claims)
}

// Verify returns the principal of a service token for audience. Another
// audience, or a life of more than [ServiceLife], is control.ErrCredentials.
func (s *ServiceTokens) Verify(ctx context.Context, token, audience string) (control.Principal, error) {
	var c serviceClaims
	if err := s.Signer.verify(ctx, token, typeService, s.Issuer, audience, &c); err != nil {
		return control.Principal{}, err
	}
	id, err := uuid.Parse(c.ID)
	if err != nil || c.Subject == "" || c.ExpiresAt.Sub(c.IssuedAt.Time) > ServiceLife {
		return control.Principal{}, control.ErrCredentials
	}
	p := control.Principal{Kind: control.PrincipalService, ID: id, Tenant: c.Tenant, Scopes: splitScopes(c.Scope), Expires: c.ExpiresAt.UTC()}
	if c.Actor != nil {
		p.Actor = c.Subject
	}
	return p, nil
}
