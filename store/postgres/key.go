package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
)

var _ identity.KeyStore = (*Store)(nil)

const keyColumns = `id, name, prefix, hash, scopes, created_at, expires_at, revoked_at, last_used_at`

func scanKey(r pgx.CollectableRow) (identity.Key, error) {
	var k identity.Key
	var scopes []string
	var expires, revoked, used *time.Time
	err := r.Scan(&k.ID, &k.Name, &k.Prefix, &k.Hash, &scopes, &k.CreatedAt, &expires, &revoked, &used)
	for _, s := range scopes {
		k.Scopes = append(k.Scopes, control.Permission(s))
	}
	k.CreatedAt, k.ExpiresAt, k.RevokedAt, k.LastUsedAt = k.CreatedAt.UTC(), orZero(expires), orZero(revoked), orZero(used)
	return k, err
}

// LocateKey implements [identity.KeyStore].
func (s *Store) LocateKey(ctx context.Context, prefix string) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_api_key($1)`, prefix)
}

// Key implements [identity.KeyStore].
func (s *Store) Key(ctx context.Context, id uuid.UUID) (identity.Key, error) {
	k, err := one(ctx, s, scanKey, `SELECT `+keyColumns+` FROM api_keys WHERE id = $1`, id)
	if err != nil {
		return k, fmt.Errorf("key %s: %w", id, err)
	}
	return k, nil
}

// Keys implements [identity.KeyStore].
func (s *Store) Keys(ctx context.Context, p control.Page) ([]identity.Key, error) {
	const q = `
		SELECT ` + keyColumns + ` FROM api_keys
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1)
		ORDER BY id DESC LIMIT $2`
	return rows(ctx, s, scanKey, q, after(p), limit(p))
}

// InsertKey implements [identity.KeyStore].
func (s *Store) InsertKey(ctx context.Context, k identity.Key) error {
	const q = `
		INSERT INTO api_keys (id, tenant_id, name, prefix, hash, scopes, created_at, expires_at)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7)`
	scopes := make([]string, len(k.Scopes))
	for i, p := range k.Scopes {
		scopes[i] = string(p)
	}
	_, err := exec(ctx, s, q, k.ID, k.Name, k.Prefix, k.Hash, scopes, k.CreatedAt, nullTime(k.ExpiresAt))
	return err
}

// RevokeKey implements [identity.KeyStore].
func (s *Store) RevokeKey(ctx context.Context, id uuid.UUID, at time.Time) error {
	n, err := exec(ctx, s, `UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1`, id, at)
	if err == nil && n == 0 {
		err = control.ErrNotFound
	}
	return err
}

// TouchKey implements [identity.KeyStore].
func (s *Store) TouchKey(ctx context.Context, id uuid.UUID, at time.Time) error {
	const q = `
		UPDATE api_keys SET last_used_at = $2::timestamptz
		WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2::timestamptz - interval '1 minute')`
	_, err := exec(ctx, s, q, id, at)
	return err
}
