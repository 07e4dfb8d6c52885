package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

type userJSON struct {
	ID          uuid.UUID    `json:"id"`
	Email       string       `json:"email"`
	Name        string       `json:"name"`
	Role        control.Role `json:"role"`
	Revision    int          `json:"revision"`
	JoinedAt    time.Time    `json:"joined_at"`
	LockedUntil *time.Time   `json:"locked_until" doc:"After too many wrong passwords; a reset link lifts it."`
}

func newUserJSON(m identity.Member) userJSON {
	if !time.Now().Before(m.LockedUntil) {
		m.LockedUntil = time.Time{}
	}
	return userJSON{m.ID, m.Email, m.Name, m.Role, m.Revision, m.JoinedAt, when(m.LockedUntil)}
}

type userOut struct {
	ETag string `header:"ETag"`
	Body userJSON
}

func newUserOut(m identity.Member) *userOut { return &userOut{etag(m.Revision), newUserJSON(m)} }

// UserPath names a person in a route; exported for huma, which fills it.
type UserPath struct {
	ID uuid.UUID `path:"id"`
}

// people are the routes of who belongs to a tenant.
func (s *Server) people() error {
	const read, manage = control.UsersRead, control.UsersManage
	return errors.Join(
		operation(s, reads("/v1/users", read), "list-users", "List the people of your tenant", 200, s.listUsers),
		operation(s, reads("/v1/users/{id}", read), "get-user", "Get one of them", 200, s.getUser),
		operation(s, writes("PATCH", "/v1/users/{id}", manage, 4<<10), "change-user", "Give another role, and end their sessions", 200, s.changeUser),
		operation(s, writes("DELETE", "/v1/users/{id}", manage, NoBody), "remove-user", "Take somebody out of your tenant, at once", 204, s.removeUser),
		operation(s, writes("POST", "/v1/users/{id}/reset-password", manage, NoBody), "reset-user-password",
			"Make a link by which somebody sets a new password, once", 201, s.resetUserPassword),
		operation(s, reads("/v1/invitations", manage), "list-invitations", "List invitations", 200, s.listInvitations),
		operation(s, writes("POST", "/v1/invitations", manage, 4<<10), "create-invitation", "Invite somebody", 201, s.createInvitation),
		operation(s, writes("POST", "/v1/invitations/{id}/resend", manage, NoBody), "resend-invitation",
			"Make another link; the one before is good no longer", 200, s.resendInvitation),
		operation(s, writes("DELETE", "/v1/invitations/{id}", manage, NoBody), "revoke-invitation", "Take an invitation back", 204, s.revokeInvitation),
		operation(s, signing("/v1/auth/accept-invitation"), "accept-invitation", "Join a tenant by a link", 201, s.acceptInvitation),
		operation(s, signing("/v1/auth/reset-password"), "reset-password", "Set a new password by a link", 204, s.resetPassword),
	)
}

func (s *Server) listUsers(ctx context.Context, in *PageQuery) (*listOut[userJSON], error) {
	rows, err := s.o.Members.Store.Members(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newUserJSON, func(m identity.Member) uuid.UUID { return m.ID }), nil
}

func (s *Server) getUser(ctx context.Context, in *UserPath) (*userOut, error) {
	m, err := s.o.Members.Store.Member(ctx, in.ID)
	return newUserOut(m), err
}

func (s *Server) changeUser(ctx context.Context, in *struct {
	UserPath
	Match
	Body struct {
		Role control.Role `json:"role"`
	}
}) (*userOut, error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	m, err := s.o.Members.ChangeRole(ctx, in.ID, in.Body.Role, revision)
	return newUserOut(m), in.matched(err)
}

func (s *Server) removeUser(ctx context.Context, in *UserPath) (*struct{}, error) {
	return nil, s.o.Members.Remove(ctx, in.ID)
}

type linkJSON struct {
	Token     string    `json:"token" doc:"Shown this once."`
	Link      string    `json:"link,omitempty" doc:"The page to open with it; give it to nobody but whom it is for."`
	ExpiresAt time.Time `json:"expires_at"`
}

