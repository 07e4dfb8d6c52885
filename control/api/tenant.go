package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

type tenantJSON struct {
	ID          uuid.UUID  `json:"id"`
	Name        string     `json:"name"`
	Revision    int        `json:"revision"`
	CreatedAt   time.Time  `json:"created_at"`
	SuspendedAt *time.Time `json:"suspended_at"`

	Invitation *invitationJSON `json:"invitation,omitempty" doc:"Of the owner, where the tenant has just been made."`
}

func newTenantJSON(t identity.Tenant) tenantJSON {
	return tenantJSON{t.ID, t.Name, t.Revision, t.CreatedAt, when(t.SuspendedAt), nil}
}

type tenantOut struct {
	ETag string `header:"ETag"`
	Body tenantJSON
}

func newTenantOut(t identity.Tenant) *tenantOut {
	return &tenantOut{etag(t.Revision), newTenantJSON(t)}
}

func (s *Server) tenants() error {
	const platform = control.Platform
	return errors.Join(
		operation(s, reads("/v1/tenants", platform), "list-tenants", "List all tenants", 200, s.listTenants),
		operation(s, writes("POST", "/v1/tenants", platform, 4<<10), "create-tenant", "Make a tenant, and invite its owner", 201, s.createTenant),
		operation(s, writes("POST", "/v1/tenants/{id}/suspend", platform, NoBody), "suspend-tenant", "Keep everybody of a tenant out", 200, s.suspendTenant),
		operation(s, writes("POST", "/v1/tenants/{id}/resume", platform, NoBody), "resume-tenant", "Let them in again", 200, s.resumeTenant),
		operation(s, reads("/v1/tenants/{id}", control.TenantRead), "get-tenant", "Get your tenant", 200, s.getTenant),
		operation(s, writes("PATCH", "/v1/tenants/{id}", control.TenantManage, 4<<10), "change-tenant", "Change your tenant's name", 200, s.changeTenant),
	)
}

// TenantPath names a tenant in a route; exported for huma, which fills it.
type TenantPath struct {
	ID uuid.UUID `path:"id"`
}

// own refuses another tenant's id.
func (in TenantPath) own(ctx context.Context) error {
	if tenant, _ := control.TenantOf(ctx); tenant != in.ID {
		return control.ErrNotFound
	}
	return nil
}

func (s *Server) listTenants(ctx context.Context, in *PageQuery) (*listOut[tenantJSON], error) {
	rows, err := s.o.Tenants.Store.Tenants(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newTenantJSON, func(t identity.Tenant) uuid.UUID { return t.ID }), nil
}

func (s *Server) createTenant(ctx context.Context, in *struct {
	Body struct {
		Name  string `json:"name" maxLength:"200"`
		Owner string `json:"owner_email" maxLength:"320"`
	}
}) (*tenantOut, error) {
	t, invited, err := s.o.Tenants.Create(ctx, in.Body.Name, in.Body.Owner, false)
	if err != nil {
		return nil, err
	}
	out, invitation := newTenantOut(t), newInvitedJSON(invited)
	out.Body.Invitation = &invitation
	return out, nil
}

func (s *Server) suspendTenant(ctx context.Context, in *TenantPath) (*tenantOut, error) {
	if in.own(ctx) == nil {
		return nil, newProblem(409, "own_tenant", "this is where you are signed in: nobody could take it back")
	}
	t, err := s.o.Tenants.Suspend(ctx, in.ID, true)
	return newTenantOut(t), err
}

func (s *Server) resumeTenant(ctx context.Context, in *TenantPath) (*tenantOut, error) {
	t, err := s.o.Tenants.Suspend(ctx, in.ID, false)
	return newTenantOut(t), err
}

func (s *Server) getTenant(ctx context.Context, in *TenantPath) (*tenantOut, error) {
	if err := in.own(ctx); err != nil {
		return nil, err
	}
	t, err := s.o.Tenants.Store.Tenant(ctx)
	return newTenantOut(t), err
}

func (s *Server) changeTenant(ctx context.Context, in *struct {
	TenantPath
	Match
	Body struct {
		Name string `json:"name" maxLength:"200"`
	}
}) (*tenantOut, error) {
	if err := in.own(ctx); err != nil {
		return nil, err
	}
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	t, err := s.o.Tenants.Rename(ctx, in.Body.Name, revision)
	return newTenantOut(t), in.matched(err)
}
