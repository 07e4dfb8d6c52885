package postgres

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.KeepStore = (*Store)(nil)

// keeping runs fn in a transaction that sees what was deleted by hand, and has
// the tenant's turn: without wait, control.ErrBusy where another has it.
func (s *Store) keeping(ctx context.Context, wait bool, fn func(pgx.Tx) error) error {
	return s.tx(ctx, func(tx pgx.Tx, tenant uuid.UUID) error {
		const lock = `advisory_xact_lock(hashtextextended('keep ' || $1, 0))`
		q := `SELECT pg_try_` + lock + ` AND set_config('app.deleted', 'on', true) = 'on'`
		if wait {
			q = `SELECT pg_` + lock + ` IS NOT NULL AND set_config('app.deleted', 'on', true) = 'on'`
		}
		var mine bool
		if err := tx.QueryRow(ctx, q, tenant.String()).Scan(&mine); err != nil {
			return err
		}
		if !mine {
			return control.ErrBusy
		}
		return fn(tx)
	})
}

// Which calls c, sessions v and events e legal holds keep.
const (
	holdsAll  = `h.object_id IS NULL AND h.caller = '' AND h.user_id = ''`
	heldBegin = `EXISTS (SELECT FROM legal_holds h WHERE h.tenant_id = current_tenant() AND h.lifted_at IS NULL AND (` + holdsAll + ` OR `
	callHeld  = heldBegin + `h.object_id = c.id OR h.caller <> '' AND h.caller IN (c.caller, c.callee)
		OR h.user_id <> '' AND EXISTS (SELECT FROM conversations hv WHERE hv.id = c.id AND hv.user_id = h.user_id)))`
	sessionHeld = heldBegin + `h.object_id = v.id OR v.user_id <> '' AND v.user_id IN (h.user_id, h.caller)
		OR h.caller <> '' AND EXISTS (SELECT FROM calls hc WHERE hc.id = v.id AND h.caller IN (hc.caller, hc.callee))))`
	eventHeld = heldBegin + `h.object_id = e.session_id OR e.user_id <> '' AND e.user_id IN (h.user_id, h.caller)
		OR h.caller <> '' AND EXISTS (SELECT FROM calls hc WHERE hc.id = e.session_id AND h.caller IN (hc.caller, hc.callee))
		OR h.user_id <> '' AND EXISTS (SELECT FROM conversations hv WHERE hv.id = e.session_id AND hv.user_id = h.user_id)))`
	beingDeleted = `EXISTS (SELECT FROM deletions d WHERE d.tenant_id = current_tenant() AND d.finished_at IS NULL AND %s = ANY (d.objects))`
)

// Whose calls c and sessions v are: $1 is a number, $2 a user; one is empty. The
// calls are named by their ids: with an OR in its place a user's are looked for
// among all of the tenant.
const (
	callOf = `c.started_at <= $3 AND c.id IN (
		SELECT oc.id FROM calls oc WHERE oc.tenant_id = current_tenant() AND $1::text <> '' AND (oc.caller = $1 OR oc.callee = $1)
		UNION ALL SELECT ov.id FROM conversations ov WHERE ov.tenant_id = current_tenant() AND $2::text <> '' AND ov.user_id = $2)`
	sessionOf = `v.channel = 'chat' AND v.created_at <= $3 AND v.user_id = $1::text || $2::text`
)

