package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/outbound"
)

var (
	_ outbound.Store    = (*Store)(nil)
	_ outbound.Policies = (*Store)(nil)
)

const dialColumns = `d.id, d.agent_id, d.callee, d.caller, d.status, d.due_at, d.moved_from, d.reason, d.expires_at, d.settings, d.variables,
	d.reference, d.any_hour, d.attempts, d.outcome, d.error_code, d.error, d.created_by, d.created_at, d.finished_at, d.country`

func scanDial(r pgx.CollectableRow) (d outbound.Dial, err error) {
	var moved, finished *time.Time
	var settings, variables []byte
	if err := r.Scan(&d.ID, &d.Agent, &d.To, &d.From, &d.Status, &d.DueAt, &moved, &d.Reason, &d.ExpiresAt, &settings, &variables,
		&d.Reference, &d.AnyHour, &d.Attempts, &d.Outcome, &d.ErrorCode, &d.Error, &d.CreatedBy, &d.CreatedAt, &finished, &d.Country); err != nil {
		return d, err
	}
	d.DueAt, d.ExpiresAt, d.CreatedAt = d.DueAt.UTC(), d.ExpiresAt.UTC(), d.CreatedAt.UTC()
	d.MovedFrom, d.FinishedAt = orZero(moved), orZero(finished)
	if err := json.Unmarshal(settings, &d.Settings); err != nil {
		return d, fmt.Errorf("settings of dial %s: %w", d.ID, err)
	}
	if err := json.Unmarshal(variables, &d.Variables); err != nil {
		return d, fmt.Errorf("variables of dial %s: %w", d.ID, err)
	}
	return d, nil
}

// InsertDial implements [outbound.Store].
func (s *Store) InsertDial(ctx context.Context, d outbound.Dial) error {
	const q = `
		INSERT INTO dials (id, tenant_id, agent_id, callee, caller, status, due_at, moved_from, reason, expires_at, settings, variables,
		    reference, any_hour, created_by, created_at, country)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`
	settings, err := json.Marshal(d.Settings)
	if err != nil {
		return fmt.Errorf("insert dial: %w", err)
	}
	if d.Variables == nil {
		d.Variables = map[string]any{}
	}
	variables, err := json.Marshal(d.Variables)
	if err != nil {
		return fmt.Errorf("insert dial: %w", err)
	}
	_, err = exec(ctx, s, q, d.ID, d.Agent, d.To, d.From, d.Status, d.DueAt, nullTime(d.MovedFrom), d.Reason, d.ExpiresAt,
		settings, variables, text(d.Reference), d.AnyHour, d.CreatedBy, d.CreatedAt, d.Country)
	return err
}

// Dial implements [outbound.Store].
func (s *Store) Dial(ctx context.Context, id uuid.UUID) (outbound.Dial, error) {
	return one(ctx, s, scanDial, `SELECT `+dialColumns+` FROM dials d WHERE d.id = $1`, id)
}

// Dials implements [outbound.Store].
func (s *Store) Dials(ctx context.Context, f outbound.Filter) ([]outbound.Dial, error) {
	const q = `
		SELECT ` + dialColumns + ` FROM dials d
		WHERE d.tenant_id = current_tenant() AND ($1::uuid IS NULL OR d.id < $1) AND ($3 = '' OR d.status = $3)
		  AND ($4 = '' OR d.callee = $4) AND ($5 = '' OR d.reference = $5) AND ($6::uuid IS NULL OR d.agent_id = $6)
		ORDER BY d.id DESC LIMIT $2`
	return rows(ctx, s, scanDial, q, after(f.Page), limit(f.Page), f.Status, text(f.To), text(f.Reference), nullable(f.Agent))
}

const attemptColumns = `a.id, a.dial_id, a.number, a.caller, a.carrier_sid, a.status, a.started_at, a.answered_at, a.ended_at,
	a.answered_by, a.outcome, a.error_code, a.error, a.price, a.cost, a.check_at, a.checks, a.carrier_account_id`

