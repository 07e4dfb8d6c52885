package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
)

// Rotate gives the tenant of ctx a new current key. What the one before has
// sealed stays readable.
func (s *DataKeys) Rotate(ctx context.Context) (uuid.UUID, error) {
	defer s.Forget()
	k, err := s.Store.CurrentDataKey(ctx)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return uuid.Nil, fmt.Errorf("rotate the data key: %w", err)
	}
	key, err := s.make(ctx, k.ID)
	if err != nil {
		return uuid.Nil, err
	}
	return key.ID(), nil
}

// Rewrap wraps all keys of the tenant of ctx again, under the newest version of
// the provider's key, also those that another provider has wrapped, and returns
// how many. It may be run again after a failure. What they seal is not touched.
func (s *DataKeys) Rewrap(ctx context.Context) (int, error) {
	keys, err := s.Store.DataKeys(ctx)
	if err != nil {
		return 0, fmt.Errorf("rewrap data keys: %w", err)
	}
	n := 0
	for _, k := range keys {
		if !k.DestroyedAt.IsZero() {
			continue
		}
		was := k.Wrapped
		if k, err = s.rewrapped(ctx, k); err != nil {
			return n, err
		}
		if k.Provider == s.Provider.Name() && bytes.Equal(k.Wrapped, was) {
			continue
		}
		switch err := s.Store.RewrapDataKey(ctx, k, was); {
		case errors.Is(err, ErrConflict): // somebody else has, or it is destroyed
		case err != nil:
			return n, fmt.Errorf("rewrap data key %s: %w", k.ID, err)
		default:
			n++
		}
	}
	return n, nil
}

func (s *DataKeys) rewrapped(ctx context.Context, k DataKey) (DataKey, error) {
	name, place := s.Provider.Name(), keyPlace(ctx, k.ID)
	var err error
	if k.Provider == name {
		k.Wrapped, err = s.Provider.Rewrap(ctx, place, k.Wrapped)
	} else {
		var secret []byte
		if secret, err = s.secret(ctx, k); err != nil {
			return k, err
		}
		k.Provider = name
		k.Wrapped, err = s.Provider.Wrap(ctx, place, secret)
	}
	if err != nil {
		return k, away("rewrap", name, err)
	}
	return k, nil
}

// A Shredding is what [DataKeys.Shred] has done.
type Shredding struct {
	Keys int `json:"keys"` // destroyed
	Rows int `json:"rows"` // that stood in clear, and were erased
}

// TenantBlobs deletes all that is kept of a tenant.
type TenantBlobs interface {
	DeleteTenant(ctx context.Context, tenant uuid.UUID) error
}

// Shred destroys all keys of the tenant of ctx, after which nothing that they
// sealed can be read, then erases what stands in clear beside it, and the
// recordings' files. Run again after a failure, it goes on. A tenant that goes
// on talking gets a new key.
func (s *DataKeys) Shred(ctx context.Context, blobs TenantBlobs) (done Shredding, err error) {
	defer s.Forget()
	tenant, _ := TenantOf(ctx)
	if done.Keys, err = s.Store.DestroyDataKeys(ctx, uuid.Nil); err != nil {
		return done, fmt.Errorf("destroy the data keys: %w", err)
	}
	done.Rows, err = s.Store.EraseClear(ctx)
	if err != nil {
		return done, fmt.Errorf("the keys are destroyed, but what stood in clear is not all erased (run it again): %w", err)
	}
	if err := blobs.DeleteTenant(ctx, tenant); err != nil {
		return done, fmt.Errorf("the keys are destroyed, but the recordings' files are not all deleted (run it again): %w", err)
	}
	return done, nil
}

// Destroy destroys one retired key: what it sealed can no longer be read, in old
// backups neither, once the provider's key that wrapped it is gone. ErrConflict:
// it is the current one; rotate first. ErrNotFound.
func (s *DataKeys) Destroy(ctx context.Context, id uuid.UUID) error {
	defer s.Forget()
	k, err := s.Store.DataKey(ctx, id)
	if err != nil {
		return fmt.Errorf("destroy data key %s: %w", id, err)
	}
	if k.RetiredAt.IsZero() {
		return fmt.Errorf("destroy data key %s: it is the current one: %w", id, ErrConflict)
	}
	_, err = s.Store.DestroyDataKeys(ctx, id)
	return err
}
