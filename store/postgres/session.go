package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parley/control"
	"parley/control/identity"
)

var _ identity.SessionStore = (*Store)(nil)

// LocateBrowserSession implements [identity.SessionStore].
func (s *Store) LocateBrowserSession(ctx context.Context, hash []byte) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_browser_session($1)`, hash)
}

const sessionColumns = `s.id, s.user_id, s.tenant_id, s.hash, s.how, s.network, s.agent, s.created_at, s.last_used_at, s.expires_at, s.revoked_at, s.factor_at, s.bound`

func scanSession(r pgx.CollectableRow, more ...any) (identity.BrowserSession, error) {
	var b identity.BrowserSession
	var revoked, factor *time.Time
	err := r.Scan(append([]any{&b.ID, &b.User, &b.Tenant, &b.Hash, &b.How, &b.Network, &b.Agent,
		&b.CreatedAt, &b.LastUsedAt, &b.ExpiresAt, &revoked, &factor, &b.Bound}, more...)...)
	b.FactorAt = orZero(factor)
	b.CreatedAt, b.LastUsedAt, b.ExpiresAt, b.RevokedAt = b.CreatedAt.UTC(), b.LastUsedAt.UTC(), b.ExpiresAt.UTC(), orZero(revoked)
	return b, err
}

// BrowserSession implements [identity.SessionStore].
func (s *Store) BrowserSession(ctx context.Context, id uuid.UUID) (identity.BrowserSession, identity.User, error) {
	const q = `
		SELECT ` + sessionColumns + `, u.id, u.email, u.name, u.platform, m.role, ` + hasFactor + `
		FROM browser_sessions s JOIN users u ON u.id = s.user_id
		JOIN memberships m ON m.user_id = u.id AND m.tenant_id = s.tenant_id WHERE s.id = $1`
	var u identity.User
	b, err := one(ctx, s, func(r pgx.CollectableRow) (identity.BrowserSession, error) {
		return scanSession(r, &u.ID, &u.Email, &u.Name, &u.Platform, &u.Role, &u.Factor)
	}, q, id)
	return b, u, err
}

// BrowserSessions implements [identity.SessionStore].
func (s *Store) BrowserSessions(ctx context.Context, user uuid.UUID, now time.Time) ([]identity.BrowserSession, error) {
	const q = `
		SELECT ` + sessionColumns + ` FROM browser_sessions s
		WHERE s.tenant_id = current_tenant() AND s.user_id = $1 AND s.revoked_at IS NULL AND s.expires_at > $2
		ORDER BY s.id DESC LIMIT 100`
	return rows(ctx, s, func(r pgx.CollectableRow) (identity.BrowserSession, error) { return scanSession(r) }, q, user, now)
}

// InsertBrowserSession implements [identity.SessionStore].
func (s *Store) InsertBrowserSession(ctx context.Context, b identity.BrowserSession) error {
	const q = `
		INSERT INTO browser_sessions (id, tenant_id, user_id, hash, how, network, agent, created_at, last_used_at, expires_at, factor_at, bound)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`
	_, err := exec(ctx, s, q, b.ID, b.User, b.Hash, b.How, b.Network, b.Agent, b.CreatedAt, b.LastUsedAt, b.ExpiresAt, nullTime(b.FactorAt), b.Bound)
	return err
}

// RotateBrowserSession implements [identity.SessionStore].
func (s *Store) RotateBrowserSession(ctx context.Context, id uuid.UUID, hash []byte) error {
	return changed(exec(ctx, s, `UPDATE browser_sessions SET hash = $2 WHERE id = $1 AND revoked_at IS NULL`, id, hash))
}

// TouchBrowserSession implements [identity.SessionStore].
func (s *Store) TouchBrowserSession(ctx context.Context, id uuid.UUID, at time.Time) error {
	const q = `
		UPDATE browser_sessions SET last_used_at = $2::timestamptz
		WHERE id = $1 AND last_used_at < $2::timestamptz - interval '1 minute'`
	_, err := exec(ctx, s, q, id, at)
	return err
}

// RevokeBrowserSessions implements [identity.SessionStore].
func (s *Store) RevokeBrowserSessions(ctx context.Context, user, only, but uuid.UUID, reason string) (int, error) {
	b, _, err := batch(ctx)
	if err != nil {
		return 0, err
	}
	var n int64
	b.Queue(endSessions, user, nullable(only), nullable(but), reason).Exec(func(ct pgconn.CommandTag) error {
		n = ct.RowsAffected()
		return nil
	})
	if only == uuid.Nil { // programs too, also those whose session has lapsed
		b.Queue(endGrants, user, nullable(but), reason)
	}
	return int(n), s.send(ctx, b)
}

const endSessions = `
	UPDATE browser_sessions SET revoked_at = clock_timestamp(), end_reason = $4
	WHERE tenant_id = current_tenant() AND user_id = $1 AND revoked_at IS NULL AND expires_at > clock_timestamp()
	  AND ($2::uuid IS NULL OR id = $2) AND ($3::uuid IS NULL OR id <> $3)`

// LapsedPeople implements [identity.SessionStore].
func (s *Store) LapsedPeople(ctx context.Context, before time.Time) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_lapsed_people($1)`, before)
}

// DeleteLapsed implements [identity.SessionStore].
func (s *Store) DeleteLapsed(ctx context.Context, before time.Time) error {
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	for _, table := range []string{"browser_sessions", "invitations", "password_resets"} {
		b.Queue(`DELETE FROM `+table+` WHERE tenant_id = current_tenant() AND expires_at < $1`, before)
	}
	return s.send(ctx, b)
}
