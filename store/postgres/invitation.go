package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
)

var _ identity.InvitationStore = (*Store)(nil)

const invitationColumns = `id, email, role, platform, hash, invited_by, created_at, expires_at, used_at, revoked_at`

func scanInvitation(r pgx.CollectableRow) (identity.Invitation, error) {
	var i identity.Invitation
	var by *uuid.UUID
	var used, revoked *time.Time
	err := r.Scan(&i.ID, &i.Email, &i.Role, &i.Platform, &i.Hash, &by, &i.CreatedAt, &i.ExpiresAt, &used, &revoked)
	i.InvitedBy, i.CreatedAt, i.ExpiresAt, i.UsedAt, i.RevokedAt = orNil(by), i.CreatedAt.UTC(), i.ExpiresAt.UTC(), orZero(used), orZero(revoked)
	return i, err
}

// Invitations implements [identity.InvitationStore].
func (s *Store) Invitations(ctx context.Context, p control.Page) ([]identity.Invitation, error) {
	const q = `
		SELECT ` + invitationColumns + ` FROM invitations
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1) ORDER BY id DESC LIMIT $2`
	return rows(ctx, s, scanInvitation, q, after(p), limit(p))
}

// LocateInvitation implements [identity.InvitationStore].
func (s *Store) LocateInvitation(ctx context.Context, hash []byte) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_invitation($1)`, hash)
}

// Invitation implements [identity.InvitationStore].
func (s *Store) Invitation(ctx context.Context, id uuid.UUID) (identity.Invitation, error) {
	return one(ctx, s, scanInvitation, `SELECT `+invitationColumns+` FROM invitations WHERE id = $1`, id)
}

// InsertInvitation implements [identity.InvitationStore].
func (s *Store) InsertInvitation(ctx context.Context, i identity.Invitation) error {
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	b.Queue(`UPDATE invitations SET revoked_at = $2 WHERE tenant_id = current_tenant() AND email = $1 AND `+openInvitation+` AND expires_at <= $2`,
		i.Email, i.CreatedAt) // one that has expired is in nobody's way
	b.Queue(`INSERT INTO invitations (id, tenant_id, email, role, platform, hash, invited_by, created_at, expires_at)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7, $8)`,
		i.ID, i.Email, string(i.Role), i.Platform, i.Hash, nullable(i.InvitedBy), i.CreatedAt, i.ExpiresAt)
	return s.send(ctx, b)
}

const openInvitation = `used_at IS NULL AND revoked_at IS NULL`

// RenewInvitation implements [identity.InvitationStore].
func (s *Store) RenewInvitation(ctx context.Context, id uuid.UUID, hash []byte, expires time.Time) (identity.Invitation, error) {
	const q = `UPDATE invitations SET hash = $2, expires_at = $3 WHERE id = $1 AND ` + openInvitation + ` RETURNING ` + invitationColumns
	return one(ctx, s, scanInvitation, q, id, hash, expires)
}

// RevokeInvitation implements [identity.InvitationStore].
func (s *Store) RevokeInvitation(ctx context.Context, id uuid.UUID) error {
	return changed(exec(ctx, s, `UPDATE invitations SET revoked_at = clock_timestamp() WHERE id = $1 AND `+openInvitation, id))
}

// AcceptInvitation implements [identity.InvitationStore].
func (s *Store) AcceptInvitation(ctx context.Context, i identity.Invitation, u identity.User, isNew bool) error {
	return s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		const use = `
			UPDATE invitations SET used_at = clock_timestamp()
			WHERE id = $1 AND hash = $2 AND expires_at > clock_timestamp() AND ` + openInvitation
		if tag, err := tx.Exec(ctx, use, i.ID, i.Hash); err != nil || tag.RowsAffected() == 0 {
			return orDefault(err, error(control.ErrNotFound))
		}
		if isNew {
			if _, err := tx.Exec(ctx, insertUser, u.ID, u.Email, u.PasswordHash, u.Name, i.Platform); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, insertMember, u.ID, string(i.Role)); err != nil {
			return err
		}
		if isNew || !i.Platform {
			return nil
		}
		_, err := tx.Exec(ctx, `UPDATE users SET platform = true WHERE id = $1`, u.ID)
		return err
	})
}

// IsMember implements [identity.InvitationStore].
func (s *Store) IsMember(ctx context.Context, email string) (bool, error) {
	const q = `
		SELECT EXISTS (SELECT FROM users u JOIN memberships m ON m.user_id = u.id
		               WHERE m.tenant_id = current_tenant() AND u.email = $1)`
	return one(ctx, s, pgx.RowTo[bool], q, email)
}
