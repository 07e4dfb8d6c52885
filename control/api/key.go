package api

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

type keyJSON struct {
	ID             uuid.UUID            `json:"id"`
	Name           string               `json:"name"`
	Prefix         string               `json:"prefix"`
	Scopes         []control.Permission `json:"scopes"`
	AllowedOrigins []string             `json:"allowed_origins" doc:"Pages that may send it; empty: any, and programs."`
	Imported       bool                 `json:"imported,omitempty" doc:"It comes from another program, and was not used here yet."`
	CreatedAt      time.Time            `json:"created_at"`
	ExpiresAt      *time.Time           `json:"expires_at"`
	RevokedAt      *time.Time           `json:"revoked_at"`
	PreviousUntil  *time.Time           `json:"previous_until" doc:"Until when the secret before the last rotation works; null: none does."`
	LeakedAt       *time.Time           `json:"leaked_at" doc:"When it was first seen in an address. Rotate it."`
	LastUsedAt     *time.Time           `json:"last_used_at" doc:"To the minute."`
	LastUsedFrom   string               `json:"last_used_from,omitempty" doc:"The network, such as 203.0.113.0/24."`
	Secret         string               `json:"secret,omitempty" doc:"The key itself, shown this once."`
}

func newKeyJSON(k identity.Key) keyJSON {
	out := keyJSON{ID: k.ID, Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes, AllowedOrigins: k.Origins, Imported: k.Form == identity.HashSHA256,
		CreatedAt: k.CreatedAt, ExpiresAt: when(k.ExpiresAt), RevokedAt: when(k.RevokedAt), LeakedAt: when(k.LeakedAt),
		LastUsedAt: when(k.LastUsedAt), LastUsedFrom: k.LastUsedFrom}
	if out.AllowedOrigins == nil {
		out.AllowedOrigins = []string{}
	}
	if time.Now().Before(k.PreviousUntil) {
		out.PreviousUntil = when(k.PreviousUntil)
	}
	return out
}

type keyOut struct {
	ETag string `header:"ETag"`
	Body keyJSON
}

func newKeyOut(k identity.Key, secret string) *keyOut {
	out := &keyOut{etag(k.Revision), newKeyJSON(k)}
	out.Body.Secret = secret
	return out
}

// KeyPath names a key in a route; exported for huma, which fills it.
type KeyPath struct {
	ID uuid.UUID `path:"id"`
}

func (s *Server) keys() error {
	of := func(r Route) Route {
		r.Class = Admin
		return r
	}
	change := func(method, pattern string, body int64) Route {
		return of(writes(method, pattern, control.KeysManage, body))
	}
	return errors.Join(
		operation(s, of(reads("/v1/keys", control.KeysManage)), "list-keys", "List API keys", 200, s.listKeys),
		operation(s, of(reads("/v1/keys/{id}", control.KeysManage)), "get-key", "Get an API key", 200, s.getKey),
		operation(s, change("POST", "/v1/keys", 8<<10), "create-key", "Make an API key", 201, s.createKey),
		operation(s, change("PATCH", "/v1/keys/{id}", 8<<10), "change-key", "Change an API key", 200, s.changeKey),
		operation(s, change("DELETE", "/v1/keys/{id}", NoBody), "revoke-key", "Revoke an API key", 204, s.revokeKey),
		operation(s, change("POST", "/v1/keys/{id}/rotate", 4<<10), "rotate-key", "Give an API key a second secret", 200, s.rotateKey),
		operation(s, change("DELETE", "/v1/keys/{id}/previous", NoBody), "drop-previous-key", "End the secret before the last rotation", 200, s.dropPreviousKey),
	)
}

func (s *Server) listKeys(ctx context.Context, in *PageQuery) (*listOut[keyJSON], error) {
	rows, err := s.o.Keys.Store.Keys(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newKeyJSON, func(k identity.Key) uuid.UUID { return k.ID }), nil
}

func (s *Server) getKey(ctx context.Context, in *KeyPath) (*keyOut, error) {
	k, err := s.o.Keys.Store.Key(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return newKeyOut(k, ""), nil
}

func (s *Server) createKey(ctx context.Context, in *struct {
	Body struct {
		Name           string               `json:"name"`
		Scopes         []control.Permission `json:"scopes" maxItems:"50" doc:"What it may do: nothing that you may not."`
		AllowedOrigins []string             `json:"allowed_origins,omitempty" doc:"Pages that may send it, as https://shop.example; none: any, and programs."`
		ExpiresAt      time.Time            `json:"expires_at,omitempty"`
		SHA256         string               `json:"sha256,omitempty" maxLength:"64" doc:"Takes over a key of another program, which goes on as it is: its SHA-256 in hexadecimal digits."`
	}
}) (*keyOut, error) {
	k := identity.Key{Name: in.Body.Name, Scopes: in.Body.Scopes, Origins: in.Body.AllowedOrigins, ExpiresAt: in.Body.ExpiresAt}
	var secret string
	var err error
	if in.Body.SHA256 == "" {
		k, secret, err = s.o.Keys.Create(ctx, k)
	} else {
		sum, _ := hex.DecodeString(in.Body.SHA256) // what is none is refused by its length
		k, err = s.o.Keys.Import(ctx, k, sum)
	}
	if err != nil {
		return nil, err
	}
	return newKeyOut(k, secret), nil
}

func (s *Server) changeKey(ctx context.Context, in *struct {
	KeyPath
	Match
	Body struct {
		Name           *string              `json:"name,omitempty"`
		Scopes         []control.Permission `json:"scopes,omitempty" maxItems:"50" doc:"Some of those that it has."`
		AllowedOrigins *[]string            `json:"allowed_origins,omitempty"`
		ExpiresAt      *time.Time           `json:"expires_at,omitempty" doc:"0001-01-01T00:00:00Z: never."`
	}
}) (*keyOut, error) {
	k, err := s.o.Keys.Store.Key(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := in.onto(&k.Revision); err != nil {
		return nil, err
	}
	k, err = s.o.Keys.Change(ctx, k, identity.KeyChange{Name: in.Body.Name, Scopes: in.Body.Scopes, Origins: in.Body.AllowedOrigins, ExpiresAt: in.Body.ExpiresAt})
	if err != nil {
		return nil, in.matched(err)
	}
	return newKeyOut(k, ""), nil
}

func (s *Server) revokeKey(ctx context.Context, in *KeyPath) (*struct{}, error) {
	return nil, s.o.Keys.Store.RevokeKey(ctx, in.ID, time.Now().UTC())
}

func (s *Server) rotateKey(ctx context.Context, in *struct {
	KeyPath
	Body *struct {
		PreviousUntil time.Time `json:"previous_until,omitempty" doc:"Until when the secret of now goes on working, at most 30 days; without, for 24 hours."`
	}
}) (*keyOut, error) {
	var grace time.Duration
	if in.Body != nil && !in.Body.PreviousUntil.IsZero() {
		grace = max(time.Until(in.Body.PreviousUntil), 1) // of the past: refused
	}
	k, secret, err := s.o.Keys.Rotate(ctx, in.ID, grace)
	if err != nil {
		return nil, err
	}
	return newKeyOut(k, secret), nil
}

func (s *Server) dropPreviousKey(ctx context.Context, in *KeyPath) (*keyOut, error) {
	k, err := s.o.Keys.Store.DropPreviousKey(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return newKeyOut(k, ""), nil
}
