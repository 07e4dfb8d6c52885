package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.DataKeyStore = (*Store)(nil)

const dataKeyColumns = `id, wrapped, provider, created_at, retired_at, destroyed_at`

func scanDataKey(r pgx.CollectableRow) (control.DataKey, error) {
	var k control.DataKey
	var retired, destroyed *time.Time
	err := r.Scan(&k.ID, &k.Wrapped, &k.Provider, &k.CreatedAt, &retired, &destroyed)
	k.CreatedAt, k.RetiredAt, k.DestroyedAt = k.CreatedAt.UTC(), orZero(retired), orZero(destroyed)
	return k, err
}

// LocateDataKeys implements [control.DataKeyStore].
func (s *Store) LocateDataKeys(ctx context.Context, after uuid.UUID) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_data_keys($1)`, after)
}

// CurrentDataKey implements [control.DataKeyStore].
func (s *Store) CurrentDataKey(ctx context.Context) (control.DataKey, error) {
	return one(ctx, s, scanDataKey, `SELECT `+dataKeyColumns+` FROM data_keys WHERE tenant_id = current_tenant() AND retired_at IS NULL`)
}

// DataKey implements [control.DataKeyStore].
func (s *Store) DataKey(ctx context.Context, id uuid.UUID) (control.DataKey, error) {
	return one(ctx, s, scanDataKey, `SELECT `+dataKeyColumns+` FROM data_keys WHERE tenant_id = current_tenant() AND id = $1`, id)
}

// DataKeys implements [control.DataKeyStore].
func (s *Store) DataKeys(ctx context.Context) ([]control.DataKey, error) {
	return rows(ctx, s, scanDataKey, `SELECT `+dataKeyColumns+` FROM data_keys WHERE tenant_id = current_tenant() ORDER BY id DESC`)
}

// InsertDataKey implements [control.DataKeyStore]. It is a transaction of its
// own, whatever ctx is part of: what was sealed with the key must not outlive it.
func (s *Store) InsertDataKey(ctx context.Context, k control.DataKey, old uuid.UUID) error {
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	b.Queue(`UPDATE data_keys SET retired_at = now() WHERE tenant_id = current_tenant() AND id = $1 AND retired_at IS NULL`, nullable(old))
	b.Queue(`INSERT INTO data_keys (tenant_id, id, wrapped, provider) VALUES (current_tenant(), $1, $2, $3)`, k.ID, k.Wrapped, k.Provider)
	return problem(s.pool.SendBatch(ctx, b).Close())
}

// RewrapDataKey implements [control.DataKeyStore].
func (s *Store) RewrapDataKey(ctx context.Context, k control.DataKey, was []byte) error {
	n, err := exec(ctx, s, `UPDATE data_keys SET wrapped = $3, provider = $4 WHERE tenant_id = current_tenant() AND id = $1 AND wrapped = $2`,
		k.ID, was, k.Wrapped, k.Provider)
	if err == nil && n == 0 {
		err = control.ErrConflict
	}
	return err
}

// keyChannel tells every process to drop the keys that it has in memory.
const keyChannel = "parley_keys"

// DestroyDataKeys implements [control.DataKeyStore].
func (s *Store) DestroyDataKeys(ctx context.Context, id uuid.UUID) (int, error) {
	const q = `
		WITH gone AS (
			UPDATE data_keys SET wrapped = NULL, destroyed_at = now(), retired_at = coalesce(retired_at, now())
			WHERE tenant_id = current_tenant() AND destroyed_at IS NULL AND ($1::uuid IS NULL OR id = $1)
			RETURNING id
		), told AS (SELECT pg_notify('` + keyChannel + `', ''))
		SELECT count(*)::int FROM gone, told`
	n, err := one(ctx, s, pgx.RowTo[int], q, nullable(id))
	if err != nil {
		return 0, fmt.Errorf("destroy data keys: %w", err)
	}
	return n, nil
}
