package identity

import (
	"context"
	"crypto/hmac"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// How long a temporary token lives: as its maker says, up to the most.
const (
	TemporaryLife = 15 * time.Minute
	TemporaryMost = time.Hour
)

// A Temporary token lets its bearer do a little, for a short while.
type Temporary struct {
	ID        uuid.UUID
	Name      string
	Hash      []byte
	Maker     string // "user:id", "key:id"
	Scopes    []control.Permission
	Origin    string // the only page's; empty: any, and programs
	SingleUse bool
	CreatedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // of one that is good once
	RevokedAt time.Time
}

// TemporaryStore keeps temporary tokens until a while after they have ended.
type TemporaryStore interface {
	InsertTemporary(ctx context.Context, t Temporary) error
	Temporary(ctx context.Context, id uuid.UUID) (Temporary, error)
	Temporaries(ctx context.Context, p control.Page) ([]Temporary, error)
	// UseTemporary uses one up that is good once: control.ErrConflict if it was.
	UseTemporary(ctx context.Context, id uuid.UUID, at time.Time) error
	RevokeTemporary(ctx context.Context, id uuid.UUID, at time.Time) error
}

// TemporaryTokens is the service of temporary tokens.
type TemporaryTokens struct {
	Store TemporaryStore
	Ring  *control.Keyring
}

const temporaryHead = "parley_temp_"

// neverTemporary are scopes that outlive whom they are lent to.
var neverTemporary = []control.Permission{control.TokensMint, control.KeysManage, control.UsersManage, control.SecretsManage, control.TenantManage}

// IsTemporary tells a temporary token from other bearers by its form.
func IsTemporary(bearer string) bool { return strings.HasPrefix(bearer, temporaryHead) }

func (s *TemporaryTokens) marked() marked { return marked{s.Ring, temporaryHead} }

// Mint makes a token of the tenant of ctx and returns its secret, which is not
// kept. Name, Scopes, Origin and SingleUse of t are what it shall be; life 0 is
// [TemporaryLife]. It has no scope that its maker lacks, and does not outlive
// its maker.
func (s *TemporaryTokens) Mint(ctx context.Context, t Temporary, life time.Duration) (Temporary, string, error) {
	maker := control.PrincipalOf(ctx)
	tenant, ok := control.TenantOf(ctx)
	if !ok || maker.Kind == "" {
		return t, "", control.ErrCredentials
	}
	if life == 0 {
		life = TemporaryLife
	}
	if life < time.Second || life > TemporaryMost {
		return t, "", control.Invalidf("expires_in", "must be 1 to %d seconds", int(TemporaryMost.Seconds()))
	}
	var err error
	if t.Name, err = named(t.Name); err != nil {
		return t, "", err
	}
	if err := within(maker, t.Scopes); err != nil {
		return t, "", err
	}
	for i, p := range t.Scopes {
		if slices.Contains(neverTemporary, p) {
			return t, "", control.Invalidf(fmt.Sprintf("scopes[%d]", i), "is not lent: make a key for it")
		}
	}
	if t.Origin != "" {
		if control.CheckOrigins([]string{t.Origin}) != nil {
			return t, "", control.Invalidf("origin", "must be an origin such as https://shop.example, in lower case")
		}
	}
	t.ID, t.Maker, t.CreatedAt = control.NewID(), control.ActorOf(ctx), time.Now().UTC().Truncate(time.Microsecond)
	t.ExpiresAt = t.CreatedAt.Add(life)
	if maker.Kind != control.PrincipalUser && !maker.Expires.IsZero() && maker.Expires.Before(t.ExpiresAt) {
		t.ExpiresAt = maker.Expires
	}
	var secret string
	secret, t.Hash = s.marked().mint(control.Located{Tenant: tenant, ID: t.ID})
	if err := s.Store.InsertTemporary(ctx, t); err != nil {
		return t, "", fmt.Errorf("mint a temporary token: %w", err)
	}
	return t, secret, nil
}

// Verify returns the principal of a token, and uses up one that is good once.
// What is malformed, forged, late, revoked, used or from another origin is
// control.ErrCredentials.
func (s *TemporaryTokens) Verify(ctx context.Context, token string, v Visit) (control.Principal, error) {
	at, err := s.marked().open(token)
	if err != nil {
		return control.Principal{}, err
	}
	ctx = control.WithTenant(ctx, at.Tenant)
	t, err := s.Store.Temporary(ctx, at.ID)
	if err != nil {
		return control.Principal{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	now := time.Now()
	if !hmac.Equal(t.Hash, s.marked().hash(token)) || !t.RevokedAt.IsZero() || !v.Again && !t.UsedAt.IsZero() || !now.Before(t.ExpiresAt) ||
		!v.Peek && t.Origin != "" && t.Origin != v.Origin {
		return control.Principal{}, control.ErrCredentials
	}
	if t.SingleUse && !v.Peek {
		if err := s.Store.UseTemporary(ctx, t.ID, now.UTC()); err != nil {
			return control.Principal{}, conflictIs(err, control.ErrCredentials)
		}
	}
	return control.Principal{Kind: control.PrincipalTemporary, ID: t.ID, Tenant: at.Tenant, Scopes: t.Scopes, Expires: t.ExpiresAt}, nil
}
