package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

const erasureColumns = `e.id, e.caller, e.user_id, e.subject, e.status, e.requested_by, e.requested_at, e.waiting, e.held, e.others, e.answers,
	e.cached, e.finished_at, p.sessions, p.rows, p.blobs, p.bytes FROM erasures e CROSS JOIN LATERAL (
		SELECT coalesce(sum(cardinality(objects)), 0)::int AS sessions, coalesce(sum(d.rows), 0)::bigint AS rows, coalesce(sum(d.blobs), 0)::int AS blobs,
		       coalesce(sum(d.bytes), 0)::bigint AS bytes
		FROM deletions d WHERE d.tenant_id = e.tenant_id AND d.erasure_id = e.id AND d.finished_at IS NOT NULL) p`

func scanErasure(r pgx.CollectableRow) (e control.Erasure, err error) {
	var finished *time.Time
	err = r.Scan(&e.ID, &e.Caller, &e.User, &e.Subject, &e.Status, &e.RequestedBy, &e.RequestedAt, &e.Waiting, &e.Held, &e.Others, &e.Answers,
		&e.Cached, &finished, &e.Sessions, &e.Rows, &e.Blobs, &e.Bytes)
	e.RequestedAt, e.FinishedAt = e.RequestedAt.UTC(), orZero(finished)
	return e, err
}

// subjectHeld tells whether a hold is about the person $1, $2 as such.
const subjectHeld = heldBegin + `h.caller || h.user_id = $1::text || $2::text))`

// InsertErasure implements [control.Erasures].
func (s *Store) InsertErasure(ctx context.Context, e control.Erasure) (control.Erasure, error) {
	const held = `SELECT ` + subjectHeld + ` OR EXISTS (SELECT FROM calls c WHERE c.tenant_id = current_tenant() AND ` + callOf + ` AND ` + callHeld + `)
		OR EXISTS (SELECT FROM conversations v WHERE v.tenant_id = current_tenant() AND ` + sessionOf + ` AND ` + sessionHeld + `)`
	err := s.keeping(ctx, true, func(tx pgx.Tx) error {
		var kept bool
		if err := tx.QueryRow(ctx, held, text(e.Caller), text(e.User), e.RequestedAt).Scan(&kept); err != nil {
			return err
		}
		if kept {
			return control.ErrHeld
		}
		_, err := tx.Exec(ctx, `INSERT INTO erasures (id, tenant_id, caller, user_id, subject, status, requested_by, requested_at)
			SELECT $1, current_tenant(), $2, $3, $4, $5, $6, $7
			WHERE NOT EXISTS (SELECT FROM erasures WHERE tenant_id = current_tenant() AND finished_at IS NULL AND subject = $4)`,
			e.ID, text(e.Caller), text(e.User), e.Subject, e.Status, e.RequestedBy, e.RequestedAt)
		if err != nil {
			return err
		}
		r, err := tx.Query(ctx, `SELECT `+erasureColumns+` WHERE e.tenant_id = current_tenant() AND e.finished_at IS NULL AND e.subject = $1`, e.Subject)
		if err == nil {
			e, err = pgx.CollectExactlyOneRow(r, scanErasure)
		}
		return err
	})
	return e, err
}

// Erasure implements [control.Erasures].
func (s *Store) Erasure(ctx context.Context, id uuid.UUID) (control.Erasure, error) {
	return one(ctx, s, scanErasure, `SELECT `+erasureColumns+` WHERE e.id = $1`, id)
}

// Erasures implements [control.Erasures].
func (s *Store) Erasures(ctx context.Context, p control.Page) ([]control.Erasure, error) {
	return rows(ctx, s, scanErasure, `SELECT `+erasureColumns+` WHERE e.tenant_id = current_tenant()
		AND ($1::uuid IS NULL OR e.id < $1) ORDER BY e.id DESC LIMIT $2`, after(p), limit(p))
}

