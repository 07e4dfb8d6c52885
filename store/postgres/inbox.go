package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

// PutCallEvent implements [control.CallInbox].
func (s *Store) PutCallEvent(ctx context.Context, e control.CallEvent) error {
	const q = `
		INSERT INTO call_inbox (tenant_id, call_id, event, data)
		SELECT tenant_id, id, $2, $3::jsonb FROM calls c
		WHERE id = $1 AND (SELECT count(*) FROM call_inbox i WHERE i.call_id = c.id) < $4`
	var data any
	if len(e.Data) > 0 {
		data = string(e.Data)
	}
	n, err := exec(ctx, s, q, e.Call, e.Event, data, control.MaxCallInbox)
	if err == nil && n == 0 {
		err = control.ErrConflict
	}
	if err != nil {
		return fmt.Errorf("put an event for call %s: %w", e.Call, err)
	}
	return nil
}

// TakeCallEvents implements [control.CallInbox].
func (s *Store) TakeCallEvents(ctx context.Context, calls []uuid.UUID) ([]control.CallEvent, error) {
	const q = `
		WITH taken AS (DELETE FROM call_inbox WHERE call_id = ANY($1) RETURNING id, call_id, event, data)
		SELECT call_id AS call, event, data FROM taken ORDER BY id`
	got, err := rows(ctx, s, pgx.RowToStructByName[control.CallEvent], q, calls)
	if err != nil {
		return nil, fmt.Errorf("take events of calls: %w", err)
	}
	return got, nil
}