func scanAttempt(r pgx.CollectableRow) (a outbound.Attempt, err error) {
	var answered, ended *time.Time
	var account *uuid.UUID
	err = r.Scan(&a.ID, &a.Dial, &a.Number, &a.From, &a.SID, &a.Status, &a.StartedAt, &answered, &ended,
		&a.AnsweredBy, &a.Outcome, &a.ErrorCode, &a.Error, &a.Price, &a.Cost, &a.CheckAt, &a.Checks, &account)
	if account != nil {
		a.Account = *account
	}
	a.StartedAt, a.CheckAt, a.AnsweredAt, a.EndedAt = a.StartedAt.UTC(), a.CheckAt.UTC(), orZero(answered), orZero(ended)
	return a, err
}

// AttemptsOf implements [outbound.Store].
func (s *Store) AttemptsOf(ctx context.Context, dial uuid.UUID) ([]outbound.Attempt, error) {
	return rows(ctx, s, scanAttempt, `SELECT `+attemptColumns+` FROM dial_attempts a WHERE a.dial_id = $1 ORDER BY a.number`, dial)
}

// AccountOf implements [outbound.Store].
func (s *Store) AccountOf(ctx context.Context, e164 string) (uuid.UUID, error) {
	id, err := one(ctx, s, pgx.RowTo[*uuid.UUID], `SELECT carrier_account_id FROM numbers WHERE tenant_id = current_tenant() AND e164 = $1`, text(e164))
	if err != nil || id == nil {
		return uuid.Nil, err
	}
	return *id, nil
}

// DialOf implements [outbound.Store].
func (s *Store) DialOf(ctx context.Context, attempt uuid.UUID) (outbound.Dial, error) {
	return one(ctx, s, scanDial, `SELECT `+dialColumns+` FROM dial_attempts a JOIN dials d ON d.id = a.dial_id WHERE a.id = $1`, attempt)
}

const policyColumns = `quiet_from, quiet_until, time_zone, concurrency, number_concurrency, per_minute, daily_spend, prefixes,
	consent_required, revision, updated_at`

func scanOutboundPolicy(r pgx.CollectableRow) (p outbound.Policy, err error) {
	err = r.Scan(&p.Quiet.From, &p.Quiet.Until, &p.Zone, &p.Concurrency, &p.OfNumber, &p.PerMinute, &p.DailySpend, &p.Prefixes,
		&p.Consent, &p.Revision, &p.Updated)
	p.Updated = p.Updated.UTC()
	return p, err
}

// OutboundPolicy implements [outbound.Policies].
func (s *Store) OutboundPolicy(ctx context.Context) (outbound.Policy, error) {
	p, err := rows(ctx, s, scanOutboundPolicy, `SELECT `+policyColumns+` FROM outbound_policies WHERE tenant_id = current_tenant()`)
	if err != nil {
		return outbound.Policy{}, fmt.Errorf("read the outbound policy: %w", err)
	}
	if len(p) == 0 {
		return outbound.DefaultPolicy(), nil
	}
	return p[0], nil
}

// PutOutboundPolicy implements [outbound.Policies].
func (s *Store) PutOutboundPolicy(ctx context.Context, p outbound.Policy, revision int) (outbound.Policy, error) {
	const q = `
		INSERT INTO outbound_policies AS p (tenant_id, quiet_from, quiet_until, time_zone, concurrency, number_concurrency, per_minute,
		    daily_spend, prefixes, consent_required)
		SELECT current_tenant(), $1, $2, $3, $4, $5, $6, $7, $8, $9
		WHERE $10 <= 0 OR EXISTS (SELECT FROM outbound_policies WHERE tenant_id = current_tenant())
		ON CONFLICT (tenant_id) DO UPDATE SET quiet_from = $1, quiet_until = $2, time_zone = $3, concurrency = $4, number_concurrency = $5,
		    per_minute = $6, daily_spend = $7, prefixes = $8, consent_required = $9, revision = p.revision + 1, updated_at = now()
		WHERE $10 = -1 OR p.revision = $10
		RETURNING ` + policyColumns
	if p.Prefixes == nil {
		p.Prefixes = outbound.Prefixes{}
	}
	got, err := rows(ctx, s, scanOutboundPolicy, q, p.Quiet.From, p.Quiet.Until, p.Zone, p.Concurrency, p.OfNumber, p.PerMinute,
		int64(p.DailySpend), []string(p.Prefixes), p.Consent, revision)
	if err == nil && len(got) == 0 {
		err = control.ErrConflict
	}
	if err != nil {
		return outbound.Policy{}, fmt.Errorf("write the outbound policy: %w", err)
	}
	return got[0], nil
}
