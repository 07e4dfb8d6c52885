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

var _ control.DeliveryStore = (*Store)(nil)

// deliveryColumns are of a delivery d with its event e.
const deliveryColumns = `d.id, d.webhook_id, d.status, d.attempts, d.due_at, d.claim_id, d.response_status, d.error, d.duration_ms,
	d.created_at, d.finished_at, e.id, e.session_id, e.seq, e.type, e.flow_id, coalesce(e.user_id, ''), e.data, e.at, e.position`

func scanDelivery(r pgx.CollectableRow) (control.Delivery, error) {
	var d control.Delivery
	var claim, flow *uuid.UUID
	var response, took *int
	var finished *time.Time
	e := &d.Event
	err := r.Scan(&d.ID, &d.Webhook, &d.Status, &d.Attempts, &d.DueAt, &claim, &response, &d.Error, &took,
		&d.CreatedAt, &finished, &e.ID, &e.Session, &e.Seq, &e.Type, &flow, &e.User, &e.Data, &e.At, &e.Position)
	d.Claim, e.Flow, d.FinishedAt = orNil(claim), orNil(flow), orZero(finished)
	d.DueAt, d.CreatedAt, e.At = d.DueAt.UTC(), d.CreatedAt.UTC(), e.At.UTC()
	if response != nil {
		d.Response = *response
	}
	if took != nil {
		d.Duration = time.Duration(*took) * time.Millisecond
	}
	return d, err
}

