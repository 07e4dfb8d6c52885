package identity

import (
	"context"
	"crypto/hmac"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// A Key lets a program in. Its secret is shown once, when it is made.
type Key struct {
	ID         uuid.UUID
	Name       string
	Prefix     string // public part, to tell keys apart
	Hash       []byte // HMAC-SHA-256 of the whole key
	Scopes     []control.Permission
	CreatedAt  time.Time
	ExpiresAt  time.Time // zero: never
	RevokedAt  time.Time // zero: not revoked
	LastUsedAt time.Time // to the minute
}

// KeyStore keeps API keys.
type KeyStore interface {
	LocateKey(ctx context.Context, prefix string) (control.Located, error)
	Key(ctx context.Context, id uuid.UUID) (Key, error)
	Keys(ctx context.Context, p control.Page) ([]Key, error)
	InsertKey(ctx context.Context, k Key) error
	RevokeKey(ctx context.Context, id uuid.UUID, at time.Time) error
	// TouchKey notes that the key was used, at most once a minute.
	TouchKey(ctx context.Context, id uuid.UUID, at time.Time) error
}

// Keys is the service of API keys.
type Keys struct {
	Store KeyStore
	Ring  *control.Keyring
}

const keyPurpose = "api-key"

var noExpiry = time.Time{} // of a key that lasts until it is revoked

// keyForm: "parley_", 12 characters of prefix, "_", 32 random bytes.
var keyForm = regexp.MustCompile(`^parley_([a-z0-9]{12})_[A-Za-z0-9_-]{43}$`)

// Create makes a key of the tenant of ctx and returns its secret, which is
// not kept. The scopes must be the maker's own.
func (s *Keys) Create(ctx context.Context, name string, scopes []control.Permission, expires time.Time) (Key, string, error) {
	if name = strings.TrimSpace(name); name == "" || len(name) > 100 {
		return Key{}, "", control.Invalidf("name", "must be 1 to 100 bytes")
	}
	if len(scopes) == 0 {
		return Key{}, "", control.Invalidf("scopes", "must name at least one")
	}
	for i, p := range scopes {
		if !slices.Contains(control.Scopes(), p) {
			return Key{}, "", control.Invalidf(fmt.Sprintf("scopes[%d]", i), "is not a scope")
		}
		if maker := control.PrincipalOf(ctx); maker.Kind != "" && control.Allow(maker, p, control.Object{}) != nil {
			return Key{}, "", control.Invalidf(fmt.Sprintf("scopes[%d]", i), "is more than the maker of the key may do")
		}
	}
	if !expires.IsZero() && expires.Before(time.Now()) {
		return Key{}, "", control.Invalidf("expires_at", "must lie ahead")
	}
	k := Key{ID: control.NewID(), Name: name, Scopes: scopes, CreatedAt: time.Now().UTC(), ExpiresAt: expires}
	k.Prefix = strings.ToLower(strings.NewReplacer("-", "x", "_", "y").Replace(control.RandomText(9)))
	secret := "parley_" + k.Prefix + "_" + control.RandomText(32)
	k.Hash = s.Ring.MAC(keyPurpose, secret)
	if err := s.Store.InsertKey(ctx, k); err != nil {
		return Key{}, "", fmt.Errorf("create key: %w", err)
	}
	return k, secret, nil
}

// Verify returns the principal of a key. What is malformed, unknown, expired
// or revoked is control.ErrCredentials.
func (s *Keys) Verify(ctx context.Context, secret string) (control.Principal, error) {
	m := keyForm.FindStringSubmatch(secret)
	if m == nil {
		return control.Principal{}, control.ErrCredentials
	}
	at, err := s.Store.LocateKey(ctx, m[1])
	if err != nil {
		return control.Principal{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	ctx = control.WithTenant(ctx, at.Tenant)
	k, err := s.Store.Key(ctx, at.ID)
	if err != nil {
		return control.Principal{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	now := time.Now()
	if !hmac.Equal(k.Hash, s.Ring.MAC(keyPurpose, secret)) || !k.RevokedAt.IsZero() ||
		!k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt) {
		return control.Principal{}, control.ErrCredentials
	}
	if now.Sub(k.LastUsedAt) > time.Minute {
		if err := s.Store.TouchKey(ctx, k.ID, now.UTC()); err != nil {
			return control.Principal{}, err
		}
	}
	return control.Principal{Kind: control.PrincipalKey, ID: k.ID, Tenant: at.Tenant, Scopes: k.Scopes}, nil
}
