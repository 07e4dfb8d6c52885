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

var (
	_ control.CallStore   = (*Store)(nil)
	_ control.CallChanges = (*Store)(nil)
)

const callColumns = `id, tenant_id, agent_id, carrier, coalesce(carrier_call_id, ''), direction, caller, callee, status,
	started_at, answered_at, ended_at, end_reason, transfer_to, transfer_outcome, CASE WHEN recording_deleted_at IS NULL THEN recording ELSE '' END,
	coalesce(leased_until > now(), false), generation, revision, node_id, phase, phase_at, flow_node,
	agent_version_id, carrier_account_id`

func scanCall(r pgx.CollectableRow) (control.Call, error) {
	var c control.Call
	var answered, ended, phase *time.Time
	var node, account *uuid.UUID
	err := r.Scan(&c.ID, &c.Tenant, &c.Agent, &c.Carrier, &c.CarrierCallID, &c.Direction, &c.From, &c.To, &c.Status,
		&c.StartedAt, &answered, &ended, &c.EndReason, &c.TransferTo, &c.TransferOutcome, &c.Recording, &c.Served, &c.Generation,
		&c.Revision, &node, &c.Phase, &phase, &c.FlowNode, &c.AgentVersion, &account)
	c.Node, c.PhaseAt = orNil(node), orZero(phase)
	c.StartedAt, c.AnsweredAt, c.EndedAt = c.StartedAt.UTC(), orZero(answered), orZero(ended)
	c.Account = orNil(account)
	return c, err
}

// LocateCall implements [control.CallStore].
func (s *Store) LocateCall(ctx context.Context, id uuid.UUID) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_call($1)`, id)
}

// LocateCarrierCall implements [control.CallStore].
func (s *Store) LocateCarrierCall(ctx context.Context, carrier, id string) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_carrier_call($1, $2)`, carrier, id)
}