// dueQuery selects ids of what is due, with its arguments.
func dueQuery(due control.Due, at time.Time, most int) (string, []any) {
	column := map[string]string{control.KeepTranscripts: " AND NOT c.transcripts_gone", control.KeepRecordings: " AND NOT c.recordings_gone",
		control.KeepMessages: " AND NOT c.messages_gone"}[due.Class]
	args := []any{due.Before}
	var where string
	calls := due.Class != control.KeepSessions && due.Class != control.KeepStates
	by := "ended_at"
	if due.Reason == control.ByHand {
		if by = "deleted_at"; due.Class == control.KeepRecordings {
			by = "recording_deleted_at"
		}
	}
	switch {
	case due.Reason == control.ByErasure && calls:
		args = []any{due.Erasure.Caller, due.Erasure.User, due.Erasure.RequestedAt, at.Add(-control.SettleAfter)}
		where = callOf + ` AND c.ended_at <= $4`
	case due.Reason == control.ByErasure:
		args = []any{due.Erasure.Caller, due.Erasure.User, due.Erasure.RequestedAt}
		where = sessionOf
	case calls:
		where = `c.` + by + ` <= $1` + column
	case due.Class == control.KeepStates: // a deleted call takes its own with it
		where = `v.channel = 'voice' AND v.deleted_at <= $1 AND NOT EXISTS (SELECT FROM calls k WHERE k.id = v.id AND k.deleted_at IS NOT NULL)`
	default:
		where = `v.channel = 'chat' AND v.` + by + ` <= $1`
	}
	order := by
	if due.Reason == control.ByErasure {
		order = "id"
	}
	args = append(args, most)
	if calls {
		return fmt.Sprintf(`SELECT c.id FROM calls c WHERE c.tenant_id = current_tenant() AND c.status = 'ended' AND %s AND NOT %s AND NOT %s
			ORDER BY c.%s LIMIT $%d FOR UPDATE OF c SKIP LOCKED`, where, callHeld, fmt.Sprintf(beingDeleted, "c.id"), order, len(args)), args
	}
	return fmt.Sprintf(`SELECT v.id FROM conversations v WHERE v.tenant_id = current_tenant() AND %s AND NOT %s AND NOT %s
		ORDER BY v.%s LIMIT $%d FOR UPDATE OF v SKIP LOCKED`, where, sessionHeld, fmt.Sprintf(beingDeleted, "v.id"), order, len(args)), args
}

// BeginDeletion implements [control.KeepStore].
func (s *Store) BeginDeletion(ctx context.Context, due control.Due, at time.Time, most int) (control.Deletion, error) {
	d := control.Deletion{ID: control.NewID(), Class: due.Class, Reason: due.Reason, BegunAt: at}
	if due.Erasure != nil {
		d.Erasure = due.Erasure.ID
	}
	q, args := dueQuery(due, at, most)
	err := s.keeping(ctx, false, func(tx pgx.Tx) error {
		r, err := tx.Query(ctx, q, args...)
		if err != nil {
			return err
		}
		if d.Objects, err = pgx.CollectRows(r, pgx.RowTo[uuid.UUID]); err != nil {
			return err
		}
		if len(d.Objects) == 0 {
			return control.ErrNotFound
		}
		_, err = tx.Exec(ctx, `INSERT INTO deletions (id, tenant_id, class, reason, erasure_id, objects, begun_at)
			VALUES ($1, current_tenant(), $2, $3, $4, $5, $6)`, d.ID, d.Class, d.Reason, nullable(d.Erasure), d.Objects, at)
		return err
	})
	return d, err
}

// NoteBlobs implements [control.KeepStore].
func (s *Store) NoteBlobs(ctx context.Context, d control.Deletion) error {
	_, err := exec(ctx, s, `UPDATE deletions SET blobs = $2, bytes = $3, hash = $4 WHERE id = $1 AND blobs IS NULL AND finished_at IS NULL`,
		d.ID, d.Blobs, d.Bytes, orNone(d.Hash))
	return err
}

