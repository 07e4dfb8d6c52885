package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/outbound"
)

var (
	_ outbound.Changes = (*Store)(nil)
	_ outbound.Queue   = (*Store)(nil)
	_ outbound.Spend   = (*Store)(nil)
)

// LocateDueDials implements [outbound.Queue].
func (s *Store) LocateDueDials(ctx context.Context, each, most int) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_due_dials($1, $2)`, each, most)
}

// LocateDueAttempts implements [outbound.Queue].
func (s *Store) LocateDueAttempts(ctx context.Context, most int) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_due_attempts($1)`, most)
}

// LocateDialling implements [outbound.Queue].
func (s *Store) LocateDialling(ctx context.Context) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_dialling_tenants()`)
}

// OpenAttempts implements [outbound.Queue].
func (s *Store) OpenAttempts(ctx context.Context) ([]outbound.Attempt, error) {
	return rows(ctx, s, scanAttempt, `SELECT `+attemptColumns+` FROM dial_attempts a WHERE a.tenant_id = current_tenant() AND a.status <> 'ended'`)
}

// KnownCalls implements [outbound.Queue].
func (s *Store) KnownCalls(ctx context.Context, sids []string) ([]string, error) {
	return rows(ctx, s, pgx.RowTo[string], `
		SELECT carrier_call_id FROM calls WHERE tenant_id = current_tenant() AND carrier = 'twilio' AND carrier_call_id = ANY ($1)`, sids)
}

// OutboundSpent implements [outbound.Spend].
func (s *Store) OutboundSpent(ctx context.Context, since time.Time) (outbound.Money, error) {
	return one(ctx, s, pgx.RowTo[outbound.Money], `
		SELECT coalesce(sum(cost), 0)::bigint FROM dial_attempts
		WHERE tenant_id = current_tenant() AND started_at >= $1 AND status = 'ended'`, since)
}

// ClaimDial implements [outbound.Changes].
func (s *Store) ClaimDial(ctx context.Context, id, node uuid.UUID, lease time.Duration) (outbound.Dial, error) {
	const q = `
		UPDATE dials d SET claim = $2, claimed_until = now() + $3::interval
		WHERE d.id = (SELECT id FROM dials WHERE id = $1 AND status = 'scheduled' AND due_at <= now()
		              AND (claimed_until IS NULL OR claimed_until < now()) FOR UPDATE SKIP LOCKED)
		RETURNING ` + dialColumns
	d, err := one(ctx, s, scanDial, q, id, node, lease)
	return d, control.NotFoundIs(err, control.ErrConflict)
}

// BeginAttempt implements [outbound.Changes].
func (s *Store) BeginAttempt(ctx context.Context, node uuid.UUID, a outbound.Attempt) (outbound.Attempt, error) {
	err := s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		tag, err := tx.Exec(ctx, `
			UPDATE dials SET status = 'dialling', attempts = attempts + 1, reason = '', moved_from = NULL, claim = NULL, claimed_until = NULL
			WHERE id = $1 AND status = 'scheduled' AND claim = $2 AND claimed_until > now()`, a.Dial, node)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return control.ErrTaken
		}
		return tx.QueryRow(ctx, `
			INSERT INTO dial_attempts (id, tenant_id, dial_id, number, caller, status, started_at, price, cost, check_at, carrier_account_id)
			SELECT $1, current_tenant(), $2, 1 + coalesce(max(number), 0), $3, $4, $5, $6, $7, $8, $9 FROM dial_attempts WHERE dial_id = $2
			RETURNING number`, a.ID, a.Dial, a.From, a.Status, a.StartedAt, int64(a.Price), int64(a.Cost), a.CheckAt, nullable(a.Account)).Scan(&a.Number)
	})
	if err != nil {
		return a, fmt.Errorf("begin an attempt: %w", err)
	}
	return a, nil
}

// ChangeDial implements [outbound.Changes].
func (s *Store) ChangeDial(ctx context.Context, id uuid.UUID, f func(*outbound.Dial) error) (d outbound.Dial, err error) {
	err = s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		if d, err = lockDial(ctx, tx, id); err != nil {
			return err
		}
		if err := f(&d); err != nil {
			return err
		}
		return writeDial(ctx, tx, d)
	})
	return d, err
}

func lockDial(ctx context.Context, tx pgx.Tx, id uuid.UUID) (outbound.Dial, error) {
	r, err := tx.Query(ctx, `SELECT `+dialColumns+` FROM dials d WHERE d.id = $1 FOR UPDATE`, id)
	if err != nil {
		return outbound.Dial{}, err
	}
	return pgx.CollectExactlyOneRow(r, scanDial)
}

func writeDial(ctx context.Context, tx pgx.Tx, d outbound.Dial) error {
	_, err := tx.Exec(ctx, `
		UPDATE dials SET status = $2, due_at = $3, moved_from = $4, reason = $5, attempts = $6, outcome = $7, error_code = $8, error = $9,
		    finished_at = $10, claim = NULL, claimed_until = NULL WHERE id = $1`,
		d.ID, d.Status, d.DueAt, nullTime(d.MovedFrom), d.Reason, d.Attempts, d.Outcome, d.ErrorCode, text(d.Error), nullTime(d.FinishedAt))
	return err
}

// ChangeAttempt implements [outbound.Changes].
func (s *Store) ChangeAttempt(ctx context.Context, id uuid.UUID, f func(*outbound.Dial, *outbound.Attempt) error) (d outbound.Dial, a outbound.Attempt, err error) {
	err = s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		var dial uuid.UUID
		if err := tx.QueryRow(ctx, `SELECT dial_id FROM dial_attempts WHERE id = $1`, id).Scan(&dial); err != nil {
			return err
		}
		if d, err = lockDial(ctx, tx, dial); err != nil {
			return err
		}
		r, err := tx.Query(ctx, `SELECT `+attemptColumns+` FROM dial_attempts a WHERE a.id = $1 FOR UPDATE`, id)
		if err != nil {
			return err
		}
		if a, err = pgx.CollectExactlyOneRow(r, scanAttempt); err != nil {
			return err
		}
		before, beforeDial := a, d
		if err := f(&d, &a); err != nil {
			return err
		}
		if d.Status != beforeDial.Status || d.Reason != beforeDial.Reason || d.ErrorCode != beforeDial.ErrorCode {
			if err := writeDial(ctx, tx, d); err != nil {
				return err
			}
		}
		return writeAttempt(ctx, tx, d, before, a)
	})
	if err == nil && a.SID != "" {
		s.wrote()
	}
	return d, a, err
}

// writeAttempt writes an attempt, and its call as far as no session does.
func writeAttempt(ctx context.Context, tx pgx.Tx, d outbound.Dial, before, a outbound.Attempt) error {
	if a.Undone {
		_, err := tx.Exec(ctx, `DELETE FROM dial_attempts WHERE id = $1`, a.ID)
		return err
	}
	if a.SID != before.SID {
		// It waits for its session as long as it may ring, and is then missed.
		const q = `
			INSERT INTO calls (id, tenant_id, agent_id, carrier, carrier_call_id, direction, caller, callee, status, started_at, leased_until, agent_version_id,
			    carrier_account_id)
			VALUES ($1, current_tenant(), $2, 'twilio', $3, 'outbound', $4, $5, 'arrived', $6, now() + $7::interval,
			    (SELECT published_id FROM agent_environments WHERE agent_id = $2 AND name = 'live'), $8)`
		waits := time.Duration(d.Settings.RingSeconds)*time.Second + 3*time.Minute
		if _, err := tx.Exec(ctx, q, a.ID, d.Agent, a.SID, a.From, d.To, a.StartedAt, waits, nullable(a.Account)); err != nil {
			return err
		}
	}
	const q = `
		UPDATE dial_attempts SET call_id = CASE WHEN $2 = '' THEN NULL ELSE id END, carrier_sid = $2, status = $3, answered_at = $4,
		    ended_at = $5, answered_by = $6, outcome = $7, error_code = $8, error = $9, cost = $10, check_at = $11 WHERE id = $1`
	if _, err := tx.Exec(ctx, q, a.ID, a.SID, a.Status, nullTime(a.AnsweredAt), nullTime(a.EndedAt), text(a.AnsweredBy), a.Outcome,
		text(a.ErrorCode), text(a.Error), int64(a.Cost), a.CheckAt); err != nil {
		return err
	}
	if a.Status != outbound.Ended || before.Status == outbound.Ended || a.SID == "" {
		return nil
	}
	_, err := tx.Exec(ctx, `
		UPDATE calls SET status = 'ended', end_reason = $2, ended_at = greatest($3, started_at), node_id = NULL, leased_until = NULL
		WHERE id = $1 AND status = 'arrived'`, a.ID, endReason(a.Outcome), a.EndedAt)
	return err
}

// endReason is an outcome in the words of calls.
func endReason(outcome string) string {
	switch outcome {
	case outbound.OutcomeNoAnswer:
		return "no-answer"
	case outbound.OutcomeAnswered, outbound.OutcomeMachine, outbound.OutcomeMessage:
		return "missed" // no session came of it
	}
	return outcome
}

// ClaimAttempt implements [outbound.Changes].
func (s *Store) ClaimAttempt(ctx context.Context, id uuid.UUID, until time.Time) (outbound.Attempt, error) {
	const q = `
		UPDATE dial_attempts a SET check_at = $2, checks = a.checks + 1
		WHERE a.id = (SELECT id FROM dial_attempts WHERE id = $1 AND status <> 'ended' AND check_at <= now() FOR UPDATE SKIP LOCKED)
		RETURNING ` + attemptColumns
	a, err := one(ctx, s, scanAttempt, q, id, until)
	if errors.Is(err, control.ErrNotFound) {
		err = control.ErrConflict
	}
	return a, err
}
