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

const retentionColumns = `coalesce(recordings_days, 0), coalesce(messages_days, 0), coalesce(transcripts_days, 0), coalesce(calls_days, 0),
	coalesce(events_days, 0), coalesce(usage_days, 0), restore_days, revision, updated_at`

// Retention implements [control.Retentions].
func (s *Store) Retention(ctx context.Context) (control.Retention, error) {
	r, err := one(ctx, s, pgx.RowToStructByPos[control.Retention], `SELECT `+retentionColumns+` FROM retention WHERE tenant_id = current_tenant()`)
	if errors.Is(err, control.ErrNotFound) {
		return control.DefaultRetention(), nil
	}
	r.UpdatedAt = r.UpdatedAt.UTC()
	return r, err
}

// PutRetention implements [control.Retentions].
func (s *Store) PutRetention(ctx context.Context, r control.Retention, revision int) (control.Retention, error) {
	const q = `
		INSERT INTO retention AS r (tenant_id, recordings_days, messages_days, transcripts_days, calls_days, events_days, usage_days, restore_days)
		SELECT current_tenant(), nullif($1, 0), nullif($2, 0), nullif($3, 0), nullif($4, 0), nullif($5, 0), nullif($6, 0), $7
		WHERE $8 <= 0 OR EXISTS (SELECT FROM retention WHERE tenant_id = current_tenant())
		ON CONFLICT (tenant_id) DO UPDATE SET recordings_days = excluded.recordings_days, messages_days = excluded.messages_days,
		    transcripts_days = excluded.transcripts_days, calls_days = excluded.calls_days, events_days = excluded.events_days,
		    usage_days = excluded.usage_days, restore_days = excluded.restore_days, revision = r.revision + 1, updated_at = now()
		WHERE $8 = -1 OR r.revision = $8
		RETURNING ` + retentionColumns
	got, err := one(ctx, s, pgx.RowToStructByPos[control.Retention], q, r.Recordings, r.Messages, r.Transcripts, r.Calls, r.Events, r.Usage, r.Restore, revision)
	if errors.Is(err, control.ErrNotFound) {
		err = control.ErrConflict
	}
	if err != nil {
		return got, fmt.Errorf("write how long things are kept: %w", err)
	}
	got.UpdatedAt = got.UpdatedAt.UTC()
	return got, nil
}

var errHeld = control.Refuse(control.ErrHeld, "a legal hold keeps it: nothing was deleted; lift the hold first, by DELETE /v1/holds/{id}")

