package identity

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"parley/control"
)

// Kinds of JWT, as their header's typ names them (RFC 8725 §3.11): none passes
// for another.
const (
	typeAccess  = "at+jwt" // RFC 9068
	typeService = "service+jwt"
)

// AudienceAPI is the audience of tokens for this API.
const AudienceAPI = "parley-api"

// maxToken bounds a bearer, in bytes.
const maxToken = 8 << 10

// IsJWT tells a JSON Web Token from other bearers by its form.
func IsJWT(bearer string) bool {
	return strings.HasPrefix(bearer, "eyJ") && strings.Count(bearer, ".") == 2 && len(bearer) <= maxToken
}

// IssuerOf returns who a JWT says it is of. It checks nothing: use it to choose
// who does.
func IssuerOf(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &c) != nil {
		return ""
	}
	return c.Issuer
}

// typeOf returns the kind that a JWT says it is. It checks nothing.
func typeOf(token string) string {
	head, _, _ := strings.Cut(token, ".")
	var h struct {
		Type string `json:"typ"`
	}
	text, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil || json.Unmarshal(text, &h) != nil {
		return ""
	}
	return strings.ToLower(h.Type)
}

// sign returns claims as a token of a kind.
func (s *Signer) sign(ctx context.Context, kind string, claims jwt.Claims) (string, error) {
	k, err := s.current(ctx)
	if err != nil {
		return "", err
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims)
	t.Header["typ"], t.Header["kid"] = kind, k.kid
	token, err := t.SignedString(k.private)
	if err != nil {
		return "", fmt.Errorf("sign a token: %w", err)
	}
	return token, nil
}

// verify reads a token of a kind into claims. All that is not in order is
// control.ErrCredentials; what is signed but of another time says so.
func (s *Signer) verify(ctx context.Context, token, kind, issuer, audience string, claims jwt.Claims) error {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{"EdDSA"}), jwt.WithStrictDecoding(), jwt.WithIssuer(issuer),
		jwt.WithAudience(audience), jwt.WithExpirationRequired(), jwt.WithNotBeforeRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(ClockSkew))
	_, err := parser.ParseWithClaims(token, claims, func(t *jwt.Token) (any, error) { return s.keyOf(ctx, t, kind) })
	if err == nil {
		if at, _ := claims.GetIssuedAt(); at == nil {
			return control.ErrCredentials
		}
		return nil
	}
	return tokenError(err, claims)
}

// keyOf returns the key of a token's header. Where a key may be had from is
// never the token's to say.
func (s *Signer) keyOf(ctx context.Context, t *jwt.Token, kind string) (ed25519.PublicKey, error) {
	kid, _ := t.Header["kid"].(string)
	if typ, _ := t.Header["typ"].(string); !strings.EqualFold(typ, kind) || kid == "" {
		return nil, control.ErrCredentials
	}
	for _, name := range []string{"jku", "jwk", "x5u", "x5c", "crit"} {
		if _, ok := t.Header[name]; ok {
			return nil, control.ErrCredentials
		}
	}
	return s.public(ctx, kid)
}

// tokenError keeps what may be told: whoever holds a token that we signed may
// know that it is too old, or from a clock that is off.
func tokenError(err error, claims jwt.Claims) error {
	switch {
	case errors.Is(err, control.ErrUnavailable), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, jwt.ErrTokenInvalidAudience), errors.Is(err, jwt.ErrTokenInvalidIssuer), errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		return control.ErrCredentials
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued), errors.Is(err, jwt.ErrTokenNotValidYet):
		return clockError(claims)
	case errors.Is(err, jwt.ErrTokenExpired):
		return control.Refuse(control.ErrCredentials, "the token has expired: refresh it")
	}
	return control.ErrCredentials
}

// clockError says by how much a token is ahead of our clock.
func clockError(claims jwt.Claims) error {
	var ahead time.Duration
	if at, _ := claims.GetIssuedAt(); at != nil {
		ahead = time.Until(at.Time)
	}
	if at, _ := claims.GetNotBefore(); at != nil {
		ahead = max(ahead, time.Until(at.Time))
	}
	return control.Refuse(control.ErrCredentials,
		"the clock of the machine that issued the token is off: it is %s ahead of ours, and %s are allowed. Set its clock by NTP",
		ahead.Round(time.Second), ClockSkew)
}
