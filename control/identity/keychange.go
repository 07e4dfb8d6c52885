package identity

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// How long the secret before goes on working after a rotation.
const (
	RotationGrace     = 24 * time.Hour
	RotationGraceMost = 30 * 24 * time.Hour
)

// A KeyChange is what is changed of a key; nil fields stay.
type KeyChange struct {
	Name      *string
	Scopes    []control.Permission // some of those that it has; empty: as they are
	Origins   *[]string
	ExpiresAt *time.Time // zero: never
}

// Change writes what is changed of a key over its revision: control.ErrConflict
// if it has another by now. Scopes only become fewer, and a key changes no key
// to last longer than itself, nor itself at all.
func (s *Keys) Change(ctx context.Context, k Key, c KeyChange) (Key, error) {
	maker := control.PrincipalOf(ctx)
	if maker.Kind != control.PrincipalUser && maker.ID == k.ID {
		return Key{}, control.Refuse(control.ErrForbidden, "a key does not change itself: use another one, or sign in")
	}
	if !k.RevokedAt.IsZero() {
		return Key{}, control.ErrEnded
	}
	var err error
	if c.Name != nil {
		if k.Name, err = named(*c.Name); err != nil {
			return Key{}, err
		}
	}
	for i, p := range c.Scopes {
		if !slices.Contains(k.Scopes, p) {
			return Key{}, control.Invalidf(fmt.Sprintf("scopes[%d]", i), "is not one that the key has: scopes only become fewer; make another key")
		}
	}
	if len(c.Scopes) > 0 {
		k.Scopes = c.Scopes
	}
	if c.Origins != nil {
		if err := control.CheckOrigins(*c.Origins); err != nil {
			return Key{}, err
		}
		k.Origins = *c.Origins
	}
	if c.ExpiresAt != nil {
		if err := lasts(maker, *c.ExpiresAt); err != nil {
			return Key{}, err
		}
		k.ExpiresAt = *c.ExpiresAt
	}
	return s.Store.UpdateKey(ctx, k)
}

// Rotate gives a key a second secret, which it returns and does not keep. The
// one before works for grace more (0: [RotationGrace]), or until
// [Keys.DropPrevious]; one before that ends now.
func (s *Keys) Rotate(ctx context.Context, id uuid.UUID, grace time.Duration) (Key, string, error) {
	if grace == 0 {
		grace = RotationGrace
	}
	if grace < time.Second || grace > RotationGraceMost {
		return Key{}, "", control.Invalidf("previous_until", "must lie ahead, by at most %d days", int(RotationGraceMost.Hours()/24))
	}
	k, err := s.Store.Key(ctx, id)
	if err != nil {
		return Key{}, "", err
	}
	if keyForm.FindString(newSecret(k.Prefix)) == "" {
		return Key{}, "", control.Refuse(control.ErrConflict, "an imported key has the form of another program: make a new key in its place")
	}
	secret := newSecret(k.Prefix)
	k, err = s.Store.RotateKey(ctx, id, s.Ring.MAC(keyPurpose, secret), time.Now().UTC().Add(grace).Truncate(time.Microsecond))
	if err != nil {
		return Key{}, "", fmt.Errorf("rotate key: %w", err)
	}
	return k, secret, nil
}

// Leak notes that a secret was seen where it may have been read, in its
// tenant's audit trail, without the secret. What is no key of ours is no error.
func (s *Keys) Leak(ctx context.Context, secret string) error {
	tenant, k, err := s.find(ctx, secret, false)
	if err == nil && s.opens(k, secret, time.Now()) {
		err = s.Store.MarkKeyLeaked(control.WithTenant(ctx, tenant), k.ID, time.Now().UTC())
	}
	if errors.Is(err, control.ErrNotFound) {
		return nil
	}
	return err
}

func importedSum(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// conflictIs returns instead where err is control.ErrConflict.
func conflictIs(err, instead error) error {
	if errors.Is(err, control.ErrConflict) {
		return instead
	}
	return err
}
