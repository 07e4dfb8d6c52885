package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.TaskStore = (*Store)(nil)

// commit runs a statement that writes a revision and returns how many rows it
// wrote. The task that the revision orders goes with it or not at all.
func (s *Store) commit(ctx context.Context, q string, args pgx.NamedArgs, k *control.Task) (n int, err error) {
	if k == nil {
		return one(ctx, s, pgx.RowTo[int], q, args)
	}
	var refused error
	err = s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		if err := tx.QueryRow(ctx, q, args).Scan(&n); err != nil || n == 0 {
			return err
		}
		_, refused = s.order.InsertTx(ctx, tx, taskArgs(*k), nil)
		return refused
	})
	if refused != nil {
		return 0, fmt.Errorf("%w: %w", control.ErrNoQueue, problem(refused))
	}
	return n, err
}

// TakeTask implements [control.TaskStore].
func (s *Store) TakeTask(ctx context.Context, k control.Task, worker control.Claim) (c control.Conversation, taken bool, err error) {
	const q = `
		UPDATE conversations SET task = $3, due_at = now() + $4::interval
		WHERE id = $1 AND revision = $2 AND status = 'active' AND quarantined_at IS NULL
		  AND (task IS NULL OR due_at < now()) AND (claim_id IS NULL OR claimed_until < now())
		RETURNING ` + conversationColumns
	got, err := rows(ctx, s, scanConversation, q, k.Conversation, k.Revision, worker.ID, worker.Lease)
	if err == nil && len(got) > 0 {
		return got[0], true, nil
	}
	if err == nil {
		c, err = s.Conversation(ctx, k.Conversation)
	}
	return c, false, err
}

// HoldTask implements [control.TaskStore].
func (s *Store) HoldTask(ctx context.Context, id uuid.UUID, worker control.Claim) error {
	return s.claimed(ctx, "hold a task", `UPDATE conversations SET due_at = now() + $3::interval
		WHERE id = $1 AND task = $2 AND status = 'active'`, id, worker.ID, worker.Lease)
}

// LeaveTask implements [control.TaskStore].
func (s *Store) LeaveTask(ctx context.Context, id uuid.UUID, worker control.Claim, wait time.Duration) error {
	return s.claimed(ctx, "leave a task", `UPDATE conversations SET task = NULL, due_at = now() + $3::interval
		WHERE id = $1 AND task = $2 AND status = 'active'`, id, worker.ID, wait)
}

// ReportStale implements [control.TaskStore].
func (s *Store) ReportStale(ctx context.Context, k control.Task) error {
	const q = `
		SELECT write_event(tenant_id, id, 'task_stale', flow_id, user_id,
		       jsonb_build_object('id', $2::text, 'session_id', id, 'revision', $3::int)) FROM conversations WHERE id = $1`
	if _, err := exec(ctx, s, q, k.Conversation, k.Effect, k.Revision); err != nil {
		return fmt.Errorf("report a stale task: %w", err)
	}
	s.wrote()
	return nil
}