// LocateStaleCalls implements [control.CallStore].
func (s *Store) LocateStaleCalls(ctx context.Context, leasedBefore, arrivedBefore time.Time) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_stale_calls($1, $2)`, leasedBefore, arrivedBefore)
}

// InsertCall implements [control.CallStore].
func (s *Store) InsertCall(ctx context.Context, c control.Call) (control.Call, error) {
	const insert = `
		INSERT INTO calls (id, tenant_id, agent_id, carrier, carrier_call_id, direction, caller, callee, status, started_at,
		    agent_version_id, carrier_account_id)
		VALUES ($1, current_tenant(), $2, $3, nullif($4, ''), $5, $6, $7, $8, $9,
		    coalesce($10, (SELECT published_id FROM agent_environments WHERE agent_id = $2 AND name = 'live')), $11)
		ON CONFLICT (tenant_id, carrier, carrier_call_id) DO NOTHING`
	b, _, err := batch(ctx)
	if err != nil {
		return c, err
	}
	b.Queue(insert, c.ID, c.Agent, c.Carrier, c.CarrierCallID, c.Direction, c.From, c.To, c.Status, c.StartedAt,
		nullable(c.AgentVersion), nullable(c.Account))
	// Another webhook's row may have been committed since the batch's snapshot,
	// but each statement takes its own (read committed).
	b.Queue(`SELECT `+callColumns+` FROM calls WHERE id = $1 OR carrier = $2 AND carrier_call_id = nullif($3, '')`,
		c.ID, c.Carrier, c.CarrierCallID).Query(func(r pgx.Rows) error {
		got, err := pgx.CollectExactlyOneRow(r, scanCall)
		if err == nil {
			c = got
		}
		return err
	})
	defer s.wrote()
	return c, s.send(ctx, b)
}

// Call implements [control.CallStore]. Another tenant's call is ErrNotFound:
// the database does not show it.
func (s *Store) Call(ctx context.Context, id uuid.UUID) (control.Call, error) {
	c, err := one(ctx, s, scanCall, `SELECT `+callColumns+` FROM calls WHERE id = $1`, id)
	if err != nil {
		return c, fmt.Errorf("call %s: %w", id, err)
	}
	return c, nil
}

// change runs a conditional update of a call; where it changes nothing, it
// tells why: ErrNotFound, ErrTaken, ErrEnded or ErrConflict.
func (s *Store) change(ctx context.Context, what string, h control.Hold, set string, args ...any) (control.Call, error) {
	q := `UPDATE calls SET ` + set + ` RETURNING ` + callColumns
	c, err := one(ctx, s, scanCall, q, append([]any{h.Call}, args...)...)
	if errors.Is(err, control.ErrNotFound) {
		if c, err = s.Call(ctx, h.Call); err == nil {
			err = control.ErrConflict
			switch {
			case h.Generation != 0 && h.Generation != c.Generation:
				err = control.ErrTaken
			case c.Status == control.CallEnded:
				err = control.ErrEnded
			}
		}
	}
	if err != nil {
		return c, fmt.Errorf("%s call %s: %w", what, h.Call, err)
	}
	s.wrote()
	return c, nil
}

// ClaimCall implements [control.CallChanges].
func (s *Store) ClaimCall(ctx context.Context, id, node uuid.UUID, lease time.Duration) (control.Call, error) {
	return s.change(ctx, "claim", control.Hold{Call: id}, `status = 'active', answered_at = coalesce(answered_at, now()),
		ended_at = NULL, end_reason = '', node_id = $2, leased_until = now() + $3::interval, generation = generation + 1
		WHERE id = $1 AND (status IN ('arrived', 'active') OR status = 'ended'
		       AND end_reason IN ('network', 'crashed') AND ended_at > now() - $4::interval)`,
		node, lease, control.ResumeWindow)
}

// RenewCalls implements [control.CallChanges].
func (s *Store) RenewCalls(ctx context.Context, node uuid.UUID, holds []control.Hold, lease time.Duration) ([]uuid.UUID, error) {
	const q = `
		UPDATE calls SET leased_until = now() + $4::interval, node_id = $3, status = 'active', ended_at = NULL, end_reason = ''
		FROM unnest($1::uuid[], $2::int[]) AS h(call, generation)
		WHERE id = h.call AND calls.generation = h.generation AND (status = 'active' OR end_reason = 'crashed')
		RETURNING id`
	ids, generations := make([]uuid.UUID, len(holds)), make([]int, len(holds))
	for i, h := range holds {
		ids[i], generations[i] = h.Call, h.Generation
	}
	return rows(ctx, s, pgx.RowTo[uuid.UUID], q, ids, generations, node, lease)
}

// LapseCall implements [control.CallChanges].
func (s *Store) LapseCall(ctx context.Context, id uuid.UUID, at time.Time) (control.Call, error) {
	return s.ending(ctx, "lapse", control.Hold{Call: id}, `status = 'ended', ended_at = greatest($2, started_at),
		end_reason = 'crashed', node_id = NULL, leased_until = NULL
		WHERE id = $1 AND status = 'active' AND leased_until < now()`, at)
}

// EndCall implements [control.CallChanges].
func (s *Store) EndCall(ctx context.Context, h control.Hold, reason string, at time.Time) (control.Call, error) {
	c, err := s.ending(ctx, "end", h, `status = 'ended', ended_at = greatest($3, started_at), end_reason = $2,
		node_id = NULL, leased_until = NULL
		WHERE id = $1 AND $4 IN (0, generation) AND (status <> 'ended' OR $4 > 0 AND end_reason = 'crashed')`,
		reason, at, h.Generation)
	if errors.Is(err, control.ErrEnded) {
		return c, nil
	}
	return c, err
}

// TransferCall implements [control.CallChanges].
func (s *Store) TransferCall(ctx context.Context, h control.Hold, to string) (control.Call, error) {
	return s.change(ctx, "transfer", h, `status = 'transferring', transfer_to = $2, transfer_outcome = '',
		node_id = NULL, leased_until = NULL WHERE id = $1 AND $3 IN (0, generation) AND status = 'active'`, to, h.Generation)
}

// TransferEnded implements [control.CallChanges].
func (s *Store) TransferEnded(ctx context.Context, id uuid.UUID, outcome string, back bool, at time.Time) (control.Call, error) {
	if back {
		// As if leased: until then nobody takes the call for a dead process's.
		return s.change(ctx, "take back", control.Hold{Call: id}, `status = 'active', transfer_outcome = $2,
			leased_until = now() + interval '30 seconds'
			WHERE id = $1 AND status = 'transferring'`, outcome)
	}
	return s.ending(ctx, "end transferred", control.Hold{Call: id}, `status = 'ended', transfer_outcome = $2, end_reason = 'transfer',
		ended_at = greatest($3, started_at) WHERE id = $1 AND status = 'transferring'`, outcome, at)
}

// NotePhases implements [control.CallChanges].
func (s *Store) NotePhases(ctx context.Context, phases []control.CallPhase) error {
	const q = `
		UPDATE calls SET phase = p.phase, phase_at = p.at, flow_node = p.node
		FROM unnest($1::uuid[], $2::int[], $3::text[], $4::timestamptz[], $5::text[]) AS p(call, generation, phase, at, node)
		WHERE id = p.call AND calls.generation = p.generation AND status = 'active'`
	n := len(phases)
	ids, generations, names, at, nodes := make([]uuid.UUID, n), make([]int, n), make([]string, n), make([]time.Time, n), make([]string, n)
	for i, p := range phases {
		ids[i], generations[i], names[i], at[i], nodes[i] = p.Call, p.Generation, p.Phase, p.At, p.FlowNode
	}
	_, err := exec(ctx, s, q, ids, generations, names, at, nodes)
	return err
}
