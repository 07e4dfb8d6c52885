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

var _ identity.TemporaryStore = (*Store)(nil)

const temporaryColumns = `id, name, hash, maker, scopes, origin, single_use, created_at, expires_at, used_at, revoked_at`

func scanTemporary(r pgx.CollectableRow) (identity.Temporary, error) {
	var t identity.Temporary
	var scopes []string
	var used, revoked *time.Time
	err := r.Scan(&t.ID, &t.Name, &t.Hash, &t.Maker, &scopes, &t.Origin, &t.SingleUse, &t.CreatedAt, &t.ExpiresAt, &used, &revoked)
	t.Scopes, t.CreatedAt, t.ExpiresAt = toScopes(scopes), t.CreatedAt.UTC(), t.ExpiresAt.UTC()
	t.UsedAt, t.RevokedAt = orZero(used), orZero(revoked)
	return t, err
}

// InsertTemporary implements [identity.TemporaryStore]; it takes away what has
// long ended.
func (s *Store) InsertTemporary(ctx context.Context, t identity.Temporary) error {
	const q = `
		INSERT INTO temporary_tokens (id, tenant_id, name, hash, maker, scopes, origin, single_use, created_at, expires_at)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7, $8, $9)`
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	b.Queue(`DELETE FROM temporary_tokens WHERE tenant_id = current_tenant() AND expires_at < now() - ` + keptEnded)
	b.Queue(q, t.ID, t.Name, t.Hash, t.Maker, fromScopes(t.Scopes), t.Origin, t.SingleUse, t.CreatedAt, t.ExpiresAt)
	return s.send(ctx, b)
}

// Temporary implements [identity.TemporaryStore].
func (s *Store) Temporary(ctx context.Context, id uuid.UUID) (identity.Temporary, error) {
	t, err := one(ctx, s, scanTemporary, `SELECT `+temporaryColumns+` FROM temporary_tokens WHERE id = $1`, id)
	if err != nil {
		return t, fmt.Errorf("temporary token %s: %w", id, err)
	}
	return t, nil
}

// Temporaries implements [identity.TemporaryStore].
func (s *Store) Temporaries(ctx context.Context, p control.Page) ([]identity.Temporary, error) {
	const q = `
		SELECT ` + temporaryColumns + ` FROM temporary_tokens
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1)
		ORDER BY id DESC LIMIT $2`
	return rows(ctx, s, scanTemporary, q, after(p), limit(p))
}

// UseTemporary implements [identity.TemporaryStore].
func (s *Store) UseTemporary(ctx context.Context, id uuid.UUID, at time.Time) error {
	n, err := exec(ctx, s, `UPDATE temporary_tokens SET used_at = $2 WHERE id = $1 AND used_at IS NULL AND revoked_at IS NULL`, id, at)
	if err == nil && n == 0 {
		err = control.ErrConflict
	}
	return err
}

// RevokeTemporary implements [identity.TemporaryStore].
func (s *Store) RevokeTemporary(ctx context.Context, id uuid.UUID, at time.Time) error {
	return changed(exec(ctx, s, `UPDATE temporary_tokens SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1`, id, at))
}
