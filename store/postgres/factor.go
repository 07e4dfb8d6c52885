package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parley/control"
	"parley/control/identity"
)

var _ identity.FactorStore = (*Store)(nil)

// hasFactor tells of a membership m whether it has a second factor.
const hasFactor = `(EXISTS (SELECT FROM passkeys k WHERE k.tenant_id = m.tenant_id AND k.user_id = m.user_id)
	OR EXISTS (SELECT FROM second_factors f WHERE f.tenant_id = m.tenant_id AND f.user_id = m.user_id AND f.confirmed_at IS NOT NULL))`

const passkeyColumns = `id, user_id, credential, name, created_at, last_used_at`

func scanPasskey(r pgx.CollectableRow) (identity.Passkey, error) {
	var k identity.Passkey
	var credential []byte
	var used *time.Time
	err := r.Scan(&k.ID, &k.User, &credential, &k.Name, &k.CreatedAt, &used)
	if err == nil {
		err = json.Unmarshal(credential, &k.Credential)
	}
	k.CreatedAt, k.LastUsedAt = k.CreatedAt.UTC(), orZero(used)
	return k, err
}

// Factors implements [identity.FactorStore].
func (s *Store) Factors(ctx context.Context, user uuid.UUID) (identity.Held, error) {
	var h identity.Held
	b, _, err := batch(ctx)
	if err != nil {
		return h, err
	}
	b.Queue(`SELECT totp, confirmed_at FROM second_factors WHERE tenant_id = current_tenant() AND user_id = $1`, user).Query(func(r pgx.Rows) error {
		var confirmed *time.Time
		_, err := pgx.ForEachRow(r, []any{&h.TOTP, &confirmed}, func() error { return nil })
		h.ConfirmedAt = orZero(confirmed)
		return err
	})
	b.Queue(`SELECT `+passkeyColumns+` FROM passkeys WHERE tenant_id = current_tenant() AND user_id = $1 ORDER BY id`, user).Query(func(r pgx.Rows) (err error) {
		h.Passkeys, err = pgx.CollectRows(r, scanPasskey)
		return err
	})
	b.Queue(`SELECT count(*) FROM recovery_codes WHERE tenant_id = current_tenant() AND user_id = $1 AND used_at IS NULL`, user).QueryRow(func(r pgx.Row) error {
		return r.Scan(&h.CodesLeft)
	})
	if err := s.send(ctx, b); err != nil {
		return h, fmt.Errorf("factors of %s: %w", user, err)
	}
	return h, nil
}

// Try implements [identity.FactorStore].
func (s *Store) Try(ctx context.Context, user uuid.UUID, now time.Time, window time.Duration) (int, time.Time, error) {
	const q = `
		INSERT INTO second_factors AS f (tenant_id, user_id, tries, tries_since) VALUES (current_tenant(), $1, 1, $2)
		ON CONFLICT (tenant_id, user_id) DO UPDATE SET
			tries = CASE WHEN f.tries = 0 OR f.tries_since <= $3 THEN 1 ELSE least(f.tries + 1, 1000) END,
			tries_since = CASE WHEN f.tries = 0 OR f.tries_since <= $3 THEN $2 ELSE f.tries_since END
		RETURNING tries, tries_since`
	type count struct {
		n     int
		since time.Time
	}
	c, err := one(ctx, s, func(r pgx.CollectableRow) (c count, err error) {
		return c, r.Scan(&c.n, &c.since)
	}, q, user, now, now.Add(-window))
	return c.n, c.since, err
}

// Tried implements [identity.FactorStore].
func (s *Store) Tried(ctx context.Context, user uuid.UUID) error {
	_, err := exec(ctx, s, `UPDATE second_factors SET tries = 0 WHERE tenant_id = current_tenant() AND user_id = $1`, user)
	return err
}

// otherwise runs q, and returns the error where it changed nothing.
func (s *Store) otherwise(ctx context.Context, none error, q string, args ...any) error {
	n, err := exec(ctx, s, q, args...)
	if err == nil && n == 0 {
		err = none
	}
	return err
}

// PutTOTP implements [identity.FactorStore].
func (s *Store) PutTOTP(ctx context.Context, user uuid.UUID, sealed []byte) error {
	return s.otherwise(ctx, control.ErrConflict, `
		INSERT INTO second_factors AS f (tenant_id, user_id, totp) VALUES (current_tenant(), $1, $2)
		ON CONFLICT (tenant_id, user_id) DO UPDATE SET totp = $2 WHERE f.confirmed_at IS NULL`, user, sealed)
}

// ConfirmTOTP implements [identity.FactorStore].
func (s *Store) ConfirmTOTP(ctx context.Context, user uuid.UUID, sealed []byte, step int64, at time.Time) error {
	return s.otherwise(ctx, control.ErrConflict, `
		UPDATE second_factors SET confirmed_at = $3, last_step = $4
		WHERE tenant_id = current_tenant() AND user_id = $1 AND totp = $2 AND confirmed_at IS NULL`, user, sealed, at, step)
}

// UseStep implements [identity.FactorStore].
func (s *Store) UseStep(ctx context.Context, user uuid.UUID, step int64) (bool, error) {
	n, err := exec(ctx, s, `
		UPDATE second_factors SET last_step = $2
		WHERE tenant_id = current_tenant() AND user_id = $1 AND confirmed_at IS NOT NULL AND last_step < $2`, user, step)
	return n == 1, err
}

// dropCodes deletes the recovery codes of who has no factor any more.
const dropCodes = `
	DELETE FROM recovery_codes WHERE tenant_id = current_tenant() AND user_id = $1
	AND NOT EXISTS (SELECT FROM passkeys k WHERE k.tenant_id = current_tenant() AND k.user_id = $1)
	AND NOT EXISTS (SELECT FROM second_factors f WHERE f.tenant_id = current_tenant() AND f.user_id = $1 AND f.confirmed_at IS NOT NULL)`

