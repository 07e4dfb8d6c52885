package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.SecretStore = (*Store)(nil)

const secretColumns = `key, reference, own, hosts, revision, created_at, updated_at, updated_by, last_used_at`

func scanSecret(r pgx.CollectableRow) (control.SecretEntry, error) {
	var e control.SecretEntry
	var reference string
	var used *time.Time
	err := r.Scan(&e.Key, &reference, &e.Own, &e.Hosts, &e.Revision, &e.CreatedAt, &e.UpdatedAt, &e.UpdatedBy, &used)
	if err != nil {
		return e, err
	}
	e.CreatedAt, e.UpdatedAt, e.LastUsedAt = e.CreatedAt.UTC(), e.UpdatedAt.UTC(), orZero(used)
	e.Ref, err = control.ParseSecretRef(reference)
	return e, err
}

// StoredSecret implements [control.SecretStore].
func (s *Store) StoredSecret(ctx context.Context, key string) (control.SecretEntry, error) {
	e, err := one(ctx, s, scanSecret, `SELECT `+secretColumns+` FROM secrets WHERE tenant_id = current_tenant() AND key = $1`, key)
	if err != nil {
		return e, fmt.Errorf("stored secret: %w", err)
	}
	return e, nil
}

// StoredSecrets implements [control.SecretStore].
func (s *Store) StoredSecrets(ctx context.Context, after string, n int) ([]control.SecretEntry, error) {
	const q = `SELECT ` + secretColumns + ` FROM secrets WHERE tenant_id = current_tenant() AND key > $1 ORDER BY key LIMIT $2`
	return rows(ctx, s, scanSecret, q, after, limit(control.Page{Limit: n}))
}

// PutStoredSecret implements [control.SecretStore].
func (s *Store) PutStoredSecret(ctx context.Context, e control.SecretEntry) (control.SecretEntry, error) {
	const insert = `
		INSERT INTO secrets (tenant_id, key, reference, own, hosts, updated_by)
		VALUES (current_tenant(), $1, $2, $3, $4, $5)
		RETURNING ` + secretColumns
	const update = `
		UPDATE secrets SET reference = $2, own = $3, hosts = $4, updated_by = $5, revision = revision + 1, updated_at = now()
		WHERE tenant_id = current_tenant() AND key = $1 AND revision = $6
		RETURNING ` + secretColumns
	args := []any{e.Key, e.Ref.String(), e.Own, e.Hosts, e.UpdatedBy}
	q := insert
	if e.Revision > 0 {
		q, args = update, append(args, e.Revision)
	}
	got, err := one(ctx, s, scanSecret, q, args...)
	if errors.Is(err, control.ErrNotFound) {
		err = control.ErrConflict
	}
	if err != nil {
		return e, fmt.Errorf("put stored secret: %w", err)
	}
	return got, nil
}

// DeleteStoredSecret implements [control.SecretStore].
func (s *Store) DeleteStoredSecret(ctx context.Context, key string, revision int) error {
	n, err := exec(ctx, s, `DELETE FROM secrets WHERE tenant_id = current_tenant() AND key = $1 AND revision = $2`, key, revision)
	if err == nil && n == 0 {
		if _, err = s.StoredSecret(ctx, key); err == nil {
			err = control.ErrConflict
		}
	}
	if err != nil {
		return fmt.Errorf("delete stored secret: %w", err)
	}
	return nil
}

// NoteSecretUse implements [control.SecretStore].
func (s *Store) NoteSecretUse(ctx context.Context, key string, at time.Time) error {
	const q = `
		UPDATE secrets SET last_used_at = $2
		WHERE tenant_id = current_tenant() AND key = $1 AND (last_used_at IS NULL OR last_used_at < $2)`
	_, err := exec(ctx, s, q, key, at)
	return err
}
