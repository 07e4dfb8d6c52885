package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

// clearBatch is how many rows are sealed or erased in one transaction.
const clearBatch = 500

// Which rows have something in clear; indexes of their own find them.
const (
	clearTurns   = `tenant_id = current_tenant() AND sealed IS NULL AND (generated <> '' OR sent <> '' OR heard <> '')`
	clearEntries = `tenant_id = current_tenant() AND sealed IS NULL AND (event IS NOT NULL OR messages <> '[]' OR trace <> '[]' OR base IS NOT NULL)`
	clearEvents  = `tenant_id = current_tenant() AND NOT data ? '$sealed' AND data <> '{}' AND type <> ALL (array['session_started',
		'node_changed', 'session_status_changed', 'session_updated', 'session_deleted', 'call_started', 'call_status_changed',
		'call_turn', 'call_ended', 'call_summarized', 'call_recording_failed', 'webhook_disabled'])`
)

// EraseClear implements [control.DataKeyStore].
func (s *Store) EraseClear(ctx context.Context) (int, error) {
	const limit = ` LIMIT $1 FOR UPDATE SKIP LOCKED)`
	all := 0
	for _, q := range []string{
		`UPDATE turns SET words = NULL WHERE (call_id, index) IN (
			SELECT call_id, index FROM turns WHERE tenant_id = current_tenant() AND words IS NOT NULL` + limit,
		`UPDATE turns SET generated = '', sent = '', heard = '' WHERE (call_id, index) IN (
			SELECT call_id, index FROM turns WHERE ` + clearTurns + limit,
		`UPDATE conversation_history SET event = NULL, messages = '[]', trace = '[]', base = NULL WHERE (conversation_id, revision) IN (
			SELECT conversation_id, revision FROM conversation_history WHERE ` + clearEntries + limit,
		`UPDATE events SET data = '{}' WHERE id IN (SELECT id FROM events WHERE ` + clearEvents + limit,
		`DELETE FROM call_inbox WHERE id IN (SELECT id FROM call_inbox WHERE tenant_id = current_tenant() LIMIT $1)`,
		`UPDATE call_commands SET words = NULL WHERE id IN (
			SELECT id FROM call_commands WHERE tenant_id = current_tenant() AND words IS NOT NULL` + limit,
		`UPDATE calls SET recording = '' WHERE id IN (
			SELECT id FROM calls WHERE tenant_id = current_tenant() AND recording <> ''` + limit,
	} {
		for n := int64(1); n > 0; {
			var err error
			if n, err = exec(ctx, s, q, clearBatch); err != nil {
				return all, fmt.Errorf("erase what stands in clear: %w", err)
			}
			all += int(n)
		}
	}
	n, err := s.eraseStates(ctx)
	return all + n, err
}

// eraseStates takes the memory of all conversations, and ends those that need it.
func (s *Store) eraseStates(ctx context.Context) (all int, err error) {
	const q = `
		WITH next AS (
			SELECT id FROM conversations WHERE tenant_id = current_tenant() AND id > $1 ORDER BY id LIMIT $2
		), erased AS (
			UPDATE conversations c SET state = '{}', reported = '[]', claim_id = NULL, claimed_until = NULL, due_at = NULL,
			    status = CASE WHEN status = 'active' THEN 'abandoned' ELSE status END
			FROM next WHERE c.id = next.id AND (c.state <> '{}' OR c.reported <> '[]') RETURNING c.id
		)
		SELECT (SELECT id FROM next ORDER BY id DESC LIMIT 1), (SELECT count(*)::int FROM erased)`
	for after := uuid.Nil; ; {
		var last *uuid.UUID
		n, err := one(ctx, s, func(r pgx.CollectableRow) (n int, err error) {
			err = r.Scan(&last, &n)
			return n, err
		}, q, after, clearBatch)
		if err != nil {
			return all, fmt.Errorf("erase states: %w", err)
		}
		all += n
		if last == nil {
			return all, nil
		}
		after = *last
	}
}

// SealClear implements [control.DataKeyStore].
func (s *Store) SealClear(ctx context.Context) (int, error) {
	all := 0
	for _, step := range []func(context.Context, pgx.Tx) (int, error){s.sealTurns, s.sealEntries, s.sealEvents} {
		for n := 1; n > 0; {
			err := s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) (err error) {
				n, err = step(joined(ctx, tx), tx)
				return err
			})
			if err != nil {
				return all, fmt.Errorf("seal what stands in clear: %w", err)
			}
			all += n
		}
	}
	return all, nil
}

func (s *Store) sealTurns(ctx context.Context, tx pgx.Tx) (int, error) {
	type row struct {
		call  uuid.UUID
		index int
		said  turnText
	}
	return sealRows(ctx, tx, `SELECT call_id, index, generated, sent, heard FROM turns WHERE `+clearTurns,
		func(r pgx.CollectableRow) (v row, err error) {
			err = r.Scan(&v.call, &v.index, &v.said.Generated, &v.said.Sent, &v.said.Heard)
			return v, err
		}, func(b *pgx.Batch, v row) error {
			sealed, err := s.seal(ctx, turnPlace(v.call, v.index), v.said)
			if err != nil {
				return err
			}
			words, err := s.vectorOf(ctx, v.said)
			b.Queue(`UPDATE turns SET sealed = $3, generated = '', sent = '', heard = '', words = $4::text::tsvector
				WHERE call_id = $1 AND index = $2`, v.call, v.index, sealed, words)
			return err
		})
}

func (s *Store) sealEntries(ctx context.Context, tx pgx.Tx) (int, error) {
	type row struct {
		conversation uuid.UUID
		revision     int
		said         entryText
	}
	return sealRows(ctx, tx, `SELECT conversation_id, revision, event, messages, trace, base FROM conversation_history WHERE `+clearEntries,
		func(r pgx.CollectableRow) (v row, err error) {
			err = r.Scan(&v.conversation, &v.revision, &v.said.Event, &v.said.Messages, &v.said.Trace, &v.said.Base)
			return v, err
		}, func(b *pgx.Batch, v row) error {
			sealed, err := s.seal(ctx, entryPlace(v.conversation, v.revision), v.said)
			b.Queue(`UPDATE conversation_history SET sealed = $3, event = NULL, messages = '[]', trace = '[]', base = NULL
				WHERE conversation_id = $1 AND revision = $2`, v.conversation, v.revision, sealed)
			return err
		})
}

func (s *Store) sealEvents(ctx context.Context, tx pgx.Tx) (int, error) {
	return sealRows(ctx, tx, `SELECT `+eventColumns+` FROM events WHERE `+clearEvents, scanEvent,
		func(b *pgx.Batch, e control.Event) error {
			data, err := s.sealEvent(ctx, e.Session.String(), e.Type, e.Data)
			b.Queue(`UPDATE events SET data = $2 WHERE id = $1`, e.ID, json.RawMessage(data))
			return err
		})
}

// sealRows changes one batch of rows by what seal queues for each.
func sealRows[T any](ctx context.Context, tx pgx.Tx, q string, scan pgx.RowToFunc[T], seal func(*pgx.Batch, T) error) (int, error) {
	r, err := tx.Query(ctx, q+` LIMIT $1 FOR UPDATE SKIP LOCKED`, clearBatch)
	if err != nil {
		return 0, err
	}
	list, err := pgx.CollectRows(r, scan)
	if err != nil {
		return 0, err
	}
	b := new(pgx.Batch)
	for _, v := range list {
		if err := seal(b, v); err != nil {
			return 0, err
		}
	}
	return len(list), tx.SendBatch(ctx, b).Close()
}
