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
	_ identity.UserStore    = (*Store)(nil)
	_ identity.SessionStore = (*Store)(nil)
)

// LocateUser implements [identity.UserStore].
func (s *Store) LocateUser(ctx context.Context, email string) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_user($1)`, email)
}

// User implements [identity.UserStore].
func (s *Store) User(ctx context.Context, id uuid.UUID) (identity.User, error) {
	const q = `
		SELECT u.id, u.email, u.password_hash, m.role
		FROM users u JOIN memberships m ON m.user_id = u.id WHERE u.id = $1`
	u, err := one(ctx, s, pgx.RowToStructByPos[identity.User], q, id)
	if err != nil {
		return u, fmt.Errorf("user %s: %w", id, err)
	}
	return u, nil
}

// InsertTenant implements [identity.UserStore].
func (s *Store) InsertTenant(ctx context.Context, t identity.Tenant, u identity.User) error {
	b, _, err := batch(control.WithTenant(ctx, t.ID))
	if err != nil {
		return err
	}
	b.Queue(`INSERT INTO tenants (id, name) VALUES ($1, $2)`, t.ID, t.Name)
	b.Queue(`INSERT INTO users (id, email, password_hash) VALUES ($1, $2, $3)`, u.ID, u.Email, u.PasswordHash)
	b.Queue(`INSERT INTO memberships (tenant_id, user_id, role) VALUES (current_tenant(), $1, $2)`, u.ID, string(u.Role))
	return s.send(ctx, b)
}

// SetPassword implements [identity.UserStore].
func (s *Store) SetPassword(ctx context.Context, user uuid.UUID, hash string) error {
	n, err := exec(ctx, s, `UPDATE users SET password_hash = $2 WHERE id = $1`, user, hash)
	if err == nil && n == 0 {
		err = control.ErrNotFound
	}
	return err
}

// LocateBrowserSession implements [identity.SessionStore].
func (s *Store) LocateBrowserSession(ctx context.Context, hash []byte) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_browser_session($1)`, hash)
}

// BrowserSession implements [identity.SessionStore].
func (s *Store) BrowserSession(ctx context.Context, id uuid.UUID) (identity.BrowserSession, error) {
	const q = `SELECT id, user_id, hash, expires_at, revoked_at FROM browser_sessions WHERE id = $1`
	return one(ctx, s, func(r pgx.CollectableRow) (identity.BrowserSession, error) {
		var b identity.BrowserSession
		var revoked *time.Time
		err := r.Scan(&b.ID, &b.User, &b.Hash, &b.ExpiresAt, &revoked)
		b.ExpiresAt, b.RevokedAt = b.ExpiresAt.UTC(), orZero(revoked)
		return b, err
	}, q, id)
}

// InsertBrowserSession implements [identity.SessionStore].
func (s *Store) InsertBrowserSession(ctx context.Context, b identity.BrowserSession) error {
	const q = `INSERT INTO browser_sessions (id, tenant_id, user_id, hash, expires_at) VALUES ($1, current_tenant(), $2, $3, $4)`
	_, err := exec(ctx, s, q, b.ID, b.User, b.Hash, b.ExpiresAt)
	return err
}

// RevokeBrowserSession implements [identity.SessionStore].
func (s *Store) RevokeBrowserSession(ctx context.Context, id uuid.UUID, at time.Time) error {
	_, err := exec(ctx, s, `UPDATE browser_sessions SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1`, id, at)
	return err
}
