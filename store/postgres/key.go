package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
)

var _ identity.KeyStore = (*Store)(nil)

const keyColumns = `id, name, prefix, form, hash, previous_hash, previous_until, scopes, origins, revision,
	created_at, expires_at, revoked_at, leaked_at, last_used_at, last_used_from`

func scanKey(r pgx.CollectableRow) (identity.Key, error) {
	var k identity.Key
	var scopes []string
	var until, expires, revoked, leaked, used *time.Time
	err := r.Scan(&k.ID, &k.Name, &k.Prefix, &k.Form, &k.Hash, &k.PreviousHash, &until, &scopes, &k.Origins, &k.Revision,
		&k.CreatedAt, &expires, &revoked, &leaked, &used, &k.LastUsedFrom)
	k.Scopes, k.CreatedAt, k.PreviousUntil = toScopes(scopes), k.CreatedAt.UTC(), orZero(until)
	k.ExpiresAt, k.RevokedAt, k.LeakedAt, k.LastUsedAt = orZero(expires), orZero(revoked), orZero(leaked), orZero(used)
	return k, err
}

func toScopes(words []string) []control.Permission {
	var scopes []control.Permission
	for _, w := range words {
		scopes = append(scopes, control.Permission(w))
	}
	return scopes
}

func fromScopes(scopes []control.Permission) []string {
	words := make([]string, len(scopes))
	for i, p := range scopes {
		words[i] = string(p)
	}
	return words
}

// LocateKey returns where the key of a prefix stands.
func (s *Store) LocateKey(ctx context.Context, prefix string) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_api_key($1)`, prefix)
}

// FindKey implements [identity.KeyStore]: the tenant is located and its
// transaction opened in one round trip, for every request waits for it.
func (s *Store) FindKey(ctx context.Context, prefix string) (tenant uuid.UUID, k identity.Key, err error) {
	b := new(pgx.Batch)
	found := false
	b.Queue(`SELECT tenant, set_config('app.tenant', tenant::text, true) FROM locate_api_key($1)`, prefix).Query(func(r pgx.Rows) error {
		var set string
		_, err := pgx.ForEachRow(r, []any{&tenant, &set}, func() error { return nil })
		return err
	})
	b.Queue(`SELECT `+keyColumns+` FROM api_keys WHERE prefix = $1`, prefix).Query(func(r pgx.Rows) error {
		got, err := pgx.CollectRows(r, scanKey)
		if len(got) == 1 {
			k, found = got[0], true
		}
		return err
	})
	if err := s.send(ctx, b); err != nil {
		return uuid.Nil, identity.Key{}, fmt.Errorf("find key: %w", err)
	}
	if !found {
		return uuid.Nil, identity.Key{}, control.ErrNotFound
	}
	return tenant, k, nil
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
		INSERT INTO api_keys (id, tenant_id, name, prefix, form, hash, scopes, origins, created_at, expires_at)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, coalesce($7::text[], '{}'), $8, $9)`
	_, err := exec(ctx, s, q, k.ID, k.Name, k.Prefix, orDefault(k.Form, identity.HashMAC), k.Hash, fromScopes(k.Scopes), k.Origins,
		k.CreatedAt, nullTime(k.ExpiresAt))
	return err
}

// RevokeKey implements [identity.KeyStore].
func (s *Store) RevokeKey(ctx context.Context, id uuid.UUID, at time.Time) error {
	return changed(exec(ctx, s, `UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1`, id, at))
}

// TouchKey implements [identity.KeyStore].
func (s *Store) TouchKey(ctx context.Context, id uuid.UUID, network string, at time.Time) error {
	const q = `
		UPDATE api_keys SET last_used_at = $3::timestamptz, last_used_from = $2
		WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $3::timestamptz - interval '1 minute')`
	_, err := exec(ctx, s, q, id, network, at)
	return err
}

// UpdateKey implements [identity.KeyStore].
func (s *Store) UpdateKey(ctx context.Context, k identity.Key) (identity.Key, error) {
	const q = `
		UPDATE api_keys SET name = $3, scopes = $4, origins = coalesce($5::text[], '{}'), expires_at = $6, revision = revision + 1
		WHERE id = $1 AND revision = $2 AND revoked_at IS NULL RETURNING ` + keyColumns
	got, err := one(ctx, s, scanKey, q, k.ID, k.Revision, k.Name, fromScopes(k.Scopes), k.Origins, nullTime(k.ExpiresAt))
	return got, control.NotFoundIs(err, control.ErrConflict)
}

// RotateKey implements [identity.KeyStore].
func (s *Store) RotateKey(ctx context.Context, id uuid.UUID, hash []byte, until time.Time) (identity.Key, error) {
	const q = `
		UPDATE api_keys SET previous_hash = hash, previous_until = $3, hash = $2, revision = revision + 1
		WHERE id = $1 AND revoked_at IS NULL RETURNING ` + keyColumns
	return s.changeKey(ctx, id, q, hash, until)
}

// DropPreviousKey implements [identity.KeyStore].
func (s *Store) DropPreviousKey(ctx context.Context, id uuid.UUID) (identity.Key, error) {
	const q = `
		UPDATE api_keys SET previous_hash = NULL, previous_until = NULL, revision = revision + 1
		WHERE id = $1 AND revoked_at IS NULL RETURNING ` + keyColumns
	return s.changeKey(ctx, id, q)
}

// changeKey runs q on a key that is not revoked; for one that is, the error is
// control.ErrEnded.
func (s *Store) changeKey(ctx context.Context, id uuid.UUID, q string, args ...any) (identity.Key, error) {
	k, err := one(ctx, s, scanKey, q, append([]any{id}, args...)...)
	if errors.Is(err, control.ErrNotFound) {
		if _, err := s.Key(ctx, id); err == nil {
			return k, control.ErrEnded
		}
	}
	return k, err
}

// UpgradeKey implements [identity.KeyStore].
func (s *Store) UpgradeKey(ctx context.Context, id uuid.UUID, prefix string, hash []byte) error {
	_, err := exec(ctx, s, `UPDATE api_keys SET form = 'hmac', prefix = $2, hash = $3 WHERE id = $1 AND form = 'sha256'`, id, prefix, hash)
	return err
}

// MarkKeyLeaked implements [identity.KeyStore].
func (s *Store) MarkKeyLeaked(ctx context.Context, id uuid.UUID, at time.Time) error {
	_, err := exec(ctx, s, `UPDATE api_keys SET leaked_at = $2 WHERE id = $1 AND leaked_at IS NULL`, id, at)
	return err
}