func orNone(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// counted deletes rows and returns how many there were, and a hash over them as
// they stood, in an order that does not depend on where they stood.
const counted = ` SELECT count(*), coalesce(encode(sha256(string_agg(h, '' ORDER BY h)), 'hex'), '') FROM gone`

func hashOf(alias string) string {
	return `sha256(convert_to(to_jsonb(` + alias + `)::text, 'UTF8')) AS h`
}

// A tally is what several statements have deleted.
type tally struct {
	rows  int64
	parts []string
}

func (n *tally) run(ctx context.Context, tx pgx.Tx, what, q string, args ...any) (int64, error) {
	var rows int64
	var hash string
	if err := tx.QueryRow(ctx, q+counted, args...).Scan(&rows, &hash); err != nil {
		return 0, fmt.Errorf("delete from %s: %w", what, err)
	}
	if rows > 0 {
		n.rows += rows
		n.parts = append(n.parts, fmt.Sprintf("%s %d %s", what, rows, hash))
	}
	return rows, nil
}

// FinishDeletion implements [control.KeepStore]. One that another process has
// finished meanwhile is returned as it is.
func (s *Store) FinishDeletion(ctx context.Context, d control.Deletion, at time.Time, mac func(string) []byte) (control.Deletion, error) {
	err := s.keeping(ctx, true, func(tx pgx.Tx) error {
		r, err := tx.Query(ctx, `SELECT `+deletionColumns+` FROM deletions WHERE id = $1 FOR UPDATE`, d.ID)
		if err != nil {
			return err
		}
		if d, err = pgx.CollectExactlyOneRow(r, scanDeletion); err != nil || !d.FinishedAt.IsZero() {
			return err
		}
		var n tally
		for _, f := range shelvesOf(d.Class) {
			q := fmt.Sprintf(`WITH gone AS (DELETE FROM %s t WHERE t.tenant_id = current_tenant() AND t.%s = ANY ($1) RETURNING %s)`,
				f.table, f.session, hashOf("t"))
			if _, err := n.run(ctx, tx, f.table, q, d.Objects); err != nil {
				return err
			}
		}
		if err := s.markGone(ctx, tx, d); err != nil {
			return err
		}
		if len(d.Hash) > 0 {
			n.parts = append(n.parts, fmt.Sprintf("files %d %s", d.Blobs, hex.EncodeToString(d.Hash)))
		}
		d.Rows, d.Hash, d.FinishedAt = n.rows, mac(strings.Join(n.parts, "\n")), at
		_, err = tx.Exec(ctx, `UPDATE deletions SET rows = $2, blobs = coalesce(blobs, 0), hash = $3, finished_at = $4 WHERE id = $1`, d.ID, d.Rows, d.Hash, at)
		return err
	})
	if errors.Is(err, control.ErrNotFound) {
		return d, nil // with its tenant
	}
	return d, err
}

// markGone notes at calls that stay what of them has gone.
func (s *Store) markGone(ctx context.Context, tx pgx.Tx, d control.Deletion) error {
	set := map[string]string{control.KeepTranscripts: "transcripts_gone = true", control.KeepMessages: "messages_gone = true",
		control.KeepRecordings: "recordings_gone = true, recording = '', recording_deleted_at = NULL"}[d.Class]
	if set == "" {
		return nil
	}
	_, err := tx.Exec(ctx, `UPDATE calls SET `+set+` WHERE tenant_id = current_tenant() AND id = ANY ($1)`, d.Objects)
	return err
}

// DeleteAged implements [control.KeepStore].
func (s *Store) DeleteAged(ctx context.Context, due control.Due, at time.Time, most int, mac func(string) []byte) (int64, error) {
	var n tally
	err := s.keeping(ctx, false, func(tx pgx.Tx) error {
		for _, f := range shelves() {
			if f.class != due.Class || f.age == "" {
				continue
			}
			if _, err := n.run(ctx, tx, f.table, agedQuery(f), due.Before, most); err != nil {
				return err
			}
			if f.table == "events" {
				if err := dropEndedStreams(ctx, tx); err != nil {
					return err
				}
			}
		}
		if n.rows == 0 {
			return nil
		}
		return s.insertProof(ctx, tx, control.Deletion{ID: control.NewID(), Class: due.Class, Reason: due.Reason, Before: due.Before, BegunAt: at}, n, at, mac)
	})
	return n.rows, err
}

// agedQuery deletes at most $2 rows of a table that are as old as $1.
func agedQuery(f shelf) string {
	where := ""
	switch {
	case f.table == "events": // one that is not published yet is still on its way
		where = ` AND e.position IS NOT NULL AND NOT ` + eventHeld
	case f.session != "":
		where = ` AND NOT EXISTS (SELECT FROM calls c WHERE c.id = e.` + f.session + ` AND ` + callHeld + `)`
	case len(f.numbers) > 0:
		where = ` AND NOT ` + heldBegin + `h.caller <> '' AND h.caller = e.` + f.numbers[0] + `))`
	}
	return fmt.Sprintf(`WITH old AS (SELECT e.ctid FROM %[1]s e WHERE e.tenant_id = current_tenant() AND e.%[2]s <= $1%[3]s
			ORDER BY e.%[2]s LIMIT $2 FOR UPDATE SKIP LOCKED),
		gone AS (DELETE FROM %[1]s t WHERE t.ctid = ANY (ARRAY(SELECT ctid FROM old)) AND t.tenant_id = current_tenant() RETURNING %[4]s)`,
		f.table, f.age, where, hashOf("t"))
}

// dropEndedStreams forgets the count of sessions of which nothing is left.
func dropEndedStreams(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, `DELETE FROM event_streams WHERE session_id IN (
		SELECT s.session_id FROM event_streams s WHERE s.tenant_id = current_tenant()
		  AND NOT EXISTS (SELECT FROM events e WHERE e.session_id = s.session_id)
		  AND NOT EXISTS (SELECT FROM calls c WHERE c.id = s.session_id)
		  AND NOT EXISTS (SELECT FROM conversations v WHERE v.id = s.session_id) LIMIT 500)`)
	if err != nil {
		return fmt.Errorf("delete from event_streams: %w", err)
	}
	return nil
}

