package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent"
	"parley/control"
)

var _ control.Recordings = (*Store)(nil)

// recordingStore is the vendor of what recordings take: our own disk.
const recordingStore = "parley"

// SetRecording implements [control.CallChanges].
func (s *Store) SetRecording(ctx context.Context, id uuid.UUID, r control.Recording) error {
	use := []agent.Use{{Kind: control.UseRecorded, Vendor: recordingStore, Amount: r.Bytes}}
	entries, err := s.priced(ctx, usesOf(control.Hold{Call: id}, control.NoTurn, use, time.Now().UTC()))
	if err != nil {
		return err
	}
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	b.Queue(`UPDATE calls SET recording = $2, recording_bytes = $3, recording_ms = $4, consent = coalesce(nullif($5, ''), consent) WHERE id = $1`,
		id, r.Key, r.Bytes, r.Length.Milliseconds(), r.Consent)
	if r.Bytes > 0 {
		queueUsage(b, id, entries)
	}
	if err := s.send(ctx, b); err != nil {
		return fmt.Errorf("note the recording of call %s: %w", id, err)
	}
	return nil
}

// Recordings implements [control.Recordings].
func (s *Store) Recordings(ctx context.Context, f control.RecordingFilter) ([]control.RecordedCall, error) {
	const q = `
		SELECT id, agent_id, direction, status, started_at, ended_at, recording, recording_bytes, recording_ms, consent
		FROM calls WHERE tenant_id = current_tenant() AND recording <> '' AND recording_deleted_at IS NULL
		  AND ($1::uuid IS NULL OR id < $1) AND ($2::uuid IS NULL OR id = $2) AND ($3::uuid IS NULL OR agent_id = $3)
		  AND ($4::timestamptz IS NULL OR started_at > $4) AND ($5::timestamptz IS NULL OR started_at < $5)
		ORDER BY id DESC LIMIT $6`
	return rows(ctx, s, func(r pgx.CollectableRow) (c control.RecordedCall, err error) {
		var ended *time.Time
		var ms int64
		err = r.Scan(&c.ID, &c.Agent, &c.Direction, &c.Status, &c.StartedAt, &ended, &c.Recording.Key, &c.Recording.Bytes, &ms, &c.Recording.Consent)
		c.StartedAt, c.EndedAt, c.Recording.Length = c.StartedAt.UTC(), orZero(ended), time.Duration(ms)*time.Millisecond
		return c, err
	}, q, after(f.Page), nullable(f.Call), nullable(f.Agent), nullTime(f.StartedAfter), nullTime(f.StartedBefore), limit(f.Page))
}

// DeleteRecording implements [control.Recordings].
func (s *Store) DeleteRecording(ctx context.Context, call uuid.UUID) error {
	err := s.keeping(ctx, true, func(tx pgx.Tx) error {
		var status string
		var held bool
		err := tx.QueryRow(ctx, `SELECT c.status, `+callHeld+` FROM calls c WHERE c.id = $1 AND c.deleted_at IS NULL
			AND c.recording <> '' AND c.recording_deleted_at IS NULL FOR UPDATE`, call).Scan(&status, &held)
		switch {
		case err != nil:
			return err
		case held:
			return errHeld
		case status != control.CallEnded:
			return control.Refuse(control.ErrConflict, "the call goes on, and is still recorded: hang up first")
		}
		_, err = tx.Exec(ctx, `UPDATE calls SET recording_deleted_at = now() WHERE id = $1`, call)
		return err
	})
	if err != nil {
		return fmt.Errorf("delete the recording of call %s: %w", call, err)
	}
	return nil
}

// RestoreRecording implements [control.Recordings].
func (s *Store) RestoreRecording(ctx context.Context, call uuid.UUID) error {
	return s.restore(ctx, "recording of call", call, `UPDATE calls c SET recording_deleted_at = NULL
		WHERE c.id = $1 AND c.deleted_at IS NULL AND c.recording_deleted_at IS NOT NULL AND NOT `+fmt.Sprintf(beingDeleted, "c.id"))
}
