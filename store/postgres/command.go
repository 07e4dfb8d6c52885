package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/seal"
)

var _ control.CommandStore = (*Store)(nil)

// maxOpenCommands bounds those of one call.
const maxOpenCommands = 16

const commandColumns = `c.id, c.call_id, c.kind, c.target, c.status, c.stage, c.leg, c.reason, c.actor, c.created_at, c.expires_at, c.ended_at,
	c.words, c.sealed`

type commandRow struct {
	control.Command
	sealed []byte
}

// commandWords is what of a command is sealed.
type commandWords struct {
	Words string `json:"words,omitempty"`
	Aloud string `json:"aloud,omitempty"`
}

func scanCommand(r pgx.CollectableRow) (c commandRow, err error) {
	var words *commandWords
	var ended *time.Time
	err = r.Scan(&c.ID, &c.Call, &c.Kind, &c.Target, &c.Status, &c.Stage, &c.Leg, &c.Reason, &c.Actor, &c.CreatedAt, &c.ExpiresAt, &ended,
		&words, &c.sealed)
	if words != nil {
		c.Words, c.Aloud = words.Words, words.Aloud
	}
	c.CreatedAt, c.ExpiresAt, c.EndedAt = c.CreatedAt.UTC(), c.ExpiresAt.UTC(), orZero(ended)
	return c, err
}

func commandPlace(id uuid.UUID) string { return "call_commands/" + id.String() }

// openCommands opens what is sealed. What nobody can open is without words.
func (s *Store) openCommands(ctx context.Context, found []commandRow) ([]control.Command, error) {
	out := make([]control.Command, len(found))
	for i, c := range found {
		words := commandWords{c.Words, c.Aloud}
		if err := s.unseal(ctx, commandPlace(c.ID), c.sealed, &words); err != nil && !errors.Is(err, control.ErrErased) && !errors.Is(err, seal.ErrDamaged) {
			return nil, err
		}
		out[i] = c.Command
		out[i].Words, out[i].Aloud = words.Words, words.Aloud
	}
	return out, nil
}

// LocateCommand implements [control.CommandStore].
func (s *Store) LocateCommand(ctx context.Context, id uuid.UUID) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_command($1)`, id)
}

// Command implements [control.CommandStore].
func (s *Store) Command(ctx context.Context, id uuid.UUID) (control.Command, error) {
	c, err := one(ctx, s, scanCommand, `SELECT `+commandColumns+` FROM call_commands c WHERE id = $1`, id)
	if err == nil {
		var all []control.Command
		if all, err = s.openCommands(ctx, []commandRow{c}); err == nil {
			return all[0], nil
		}
	}
	return control.Command{}, fmt.Errorf("command %s: %w", id, err)
}

// Commands implements [control.CommandStore].
func (s *Store) Commands(ctx context.Context, call uuid.UUID, p control.Page) ([]control.Command, error) {
	found, err := rows(ctx, s, scanCommand, `SELECT `+commandColumns+` FROM call_commands c
		WHERE tenant_id = current_tenant() AND call_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3`,
		call, after(p), limit(p))
	if err != nil {
		return nil, fmt.Errorf("commands of call %s: %w", call, err)
	}
	return s.openCommands(ctx, found)
}

// over is what every closed command looks like.
const over = `ended_at = now(), words = NULL, sealed = NULL`

// PutCommand implements [control.CommandStore]. The call's row is the lock.
func (s *Store) PutCommand(ctx context.Context, c control.Command, revision int) (control.Command, error) {
	said := commandWords{c.Words, c.Aloud}
	sealed, err := s.seal(ctx, commandPlace(c.ID), said)
	if err != nil {
		return c, fmt.Errorf("put a command: %w", err)
	}
	var words any
	if sealed == nil {
		words = said
	}
	err = s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		var status string
		var at int
		if err := tx.QueryRow(ctx, `SELECT status, revision FROM calls WHERE id = $1 FOR UPDATE`, c.Call).Scan(&status, &at); err != nil {
			return err
		}
		switch {
		case status == control.CallEnded:
			return control.ErrEnded
		case revision != control.AnyRevision && revision != at:
			return control.Refuse(control.ErrConflict, "the call has changed since you read it")
		}
		if err := s.makeRoom(ctx, tx, c, revision); err != nil {
			return err
		}
		const put = `INSERT INTO call_commands (id, tenant_id, call_id, kind, target, words, sealed, status, actor, created_at, expires_at)
			VALUES ($1, current_tenant(), $2, $3, $4, $5::jsonb, $6, $7, $8, $9, $10)`
		if _, err := tx.Exec(ctx, put, c.ID, c.Call, c.Kind, c.Target, words, sealed, c.Status, c.Actor, c.CreatedAt, c.ExpiresAt); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE calls SET revision = revision + 1 WHERE id = $1`, c.Call)
		return err
	})
	if errors.Is(err, control.ErrConflict) && !errors.As(err, new(*control.Refusal)) {
		err = control.Refuse(control.ErrConflict, "another command decides where the call goes: read it, and send its revision as If-Match to hang up all the same")
	}
	if err != nil {
		return c, fmt.Errorf("put a command for call %s: %w", c.Call, err)
	}
	return c, nil
}