// insertProof writes the proof of what one transaction has deleted by itself.
func (s *Store) insertProof(ctx context.Context, tx pgx.Tx, d control.Deletion, n tally, at time.Time, mac func(string) []byte) error {
	_, err := tx.Exec(ctx, `INSERT INTO deletions (id, tenant_id, class, reason, erasure_id, before, rows, blobs, hash, begun_at, finished_at)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, 0, $7, $8, $9)`,
		d.ID, d.Class, d.Reason, nullable(d.Erasure), nullTime(d.Before), n.rows, mac(strings.Join(n.parts, "\n")), d.BegunAt, at)
	return err
}

const deletionColumns = `id, class, reason, erasure_id, objects, before, rows, coalesce(blobs, 0), bytes, hash, begun_at, finished_at, blobs IS NOT NULL`

func scanDeletion(r pgx.CollectableRow) (d control.Deletion, err error) {
	var erasure *uuid.UUID
	var before, finished *time.Time
	err = r.Scan(&d.ID, &d.Class, &d.Reason, &erasure, &d.Objects, &before, &d.Rows, &d.Blobs, &d.Bytes, &d.Hash, &d.BegunAt, &finished, &d.Counted)
	d.Erasure, d.Before, d.FinishedAt, d.BegunAt = orNil(erasure), orZero(before), orZero(finished), d.BegunAt.UTC()
	return d, err
}

// OpenDeletions implements [control.KeepStore].
func (s *Store) OpenDeletions(ctx context.Context) ([]control.Deletion, error) {
	return rows(ctx, s, scanDeletion, `SELECT `+deletionColumns+` FROM deletions
		WHERE tenant_id = current_tenant() AND finished_at IS NULL ORDER BY id LIMIT 100`)
}

// Deletions implements [control.Erasures].
func (s *Store) Deletions(ctx context.Context, erasure uuid.UUID, p control.Page) ([]control.Deletion, error) {
	const q = `SELECT ` + deletionColumns + ` FROM deletions WHERE tenant_id = current_tenant()
		AND ($1::uuid IS NULL OR erasure_id = $1) AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3`
	return rows(ctx, s, scanDeletion, q, nullable(erasure), after(p), limit(p))
}

// EndedCalls implements [control.KeepStore].
func (s *Store) EndedCalls(ctx context.Context, ids []uuid.UUID, before time.Time) (map[uuid.UUID]bool, error) {
	known := map[uuid.UUID]bool{}
	err := s.keeping(ctx, true, func(tx pgx.Tx) error {
		r, err := tx.Query(ctx, `SELECT id, coalesce(ended_at <= $2, false) FROM calls WHERE tenant_id = current_tenant() AND id = ANY ($1)`, ids, before)
		if err != nil {
			return err
		}
		var id uuid.UUID
		var over bool
		_, err = pgx.ForEachRow(r, []any{&id, &over}, func() error { known[id] = over; return nil })
		return err
	})
	return known, err
}
