package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

// issuers is how a tenant says whose tokens may call its API.
func (s *Server) issuers() error {
	admin := func(r Route) Route { r.Class = Admin; return r }
	const one = "/v1/auth/issuers/{id}"
	return errors.Join(
		operation(s, admin(reads("/v1/auth/issuers", control.TenantManage)), "list-issuers", "List whose tokens call the API", 200, s.listIssuers),
		operation(s, admin(reads(one, control.TenantManage)), "get-issuer", "Get one of them", 200, s.getIssuer),
		operation(s, admin(writes("POST", "/v1/auth/issuers", control.TenantManage, 32<<10)), "create-issuer", "Trust an issuer's tokens", 201, s.createIssuer),
		operation(s, admin(writes("PATCH", one, control.TenantManage, 32<<10)), "change-issuer", "Change what they may do", 200, s.changeIssuer),
		operation(s, admin(writes("DELETE", one, control.TenantManage, NoBody)), "delete-issuer", "Trust them no longer", 204, s.deleteIssuer),
	)
}

type issuerJSON struct {
	ID        uuid.UUID               `json:"id"`
	Issuer    string                  `json:"issuer"`
	Audience  string                  `json:"audience"`
	Settings  identity.IssuerSettings `json:"settings"`
	Enabled   bool                    `json:"enabled"`
	Revision  int                     `json:"revision"`
	CreatedAt time.Time               `json:"created_at"`
	UpdatedAt time.Time               `json:"updated_at"`
}

func newIssuerJSON(i identity.TrustedIssuer) issuerJSON {
	return issuerJSON{i.ID, i.Issuer, i.Audience, i.Settings, i.Enabled, i.Revision, i.CreatedAt, i.UpdatedAt}
}

type issuerOut struct {
	ETag string `header:"ETag"`
	Body issuerJSON
}

func newIssuerOut(i identity.TrustedIssuer, err error) (*issuerOut, error) {
	if err != nil {
		return nil, err
	}
	return &issuerOut{etag(i.Revision), newIssuerJSON(i)}, nil
}

func (s *Server) listIssuers(ctx context.Context, in *PageQuery) (*listOut[issuerJSON], error) {
	rows, err := s.o.Issuers.Store.TrustedIssuers(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newIssuerJSON, func(i identity.TrustedIssuer) uuid.UUID { return i.ID }), nil
}

func (s *Server) getIssuer(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
}) (*issuerOut, error) {
	return newIssuerOut(s.o.Issuers.Store.TrustedIssuer(ctx, in.ID))
}

func (s *Server) createIssuer(ctx context.Context, in *struct {
	Body struct {
		Issuer   string                  `json:"issuer" maxLength:"500" doc:"As its tokens have it."`
		Audience string                  `json:"audience,omitempty" maxLength:"500" doc:"That its tokens must be made for. Default: an address of this server with the tenant's id; tokens for another come with the header X-Parley-Tenant."`
		Settings identity.IssuerSettings `json:"settings"`
		Enabled  *bool                   `json:"enabled,omitempty" doc:"Default true."`
	}
}) (*issuerOut, error) {
	i := identity.TrustedIssuer{Issuer: in.Body.Issuer, Audience: in.Body.Audience, Settings: in.Body.Settings,
		Enabled: in.Body.Enabled == nil || *in.Body.Enabled}
	return newIssuerOut(s.o.Issuers.Create(ctx, i))
}

func (s *Server) changeIssuer(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
	Match
	Body struct {
		Audience *string                  `json:"audience,omitempty" maxLength:"500"`
		Settings *identity.IssuerSettings `json:"settings,omitempty" doc:"Replaces all settings."`
		Enabled  *bool                    `json:"enabled,omitempty"`
	}
}) (*issuerOut, error) {
	i, err := s.o.Issuers.Store.TrustedIssuer(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := in.onto(&i.Revision); err != nil {
		return nil, err
	}
	set(&i.Audience, in.Body.Audience)
	set(&i.Settings, in.Body.Settings)
	set(&i.Enabled, in.Body.Enabled)
	i, err = s.o.Issuers.Update(ctx, i, i.Revision)
	return newIssuerOut(i, in.matched(err))
}

func (s *Server) deleteIssuer(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
}) (*struct{}, error) {
	return nil, s.o.Issuers.Store.DeleteTrustedIssuer(ctx, in.ID)
}
