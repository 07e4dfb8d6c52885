package api

import (
	"context"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

type meJSON struct {
	Kind        string               `json:"kind" doc:"user, key, temporary or service."`
	ID          uuid.UUID            `json:"id" doc:"Of the session, key or token."`
	TenantID    uuid.UUID            `json:"tenant_id"`
	User        *meUserJSON          `json:"user" doc:"Of kind user."`
	Role        control.Role         `json:"role,omitempty"`
	Permissions []control.Permission `json:"permissions"`
	Platform    bool                 `json:"platform" doc:"Looks after tenants."`
	FactorAt    *time.Time           `json:"second_factor_at" doc:"When a second factor was given in this session."`
	Tenants     []meTenantJSON       `json:"tenants" doc:"Of kind user: where you can go on, by POST /v1/auth/switch."`
}

type meUserJSON struct {
	ID    uuid.UUID `json:"id"`
	Email string    `json:"email"`
	Name  string    `json:"name"`
}

type meTenantJSON struct {
	ID        uuid.UUID    `json:"id"`
	Name      string       `json:"name"`
	Role      control.Role `json:"role"`
	Suspended bool         `json:"suspended"`
}

func (s *Server) getMe(ctx context.Context, _ *struct{}) (*reply[meJSON], error) {
	p := control.PrincipalOf(ctx)
	out := &reply[meJSON]{meJSON{Kind: p.Kind, ID: p.ID, TenantID: p.Tenant, Role: p.Role, Permissions: []control.Permission{},
		Platform: p.Platform, FactorAt: when(p.FactorAt), Tenants: []meTenantJSON{}}}
	for _, perm := range control.Scopes() {
		if control.Allow(p, perm, control.Object{}) == nil {
			out.Body.Permissions = append(out.Body.Permissions, perm)
		}
	}
	if p.Kind != control.PrincipalUser {
		return out, nil
	}
	u, err := s.o.Users.Store.User(ctx, p.User)
	if err != nil {
		return nil, err
	}
	out.Body.User = &meUserJSON{u.ID, u.Email, u.Name}
	all, err := s.o.Users.Store.Memberships(ctx, p.User)
	for _, m := range all {
		out.Body.Tenants = append(out.Body.Tenants, meTenantJSON{m.Tenant.ID, m.Tenant.Name, m.Role, !m.Tenant.SuspendedAt.IsZero()})
	}
	return out, err
}

// person returns who asks, if it is a person: programs have no sessions.
func person(ctx context.Context) (control.Principal, error) {
	p := control.PrincipalOf(ctx)
	if p.Kind != control.PrincipalUser {
		return p, newProblem(403, "people_only", "this is for people who have signed in, not for keys")
	}
	return p, nil
}

type ownSessionJSON struct {
	ID         uuid.UUID `json:"id"`
	TenantID   uuid.UUID `json:"tenant_id"`
	Current    bool      `json:"current"`
	How        string    `json:"how" doc:"The first step: password, oidc; or switch, from another tenant."`
	Network    string    `json:"network" doc:"Of the browser, coarse: 203.0.113.0/24."`
	Agent      string    `json:"agent" doc:"Firefox on Linux."`
	CreatedAt  time.Time `json:"created_at"`
	LastUsedAt time.Time `json:"last_used_at" doc:"To the minute."`
	ExpiresAt  time.Time `json:"expires_at" doc:"At the latest; earlier after 30 minutes without a request."`
}

func (s *Server) listOwnSessions(ctx context.Context, _ *struct{}) (*listOut[ownSessionJSON], error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	sessions, err := s.o.Users.List(ctx, p)
	if err != nil {
		return nil, err
	}
	out := &listOut[ownSessionJSON]{Body: list[ownSessionJSON]{Items: []ownSessionJSON{}}}
	for _, b := range sessions {
		out.Body.Items = append(out.Body.Items, newOwnSessionJSON(b, p))
	}
	return out, nil
}

func newOwnSessionJSON(b identity.BrowserSession, p control.Principal) ownSessionJSON {
	return ownSessionJSON{b.ID, b.Tenant, b.ID == p.ID, b.How, b.Network, b.Agent, b.CreatedAt, b.LastUsedAt, b.ExpiresAt}
}

func (s *Server) revokeOtherSessions(ctx context.Context, _ *struct{}) (*struct{}, error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	return nil, s.o.Users.RevokeOthers(ctx, p)
}

func (s *Server) revokeOwnSession(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
}) (*struct{}, error) {
	return nil, s.o.Users.Revoke(ctx, control.PrincipalOf(ctx), in.ID)
}
