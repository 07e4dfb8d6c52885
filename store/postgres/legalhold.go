package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

const holdColumns = `id, object_id, caller, user_id, reason, placed_by, placed_at, lifted_by, lifted_at`

func scanHold(r pgx.CollectableRow) (h control.LegalHold, err error) {
	var object *uuid.UUID
	var lifted *time.Time
	err = r.Scan(&h.ID, &object, &h.Caller, &h.User, &h.Reason, &h.PlacedBy, &h.PlacedAt, &h.LiftedBy, &lifted)
	h.Object, h.PlacedAt, h.LiftedAt = orNil(object), h.PlacedAt.UTC(), orZero(lifted)
	return h, err
}

// PlaceHold implements [control.LegalHolds]. It waits for the tenant's turn, so
// that no deletion begins meanwhile; one that has begun is let finish first.
func (s *Store) PlaceHold(ctx context.Context, h control.LegalHold) (control.LegalHold, error) {
	err := s.keeping(ctx, true, func(tx pgx.Tx) error {
		var open, there bool
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM deletions WHERE tenant_id = current_tenant() AND finished_at IS NULL),
			$1::uuid IS NULL OR EXISTS (SELECT FROM calls WHERE id = $1) OR EXISTS (SELECT FROM conversations WHERE id = $1)`,
			nullable(h.Object)).Scan(&open, &there); err != nil {
			return err
		}
		switch {
		case !there:
			return control.ErrNotFound
		case open:
			return control.Refuse(control.ErrConflict, "something is being deleted at this moment: ask again in a few seconds, and see under /v1/deletions what it was")
		}
		r, err := tx.Query(ctx, `INSERT INTO legal_holds (id, tenant_id, object_id, caller, user_id, reason, placed_by)
			VALUES ($1, current_tenant(), $2, $3, $4, $5, $6) RETURNING `+holdColumns, h.ID, nullable(h.Object), text(h.Caller), text(h.User), text(h.Reason), h.PlacedBy)
		if err != nil {
			return err
		}
		h, err = pgx.CollectExactlyOneRow(r, scanHold)
		return err
	})
	if err != nil {
		return h, fmt.Errorf("place a legal hold: %w", err)
	}
	return h, nil
}

// LegalHold implements [control.LegalHolds].
func (s *Store) LegalHold(ctx context.Context, id uuid.UUID) (control.LegalHold, error) {
	return one(ctx, s, scanHold, `SELECT `+holdColumns+` FROM legal_holds WHERE id = $1`, id)
}

// LegalHolds implements [control.LegalHolds].
func (s *Store) LegalHolds(ctx context.Context, p control.Page) ([]control.LegalHold, error) {
	return rows(ctx, s, scanHold, `SELECT `+holdColumns+` FROM legal_holds WHERE tenant_id = current_tenant()
		AND ($1::uuid IS NULL OR id < $1) ORDER BY id DESC LIMIT $2`, after(p), limit(p))
}

// LiftHold implements [control.LegalHolds].
func (s *Store) LiftHold(ctx context.Context, id uuid.UUID, by string) (control.LegalHold, error) {
	h, err := one(ctx, s, scanHold, `UPDATE legal_holds SET lifted_at = now(), lifted_by = $2 WHERE id = $1 AND lifted_at IS NULL RETURNING `+holdColumns, id, by)
	if errors.Is(err, control.ErrNotFound) {
		if h, err = s.LegalHold(ctx, id); err == nil {
			err = control.ErrEnded
		}
	}
	if err != nil {
		return h, fmt.Errorf("lift legal hold %s: %w", id, err)
	}
	return h, nil
}
