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

const flowColumns = `id, name, public, origins, revision, created_at, updated_at, ` + environmentsColumn

// aboutFlow returns a query about flows.
func aboutFlow(q string) string { return of(control.SubjectFlow, q) }

func scanFlow(r pgx.CollectableRow) (control.Flow, error) {
	var f control.Flow
	err := r.Scan(&f.ID, &f.Name, &f.Public, &f.Origins, &f.Revision, &f.CreatedAt, &f.UpdatedAt, &f.Environments)
	f.CreatedAt, f.UpdatedAt = f.CreatedAt.UTC(), f.UpdatedAt.UTC()
	return f, err
}

// Flow implements [control.FlowStore].
func (s *Store) Flow(ctx context.Context, id uuid.UUID) (control.Flow, error) {
	f, err := one(ctx, s, scanFlow, aboutFlow(`SELECT `+flowColumns+` FROM flows WHERE id = $1`), id)
	if err != nil {
		return f, fmt.Errorf("flow %s: %w", id, err)
	}
	return f, nil
}

// FlowByName implements [control.FlowStore].
func (s *Store) FlowByName(ctx context.Context, name string) (control.Flow, error) {
	const q = `SELECT ` + flowColumns + ` FROM flows WHERE tenant_id = current_tenant() AND name = $1`
	f, err := one(ctx, s, scanFlow, aboutFlow(q), name)
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
	return rows(ctx, s, scanFlow, aboutFlow(q), after(p), limit(p))
}

// InsertFlow implements [control.FlowChanges].
func (s *Store) InsertFlow(ctx context.Context, f control.Flow, v control.Version) error {
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	b.Queue(`INSERT INTO flows (id, tenant_id, name, created_at, updated_at)
		VALUES ($1, current_tenant(), $2, $3, $3)`, f.ID, f.Name, f.CreatedAt)
	b.Queue(`INSERT INTO flow_versions (id, tenant_id, flow_id, number, label, document, hash, created_at)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7)`, v.ID, f.ID, v.Number, v.Label, v.Document, v.Hash, v.CreatedAt)
	return s.send(ctx, b)
}

// UpdateFlow implements [control.FlowChanges].
func (s *Store) UpdateFlow(ctx context.Context, f control.Flow, revision int) (control.Flow, error) {
	err := s.changeSubject(ctx, control.SubjectFlow, f.ID, revision, func(tx pgx.Tx) error {
		r, err := tx.Query(ctx, aboutFlow(`UPDATE flows SET name = $2, public = $3, origins = $4 WHERE id = $1 RETURNING `+flowColumns),
			f.ID, f.Name, f.Public, append([]string{}, f.Origins...))
		if err == nil {
			f, err = pgx.CollectExactlyOneRow(r, scanFlow)
		}
		return err
	})
	if err != nil {
		return f, fmt.Errorf("update flow %s: %w", f.ID, err)
	}
	return f, nil
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
