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

var _ identity.UserStore = (*Store)(nil)

// LocateUser implements [identity.UserStore].
func (s *Store) LocateUser(ctx context.Context, email string) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_user($1)`, text(email))
}

// User implements [identity.UserStore].
func (s *Store) User(ctx context.Context, id uuid.UUID) (identity.User, error) {
	const q = `
		SELECT u.id, u.email, u.password_hash, m.role, u.name, u.platform, ` + hasFactor + `
		FROM users u JOIN memberships m ON m.user_id = u.id WHERE u.id = $1`
	u, err := one(ctx, s, pgx.RowToStructByPos[identity.User], q, id)
	if err != nil {
		return u, fmt.Errorf("user %s: %w", id, err)
	}
	return u, nil
}

// Memberships implements [identity.UserStore].
func (s *Store) Memberships(ctx context.Context, user uuid.UUID) ([]identity.Membership, error) {
	at, err := s.locateAll(ctx, `SELECT tenant, id FROM locate_memberships($1)`, user)
	if err != nil {
		return nil, err
	}
	const q = `
		SELECT ` + tenantColumns + `, m.role FROM tenants t JOIN memberships m ON m.tenant_id = t.id
		WHERE t.id = current_tenant() AND m.user_id = $1`
	return inEach(ctx, s, at, func(r pgx.CollectableRow) (identity.Membership, error) {
		var m identity.Membership
		var err error
		m.Tenant, err = scanTenant(r, &m.Role)
		return m, err
	}, q, user)
}

// inEach runs q in each of the tenants, in one round trip, and returns the rows
// in their order.
func inEach[T any](ctx context.Context, s *Store, at []control.Located, scan pgx.RowToFunc[T], q string, args ...any) ([]T, error) {
	if len(at) == 0 {
		return nil, nil
	}
	var all []T
	b := new(pgx.Batch)
	for _, l := range at {
		b.Queue(setTenant, l.Tenant.String(), control.ActorOf(ctx), control.RequestOf(ctx))
		b.Queue(q, args...).Query(func(r pgx.Rows) error {
			got, err := pgx.CollectRows(r, scan)
			all = append(all, got...)
			return err
		})
	}
	if err := s.send(ctx, b); err != nil {
		return nil, err
	}
	return all, nil
}

// SetPassword implements [identity.UserStore].
func (s *Store) SetPassword(ctx context.Context, user uuid.UUID, hash string) error {
	return changed(exec(ctx, s, `UPDATE users SET password_hash = $2, `+passwordChanged+` WHERE id = $1`, user, hash))
}

// passwordChanged is what a new password means: also that it was not guessed yet.
const passwordChanged = `password_changed_at = clock_timestamp(), failures = 0, strikes = 0, locked_until = NULL`

// Rehash implements [identity.UserStore].
func (s *Store) Rehash(ctx context.Context, user uuid.UUID, hash string) error {
	return changed(exec(ctx, s, `UPDATE users SET password_hash = $2 WHERE id = $1`, user, hash))
}

// SetPlatform implements [identity.UserStore].
func (s *Store) SetPlatform(ctx context.Context, user uuid.UUID, platform bool) error {
	return changed(exec(ctx, s, `UPDATE users SET platform = $2 WHERE id = $1`, user, platform))
}

// changed turns no row into control.ErrNotFound.
func changed(n int64, err error) error {
	if err == nil && n == 0 {
		err = control.ErrNotFound
	}
	return err
}

// Failures implements [identity.UserStore].
func (s *Store) Failures(ctx context.Context, user uuid.UUID, f func(identity.Failures) identity.Failures) (identity.Failures, error) {
	var was identity.Failures
	err := s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		var at, until *time.Time
		const read = `SELECT failures, strikes, failed_at, locked_until FROM users WHERE id = $1 FOR UPDATE`
		if err := tx.QueryRow(ctx, read, user).Scan(&was.All, &was.Strikes, &at, &until); err != nil {
			return err
		}
		was.At, was.Until = orZero(at), orZero(until)
		is := f(was)
		const write = `UPDATE users SET failures = $2, strikes = $3, failed_at = $4, locked_until = $5 WHERE id = $1`
		_, err := tx.Exec(ctx, write, user, is.All, is.Strikes, nullTime(is.At), nullTime(is.Until))
		return err
	})
	return was, err
}
