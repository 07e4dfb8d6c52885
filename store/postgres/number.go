package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.NumberStore = (*Store)(nil)

const selectNumbers = `
	SELECT id, e164, display_name, agent_id, carrier_account_id, timezone, revision, created_at, updated_at,
	       coalesce((SELECT jsonb_agg(r.rule ORDER BY r.position) FROM number_routes r WHERE r.number_id = numbers.id), '[]')
	FROM numbers `

func scanNumber(r pgx.CollectableRow) (control.Number, error) {
	var n control.Number
	var account *uuid.UUID
	var routes []byte
	if err := r.Scan(&n.ID, &n.E164, &n.DisplayName, &n.Agent, &account, &n.Timezone, &n.Revision, &n.CreatedAt, &n.UpdatedAt, &routes); err != nil {
		return n, err
	}
	n.Account, n.CreatedAt, n.UpdatedAt = orNil(account), n.CreatedAt.UTC(), n.UpdatedAt.UTC()
	return n, json.Unmarshal(routes, &n.Routes)
}

// LocateNumber implements [control.NumberStore].
func (s *Store) LocateNumber(ctx context.Context, e164 string) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_number($1)`, e164)
}

// Number implements [control.NumberStore].
func (s *Store) Number(ctx context.Context, id uuid.UUID) (control.Number, error) {
	n, err := one(ctx, s, scanNumber, selectNumbers+`WHERE id = $1`, id)
	if err != nil {
		return n, fmt.Errorf("number %s: %w", id, err)
	}
	return n, nil
}

// Numbers implements [control.NumberStore].
func (s *Store) Numbers(ctx context.Context, p control.Page) ([]control.Number, error) {
	return rows(ctx, s, scanNumber, selectNumbers+`
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1)
		ORDER BY id DESC LIMIT $2`, after(p), limit(p))
}

// InsertNumber implements [control.NumberStore].
func (s *Store) InsertNumber(ctx context.Context, n control.Number) error {
	return s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO numbers (id, tenant_id, e164, display_name, agent_id, carrier_account_id, timezone, created_at, updated_at)
			VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7, $7)`,
			n.ID, n.E164, n.DisplayName, n.Agent, nullable(n.Account), orDefault(n.Timezone, "UTC"), n.CreatedAt)
		if err != nil {
			return err
		}
		return insertRoutes(ctx, tx, n)
	})
}

// insertRoutes writes a number's routes, of which there are none.
func insertRoutes(ctx context.Context, tx pgx.Tx, n control.Number) error {
	for i, r := range n.Routes {
		rule, err := json.Marshal(r)
		if err == nil {
			_, err = tx.Exec(ctx, `INSERT INTO number_routes (tenant_id, number_id, position, agent_id, rule) VALUES (current_tenant(), $1, $2, $3, $4)`,
				n.ID, i, nullable(r.Agent), rule)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// UpdateNumber implements [control.NumberStore].
func (s *Store) UpdateNumber(ctx context.Context, n control.Number) (control.Number, error) {
	err := s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		done, err := tx.Exec(ctx, `
			UPDATE numbers SET display_name = $3, agent_id = $4, carrier_account_id = $5, timezone = $6,
			       revision = revision + 1, updated_at = now()
			WHERE id = $1 AND revision = $2`, n.ID, n.Revision, n.DisplayName, n.Agent, nullable(n.Account), n.Timezone)
		if err == nil && done.RowsAffected() == 0 {
			err = control.ErrConflict
		}
		if err == nil {
			_, err = tx.Exec(ctx, `DELETE FROM number_routes WHERE number_id = $1`, n.ID)
		}
		if err == nil {
			err = insertRoutes(ctx, tx, n)
		}
		return err
	})
	got, gone := s.Number(ctx, n.ID)
	switch {
	case errors.Is(gone, control.ErrNotFound):
		return n, gone
	case err != nil:
		return n, fmt.Errorf("update number %s: %w", n.ID, err)
	}
	return got, gone
}

// DeleteNumber implements [control.NumberStore].
func (s *Store) DeleteNumber(ctx context.Context, id uuid.UUID, revision int) error {
	done, err := exec(ctx, s, `DELETE FROM numbers WHERE id = $1 AND $2 IN (0, revision)`, id, revision)
	if err == nil && done == 0 {
		if _, err = s.Number(ctx, id); err == nil {
			err = control.ErrConflict
		}
	}
	if err != nil {
		return fmt.Errorf("delete number %s: %w", id, err)
	}
	return nil
}
