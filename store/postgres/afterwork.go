package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/riverqueue/river"

	"parley/control"
)

var _ control.AfterworkStore = (*Store)(nil)

// afterworkLater is how long a job waits that found no budget.
const afterworkLater = 10 * time.Minute

// afterworkArgs are what a job of work after a call says: names alone, for the
// table has no walls between tenants.
type afterworkArgs control.AfterworkOrder

// Kind implements [river.JobArgs].
func (afterworkArgs) Kind() string { return "call_afterwork" }

// InsertOpts implements [river.JobArgsWithInsertOpts]: an end of a call orders
// once. What is given up, the work itself says; River's own limit is for a
// database that is away for days.
func (afterworkArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 25, UniqueOpts: river.UniqueOpts{ByArgs: true}}
}

// afterworkWorker implements [river.Worker].
type afterworkWorker struct {
	river.WorkerDefaults[afterworkArgs]
	do func(context.Context, control.AfterworkOrder) error
}

// Work implements [river.Worker].
func (w *afterworkWorker) Work(ctx context.Context, job *river.Job[afterworkArgs]) error {
	k := control.AfterworkOrder(job.Args)
	k.Last = job.Attempt >= job.MaxAttempts
	err := w.do(ctx, k)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil: // the process ends, which is no failure of the job
		return river.JobSnooze(0)
	case errors.Is(err, control.ErrLater):
		return river.JobSnooze(afterworkLater)
	}
	return err
}

// orderAfterwork orders what an ended call's agent asks for, in the transaction
// of ctx. A call that may come back is left alone until it cannot.
func (s *Store) orderAfterwork(ctx context.Context, tx pgx.Tx, c control.Call) error {
	const q = `
		INSERT INTO call_afterwork (tenant_id, call_id, status, at)
		SELECT c.tenant_id, c.id, 'pending', c.ended_at FROM calls c JOIN agent_versions v ON v.id = c.agent_version_id
		WHERE c.id = $1 AND c.answered_at IS NOT NULL AND jsonb_typeof(v.document -> 'after_call') = 'object'
		ON CONFLICT (call_id) DO UPDATE SET at = excluded.at WHERE call_afterwork.status = 'pending'`
	ordered, err := exec(ctx, s, q, c.ID)
	if err != nil || ordered == 0 {
		return err
	}
	when := time.Now()
	if c.EndReason == "network" || c.EndReason == "crashed" {
		when = when.Add(control.ResumeWindow + time.Second)
	}
	_, err = s.order.InsertTx(ctx, tx, afterworkArgs{Tenant: c.Tenant, Call: c.ID, Generation: c.Generation}, &river.InsertOpts{ScheduledAt: when})
	if err != nil {
		return fmt.Errorf("order the afterwork of a call: %w", problem(err))
	}
	return nil
}

// OrderAfterwork implements [control.AfterworkStore].
func (s *Store) OrderAfterwork(ctx context.Context, call uuid.UUID) error {
	const q = `
		UPDATE call_afterwork w SET status = 'pending', failure = '' FROM calls c
		WHERE w.call_id = $1 AND c.id = w.call_id AND c.deleted_at IS NULL AND w.status = 'failed'
		RETURNING c.tenant_id, c.generation, w.attempts`
	err := s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		k := afterworkArgs{Call: call, Again: control.NewID()}
		err := tx.QueryRow(ctx, q, call).Scan(&k.Tenant, &k.Generation, &k.Begun)
		if errors.Is(err, pgx.ErrNoRows) {
			return s.notFailed(ctx, tx, call)
		}
		if err != nil {
			return err
		}
		if _, err := s.order.InsertTx(ctx, tx, k, nil); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `SELECT note_audit(current_tenant(), 'call.after_call', 'call:' || $1::uuid, '{}')`, call)
		return err
	})
	if err != nil {
		return fmt.Errorf("order the afterwork of call %s again: %w", call, err)
	}
	return nil
}

// notFailed says why there is nothing to be ordered again.
func (s *Store) notFailed(ctx context.Context, tx pgx.Tx, call uuid.UUID) error {
	var status string
	err := tx.QueryRow(ctx, `SELECT w.status FROM call_afterwork w JOIN calls c ON c.id = w.call_id
		WHERE w.call_id = $1 AND c.deleted_at IS NULL`, call).Scan(&status)
	if err != nil {
		return err
	}
	return control.Refuse(control.ErrConflict, "it is %s: only what has failed is asked for again", status)
}

// BeginAfterwork implements [control.AfterworkStore].
func (s *Store) BeginAfterwork(ctx context.Context, call uuid.UUID) (int, error) {
	return one(ctx, s, pgx.RowTo[int], `UPDATE call_afterwork SET attempts = attempts + 1
		WHERE call_id = $1 AND status = 'pending' RETURNING attempts`, call)
}

// DelayAfterwork implements [control.AfterworkStore].
func (s *Store) DelayAfterwork(ctx context.Context, call uuid.UUID, why string) error {
	_, err := exec(ctx, s, `UPDATE call_afterwork SET failure = $2 WHERE call_id = $1 AND status = 'pending'`, call, why)
	return err
}

// afterworkText is what of a call's afterwork is sealed.
type afterworkText struct {
	Summary   string          `json:"summary"`
	Extracted json.RawMessage `json:"extracted,omitempty"`
}

func afterworkPlace(call uuid.UUID) string { return "call_afterwork/" + call.String() }

// PutAfterwork implements [control.AfterworkStore].
func (s *Store) PutAfterwork(ctx context.Context, w control.Afterwork) error {
	const q = `
		UPDATE call_afterwork SET status = $2, failure = $3, summary = $4, extracted = $5, sealed = $6, outcome = $7, partial = $8, at = $9
		WHERE call_id = $1 AND status = 'pending'`
	said := afterworkText{text(w.Summary), w.Extracted}
	var sealed []byte
	if said.Summary != "" || said.Extracted != nil {
		var err error
		if sealed, err = s.seal(ctx, afterworkPlace(w.Call), said); err != nil {
			return fmt.Errorf("write the afterwork of a call: %w", err)
		}
	}
	if sealed != nil {
		said = afterworkText{}
	}
	n, err := exec(ctx, s, q, w.Call, w.Status, w.Failure, said.Summary, said.Extracted, sealed, w.Outcome, w.Partial, w.At)
	if err == nil && n == 0 {
		err = control.ErrConflict
	}
	if err != nil {
		return fmt.Errorf("write the afterwork of a call: %w", err)
	}
	s.wrote()
	return nil
}

// Afterwork implements [control.AfterworkStore].
func (s *Store) Afterwork(ctx context.Context, call uuid.UUID) (control.Afterwork, error) {
	type stored struct {
		control.Afterwork
		sealed []byte
	}
	got, err := one(ctx, s, func(r pgx.CollectableRow) (w stored, err error) {
		err = r.Scan(&w.Call, &w.Status, &w.Failure, &w.Summary, &w.Extracted, &w.sealed, &w.Outcome, &w.Partial, &w.Attempts, &w.At)
		w.At = w.At.UTC()
		return w, err
	}, `SELECT call_id, status, failure, summary, extracted, sealed, outcome, partial, attempts, at FROM call_afterwork WHERE call_id = $1`, call)
	if err != nil {
		return got.Afterwork, fmt.Errorf("afterwork of call %s: %w", call, err)
	}
	said := afterworkText{got.Summary, got.Extracted}
	if err := s.unseal(ctx, afterworkPlace(call), got.sealed, &said); err != nil {
		return got.Afterwork, err
	}
	got.Summary, got.Extracted = said.Summary, said.Extracted
	return got.Afterwork, nil
}
