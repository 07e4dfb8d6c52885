package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/seal"
)

// PutCallEvent implements [control.CallInbox].
func (s *Store) PutCallEvent(ctx context.Context, e control.CallEvent) error {
	const q = `
		INSERT INTO call_inbox (tenant_id, call_id, event, data, sealed)
		SELECT tenant_id, id, $2, $3::jsonb, $5 FROM calls c
		WHERE id = $1 AND (SELECT count(*) FROM call_inbox i WHERE i.call_id = c.id) < $4`
	var data any
	var sealed []byte
	var err error
	if len(e.Data) > 0 {
		data = string(e.Data)
		if sealed, err = s.seal(ctx, inboxPlace(e.Call, e.Event), e.Data); err != nil {
			return fmt.Errorf("put an event for call %s: %w", e.Call, err)
		}
		if sealed != nil {
			data = nil
		}
	}
	n, err := exec(ctx, s, q, e.Call, e.Event, data, control.MaxCallInbox, sealed)
	if err == nil && n == 0 {
		err = control.ErrConflict
	}
	if err != nil {
		return fmt.Errorf("put an event for call %s: %w", e.Call, err)
	}
	return nil
}

// TakeCallEvents implements [control.CallInbox]. Events are opened before they
// are deleted: without the key they wait. What another process deletes first is
// its own.
func (s *Store) TakeCallEvents(ctx context.Context, calls []uuid.UUID) ([]control.CallEvent, error) {
	type row struct {
		id     int64
		event  control.CallEvent
		sealed []byte
	}
	waiting, err := rows(ctx, s, func(r pgx.CollectableRow) (v row, err error) {
		err = r.Scan(&v.id, &v.event.Call, &v.event.Event, &v.event.Data, &v.sealed)
		return v, err
	}, `SELECT id, call_id, event, data, sealed FROM call_inbox WHERE call_id = ANY($1) ORDER BY id`, calls)
	if err != nil {
		return nil, fmt.Errorf("take events of calls: %w", err)
	}
	if len(waiting) == 0 {
		return nil, nil
	}
	ids := make([]int64, len(waiting))
	for i, v := range waiting {
		ids[i] = v.id
		err := s.unseal(ctx, inboxPlace(v.event.Call, v.event.Event), v.sealed, &waiting[i].event.Data)
		if errors.Is(err, control.ErrErased) || errors.Is(err, seal.ErrDamaged) {
			waiting[i].id = 0 // for nobody; it must not hold up the others
		} else if err != nil {
			return nil, fmt.Errorf("take events of calls: %w", err)
		}
	}
	taken, err := rows(ctx, s, pgx.RowTo[int64], `DELETE FROM call_inbox WHERE id = ANY($1) RETURNING id`, ids)
	if err != nil {
		return nil, fmt.Errorf("take events of calls: %w", err)
	}
	var got []control.CallEvent
	for _, v := range waiting {
		if slices.Contains(taken, v.id) {
			got = append(got, v.event)
		}
	}
	return got, nil
}

func inboxPlace(call uuid.UUID, event string) string {
	return "call_inbox/" + call.String() + "/" + event
}
