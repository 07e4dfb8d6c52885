package identity

import (
	"context"
	"crypto/hmac"
	"encoding/hex"
	"errors"
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
	ID     uuid.UUID
	Name   string
	Prefix string // public part, to tell keys apart
	Form   string // of Hash: [HashMAC], or [HashSHA256] of an imported key that was not used yet
	Hash   []byte // of the whole key
	// PreviousHash is of the secret before, live until PreviousUntil; nil: none.
	PreviousHash  []byte
	PreviousUntil time.Time
	Scopes        []control.Permission
	Origins       []string // pages that may send it; empty: any, and programs
	Revision      int      // counts changes of name, scopes, origins and expiry, from 1
	CreatedAt     time.Time
	ExpiresAt     time.Time // zero: never
	RevokedAt     time.Time // zero: not revoked
	LeakedAt      time.Time // first seen in an address; zero: never
	LastUsedAt    time.Time // to the minute
	LastUsedFrom  string    // the network, as [Network] says
}

// Forms of a key's hash.
const (
	HashMAC    = "hmac"   // HMAC-SHA-256 under the program's key
	HashSHA256 = "sha256" // plain, as another program kept it
)

// KeyStore keeps API keys.
type KeyStore interface {
	// FindKey returns the key of a prefix, whosesoever, and its tenant.
	FindKey(ctx context.Context, prefix string) (uuid.UUID, Key, error)
	Key(ctx context.Context, id uuid.UUID) (Key, error)
	Keys(ctx context.Context, p control.Page) ([]Key, error)
	InsertKey(ctx context.Context, k Key) error
	RevokeKey(ctx context.Context, id uuid.UUID, at time.Time) error
	// TouchKey notes that the key was used from a network, at most once a minute.
	TouchKey(ctx context.Context, id uuid.UUID, network string, at time.Time) error
	// UpdateKey writes name, scopes, origins and expiry over k.Revision, which
	// it raises; control.ErrConflict if the key has another.
	UpdateKey(ctx context.Context, k Key) (Key, error)
	// RotateKey makes hash the key's and the hash before the previous one, until
	// a time, in the place of any previous one. A revoked key is control.ErrEnded.
	RotateKey(ctx context.Context, id uuid.UUID, hash []byte, until time.Time) (Key, error)
	// DropPreviousKey ends the secret before.
	DropPreviousKey(ctx context.Context, id uuid.UUID) (Key, error)
	// UpgradeKey gives an imported key our form, if it does not have it yet.
	UpgradeKey(ctx context.Context, id uuid.UUID, prefix string, hash []byte) error
	// MarkKeyLeaked notes the first time only.
	MarkKeyLeaked(ctx context.Context, id uuid.UUID, at time.Time) error
}

// Keys is the service of API keys.
type Keys struct {
	Store KeyStore
	Ring  *control.Keyring
}

const keyPurpose = "api-key"

// keyForm: "parley_", 12 characters of prefix, "_", 32 random bytes.
var keyForm = regexp.MustCompile(`^parley_([a-z0-9]{12})_[A-Za-z0-9_-]{43}$`)

// Create makes a key of the tenant of ctx, of the name, scopes, origins and
// expiry of k, and returns its secret, which is not kept. The key may do nothing
// that its maker may not, and does not outlive a key or token that makes it.
func (s *Keys) Create(ctx context.Context, k Key) (Key, string, error) {
	k, err := s.valid(ctx, k)
	if err != nil {
		return Key{}, "", err
	}
	k.Prefix = strings.ToLower(strings.NewReplacer("-", "x", "_", "y").Replace(control.RandomText(9)))
	secret := newSecret(k.Prefix)
	k.Form, k.Hash = HashMAC, s.Ring.MAC(keyPurpose, secret)
	if err := s.Store.InsertKey(ctx, k); err != nil {
		return Key{}, "", fmt.Errorf("create key: %w", err)
	}
	return k, secret, nil
}

func newSecret(prefix string) string { return "parley_" + prefix + "_" + control.RandomText(32) }

// Import takes a key that another program made, of which it kept the plain
// SHA-256. The key goes on as it is, and is kept as ours are from its first use.
func (s *Keys) Import(ctx context.Context, k Key, sum []byte) (Key, error) {
	k, err := s.valid(ctx, k)
	if err != nil {
		return Key{}, err
	}
	if len(sum) != 32 {
		return Key{}, control.Invalidf("sha256", "must be the SHA-256 of the key, 64 hexadecimal digits")
	}
	k.Prefix, k.Form, k.Hash = importedPrefix(sum), HashSHA256, sum
	if err := s.Store.InsertKey(ctx, k); err != nil {
		return Key{}, fmt.Errorf("import key: %w", err)
	}
	return k, nil
}

// valid returns k as a new key, if it may be one.
func (s *Keys) valid(ctx context.Context, k Key) (Key, error) {
	var err error
	if k.Name, err = named(k.Name); err != nil {
		return k, err
	}
	maker := control.PrincipalOf(ctx)
	if err := within(maker, k.Scopes); err != nil {
		return k, err
	}
	if err := control.CheckOrigins(k.Origins); err != nil {
		return k, err
	}
	if err := lasts(maker, k.ExpiresAt); err != nil {
		return k, err
	}
	return Key{ID: control.NewID(), Name: k.Name, Scopes: k.Scopes, Origins: k.Origins, ExpiresAt: k.ExpiresAt,
		Revision: 1, CreatedAt: time.Now().UTC().Truncate(time.Microsecond)}, nil
}

