package control

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
)

// CallTokenLife is how long a browser may take to open its call.
const CallTokenLife = 5 * time.Minute

// A Single tells whether something is seen for the first time. It must not
// block for long: without its storage it remembers on this node alone.
type Single interface {
	// Use returns true for the first use of a key within life.
	Use(ctx context.Context, key string, life time.Duration) bool
}

// CallTokens lets browsers open one call each: signed, bound to an agent and
// to the page's origin, good once and for five minutes.
type CallTokens struct {
	Ring *Keyring
	Used Single
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
	tenant, ok := TenantOf(ctx)
	if !ok {
		return "", time.Time{}, ErrCredentials
	}
	expires := time.Now().Add(CallTokenLife).Truncate(time.Second).UTC()
	text, err := json.Marshal(callToken{newID(), tenant, agent, origin, expires.Unix()})
	if err != nil {
		return "", expires, fmt.Errorf("mint call token: %w", err)
	}
	body := base64.RawURLEncoding.EncodeToString(text)
	sum := base64.RawURLEncoding.EncodeToString(s.Ring.mac(callTokenPurpose, body))
	return callTokenHead + body + "." + sum, expires, nil
}

// IsCallToken tells a call token from other bearers by its form.
func IsCallToken(bearer string) bool { return strings.HasPrefix(bearer, callTokenHead) }

// Verify returns the principal of a token sent from origin, without using it
// up. Malformed, forged, late, or from elsewhere: ErrCredentials.
func (s *CallTokens) Verify(token, origin string) (Principal, error) {
	body, sum, ok := strings.Cut(strings.TrimPrefix(token, callTokenHead), ".")
	got, err := base64.RawURLEncoding.DecodeString(sum)
	if !ok || err != nil || !hmac.Equal(got, s.Ring.mac(callTokenPurpose, body)) {
		return Principal{}, ErrCredentials
	}
	var t callToken
	text, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || json.Unmarshal(text, &t) != nil {
		return Principal{}, ErrCredentials
	}
	if time.Now().Unix() >= t.Expires || t.Origin != origin {
		return Principal{}, ErrCredentials
	}
	return Principal{Kind: PrincipalCallToken, ID: t.ID, Tenant: t.Tenant, Agent: t.Agent, Scopes: []Permission{CallsStart}}, nil
}

// Spend verifies a token and uses it up: the second time is ErrCredentials.
func (s *CallTokens) Spend(ctx context.Context, token, origin string) (Principal, error) {
	p, err := s.Verify(token, origin)
	if err == nil && !s.Used.Use(ctx, "call-token:"+p.ID.String(), CallTokenLife) {
		return Principal{}, ErrCredentials
	}
	return p, err
}
