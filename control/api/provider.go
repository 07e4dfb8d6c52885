package api

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

// providers is how a tenant says by whom its people sign in.
func (s *Server) providers() error {
	admin := func(r Route) Route { r.Class = Admin; return r }
	const one = "/v1/auth/providers/{id}"
	return errors.Join(
		operation(s, admin(reads("/v1/auth/providers", control.TenantManage)), "list-providers", "List by whom people sign in", 200, s.listProviders),
		operation(s, admin(reads(one, control.TenantManage)), "get-provider", "Get one of them", 200, s.getProvider),
		operation(s, admin(writes("POST", "/v1/auth/providers", control.TenantManage, 32<<10)), "create-provider", "Let people sign in by an issuer", 201, s.createProvider),
		operation(s, admin(writes("PATCH", one, control.TenantManage, 32<<10)), "change-provider", "Change how", 200, s.changeProvider),
		operation(s, admin(writes("DELETE", one, control.TenantManage, NoBody)), "delete-provider", "Let nobody sign in by it any more", 204, s.deleteProvider),
	)
}

type providerJSON struct {
	ID        uuid.UUID                 `json:"id"`
	Name      string                    `json:"name"`
	Settings  identity.ProviderSettings `json:"settings"`
	HasSecret bool                      `json:"has_client_secret" doc:"The secret itself is never shown."`
	Enabled   bool                      `json:"enabled"`
	StartURL  string                    `json:"start_url" doc:"Send browsers there."`
	Redirect  string                    `json:"redirect_uri" doc:"To be registered at the issuer."`
	Revision  int                       `json:"revision"`
	CreatedAt time.Time                 `json:"created_at"`
	UpdatedAt time.Time                 `json:"updated_at"`
}

func (s *Server) newProviderJSON(p identity.Provider) providerJSON {
	base := strings.TrimSuffix(s.o.PublicURL, "/") + "/v1/auth/oidc/" + p.ID.String()
	return providerJSON{p.ID, p.Name, p.Settings, p.Secret != nil, p.Enabled, base + "/start", base + "/callback", p.Revision, p.CreatedAt, p.UpdatedAt}
}

type providerOut struct {
	ETag string `header:"ETag"`
	Body providerJSON
}

func (s *Server) newProviderOut(p identity.Provider, err error) (*providerOut, error) {
	if err != nil {
		return nil, err
	}
	return &providerOut{etag(p.Revision), s.newProviderJSON(p)}, nil
}

func (s *Server) listProviders(ctx context.Context, in *PageQuery) (*listOut[providerJSON], error) {
	rows, err := s.o.OIDC.Providers.Store.Providers(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, s.newProviderJSON, func(p identity.Provider) uuid.UUID { return p.ID }), nil
}

func (s *Server) getProvider(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
}) (*providerOut, error) {
	return s.newProviderOut(s.o.OIDC.Providers.Store.Provider(ctx, in.ID))
}

func (s *Server) createProvider(ctx context.Context, in *struct {
	Body struct {
		Name     string                    `json:"name"`
		Settings identity.ProviderSettings `json:"settings"`
		Secret   string                    `json:"client_secret,omitempty" maxLength:"2000" doc:"Of the client at the issuer. Kept sealed, and never shown again."`
		Enabled  *bool                     `json:"enabled,omitempty" doc:"Default true."`
	}
}) (*providerOut, error) {
	p := identity.Provider{Name: in.Body.Name, Settings: in.Body.Settings, Enabled: in.Body.Enabled == nil || *in.Body.Enabled}
	return s.newProviderOut(s.o.OIDC.Providers.Create(ctx, p, in.Body.Secret))
}

func (s *Server) changeProvider(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
	Match
	Body struct {
		Name     *string                    `json:"name,omitempty"`
		Settings *identity.ProviderSettings `json:"settings,omitempty" doc:"Replaces all settings."`
		Secret   *string                    `json:"client_secret,omitempty" maxLength:"2000"`
		Enabled  *bool                      `json:"enabled,omitempty"`
	}
}) (*providerOut, error) {
	p, err := s.o.OIDC.Providers.Store.Provider(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := in.onto(&p.Revision); err != nil {
		return nil, err
	}
	set(&p.Name, in.Body.Name)
	set(&p.Settings, in.Body.Settings)
	set(&p.Enabled, in.Body.Enabled)
	p, err = s.o.OIDC.Providers.Update(ctx, p, in.Body.Secret, p.Revision)
	return s.newProviderOut(p, in.matched(err))
}

func (s *Server) deleteProvider(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
}) (*struct{}, error) {
	return nil, s.o.OIDC.Providers.Store.DeleteProvider(ctx, in.ID)
}