// named is a name for people, without the secret that was meant for elsewhere.
func named(name string) (string, error) {
	name = strings.TrimSpace(name)
	if err := plain("name", name); err != nil {
		return "", err
	}
	if name == "" || len(name) > 100 {
		return "", control.Invalidf("name", "must be 1 to 100 bytes")
	}
	return name, nil
}

// plain refuses secrets in a field that others see, ours too.
func plain(field, text string) error {
	if Leaked(text) {
		return control.Invalidf(field, "holds a key or token of ours: rotate or revoke it, and give a name that everybody may read; secrets of others belong in PUT /v1/secrets/{key}")
	}
	return control.RefuseSecret(field, text)
}

// within wants scopes that a maker has. Nobody makes what the program makes.
func within(maker control.Principal, scopes []control.Permission) error {
	if len(scopes) == 0 {
		return control.Invalidf("scopes", "must name at least one")
	}
	for i, p := range scopes {
		if !slices.Contains(control.Scopes(), p) {
			return control.Invalidf(fmt.Sprintf("scopes[%d]", i), "is not a scope")
		}
		if maker.Kind != "" && control.Allow(maker, p, control.Object{}) != nil {
			return control.Invalidf(fmt.Sprintf("scopes[%d]", i), "is more than its maker may do")
		}
	}
	return nil
}

// lasts wants an expiry ahead, and before that of a key or token that sets it.
func lasts(maker control.Principal, expires time.Time) error {
	if !expires.IsZero() && expires.Before(time.Now()) {
		return control.Invalidf("expires_at", "must lie ahead")
	}
	if maker.Kind != control.PrincipalUser && !maker.Expires.IsZero() && (expires.IsZero() || expires.After(maker.Expires)) {
		return control.Invalidf("expires_at", "must not be after that of the key that makes it")
	}
	return nil
}

// Verify returns the principal of a key. What is malformed, unknown, expired,
// revoked, or sent by a page that it does not list is control.ErrCredentials.
func (s *Keys) Verify(ctx context.Context, secret string, v Visit) (control.Principal, error) {
	tenant, k, err := s.find(ctx, secret, v.Imported)
	if err != nil {
		return control.Principal{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	ctx = control.WithTenant(ctx, tenant)
	now := time.Now()
	if !s.opens(k, secret, now) || !k.RevokedAt.IsZero() || !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt) {
		return control.Principal{}, control.ErrCredentials
	}
	p := control.Principal{Kind: control.PrincipalKey, ID: k.ID, Tenant: tenant, Scopes: k.Scopes, Expires: k.ExpiresAt}
	if v.Peek {
		return p, nil
	}
	if len(k.Origins) > 0 && !slices.Contains(k.Origins, v.Origin) {
		return control.Principal{}, control.Refuse(control.ErrCredentials, "the key is for pages of certain origins, and this request is from none of them")
	}
	if k.Form == HashSHA256 {
		hash := s.Ring.MAC(keyPurpose, secret)
		if err := s.Store.UpgradeKey(control.WithPrincipal(ctx, p), k.ID, pepperedPrefix(hash), hash); err != nil {
			return control.Principal{}, err
		}
	}
	if now.Sub(k.LastUsedAt) > time.Minute {
		if err := s.Store.TouchKey(ctx, k.ID, v.Network, now.UTC()); err != nil {
			return control.Principal{}, err
		}
	}
	return p, nil
}

// find returns the key that a secret says it is of; the secret is not checked.
func (s *Keys) find(ctx context.Context, secret string, imported bool) (uuid.UUID, Key, error) {
	if m := keyForm.FindStringSubmatch(secret); m != nil {
		return s.Store.FindKey(ctx, m[1])
	}
	if !imported || len(secret) < minImported || len(secret) > 300 {
		return uuid.Nil, Key{}, control.ErrNotFound
	}
	tenant, k, err := s.Store.FindKey(ctx, pepperedPrefix(s.Ring.MAC(keyPurpose, secret)))
	if errors.Is(err, control.ErrNotFound) {
		tenant, k, err = s.Store.FindKey(ctx, importedPrefix(importedSum(secret)))
	}
	return tenant, k, err
}

// opens tells whether the secret is the key's, or the one before.
func (s *Keys) opens(k Key, secret string, now time.Time) bool {
	if k.Form == HashSHA256 {
		return hmac.Equal(k.Hash, importedSum(secret))
	}
	sum := s.Ring.MAC(keyPurpose, secret)
	return hmac.Equal(k.Hash, sum) || k.PreviousHash != nil && now.Before(k.PreviousUntil) && hmac.Equal(k.PreviousHash, sum)
}

// minImported bounds imported keys from below, in bytes: what is shorter was
// never a key.
const minImported = 16

// Imported keys have prefixes by which they are found: at first of the sum that
// came, then of ours, which nobody can try keys against.
func importedPrefix(sum []byte) string  { return "sha256:" + hex.EncodeToString(sum[:12]) }
func pepperedPrefix(hash []byte) string { return "imported:" + hex.EncodeToString(hash[:12]) }
