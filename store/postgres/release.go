package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

// PublishFlow implements [control.FlowChanges].
func (s *Store) PublishFlow(ctx context.Context, p control.Publication, revision int) (control.Flow, error) {
	p.Environment = orDefault(p.Environment, control.Live)
	q := `
		INSERT INTO flow_environments (tenant_id, flow_id, name, published_id) VALUES (current_tenant(), $1, $2, $3)
		ON CONFLICT (flow_id, name) DO UPDATE SET published_id = excluded.published_id, canary_id = NULL, canary_percent = 0`
	args := []any{p.Flow, p.Environment, p.Version}
	if p.Percent < 100 {
		q, args = `UPDATE flow_environments SET canary_id = $3, canary_percent = $4 WHERE flow_id = $1 AND name = $2`, append(args, p.Percent)
	}
	var f control.Flow
	err := s.changeFlow(ctx, p.Flow, revision, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, q, args...)
		if err == nil && done.RowsAffected() == 0 {
			err = control.ErrNotFound
		}
		if err == nil {
			_, err = tx.Exec(ctx, `
				INSERT INTO flow_publications (id, tenant_id, flow_id, version_id, environment, percent, withdraws, published_by, published_at)
				VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7, $8)`,
				p.ID, p.Flow, p.Version, p.Environment, p.Percent, nullable(p.Withdraws), p.By, p.At)
		}
		if err == nil {
			f, err = collectFlow(ctx, tx, `SELECT `+flowColumns+` FROM flows WHERE id = $1`, p.Flow)
		}
		return err
	})
	if err != nil {
		return f, fmt.Errorf("publish flow %s: %w", p.Flow, err)
	}
	return f, nil
}

// Publications implements [control.FlowStore].
func (s *Store) Publications(ctx context.Context, flow uuid.UUID, environment string, p control.Page) ([]control.Publication, error) {
	const q = `
		SELECT p.id, p.flow_id, p.version_id, p.environment, v.number, p.percent,
		       coalesce(p.withdraws, '00000000-0000-0000-0000-000000000000'), p.published_by, p.published_at
		FROM flow_publications p JOIN flow_versions v ON v.id = p.version_id
		WHERE p.flow_id = $1 AND ($2::uuid IS NULL OR p.id < $2) AND ($4 = '' OR p.environment = $4) ORDER BY p.id DESC LIMIT $3`
	return rows(ctx, s, pgx.RowToStructByPos[control.Publication], q, flow, after(p), limit(p), environment)
}

// ReleasedVersions implements [control.FlowStore].
func (s *Store) ReleasedVersions(ctx context.Context, flow uuid.UUID, environment string) ([]control.FlowVersion, error) {
	const q = `
		SELECT ` + versionHead + `, NULL::jsonb FROM flow_versions v
		WHERE v.flow_id = $1 AND EXISTS (
		    SELECT FROM flow_publications p
		    WHERE p.version_id = v.id AND p.flow_id = $1 AND p.environment = $2 AND p.percent = 100 AND NOT EXISTS (
		        SELECT FROM flow_publications w
		        WHERE w.withdraws = v.id AND w.flow_id = $1 AND w.environment = $2 AND w.published_at > p.published_at))
		ORDER BY v.number DESC`
	return rows(ctx, s, scanVersion, q, flow, orDefault(environment, control.Live))
}

// FlowDraft implements [control.FlowStore].
func (s *Store) FlowDraft(ctx context.Context, flow uuid.UUID) (control.Draft, error) {
	d, err := one(ctx, s, func(r pgx.CollectableRow) (control.Draft, error) {
		var d control.Draft
		var at *time.Time
		err := r.Scan(&d.Document, &at)
		d.UpdatedAt = orZero(at)
		return d, err
	}, `SELECT draft, drafted_at FROM flows WHERE id = $1 AND draft IS NOT NULL`, flow)
	if err != nil {
		return d, fmt.Errorf("draft of flow %s: %w", flow, err)
	}
	return d, nil
}

// PutFlowDraft implements [control.FlowChanges].
func (s *Store) PutFlowDraft(ctx context.Context, flow uuid.UUID, document []byte, revision int) (control.Flow, error) {
	var f control.Flow
	err := s.changeFlow(ctx, flow, revision, func(tx pgx.Tx) (err error) {
		f, err = collectFlow(ctx, tx, `UPDATE flows SET draft = $2, drafted_at = CASE WHEN $2::jsonb IS NULL THEN NULL ELSE now() END
			WHERE id = $1 RETURNING `+flowColumns, flow, nullJSON(document))
		return err
	})
	if err != nil {
		return f, fmt.Errorf("draft of flow %s: %w", flow, err)
	}
	return f, nil
}
