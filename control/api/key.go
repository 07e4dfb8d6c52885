package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

type keyJSON struct {
	ID         uuid.UUID            `json:"id"`
	Name       string               `json:"name"`
	Prefix     string               `json:"prefix"`
	Scopes     []control.Permission `json:"scopes"`
	CreatedAt  time.Time            `json:"created_at"`
	ExpiresAt  *time.Time           `json:"expires_at"`
	RevokedAt  *time.Time           `json:"revoked_at"`
	LastUsedAt *time.Time           `json:"last_used_at"`
	Secret     string               `json:"secret,omitempty" doc:"The key itself, shown this once."`
}

func newKeyJSON(k identity.Key) keyJSON {
	return keyJSON{k.ID, k.Name, k.Prefix, k.Scopes, k.CreatedAt, when(k.ExpiresAt), when(k.RevokedAt), when(k.LastUsedAt), ""}
}

func (s *Server) keys() error {
	create := writes("POST", "/v1/keys", control.KeysManage, 4<<10)
	revoke := writes("DELETE", "/v1/keys/{id}", control.KeysManage, NoBody)
	listing := reads("/v1/keys", control.KeysManage)
	create.Class, revoke.Class, listing.Class = Admin, Admin, Admin
	return errors.Join(
		operation(s, listing, "list-keys", "List API keys", 200, s.listKeys),
		operation(s, create, "create-key", "Make an API key", 201, s.createKey),
		operation(s, revoke, "revoke-key", "Revoke an API key", 204, s.revokeKey),
	)
}

func (s *Server) listKeys(ctx context.Context, in *PageQuery) (*listOut[keyJSON], error) {
	rows, err := s.o.Keys.Store.Keys(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newKeyJSON, func(k identity.Key) uuid.UUID { return k.ID }), nil
}

func (s *Server) createKey(ctx context.Context, in *struct {
	Body struct {
		Name      string               `json:"name"`
		Scopes    []control.Permission `json:"scopes" maxItems:"50"`
		ExpiresAt time.Time            `json:"expires_at,omitempty"`
	}
}) (*reply[keyJSON], error) {
	k, secret, err := s.o.Keys.Create(ctx, in.Body.Name, in.Body.Scopes, in.Body.ExpiresAt)
	if err != nil {
		return nil, err
	}
	out := newKeyJSON(k)
	out.Secret = secret
	return &reply[keyJSON]{out}, nil
}

func (s *Server) revokeKey(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
}) (*struct{}, error) {
	return nil, s.o.Keys.Store.RevokeKey(ctx, in.ID, time.Now().UTC())
}
