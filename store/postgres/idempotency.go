package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.NamedStore = (*Store)(nil)

// ClaimRequest implements [control.NamedStore]. The second statement of the
// batch sees what the first one left, its own row or the other's.
func (s *Store) ClaimRequest(ctx context.Context, a control.NamedRequest, life, lease time.Duration) (control.NamedRequest, error) {
	const claim = `
		INSERT INTO idempotency_keys AS k (tenant_id, key, fingerprint, claim, expires_at)
		VALUES (current_tenant(), $1, $2, $3, now() + $4::interval)
		ON CONFLICT (tenant_id, key) DO UPDATE
		SET fingerprint = excluded.fingerprint, claim = excluded.claim, begun_at = now(), expires_at = excluded.expires_at, answer = NULL
		WHERE k.expires_at <= now()
		   OR k.answer IS NULL AND k.fingerprint = excluded.fingerprint AND k.begun_at < now() - $5::interval`
	const kept = `SELECT key, fingerprint, claim, answer FROM idempotency_keys WHERE tenant_id = current_tenant() AND key = $1`
	b, _, err := batch(ctx)
	if err != nil {
		return a, err
	}
	var got control.NamedRequest
	b.Queue(claim, a.Key, a.Fingerprint, a.Claim, life, lease)
	b.Queue(kept, a.Key).Query(func(r pgx.Rows) (err error) {
		got, err = pgx.CollectExactlyOneRow(r, pgx.RowToStructByPos[control.NamedRequest])
		return err
	})
	return got, s.send(ctx, b)
}

// AnswerRequest implements [control.NamedStore].
func (s *Store) AnswerRequest(ctx context.Context, a control.NamedRequest) error {
	const q = `UPDATE idempotency_keys SET answer = $3 WHERE tenant_id = current_tenant() AND key = $1 AND claim = $2`
	_, err := exec(ctx, s, q, a.Key, a.Claim, a.Answer)
	return err
}

// DropRequest implements [control.NamedStore].
func (s *Store) DropRequest(ctx context.Context, a control.NamedRequest) error {
	const q = `DELETE FROM idempotency_keys WHERE tenant_id = current_tenant() AND key = $1 AND claim = $2`
	_, err := exec(ctx, s, q, a.Key, a.Claim)
	return err
}

// LocateExpiredAnswers implements [control.NamedStore].
func (s *Store) LocateExpiredAnswers(ctx context.Context) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_expired_answers()`)
}

// DropExpiredAnswers implements [control.NamedStore].
func (s *Store) DropExpiredAnswers(ctx context.Context) (int64, error) {
	return exec(ctx, s, `DELETE FROM idempotency_keys WHERE tenant_id = current_tenant() AND expires_at <= now()`)
}
