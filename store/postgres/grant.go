package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
)

var (
	_ identity.GrantStore   = (*Store)(nil)
	_ identity.SigningStore = (*Store)(nil)
)

// keptEnded is how long what has ended can still be looked at.
const keptEnded = `interval '7 days'`

// A grant ends when its person sets another password, in whichever tenant.
const grantColumns = `id, user_id, session_id, hash, scopes, factor_at, created_at, refreshed_at, expires_at,
	coalesce(revoked_at, (SELECT u.password_changed_at FROM users u WHERE u.id = user_id AND u.password_changed_at > token_grants.created_at))`

// endGrants ends a person's, but for those of one session.
const endGrants = `
	UPDATE token_grants SET revoked_at = clock_timestamp(), revoked_why = $3
	WHERE tenant_id = current_tenant() AND user_id = $1 AND revoked_at IS NULL AND session_id IS DISTINCT FROM $2`

func scanGrant(r pgx.CollectableRow) (identity.Grant, error) {
	var g identity.Grant
	var session *uuid.UUID
	var scopes []string
	var factor, revoked *time.Time
	err := r.Scan(&g.ID, &g.User, &session, &g.Hash, &scopes, &factor, &g.CreatedAt, &g.RefreshedAt, &g.ExpiresAt, &revoked)
	g.Session, g.Scopes, g.FactorAt, g.RevokedAt = orNil(session), toScopes(scopes), orZero(factor), orZero(revoked)
	g.CreatedAt, g.RefreshedAt, g.ExpiresAt = g.CreatedAt.UTC(), g.RefreshedAt.UTC(), g.ExpiresAt.UTC()
	return g, err
}

// InsertGrant implements [identity.GrantStore]; it takes away what has long ended.
func (s *Store) InsertGrant(ctx context.Context, g identity.Grant) error {
	const q = `
		INSERT INTO token_grants (id, tenant_id, user_id, session_id, hash, scopes, factor_at, created_at, refreshed_at, expires_at)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7, $8, $9)`
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	b.Queue(`DELETE FROM token_grants WHERE tenant_id = current_tenant() AND expires_at < now() - ` + keptEnded)
	b.Queue(q, g.ID, g.User, nullable(g.Session), g.Hash, fromScopes(g.Scopes), nullTime(g.FactorAt), g.CreatedAt, g.RefreshedAt, g.ExpiresAt)
	return s.send(ctx, b)
}

// Grant implements [identity.GrantStore].
func (s *Store) Grant(ctx context.Context, id uuid.UUID) (identity.Grant, error) {
	g, err := one(ctx, s, scanGrant, `SELECT `+grantColumns+` FROM token_grants WHERE id = $1`, id)
	if err != nil {
		return g, fmt.Errorf("grant %s: %w", id, err)
	}
	return g, nil
}

// RenewGrant implements [identity.GrantStore].
func (s *Store) RenewGrant(ctx context.Context, id uuid.UUID, was, hash []byte, idle, at time.Time) (identity.Grant, error) {
	const q = `
		UPDATE token_grants SET hash = $3, refreshed_at = $5
		WHERE id = $1 AND hash = $2 AND revoked_at IS NULL AND refreshed_at > $4 AND expires_at > $5
		  AND NOT EXISTS (SELECT FROM users u WHERE u.id = user_id AND u.password_changed_at > token_grants.created_at)
		RETURNING ` + grantColumns
	g, err := one(ctx, s, scanGrant, q, id, was, hash, idle, at)
	return g, control.NotFoundIs(err, control.ErrConflict)
}

// RevokeGrant implements [identity.GrantStore].
func (s *Store) RevokeGrant(ctx context.Context, id uuid.UUID, why string, at time.Time) (bool, error) {
	n, err := exec(ctx, s, `UPDATE token_grants SET revoked_at = $3, revoked_why = $2 WHERE id = $1 AND revoked_at IS NULL`, id, why, at)
	return n > 0, err
}

// SigningKeys implements [identity.SigningStore].
func (s *Store) SigningKeys(ctx context.Context) ([]identity.SigningKey, error) {
	r, err := s.pool.Query(ctx, `SELECT id, active_at, revoked_at FROM signing_keys ORDER BY active_at DESC LIMIT 10`)
	if err != nil {
		return nil, problem(err)
	}
	list, err := pgx.CollectRows(r, func(r pgx.CollectableRow) (identity.SigningKey, error) {
		var k identity.SigningKey
		var revoked *time.Time
		err := r.Scan(&k.ID, &k.ActiveAt, &revoked)
		k.ActiveAt, k.RevokedAt = k.ActiveAt.UTC(), orZero(revoked)
		return k, err
	})
	return list, problem(err)
}

// InsertSigningKey implements [identity.SigningStore]: under a lock, so that
// nodes that start at once make one key.
func (s *Store) InsertSigningKey(ctx context.Context, k identity.SigningKey, newest uuid.UUID) error {
	const q = `
		INSERT INTO signing_keys (id, active_at)
		SELECT $1, $2 WHERE $3::uuid IS NOT DISTINCT FROM (SELECT id FROM signing_keys ORDER BY active_at DESC LIMIT 1)`
	b := new(pgx.Batch)
	b.Queue(`SELECT pg_advisory_xact_lock(hashtextextended('signing_keys', 0))`)
	b.Queue(q, k.ID, k.ActiveAt, nullable(newest))
	return s.send(ctx, b)
}

// RevokeSigningKeys implements [identity.SigningStore].
func (s *Store) RevokeSigningKeys(ctx context.Context, but uuid.UUID, at time.Time) error {
	const q = `
		WITH revoked AS (UPDATE signing_keys SET revoked_at = $2 WHERE id <> $1 AND revoked_at IS NULL RETURNING id)
		SELECT pg_notify('` + keyChannel + `', '') FROM (SELECT count(*) FROM revoked) n`
	_, err := s.pool.Exec(ctx, q, but, at)
	return problem(err)
}