// remove runs q, and takes the recovery codes with the last factor.
func (s *Store) remove(ctx context.Context, user uuid.UUID, q string, args ...any) error {
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	var n int64
	b.Queue(q, args...).Exec(func(ct pgconn.CommandTag) error {
		n = ct.RowsAffected()
		return nil
	})
	b.Queue(dropCodes, user)
	if err = s.send(ctx, b); err == nil && n == 0 {
		err = control.ErrNotFound
	}
	return err
}

// RemoveTOTP implements [identity.FactorStore].
func (s *Store) RemoveTOTP(ctx context.Context, user uuid.UUID) error {
	return s.remove(ctx, user, `
		UPDATE second_factors SET totp = NULL, confirmed_at = NULL
		WHERE tenant_id = current_tenant() AND user_id = $1 AND totp IS NOT NULL`, user)
}

// ReplaceCodes implements [identity.FactorStore].
func (s *Store) ReplaceCodes(ctx context.Context, user uuid.UUID, hashes [][]byte) error {
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	b.Queue(`DELETE FROM recovery_codes WHERE tenant_id = current_tenant() AND user_id = $1`, user)
	b.Queue(`INSERT INTO recovery_codes (tenant_id, user_id, hash) SELECT current_tenant(), $1, h FROM unnest($2::bytea[]) h`, user, hashes)
	b.Queue(`SELECT note_audit(current_tenant(), 'factor.codes', 'user:' || $1::uuid, jsonb_build_object('made', $2::int))`, user, len(hashes))
	return s.send(ctx, b)
}

// UseCode implements [identity.FactorStore].
func (s *Store) UseCode(ctx context.Context, user uuid.UUID, hash []byte, at time.Time) (int, error) {
	const q = `
		WITH used AS (
			UPDATE recovery_codes SET used_at = $3
			WHERE tenant_id = current_tenant() AND user_id = $1 AND hash = $2 AND used_at IS NULL RETURNING hash)
		SELECT (SELECT count(*) FROM recovery_codes c
		        WHERE c.tenant_id = current_tenant() AND c.user_id = $1 AND c.used_at IS NULL AND c.hash <> used.hash)::int FROM used`
	return one(ctx, s, pgx.RowTo[int], q, user, hash, at)
}

// LocatePasskey implements [identity.FactorStore].
func (s *Store) LocatePasskey(ctx context.Context, credential []byte) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_passkey($1)`, credential)
}

// Passkey implements [identity.FactorStore].
func (s *Store) Passkey(ctx context.Context, id uuid.UUID) (identity.Passkey, error) {
	return one(ctx, s, scanPasskey, `SELECT `+passkeyColumns+` FROM passkeys WHERE tenant_id = current_tenant() AND id = $1`, id)
}

// InsertPasskey implements [identity.FactorStore].
func (s *Store) InsertPasskey(ctx context.Context, k identity.Passkey) error {
	credential, err := json.Marshal(k.Credential)
	if err != nil {
		return fmt.Errorf("store a passkey: %w", err)
	}
	const q = `
		INSERT INTO passkeys (id, tenant_id, user_id, credential_id, credential, sign_count, name, created_at)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7)`
	_, err = exec(ctx, s, q, k.ID, k.User, k.Credential.ID, credential, int64(k.Credential.Authenticator.SignCount), k.Name, k.CreatedAt)
	return err
}

// UsePasskey implements [identity.FactorStore].
func (s *Store) UsePasskey(ctx context.Context, k identity.Passkey, before uint32) (bool, error) {
	credential, err := json.Marshal(k.Credential)
	if err != nil {
		return false, fmt.Errorf("store a passkey: %w", err)
	}
	n, err := exec(ctx, s, `
		UPDATE passkeys SET credential = $2, sign_count = $3, last_used_at = $4
		WHERE tenant_id = current_tenant() AND id = $1 AND sign_count = $5`,
		k.ID, credential, int64(k.Credential.Authenticator.SignCount), k.LastUsedAt, int64(before))
	return n == 1, err
}

// RenamePasskey implements [identity.FactorStore].
func (s *Store) RenamePasskey(ctx context.Context, user, id uuid.UUID, name string) error {
	return s.otherwise(ctx, control.ErrNotFound, `
		UPDATE passkeys SET name = $3 WHERE tenant_id = current_tenant() AND user_id = $1 AND id = $2`, user, id, name)
}

// RemovePasskey implements [identity.FactorStore].
func (s *Store) RemovePasskey(ctx context.Context, user, id uuid.UUID) error {
	return s.remove(ctx, user, `DELETE FROM passkeys WHERE tenant_id = current_tenant() AND user_id = $1 AND id = $2`, user, id)
}

// RemoveFactors implements [identity.FactorStore].
func (s *Store) RemoveFactors(ctx context.Context, user uuid.UUID) error {
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	b.Queue(`DELETE FROM passkeys WHERE tenant_id = current_tenant() AND user_id = $1`, user)
	b.Queue(`UPDATE second_factors SET totp = NULL, confirmed_at = NULL WHERE tenant_id = current_tenant() AND user_id = $1`, user)
	b.Queue(`DELETE FROM recovery_codes WHERE tenant_id = current_tenant() AND user_id = $1`, user)
	return s.send(ctx, b)
}

// SetFactorAt implements [identity.FactorStore].
func (s *Store) SetFactorAt(ctx context.Context, session uuid.UUID, at time.Time) error {
	return s.otherwise(ctx, control.ErrNotFound, `
		UPDATE browser_sessions SET factor_at = $2 WHERE tenant_id = current_tenant() AND id = $1`, session, at)
}
