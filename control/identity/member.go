package identity

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// A Member is a person as the colleagues in one tenant see them.
type Member struct {
	ID          uuid.UUID // of the person
	Email, Name string
	Role        control.Role
	Platform    bool
	Revision    int
	JoinedAt    time.Time
	LockedUntil time.Time // zero, or gone by: not locked
}

// MemberStore keeps who belongs to a tenant.
type MemberStore interface {
	Members(ctx context.Context, p control.Page) ([]Member, error)
	Member(ctx context.Context, id uuid.UUID) (Member, error)
	// ChangeMember stores what f makes of a member, one caller in the tenant at
	// a time: f learns how many owners there are. With another role it ends the
	// person's sessions in the tenant; without one it removes the person.
	ChangeMember(ctx context.Context, id uuid.UUID, f func(m Member, owners int) (Member, error)) (Member, error)

	PutPasswordReset(ctx context.Context, user uuid.UUID, hash []byte, made, expires time.Time) error
	LocatePasswordReset(ctx context.Context, hash []byte) (control.Located, error)
	// UsePasswordReset takes the link of a person and stores the new password,
	// or returns control.ErrNotFound.
	UsePasswordReset(ctx context.Context, user uuid.UUID, hash []byte, password string) error
}

// Members is the service of who belongs to a tenant.
type Members struct {
	Store MemberStore
	Users *Users
	Links Links
}

// ChangeRole gives a member another role. Nobody gives more than they have
// themselves, nor changes who has more; only owners make owners, and the last
// one stays. Revision 0 is any.
func (s *Members) ChangeRole(ctx context.Context, id uuid.UUID, role control.Role, revision int) (Member, error) {
	if !slices.Contains(control.Roles(), role) {
		return Member{}, control.Invalidf("role", "must be owner, admin, editor, agent, viewer or billing")
	}
	p := control.PrincipalOf(ctx)
	return s.Store.ChangeMember(ctx, id, func(m Member, owners int) (Member, error) {
		switch {
		case revision != 0 && revision != m.Revision:
			return m, control.ErrConflict
		case !p.MayGive(m.Role) || !p.MayGive(role):
			return m, control.ErrForbidden
		case m.Role == control.RoleOwner && role != control.RoleOwner && owners < 2:
			return m, errLastOwner
		}
		m.Role = role
		return m, nil
	})
}

// Remove takes a person out of the tenant of ctx, whose sessions of theirs end
// at once. Who belongs to no other tenant is forgotten.
func (s *Members) Remove(ctx context.Context, id uuid.UUID) error {
	p := control.PrincipalOf(ctx)
	_, err := s.Store.ChangeMember(ctx, id, func(m Member, owners int) (Member, error) {
		switch {
		case !p.MayGive(m.Role):
			return m, control.ErrForbidden
		case m.Role == control.RoleOwner && owners < 2:
			return m, errLastOwner
		}
		m.Role = ""
		return m, nil
	})
	return err
}

var errLastOwner = control.Invalidf("role", "the last owner stays: make somebody else an owner first")

// ResetLink makes a link by which a member sets a new password, once, within
// [ResetLife]. It takes the place of one before. Only who could give the
// member's role may; and nobody for a person whose password opens another
// tenant too.
func (s *Members) ResetLink(ctx context.Context, id uuid.UUID) (Link, error) {
	m, err := s.Store.Member(ctx, id)
	if err != nil {
		return Link{}, err
	}
	p := control.PrincipalOf(ctx)
	switch {
	case p.User == id:
		return Link{}, control.Invalidf("id", "is you: change your password instead")
	case !p.MayGive(m.Role), m.Platform && !p.Platform:
		return Link{}, control.ErrForbidden
	}
	if err := s.alone(ctx, id); err != nil {
		return Link{}, err
	}
	link, hash := s.Links.new(resetKind, ResetLife)
	return link, s.Store.PutPasswordReset(ctx, id, hash, time.Now().UTC(), link.ExpiresAt)
}

// alone refuses a person who belongs to other tenants too.
func (s *Members) alone(ctx context.Context, id uuid.UUID) error {
	all, err := s.Users.Store.Memberships(ctx, id)
	if err == nil && len(all) > 1 {
		err = control.Invalidf("id", "belongs to other organisations too, so that none of them may reset the password; whoever knows it can change it")
	}
	return err
}

// ResetPassword sets a new password by a link, and ends all sessions of the
// person. Unknown, used and expired links are the same [*control.Invalid].
func (s *Members) ResetPassword(ctx context.Context, token, password string) error {
	hash, err := s.Links.hash(resetKind, token)
	if err != nil {
		return err
	}
	at, err := s.Store.LocatePasswordReset(ctx, hash)
	if err != nil {
		return control.NotFoundIs(err, errLink)
	}
	ctx = in(ctx, at.Tenant, at.ID)
	u, err := s.Users.Store.User(ctx, at.ID)
	if err == nil && s.alone(ctx, at.ID) != nil { // joined another meanwhile
		err = errLink
	}
	if err != nil {
		return control.NotFoundIs(err, errLink)
	}
	if err := s.Users.Rules.Check(password, u.Email, u.Name); err != nil {
		return err
	}
	made, err := s.Users.Hasher.Hash(ctx, password)
	if err != nil {
		return err
	}
	if err := s.Store.UsePasswordReset(ctx, u.ID, hash, made); err != nil {
		return control.NotFoundIs(err, errLink)
	}
	return s.Users.endAll(ctx, u.ID, uuid.Nil, "password")
}
