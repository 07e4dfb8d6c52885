package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.NumberStore = (*Store)(nil)

// LocateNumber implements [control.NumberStore].
func (s *Store) LocateNumber(ctx context.Context, e164 string) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_number($1)`, e164)
}

// Numbers implements [control.NumberStore].
func (s *Store) Numbers(ctx context.Context, p control.Page) ([]control.Number, error) {
	const q = `
		SELECT id, e164, agent_id, created_at FROM numbers
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1)
		ORDER BY id DESC LIMIT $2`
	return rows(ctx, s, func(r pgx.CollectableRow) (n control.Number, err error) {
		err = r.Scan(&n.ID, &n.E164, &n.Agent, &n.CreatedAt)
		n.CreatedAt = n.CreatedAt.UTC()
		return n, err
	}, q, after(p), limit(p))
}

// InsertNumber implements [control.NumberStore].
func (s *Store) InsertNumber(ctx context.Context, n control.Number) error {
	const q = `INSERT INTO numbers (id, tenant_id, e164, agent_id, created_at) VALUES ($1, current_tenant(), $2, $3, $4)`
	_, err := exec(ctx, s, q, n.ID, n.E164, n.Agent, n.CreatedAt)
	return err
}
