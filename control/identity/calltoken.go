package identity

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// CallTokenLife is how long a browser may take to open its call.
const CallTokenLife = 5 * time.Minute

// CallTokens lets browsers open one call each: signed, bound to an agent and
// to the page's origin, good once and for five minutes.
type CallTokens struct {
	Ring *control.Keyring
	Used control.Single
}

type callToken struct {
	ID      uuid.UUID `json:"i"`
	Tenant  uuid.UUID `json:"t"`
	Agent   uuid.UUID `json:"a"`
	Origin  string    `json:"o"`
	Expires int64     `json:"e"` // Unix seconds
}

const (
	callTokenPurpose = "call-token"
	callTokenHead    = "parley_call_"
)

// Mint returns a token for an agent of the tenant of ctx. Origin is the page's
// ("https://host"); empty for programs, which send none.
func (s *CallTokens) Mint(ctx context.Context, agent uuid.UUID, origin string) (string, time.Time, error) {
	tenant, ok := control.TenantOf(ctx)
	if !ok {
		return "", time.Time{}, control.ErrCredentials
	}
	expires := time.Now().Add(CallTokenLife).Truncate(time.Second).UTC()
	text, err := json.Marshal(callToken{control.NewID(), tenant, agent, origin, expires.Unix()})
	if err != nil {
		return "", expires, fmt.Errorf("mint call token: %w", err)
	}
	body := base64.RawURLEncoding.EncodeToString(text)
	sum := base64.RawURLEncoding.EncodeToString(s.Ring.MAC(callTokenPurpose, body))
	return callTokenHead + body + "." + sum, expires, nil
}

// IsCallToken tells a call token from other bearers by its form.
func IsCallToken(bearer string) bool { return strings.HasPrefix(bearer, callTokenHead) }

// Verify returns the principal of a token, without using it up. Malformed,
// forged, late, or from another origin: control.ErrCredentials.
func (s *CallTokens) Verify(token string, v Visit) (control.Principal, error) {
	body, sum, ok := strings.Cut(strings.TrimPrefix(token, callTokenHead), ".")
	got, err := base64.RawURLEncoding.Strict().DecodeString(sum)
	if !ok || err != nil || !hmac.Equal(got, s.Ring.MAC(callTokenPurpose, body)) {
		return control.Principal{}, control.ErrCredentials
	}
	var t callToken
	text, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || json.Unmarshal(text, &t) != nil {
		return control.Principal{}, control.ErrCredentials
	}
	if time.Now().Unix() >= t.Expires || !v.Peek && t.Origin != v.Origin {
		return control.Principal{}, control.ErrCredentials
	}
	return control.Principal{Kind: control.PrincipalCallToken, ID: t.ID, Tenant: t.Tenant, Agent: t.Agent,
		Scopes: []control.Permission{control.CallsStart}, Expires: time.Unix(t.Expires, 0).UTC()}, nil
}

// Spend verifies a token and uses it up: the second time is control.ErrCredentials.
func (s *CallTokens) Spend(ctx context.Context, token, origin string) (control.Principal, error) {
	p, err := s.Verify(token, Visit{Origin: origin})
	if err == nil && !s.Used.Use(ctx, "call-token:"+p.ID.String(), CallTokenLife) {
		return control.Principal{}, control.ErrCredentials
	}
	return p, err
}