// LocateErasures implements [control.KeepStore].
func (s *Store) LocateErasures(ctx context.Context) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_erasures()`)
}

// OpenErasures implements [control.KeepStore].
func (s *Store) OpenErasures(ctx context.Context) ([]control.Erasure, error) {
	return rows(ctx, s, scanErasure, `SELECT `+erasureColumns+` WHERE e.tenant_id = current_tenant() AND e.finished_at IS NULL ORDER BY e.id LIMIT 100`)
}

// ErasedSessions implements [control.KeepStore].
func (s *Store) ErasedSessions(ctx context.Context, erasure uuid.UUID) ([]uuid.UUID, error) {
	return rows(ctx, s, pgx.RowTo[uuid.UUID], `SELECT DISTINCT unnest(objects) FROM deletions WHERE tenant_id = current_tenant() AND erasure_id = $1`, erasure)
}

// KeptAnswers implements [control.KeepStore].
func (s *Store) KeptAnswers(ctx context.Context, after []byte, most int) ([]control.NamedRequest, error) {
	return rows(ctx, s, pgx.RowToStructByPos[control.NamedRequest], `SELECT key, fingerprint, claim, answer FROM idempotency_keys
		WHERE tenant_id = current_tenant() AND answer IS NOT NULL AND key > $1 ORDER BY key LIMIT $2`, orNone(after), most)
}

// SettleErasure implements [control.KeepStore].
func (s *Store) SettleErasure(ctx context.Context, e control.Erasure, at time.Time, mac func(string) []byte) error {
	const left = `
		SELECT count(*) FILTER (WHERE NOT held)::int, count(*) FILTER (WHERE held)::int FROM (
			SELECT ` + callHeld + ` AS held FROM calls c WHERE c.tenant_id = current_tenant() AND ` + callOf + `
			UNION ALL
			SELECT ` + sessionHeld + ` FROM conversations v WHERE v.tenant_id = current_tenant() AND ` + sessionOf + `) x`
	who := []any{text(e.Caller), text(e.User), e.RequestedAt}
	return s.keeping(ctx, true, func(tx pgx.Tx) error {
		var held bool
		if err := tx.QueryRow(ctx, left, who...).Scan(&e.Waiting, &e.Held); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT `+subjectHeld, who[:2]...).Scan(&held); err != nil {
			return err
		}
		e.Status = control.ErasureDone
		switch {
		case held || e.Held > 0:
			e.Status = control.ErasureHeld
		case e.Waiting > 0:
			e.Status = control.ErasureWaiting
		}
		if e.Status == control.ErasureDone {
			if err := s.eraseOthers(ctx, tx, &e, at, mac); err != nil {
				return err
			}
		}
		const q = `UPDATE erasures SET status = $2, waiting = $3, held = $4, others = others + $5, answers = answers + $6, cached = cached + $7,
			caller = CASE WHEN $2 = 'done' THEN '' ELSE caller END, user_id = CASE WHEN $2 = 'done' THEN '' ELSE user_id END,
			finished_at = CASE WHEN $2 = 'done' THEN $8::timestamptz END WHERE id = $1 AND finished_at IS NULL`
		_, err := tx.Exec(ctx, q, e.ID, e.Status, e.Waiting, e.Held, e.Others, e.Answers, e.Cached, at)
		return err
	})
}

// eraseOthers deletes what names the person outside of sessions, and takes them
// out of holds that were lifted.
func (s *Store) eraseOthers(ctx context.Context, tx pgx.Tx, e *control.Erasure, at time.Time, mac func(string) []byte) error {
	var n tally
	for _, f := range shelves() {
		var by []string
		for _, c := range f.numbers {
			by = append(by, "t."+c+" = $1")
		}
		for _, c := range f.users {
			by = append(by, "t."+c+" = $1")
		}
		if by == nil {
			continue
		}
		q := fmt.Sprintf(`WITH gone AS (DELETE FROM %s t WHERE t.tenant_id = current_tenant() AND (%s) RETURNING %s)`, f.table, strings.Join(by, " OR "), hashOf("t"))
		if _, err := n.run(ctx, tx, f.table, q, text(e.Caller+e.User)); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `UPDATE legal_holds SET caller = '', user_id = '', reason = '[erased]'
		WHERE tenant_id = current_tenant() AND lifted_at IS NOT NULL AND (caller || user_id = $1 OR reason LIKE '%' || $2 || '%' ESCAPE '\')`,
		text(e.Caller+e.User), likely(e.Caller+e.User)); err != nil {
		return fmt.Errorf("erase from legal_holds: %w", err)
	}
	e.Others = n.rows
	if n.rows == 0 {
		return nil
	}
	return s.insertProof(ctx, tx, control.Deletion{ID: control.NewID(), Class: "others", Reason: control.ByErasure, Erasure: e.ID, BegunAt: at}, n, at, mac)
}

// likely escapes text for LIKE.
func likely(s string) string {
	return strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(text(s))
}
