package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.OriginStore = (*Store)(nil)

func scanOrigin(r pgx.CollectableRow) (control.Origin, error) {
	var o control.Origin
	err := r.Scan(&o.ID, &o.Origin, &o.CreatedAt)
	o.CreatedAt = o.CreatedAt.UTC()
	return o, err
}

// Origins implements [control.OriginStore].
func (s *Store) Origins(ctx context.Context, p control.Page) ([]control.Origin, error) {
	const q = `
		SELECT id, origin, created_at FROM tenant_origins
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1)
		ORDER BY id DESC LIMIT $2`
	return rows(ctx, s, scanOrigin, q, after(p), limit(p))
}

// InsertOrigin implements [control.OriginStore]. Two at once may pass the bound
// by one, which harms nobody.
func (s *Store) InsertOrigin(ctx context.Context, o control.Origin) (control.Origin, error) {
	const q = `
		INSERT INTO tenant_origins (id, tenant_id, origin) SELECT $1, current_tenant(), $2
		WHERE (SELECT count(*) FROM tenant_origins WHERE tenant_id = current_tenant()) < $3
		RETURNING id, origin, created_at`
	got, err := one(ctx, s, scanOrigin, q, o.ID, o.Origin, control.MaxOrigins)
	if errors.Is(err, control.ErrNotFound) {
		return o, control.Invalidf("origin", "cannot be added: %d are listed already; remove one first", control.MaxOrigins)
	}
	if err != nil {
		return o, fmt.Errorf("insert origin: %w", err)
	}
	return got, nil
}

// DeleteOrigin implements [control.OriginStore].
func (s *Store) DeleteOrigin(ctx context.Context, id uuid.UUID) error {
	n, err := exec(ctx, s, `DELETE FROM tenant_origins WHERE id = $1`, id)
	if err == nil && n == 0 {
		err = control.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("delete origin %s: %w", id, err)
	}
	return nil
}

// TenantLists implements [control.OriginStore].
func (s *Store) TenantLists(ctx context.Context, origin string) (bool, error) {
	got, err := rows(ctx, s, pgx.RowTo[int], `SELECT 1 FROM tenant_origins WHERE tenant_id = current_tenant() AND origin = $1`, origin)
	return len(got) > 0, err
}

// AnyTenantLists implements [control.OriginStore].
func (s *Store) AnyTenantLists(ctx context.Context, origin string) (bool, error) {
	_, err := s.locate(ctx, `SELECT * FROM locate_tenant_origin($1)`, origin)
	if errors.Is(err, control.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
