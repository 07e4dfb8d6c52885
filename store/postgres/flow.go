package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.FlowStore = (*Store)(nil)

const (
	flowColumns    = `id, name, published_id, created_at, updated_at`
	versionColumns = `v.id, v.flow_id, v.number, v.document, v.created_at`
)

func scanFlow(r pgx.CollectableRow) (control.Flow, error) {
	var f control.Flow
	var published *uuid.UUID
	err := r.Scan(&f.ID, &f.Name, &published, &f.CreatedAt, &f.UpdatedAt)
	f.Published, f.CreatedAt, f.UpdatedAt = orNil(published), f.CreatedAt.UTC(), f.UpdatedAt.UTC()
	return f, err
}

func scanVersion(r pgx.CollectableRow) (control.FlowVersion, error) {
	var v control.FlowVersion
	err := r.Scan(&v.ID, &v.Flow, &v.Number, &v.Document, &v.CreatedAt)
	v.CreatedAt = v.CreatedAt.UTC()
	return v, err
}

// Flow implements [control.FlowStore].
func (s *Store) Flow(ctx context.Context, id uuid.UUID) (control.Flow, error) {
	f, err := one(ctx, s, scanFlow, `SELECT `+flowColumns+` FROM flows WHERE id = $1`, id)
	if err != nil {
		return f, fmt.Errorf("flow %s: %w", id, err)
	}
	return f, nil
}

// FlowByName implements [control.FlowStore].
func (s *Store) FlowByName(ctx context.Context, name string) (control.Flow, error) {
	const q = `SELECT ` + flowColumns + ` FROM flows WHERE tenant_id = current_tenant() AND name = $1`
	f, err := one(ctx, s, scanFlow, q, name)
	if err != nil {
		return f, fmt.Errorf("flow by name: %w", err)
	}
	return f, nil
}

// Flows implements [control.FlowStore].
func (s *Store) Flows(ctx context.Context, p control.Page) ([]control.Flow, error) {
	const q = `
		SELECT ` + flowColumns + ` FROM flows
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1)
		ORDER BY id DESC LIMIT $2`
	return rows(ctx, s, scanFlow, q, after(p), limit(p))
}

// InsertFlow implements [control.FlowStore].
func (s *Store) InsertFlow(ctx context.Context, f control.Flow, v control.FlowVersion) error {
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	b.Queue(`INSERT INTO flows (id, tenant_id, name, created_at, updated_at)
		VALUES ($1, current_tenant(), $2, $3, $3)`, f.ID, f.Name, f.CreatedAt)
	b.Queue(`INSERT INTO flow_versions (id, tenant_id, flow_id, number, document, created_at)
		VALUES ($1, current_tenant(), $2, $3, $4, $5)`, v.ID, f.ID, v.Number, v.Document, v.CreatedAt)
	return s.send(ctx, b)
}

// InsertFlowVersion implements [control.FlowStore].
func (s *Store) InsertFlowVersion(ctx context.Context, v control.FlowVersion) (control.FlowVersion, error) {
	err := s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		// The flow's row serializes numbering.
		var id uuid.UUID
		err := tx.QueryRow(ctx, `UPDATE flows SET updated_at = $2 WHERE id = $1 RETURNING id`, v.Flow, v.CreatedAt).Scan(&id)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, `
			INSERT INTO flow_versions (id, tenant_id, flow_id, number, document, created_at)
			SELECT $1, current_tenant(), $2, coalesce(max(number), 0) + 1, $3, $4
			FROM flow_versions WHERE flow_id = $2
			RETURNING number`, v.ID, v.Flow, v.Document, v.CreatedAt).Scan(&v.Number)
	})
	if err != nil {
		return v, fmt.Errorf("insert flow version: %w", err)
	}
	return v, nil
}

// PublishFlow implements [control.FlowStore].
func (s *Store) PublishFlow(ctx context.Context, flow, version uuid.UUID) error {
	n, err := exec(ctx, s, `UPDATE flows SET published_id = $2, updated_at = now() WHERE id = $1`, flow, version)
	if err == nil && n == 0 {
		err = control.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("publish flow %s: %w", flow, err)
	}
	return nil
}

// PublishedVersion implements [control.FlowStore].
func (s *Store) PublishedVersion(ctx context.Context, flow uuid.UUID) (control.FlowVersion, error) {
	const q = `SELECT ` + versionColumns + ` FROM flows f JOIN flow_versions v ON v.id = f.published_id WHERE f.id = $1`
	v, err := one(ctx, s, scanVersion, q, flow)
	if err != nil {
		return v, fmt.Errorf("published version of flow %s: %w", flow, err)
	}
	return v, nil
}

// LatestVersion implements [control.FlowStore].
func (s *Store) LatestVersion(ctx context.Context, flow uuid.UUID) (control.FlowVersion, error) {
	const q = `SELECT ` + versionColumns + ` FROM flow_versions v WHERE v.flow_id = $1 ORDER BY v.number DESC LIMIT 1`
	v, err := one(ctx, s, scanVersion, q, flow)
	if err != nil {
		return v, fmt.Errorf("latest version of flow %s: %w", flow, err)
	}
	return v, nil
}

// FlowVersion implements [control.FlowStore].
func (s *Store) FlowVersion(ctx context.Context, id uuid.UUID) (control.FlowVersion, error) {
	v, err := one(ctx, s, scanVersion, `SELECT `+versionColumns+` FROM flow_versions v WHERE v.id = $1`, id)
	if err != nil {
		return v, fmt.Errorf("flow version %s: %w", id, err)
	}
	return v, nil
}