// DeleteCall implements [control.Retentions].
func (s *Store) DeleteCall(ctx context.Context, id uuid.UUID) error {
	err := s.keeping(ctx, true, func(tx pgx.Tx) error {
		var status string
		var held bool
		err := tx.QueryRow(ctx, `SELECT c.status, `+callHeld+` FROM calls c WHERE c.id = $1 AND c.deleted_at IS NULL FOR UPDATE`, id).Scan(&status, &held)
		switch {
		case err != nil:
			return err
		case held:
			return errHeld
		case status != control.CallEnded:
			return control.Refuse(control.ErrConflict, "the call goes on: hang up first, then delete it")
		}
		if _, err = tx.Exec(ctx, `UPDATE calls SET deleted_at = now() WHERE id = $1`, id); err == nil {
			_, err = tx.Exec(ctx, `UPDATE conversations SET deleted_at = now() WHERE id = $1 AND deleted_at IS NULL`, id)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("delete call %s: %w", id, err)
	}
	s.wrote()
	return nil
}

// DeleteConversation implements [control.ConversationStore]. One that goes on is
// given up.
func (s *Store) DeleteConversation(ctx context.Context, id uuid.UUID) error {
	err := s.keeping(ctx, true, func(tx pgx.Tx) error {
		var held bool
		err := tx.QueryRow(ctx, `SELECT `+sessionHeld+` FROM conversations v WHERE v.id = $1 AND v.deleted_at IS NULL FOR UPDATE`, id).Scan(&held)
		if err != nil {
			return err
		}
		if held {
			return errHeld
		}
		_, err = tx.Exec(ctx, `UPDATE conversations SET deleted_at = now(), claim_id = NULL, claimed_until = NULL, due_at = NULL,
			status = CASE WHEN status = 'active' THEN 'abandoned' ELSE status END WHERE id = $1`, id)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete conversation %s: %w", id, err)
	}
	s.wrote()
	return nil
}

// RestoreCall implements [control.Retentions].
func (s *Store) RestoreCall(ctx context.Context, id uuid.UUID) error {
	return s.restore(ctx, "call", id, `
		WITH old AS (
			SELECT id, deleted_at FROM calls c WHERE id = $1 AND deleted_at IS NOT NULL AND NOT `+fmt.Sprintf(beingDeleted, "c.id")+` FOR UPDATE
		), said AS (
			UPDATE conversations v SET deleted_at = NULL FROM old WHERE v.id = old.id AND v.deleted_at = old.deleted_at
		)
		UPDATE calls c SET deleted_at = NULL FROM old WHERE c.id = old.id`)
}

// RestoreConversation implements [control.Retentions]. One that was deleted with
// its call comes back with it.
func (s *Store) RestoreConversation(ctx context.Context, id uuid.UUID) error {
	return s.restore(ctx, "conversation", id, `
		UPDATE conversations v SET deleted_at = NULL WHERE id = $1 AND deleted_at IS NOT NULL AND NOT `+fmt.Sprintf(beingDeleted, "v.id")+`
		  AND NOT EXISTS (SELECT FROM calls c WHERE c.id = v.id AND c.deleted_at IS NOT NULL)`)
}

func (s *Store) restore(ctx context.Context, what string, id uuid.UUID, q string) error {
	err := s.keeping(ctx, true, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, q, id)
		if err == nil && tag.RowsAffected() == 0 {
			err = control.ErrNotFound
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("restore %s %s: %w", what, id, err)
	}
	s.wrote()
	return nil
}

// Trash implements [control.Retentions].
func (s *Store) Trash(ctx context.Context, p control.Page) (list []control.Trashed, err error) {
	const q = `
		SELECT * FROM (
			(SELECT 'call', c.id AS id, c.deleted_at FROM calls c WHERE c.tenant_id = current_tenant() AND c.deleted_at IS NOT NULL
			   AND ($1::uuid IS NULL OR c.id < $1) ORDER BY c.id DESC LIMIT $2)
			UNION ALL
			(SELECT 'recording', c.id, c.recording_deleted_at FROM calls c WHERE c.tenant_id = current_tenant() AND c.recording_deleted_at IS NOT NULL
			   AND c.recording <> '' AND c.deleted_at IS NULL AND ($1::uuid IS NULL OR c.id < $1) ORDER BY c.id DESC LIMIT $2)
			UNION ALL
			(SELECT 'session', v.id, v.deleted_at FROM conversations v WHERE v.tenant_id = current_tenant() AND v.deleted_at IS NOT NULL
			   AND ($1::uuid IS NULL OR v.id < $1) AND NOT EXISTS (SELECT FROM calls c WHERE c.id = v.id AND c.deleted_at IS NOT NULL)
			 ORDER BY v.id DESC LIMIT $2)) t
		ORDER BY id DESC LIMIT $2`
	err = s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		if _, err := tx.Exec(ctx, `SELECT set_config('app.deleted', 'on', true)`); err != nil {
			return err
		}
		r, err := tx.Query(ctx, q, after(p), limit(p))
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(r, func(r pgx.CollectableRow) (t control.Trashed, err error) {
			var at time.Time
			err = r.Scan(&t.Kind, &t.ID, &at)
			t.DeletedAt = at.UTC()
			return t, err
		})
		return err
	})
	return list, err
}