func newLinkJSON(l identity.Link) linkJSON { return linkJSON{l.Token, l.URL, l.ExpiresAt} }

func (s *Server) resetUserPassword(ctx context.Context, in *UserPath) (*reply[linkJSON], error) {
	l, err := s.o.Members.ResetLink(ctx, in.ID)
	return &reply[linkJSON]{newLinkJSON(l)}, err
}

type invitationJSON struct {
	ID        uuid.UUID    `json:"id"`
	Email     string       `json:"email"`
	Role      control.Role `json:"role"`
	Status    string       `json:"status" enum:"open,accepted,revoked,expired"`
	InvitedBy *uuid.UUID   `json:"invited_by" doc:"A user."`
	CreatedAt time.Time    `json:"created_at"`
	ExpiresAt time.Time    `json:"expires_at"`
	Token     string       `json:"token,omitempty" doc:"Shown this once."`
	Link      string       `json:"link,omitempty" doc:"The page to open with it; give it to nobody but whom it is for."`
}

func newInvitationJSON(i identity.Invitation) invitationJSON {
	out := invitationJSON{ID: i.ID, Email: i.Email, Role: i.Role, Status: i.Status(time.Now()), CreatedAt: i.CreatedAt, ExpiresAt: i.ExpiresAt}
	if i.InvitedBy != uuid.Nil {
		out.InvitedBy = &i.InvitedBy
	}
	return out
}

func newInvitedJSON(i identity.Invited) invitationJSON {
	out := newInvitationJSON(i.Invitation)
	out.Token, out.Link = i.Link.Token, i.Link.URL
	return out
}

func (s *Server) listInvitations(ctx context.Context, in *PageQuery) (*listOut[invitationJSON], error) {
	rows, err := s.o.Tenants.Invitations.Store.Invitations(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newInvitationJSON, func(i identity.Invitation) uuid.UUID { return i.ID }), nil
}

func (s *Server) createInvitation(ctx context.Context, in *struct {
	Body struct {
		Email string       `json:"email" maxLength:"320"`
		Role  control.Role `json:"role"`
	}
}) (*reply[invitationJSON], error) {
	i, err := s.o.Tenants.Invitations.Create(ctx, in.Body.Email, in.Body.Role)
	if errors.Is(err, control.ErrConflict) {
		return nil, newProblem(409, "invited_already", "an invitation to this address is open: resend it or revoke it")
	}
	return &reply[invitationJSON]{newInvitedJSON(i)}, err
}

func (s *Server) resendInvitation(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
}) (*reply[invitationJSON], error) {
	i, err := s.o.Tenants.Invitations.Resend(ctx, in.ID)
	return &reply[invitationJSON]{newInvitedJSON(i)}, err
}

func (s *Server) revokeInvitation(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
}) (*struct{}, error) {
	return nil, s.o.Tenants.Invitations.Revoke(ctx, in.ID)
}

type joinedJSON struct {
	TenantID uuid.UUID    `json:"tenant_id" doc:"Sign in with it."`
	Role     control.Role `json:"role"`
}

func (s *Server) acceptInvitation(ctx context.Context, in *struct {
	Browser
	Body struct {
		Token    string `json:"token" maxLength:"100"`
		Password string `json:"password" maxLength:"1024" doc:"A new one; or yours, if you have an account here already."`
		Name     string `json:"name,omitempty" maxLength:"200" doc:"As your colleagues see you. Not used if you have an account here already."`
	}
}) (*reply[joinedJSON], error) {
	m, err := s.o.Tenants.Invitations.Accept(ctx, in.Body.Token, in.Body.Password, in.Body.Name, in.client)
	if err != nil {
		return nil, notSignedIn(err)
	}
	return &reply[joinedJSON]{joinedJSON{m.Tenant.ID, m.Role}}, nil
}

func (s *Server) resetPassword(ctx context.Context, in *struct {
	Body struct {
		Token    string `json:"token" maxLength:"100"`
		Password string `json:"password" maxLength:"1024"`
	}
}) (*struct{}, error) {
	return nil, s.o.Members.ResetPassword(ctx, in.Body.Token, in.Body.Password)
}
