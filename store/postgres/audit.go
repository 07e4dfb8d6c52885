package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.Audit = (*Store)(nil)

// Note implements [control.Audit].
func (s *Store) Note(ctx context.Context, e control.AuditEntry) error {
	const q = `SELECT note_audit(current_tenant(), $1, $2, coalesce($3::jsonb, '{}'))`
	if _, err := exec(ctx, s, q, e.Action, text(e.Object), nullJSON(e.Detail)); err != nil {
		return fmt.Errorf("note %s: %w", e.Action, err)
	}
	return nil
}

// AuditTrail implements [control.Audit].
func (s *Store) AuditTrail(ctx context.Context, f control.AuditFilter) ([]control.AuditEntry, error) {
	const q = `
		SELECT seq, at, actor, action, object, detail, request_id FROM audit
		WHERE tenant_id = current_tenant() AND ($1 = 0 OR seq < $1) AND ($3 = '' OR actor = $3)
		  AND ($4 = '' OR action = $4 OR starts_with(action, $4 || '.')) AND ($5 = '' OR object = $5)
		  AND ($6::timestamptz IS NULL OR at >= $6) AND ($7::timestamptz IS NULL OR at < $7)
		ORDER BY seq DESC LIMIT $2`
	list, err := rows(ctx, s, pgx.RowToStructByPos[control.AuditEntry], q, f.Before, limit(control.Page{Limit: f.Limit}),
		text(f.Actor), text(f.Action), text(f.Object), nullTime(f.Since), nullTime(f.Until))
	for i := range list {
		list[i].At = list[i].At.UTC()
	}
	return list, err
}