// LocateDueWebhooks implements [control.DeliveryStore].
func (s *Store) LocateDueWebhooks(ctx context.Context) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_due_webhooks()`)
}

// OldestDue implements [control.DeliveryStore].
func (s *Store) OldestDue(ctx context.Context, webhook uuid.UUID) (time.Duration, error) {
	return one(ctx, s, pgx.RowTo[time.Duration], `SELECT coalesce(max(now() - due_at), interval '0') FROM (SELECT due_at FROM webhook_deliveries
		WHERE webhook_id = $1 AND status = 'pending' AND due_at <= now() ORDER BY due_at LIMIT 1) d`, webhook)
}

// InsertDeliveries implements [control.DeliveryStore].
func (s *Store) InsertDeliveries(ctx context.Context, list []control.Delivery) error {
	const q = `
		INSERT INTO webhook_deliveries (id, tenant_id, webhook_id, event_id, session_id, seq)
		SELECT id, current_tenant(), webhook, event, session, seq
		FROM unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::uuid[], $5::bigint[]) AS d (id, webhook, event, session, seq)
		ON CONFLICT (event_id, webhook_id) DO NOTHING`
	ids, webhooks, sessions := make([]uuid.UUID, len(list)), make([]uuid.UUID, len(list)), make([]uuid.UUID, len(list))
	events, seqs := make([]int64, len(list)), make([]int64, len(list))
	for i, d := range list {
		ids[i], webhooks[i], events[i], sessions[i], seqs[i] = d.ID, d.Webhook, d.Event.ID, d.Event.Session, d.Event.Seq
	}
	if _, err := exec(ctx, s, q, ids, webhooks, events, sessions, seqs); err != nil {
		return fmt.Errorf("queue deliveries: %w", err)
	}
	return nil
}

// ClaimDeliveries implements [control.DeliveryStore].
func (s *Store) ClaimDeliveries(ctx context.Context, webhook uuid.UUID, most int, longer time.Duration) ([]control.Delivery, error) {
	const q = `
		WITH due AS (
			SELECT d.id, d.due_at, w.timeout_ms FROM webhook_deliveries d JOIN webhooks w ON w.id = d.webhook_id
			WHERE w.id = $1 AND w.enabled AND d.status = 'pending' AND d.due_at <= now()
			  AND NOT EXISTS (SELECT FROM webhook_deliveries b WHERE b.webhook_id = d.webhook_id AND b.session_id = d.session_id
			                  AND b.status = 'pending' AND b.seq < d.seq)
			ORDER BY d.due_at LIMIT $2 FOR UPDATE OF d SKIP LOCKED
		), claimed AS (
			UPDATE webhook_deliveries d SET attempts = d.attempts + 1, claim_id = $3,
			    due_at = now() + due.timeout_ms * interval '1 millisecond' + $4::interval
			FROM due WHERE d.id = due.id RETURNING d.*, due.due_at AS was_due
		)
		SELECT ` + deliveryColumns + `, d.was_due FROM claimed d JOIN events e ON e.id = d.event_id`
	list, err := rows(ctx, s, func(r pgx.CollectableRow) (control.Delivery, error) {
		var due time.Time
		d, err := scanDelivery(withMore{r, []any{&due}})
		d.DueAt = due.UTC()
		return d, err
	}, q, webhook, most, uuid.New(), longer)
	if err != nil {
		return nil, fmt.Errorf("claim deliveries: %w", err)
	}
	if err := s.openDeliveries(ctx, list); err != nil {
		return nil, fmt.Errorf("claim deliveries: %w", errors.Join(err, s.unclaim(ctx, list)))
	}
	return list, nil
}

// openDeliveries opens their events.
func (s *Store) openDeliveries(ctx context.Context, list []control.Delivery) error {
	for i := range list {
		if err := s.openEvent(ctx, &list[i].Event); err != nil {
			return err
		}
	}
	return nil
}

// unclaim gives deliveries back whose attempt did not begin.
func (s *Store) unclaim(ctx context.Context, list []control.Delivery) error {
	const q = `UPDATE webhook_deliveries SET attempts = attempts - 1, claim_id = NULL, due_at = now() + interval '1 second'
		WHERE id = $1 AND claim_id = $2`
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	for _, d := range list {
		b.Queue(q, d.ID, d.Claim)
	}
	return s.send(ctx, b)
}

// withMore scans columns behind those that a scanner knows.
type withMore struct {
	pgx.CollectableRow
	more []any
}

func (r withMore) Scan(dest ...any) error { return r.CollectableRow.Scan(append(dest, r.more...)...) }

// FinishDelivery implements [control.DeliveryStore].
func (s *Store) FinishDelivery(ctx context.Context, d control.Delivery, f control.Finish) (disabled bool, err error) {
	const finish = `
		UPDATE webhook_deliveries SET status = $3, due_at = now() + $4::interval, claim_id = NULL, attempts = attempts - $5,
		    response_status = nullif($6, 0), error = $7, duration_ms = $8,
		    finished_at = CASE WHEN $3 <> 'pending' THEN now() END
		WHERE id = $1 AND claim_id = $2`
	uncounted := 0
	if f.Broken {
		uncounted = 1
	}
	err = s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		ct, err := tx.Exec(ctx, finish, d.ID, d.Claim, f.Status, f.Retry, uncounted, f.Response, text(f.Error), f.Duration.Milliseconds())
		switch {
		case err == nil && ct.RowsAffected() == 0:
			return control.ErrConflict
		case err != nil || f.Broken:
			return err
		case f.Status == control.DeliveryDelivered:
			_, err = tx.Exec(ctx, `UPDATE webhooks SET failures = 0, failing_since = NULL WHERE id = $1 AND failures > 0`, d.Webhook)
			return err
		}
		disabled, err = failed(ctx, tx, d.Webhook, f)
		return err
	})
	if err != nil {
		return false, fmt.Errorf("finish delivery %s: %w", d.ID, err)
	}
	if disabled {
		s.wrote()
	}
	return disabled, nil
}

// failed counts a webhook's failure, and disables it after too many.
func failed(ctx context.Context, tx pgx.Tx, webhook uuid.UUID, f control.Finish) (disabled bool, err error) {
	const count = `
		UPDATE webhooks SET failures = failures + 1, failing_since = coalesce(failing_since, now()) WHERE id = $1
		RETURNING enabled AND failures >= $2 AND failing_since <= now() - $3::interval`
	const disable = `
		WITH w AS (
			UPDATE webhooks SET enabled = false, disabled_reason = 'failing', revision = revision + 1, updated_at = now()
			WHERE id = $1 RETURNING id, tenant_id, name, failures, failing_since
		)
		SELECT write_event(tenant_id, id, 'webhook_disabled', NULL, NULL, jsonb_build_object('webhook_id', id, 'name', name,
		    'reason', 'failing', 'enabled', false, 'previous_enabled', true, 'failures', failures, 'failing_since', failing_since,
		    'last_error', $2::text)) FROM w`
	err = tx.QueryRow(ctx, count, webhook, f.DisableAfter, f.DisableSpan).Scan(&disabled)
	if errors.Is(err, pgx.ErrNoRows) { // deleted meanwhile
		return false, nil
	}
	if err == nil && disabled {
		_, err = tx.Exec(ctx, disable, webhook, text(f.Error))
	}
	return disabled, err
}

// Deliveries implements [control.DeliveryStore].
func (s *Store) Deliveries(ctx context.Context, webhook uuid.UUID, status string, p control.Page) ([]control.Delivery, error) {
	const q = `
		SELECT ` + deliveryColumns + ` FROM webhook_deliveries d JOIN events e ON e.id = d.event_id
		WHERE d.webhook_id = $1 AND ($2::uuid IS NULL OR d.id < $2) AND ($4 = '' OR d.status = $4)
		ORDER BY d.id DESC LIMIT $3`
	list, err := rows(ctx, s, scanDelivery, q, webhook, after(p), limit(p), status)
	if err != nil {
		return nil, err
	}
	return list, s.openDeliveries(ctx, list)
}

// ReplayDeliveries implements [control.DeliveryStore].
func (s *Store) ReplayDeliveries(ctx context.Context, webhook, id uuid.UUID) (int, error) {
	const q = `
		UPDATE webhook_deliveries SET status = 'pending', attempts = 0, due_at = now(), error = '', finished_at = NULL
		WHERE webhook_id = $1 AND CASE WHEN $2::uuid IS NULL THEN status = 'dead' ELSE id = $2 AND status <> 'pending' END`
	n, err := exec(ctx, s, q, webhook, nullable(id))
	if err == nil && n == 0 && id != uuid.Nil {
		_, err = one(ctx, s, pgx.RowTo[uuid.UUID], `SELECT id FROM webhook_deliveries WHERE webhook_id = $1 AND id = $2`, webhook, id)
		if err == nil {
			err = control.ErrConflict
		}
	}
	if err != nil {
		return 0, fmt.Errorf("replay deliveries: %w", err)
	}
	return int(n), nil
}
