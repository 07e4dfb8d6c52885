package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
)

var _ identity.MemberStore = (*Store)(nil)

const memberQuery = `
	SELECT u.id, u.email, u.name, m.role, u.platform, m.revision, m.created_at, u.locked_until
	FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.tenant_id = current_tenant() AND `

func scanMember(r pgx.CollectableRow) (identity.Member, error) {
	var m identity.Member
	var locked *time.Time
	err := r.Scan(&m.ID, &m.Email, &m.Name, &m.Role, &m.Platform, &m.Revision, &m.JoinedAt, &locked)
	m.JoinedAt, m.LockedUntil = m.JoinedAt.UTC(), orZero(locked)
	return m, err
}

// Members implements [identity.MemberStore].
func (s *Store) Members(ctx context.Context, p control.Page) ([]identity.Member, error) {
	return rows(ctx, s, scanMember, memberQuery+`($1::uuid IS NULL OR u.id < $1) ORDER BY u.id DESC LIMIT $2`, after(p), limit(p))
}

// Member implements [identity.MemberStore].
func (s *Store) Member(ctx context.Context, id uuid.UUID) (identity.Member, error) {
	return one(ctx, s, scanMember, memberQuery+`u.id = $1`, id)
}

// ChangeMember implements [identity.MemberStore].
func (s *Store) ChangeMember(ctx context.Context, id uuid.UUID, f func(identity.Member, int) (identity.Member, error)) (identity.Member, error) {
	var is identity.Member
	err := s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		// The tenant's row is the lock: two owners cannot demote each other at once.
		if _, err := tx.Exec(ctx, `SELECT FROM tenants WHERE id = current_tenant() FOR UPDATE`); err != nil {
			return err
		}
		r, err := tx.Query(ctx, memberQuery+`u.id = $1`, id)
		if err != nil {
			return err
		}
		was, err := pgx.CollectExactlyOneRow(r, scanMember)
		if err != nil {
			return err
		}
		var owners int
		const count = `SELECT count(*) FROM memberships WHERE tenant_id = current_tenant() AND role = 'owner'`
		if err := tx.QueryRow(ctx, count).Scan(&owners); err != nil {
			return err
		}
		if is, err = f(was, owners); err != nil || is.Role == was.Role {
			return err
		}
		if is.Role == "" {
			return removeMember(ctx, tx, id)
		}
		is.Revision++
		const q = `UPDATE memberships SET role = $2, revision = $3, updated_at = now() WHERE tenant_id = current_tenant() AND user_id = $1`
		if _, err := tx.Exec(ctx, q, id, string(is.Role), is.Revision); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, endSessions, id, nil, nil, "role")
		return err
	})
	return is, err
}

// removeMember takes a person out of the tenant, and out of the world who
// belongs to no other. The lock waits for who is joining another just now: a
// membership holds on to its person.
func removeMember(ctx context.Context, tx pgx.Tx, id uuid.UUID) error {
	for _, q := range []string{
		`SELECT FROM users WHERE id = $1 FOR UPDATE`,
		`DELETE FROM users WHERE id = $1 AND NOT EXISTS (SELECT FROM locate_memberships($1) l WHERE l.tenant <> current_tenant())`,
		`DELETE FROM memberships WHERE tenant_id = current_tenant() AND user_id = $1`, // unless it went with the person
	} {
		if _, err := tx.Exec(ctx, q, id); err != nil {
			return err
		}
	}
	return nil
}

// PutPasswordReset implements [identity.MemberStore].
func (s *Store) PutPasswordReset(ctx context.Context, user uuid.UUID, hash []byte, made, expires time.Time) error {
	const q = `
		INSERT INTO password_resets (tenant_id, user_id, hash, created_at, expires_at) VALUES (current_tenant(), $1, $2, $3, $4)
		ON CONFLICT (tenant_id, user_id) DO UPDATE SET hash = excluded.hash, created_at = excluded.created_at, expires_at = excluded.expires_at`
	_, err := exec(ctx, s, q, user, hash, made, expires)
	return err
}

// LocatePasswordReset implements [identity.MemberStore].
func (s *Store) LocatePasswordReset(ctx context.Context, hash []byte) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_password_reset($1)`, hash)
}

// UsePasswordReset implements [identity.MemberStore].
func (s *Store) UsePasswordReset(ctx context.Context, user uuid.UUID, hash []byte, password string) error {
	const q = `
		WITH used AS (DELETE FROM password_resets WHERE tenant_id = current_tenant() AND user_id = $1 AND hash = $2
		              RETURNING user_id, expires_at)
		UPDATE users SET password_hash = $3, ` + passwordChanged + `
		WHERE id = (SELECT user_id FROM used WHERE expires_at > clock_timestamp())`
	return changed(exec(ctx, s, q, user, hash, password))
}
