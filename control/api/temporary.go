package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

type temporaryJSON struct {
	ID        uuid.UUID            `json:"id"`
	Name      string               `json:"name"`
	Maker     string               `json:"maker" doc:"user:id or key:id."`
	Scopes    []control.Permission `json:"scopes"`
	Origin    string               `json:"origin,omitempty"`
	SingleUse bool                 `json:"single_use"`
	CreatedAt time.Time            `json:"created_at"`
	ExpiresAt time.Time            `json:"expires_at"`
	UsedAt    *time.Time           `json:"used_at"`
	RevokedAt *time.Time           `json:"revoked_at"`
	Token     string               `json:"token,omitempty" doc:"The token itself, shown this once."`
}

func newTemporaryJSON(t identity.Temporary) temporaryJSON {
	return temporaryJSON{t.ID, t.Name, t.Maker, t.Scopes, t.Origin, t.SingleUse, t.CreatedAt, t.ExpiresAt, when(t.UsedAt), when(t.RevokedAt), ""}
}

func (s *Server) temporaryTokens() error {
	return errors.Join(
		operation(s, reads("/v1/tokens", control.TokensMint), "list-tokens", "List temporary tokens", 200, s.listTemporary),
		operation(s, writes("POST", "/v1/tokens", control.TokensMint, 4<<10), "mint-token", "Make a temporary token", 201, s.mintTemporary),
		operation(s, writes("DELETE", "/v1/tokens/{id}", control.TokensMint, NoBody), "end-token", "Revoke a temporary token", 204, s.endTemporary),
	)
}

func (s *Server) listTemporary(ctx context.Context, in *PageQuery) (*listOut[temporaryJSON], error) {
	rows, err := s.o.Bearers.Temporary.Store.Temporaries(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newTemporaryJSON, func(t identity.Temporary) uuid.UUID { return t.ID }), nil
}

func (s *Server) mintTemporary(ctx context.Context, in *struct {
	Body struct {
		Name      string               `json:"name" doc:"What it is for."`
		Scopes    []control.Permission `json:"scopes" maxItems:"50" doc:"Some of your own."`
		ExpiresIn int                  `json:"expires_in,omitempty" minimum:"1" maximum:"3600" doc:"Seconds; without, 900."`
		SingleUse bool                 `json:"single_use,omitempty" doc:"Good for one request, whatever it comes to."`
		Origin    string               `json:"origin,omitempty" maxLength:"300" doc:"Of the only page that may send it, such as https://example.com."`
	}
}) (*reply[temporaryJSON], error) {
	t := identity.Temporary{Name: in.Body.Name, Scopes: in.Body.Scopes, Origin: in.Body.Origin, SingleUse: in.Body.SingleUse}
	t, secret, err := s.o.Bearers.Temporary.Mint(ctx, t, time.Duration(in.Body.ExpiresIn)*time.Second)
	if err != nil {
		return nil, err
	}
	out := newTemporaryJSON(t)
	out.Token = secret
	return &reply[temporaryJSON]{out}, nil
}

func (s *Server) endTemporary(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
}) (*struct{}, error) {
	return nil, s.o.Bearers.Temporary.Store.RevokeTemporary(ctx, in.ID, time.Now().UTC())
}