// makeRoom closes commands of the call whose time is over, and those that a
// hang-up takes the place of, whose sender knows of them.
func (s *Store) makeRoom(ctx context.Context, tx pgx.Tx, c control.Command, revision int) error {
	const lapsed = `UPDATE call_commands SET status = 'failed', reason = 'nobody took it in time', ` + over + `
		WHERE call_id = $1 AND expires_at < now() AND (status = 'pending' OR status = 'taken' AND kind = 'warm_transfer' AND stage <> 'accepted')`
	if _, err := tx.Exec(ctx, lapsed, c.Call); err != nil {
		return err
	}
	if c.Kind == control.CommandHangup && revision != control.AnyRevision {
		const replaced = `UPDATE call_commands SET status = 'failed', reason = 'another operator hung up', ` + over + `
			WHERE call_id = $1 AND status IN ('pending', 'taken') AND kind IN ('hangup', 'transfer', 'warm_transfer')`
		if _, err := tx.Exec(ctx, replaced, c.Call); err != nil {
			return err
		}
	}
	var open int
	err := tx.QueryRow(ctx, `SELECT count(*) FROM call_commands WHERE call_id = $1 AND status IN ('pending', 'taken')`, c.Call).Scan(&open)
	if err == nil && open >= maxOpenCommands {
		err = control.Refuse(control.ErrConflict, "too many commands wait for this call")
	}
	return err
}

// TakeCommands implements [control.CommandStore].
func (s *Store) TakeCommands(ctx context.Context, holds []control.Hold) ([]control.Command, error) {
	const q = `
		WITH held AS (
			SELECT h.call FROM unnest($1::uuid[], $2::int[]) AS h(call, generation)
			JOIN calls ON calls.id = h.call AND calls.generation = h.generation
		), fresh AS (
			UPDATE call_commands c SET status = 'taken' FROM held
			WHERE c.call_id = held.call AND c.status = 'pending' AND c.expires_at >= now() RETURNING ` + commandColumns + `
		), moved AS (
			UPDATE call_commands c SET told = true FROM held
			WHERE c.call_id = held.call AND c.kind = 'warm_transfer' AND NOT c.told AND c.stage IN ('accepted', 'over') RETURNING ` + commandColumns + `
		)
		SELECT * FROM fresh UNION ALL SELECT * FROM moved ORDER BY id`
	ids, generations := make([]uuid.UUID, len(holds)), make([]int, len(holds))
	for i, h := range holds {
		ids[i], generations[i] = h.Call, h.Generation
	}
	found, err := rows(ctx, s, scanCommand, q, ids, generations)
	if err != nil {
		return nil, fmt.Errorf("take commands: %w", err)
	}
	return s.openCommands(ctx, found)
}

// StageCommand implements [control.CommandStore].
func (s *Store) StageCommand(ctx context.Context, id uuid.UUID, stage, leg string) (control.Command, error) {
	// A colleague may be quicker than the answer of who rang them.
	const q = `UPDATE call_commands c SET leg = coalesce(nullif($3, ''), leg),
			stage = CASE WHEN $2 = 'calling' AND stage <> '' THEN stage ELSE $2 END
		WHERE id = $1 AND status = 'taken' AND (expires_at >= now() OR stage = 'accepted') RETURNING ` + commandColumns
	c, err := one(ctx, s, scanCommand, q, id, stage, leg)
	if errors.Is(err, control.ErrNotFound) {
		err = control.ErrEnded
	}
	if err == nil {
		var all []control.Command
		if all, err = s.openCommands(ctx, []commandRow{c}); err == nil {
			return all[0], nil
		}
	}
	return control.Command{}, fmt.Errorf("stage command %s: %w", id, err)
}

// EndCommand implements [control.CommandStore].
func (s *Store) EndCommand(ctx context.Context, id uuid.UUID, reason string, told bool) error {
	const q = `
		WITH closed AS (
			UPDATE call_commands SET status = CASE WHEN $2 = '' THEN 'done' ELSE 'failed' END, reason = $2, told = told OR $3,
				stage = CASE WHEN kind = 'warm_transfer' THEN 'over' ELSE stage END, ` + over + `
			WHERE id = $1 AND status IN ('pending', 'taken') RETURNING call_id)
		UPDATE calls SET revision = revision + 1 FROM closed WHERE id = closed.call_id`
	if _, err := exec(ctx, s, q, id, reason, told); err != nil {
		return fmt.Errorf("end command %s: %w", id, err)
	}
	return nil
}
