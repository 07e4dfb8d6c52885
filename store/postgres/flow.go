package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var (
	_ control.FlowStore   = (*Store)(nil)
	_ control.FlowChanges = (*Store)(nil)
)

const (
	flowColumns = `id, name, public, origins, revision, created_at, updated_at, coalesce((
		SELECT jsonb_agg(to_jsonb(e) - 'tenant_id' - 'flow_id' ORDER BY e.name) FROM flow_environments e WHERE e.flow_id = flows.id), '[]')`
	versionHead    = `v.id, v.flow_id, v.number, coalesce(v.label, ''), v.hash, v.created_at`
	versionColumns = versionHead + `, v.document`
)

func scanFlow(r pgx.CollectableRow) (control.Flow, error) {
	var f control.Flow
	err := r.Scan(&f.ID, &f.Name, &f.Public, &f.Origins, &f.Revision, &f.CreatedAt, &f.UpdatedAt, &f.Environments)
	f.CreatedAt, f.UpdatedAt = f.CreatedAt.UTC(), f.UpdatedAt.UTC()
	return f, err
}

func scanVersion(r pgx.CollectableRow) (control.FlowVersion, error) {
	var v control.FlowVersion
	err := r.Scan(&v.ID, &v.Flow, &v.Number, &v.Label, &v.Hash, &v.CreatedAt, &v.Document)
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

// InsertFlow implements [control.FlowChanges].
func (s *Store) InsertFlow(ctx context.Context, f control.Flow, v control.FlowVersion) error {
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	b.Queue(`INSERT INTO flows (id, tenant_id, name, created_at, updated_at)
		VALUES ($1, current_tenant(), $2, $3, $3)`, f.ID, f.Name, f.CreatedAt)
	b.Queue(`INSERT INTO flow_versions (id, tenant_id, flow_id, number, document, hash, created_at)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6)`, v.ID, f.ID, v.Number, v.Document, v.Hash, v.CreatedAt)
	return s.send(ctx, b)
}

// UpdateFlow implements [control.FlowChanges].
func (s *Store) UpdateFlow(ctx context.Context, f control.Flow, revision int) (control.Flow, error) {
	err := s.changeFlow(ctx, f.ID, revision, func(tx pgx.Tx) (err error) {
		f, err = collectFlow(ctx, tx, `UPDATE flows SET name = $2, public = $3, origins = $4 WHERE id = $1 RETURNING `+flowColumns,
			f.ID, f.Name, f.Public, append([]string{}, f.Origins...))
		return err
	})
	if err != nil {
		return f, fmt.Errorf("update flow %s: %w", f.ID, err)
	}
	return f, nil
}

// changeFlow runs fn in a transaction that holds the flow's row, and has
// counted its revision up.
func (s *Store) changeFlow(ctx context.Context, id uuid.UUID, revision int, fn func(pgx.Tx) error) error {
	return s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		var have int
		err := tx.QueryRow(ctx, `UPDATE flows SET revision = revision + 1, updated_at = now() WHERE id = $1 RETURNING revision - 1`, id).Scan(&have)
		if err == nil && revision != 0 && revision != have {
			err = control.ErrConflict
		}
		if err != nil {
			return err
		}
		return fn(tx)
	})
}

func collectFlow(ctx context.Context, tx pgx.Tx, q string, args ...any) (control.Flow, error) {
	r, err := tx.Query(ctx, q, args...)
	if err != nil {
		return control.Flow{}, err
	}
	return pgx.CollectExactlyOneRow(r, scanFlow)
}

// InsertFlowVersion implements [control.FlowChanges]. The flow's row
// serializes numbering.
func (s *Store) InsertFlowVersion(ctx context.Context, v control.FlowVersion, revision int) (control.FlowVersion, error) {
	err := s.changeFlow(ctx, v.Flow, revision, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, `
			INSERT INTO flow_versions (id, tenant_id, flow_id, number, document, hash, created_at)
			SELECT $1, current_tenant(), $2, coalesce(max(number), 0) + 1, $3, $4, $5
			FROM flow_versions WHERE flow_id = $2
			RETURNING number`, v.ID, v.Flow, v.Document, v.Hash, v.CreatedAt).Scan(&v.Number)
	})
	if err != nil {
		return v, fmt.Errorf("insert flow version: %w", err)
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

// NumberedVersion implements [control.FlowStore].
func (s *Store) NumberedVersion(ctx context.Context, flow uuid.UUID, number int) (control.FlowVersion, error) {
	const q = `SELECT ` + versionColumns + ` FROM flow_versions v WHERE v.flow_id = $1 AND v.number = $2`
	v, err := one(ctx, s, scanVersion, q, flow, number)
	if err != nil {
		return v, fmt.Errorf("version %d of flow %s: %w", number, flow, err)
	}
	return v, nil
}

// FlowVersions implements [control.FlowStore].
func (s *Store) FlowVersions(ctx context.Context, flow uuid.UUID, p control.Page) ([]control.FlowVersion, error) {
	const q = `
		SELECT ` + versionHead + `, NULL::jsonb FROM flow_versions v
		WHERE v.flow_id = $1 AND ($2::uuid IS NULL OR v.id < $2) ORDER BY v.id DESC LIMIT $3`
	return rows(ctx, s, scanVersion, q, flow, after(p), limit(p))
}

// OriginListed implements [control.FlowStore].
func (s *Store) OriginListed(ctx context.Context, origin string) (bool, error) {
	_, err := s.locate(ctx, `SELECT * FROM locate_origin($1)`, origin)
	if errors.Is(err, control.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// LocatePublicFlow implements [control.FlowStore].
func (s *Store) LocatePublicFlow(ctx context.Context, id uuid.UUID) (control.Located, error) {
	return s.locate(ctx, `SELECT * FROM locate_public_flow($1)`, id)
}
