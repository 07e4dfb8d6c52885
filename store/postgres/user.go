package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var (
	_ control.UserStore    = (*Store)(nil)
	_ control.SessionStore = (*Store)(nil)
)

// LocateUser implements [control.UserStore].
func (s *Store) LocateUser(ctx context.Context, email string) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_user($1)`, email)
}

// User implements [control.UserStore].
func (s *Store) User(ctx context.Context, id uuid.UUID) (control.User, error) {
	const q = `
		SELECT u.id, u.email, u.password_hash, m.role
		FROM users u JOIN memberships m ON m.user_id = u.id WHERE u.id = $1`
	u, err := one(ctx, s, pgx.RowToStructByPos[control.User], q, id)
	if err != nil {
		return u, fmt.Errorf("user %s: %w", id, err)
	}
	return u, nil
}

// InsertTenant implements [control.UserStore].
func (s *Store) InsertTenant(ctx context.Context, t control.Tenant, u control.User) error {
	b, _, err := batch(control.WithTenant(ctx, t.ID))
	if err != nil {
		return err
	}
	b.Queue(`INSERT INTO tenants (id, name) VALUES ($1, $2)`, t.ID, t.Name)
	b.Queue(`INSERT INTO users (id, email, password_hash) VALUES ($1, $2, $3)`, u.ID, u.Email, u.PasswordHash)
	b.Queue(`INSERT INTO memberships (tenant_id, user_id, role) VALUES (current_tenant(), $1, $2)`, u.ID, string(u.Role))
	return s.send(ctx, b)
}

// SetPassword implements [control.UserStore].
func (s *Store) SetPassword(ctx context.Context, user uuid.UUID, hash string) error {
	n, err := exec(ctx, s, `UPDATE users SET password_hash = $2 WHERE id = $1`, user, hash)
	if err == nil && n == 0 {
		err = control.ErrNotFound
	}
	return err
}

// LocateBrowserSession implements [control.SessionStore].
func (s *Store) LocateBrowserSession(ctx context.Context, hash []byte) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_browser_session($1)`, hash)
}

// BrowserSession implements [control.SessionStore].
func (s *Store) BrowserSession(ctx context.Context, id uuid.UUID) (control.BrowserSession, error) {
	const q = `SELECT id, user_id, hash, expires_at, revoked_at FROM browser_sessions WHERE id = $1`
	return one(ctx, s, func(r pgx.CollectableRow) (control.BrowserSession, error) {
		var b control.BrowserSession
		var revoked *time.Time
		err := r.Scan(&b.ID, &b.User, &b.Hash, &b.ExpiresAt, &revoked)
		b.ExpiresAt, b.RevokedAt = b.ExpiresAt.UTC(), orZero(revoked)
		return b, err
	}, q, id)
}

// InsertBrowserSession implements [control.SessionStore].
func (s *Store) InsertBrowserSession(ctx context.Context, b control.BrowserSession) error {
	const q = `INSERT INTO browser_sessions (id, tenant_id, user_id, hash, expires_at) VALUES ($1, current_tenant(), $2, $3, $4)`
	_, err := exec(ctx, s, q, b.ID, b.User, b.Hash, b.ExpiresAt)
	return err
}

// RevokeBrowserSession implements [control.SessionStore].
func (s *Store) RevokeBrowserSession(ctx context.Context, id uuid.UUID, at time.Time) error {
	_, err := exec(ctx, s, `UPDATE browser_sessions SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1`, id, at)
	return err
}
