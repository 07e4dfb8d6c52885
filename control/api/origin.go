package api

import (
	"context"
	"errors"
	"net/url"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

type originJSON struct {
	ID        uuid.UUID `json:"id"`
	Origin    string    `json:"origin"`
	CreatedAt time.Time `json:"created_at"`
}

func newOriginJSON(o control.Origin) originJSON { return originJSON{o.ID, o.Origin, o.CreatedAt} }

// origins are routes of the tenant's own list.
func (s *Server) origins() error {
	return errors.Join(
		operation(s, reads("/v1/origins", control.TenantRead), "list-origins", "List origins of pages that may call from a browser", 200, s.listOrigins),
		operation(s, writes("POST", "/v1/origins", control.TenantManage, 4<<10), "add-origin", "Let pages of an origin call from a browser", 201, s.addOrigin),
		operation(s, writes("DELETE", "/v1/origins/{id}", control.TenantManage, NoBody), "remove-origin", "Let them no more", 204, s.removeOrigin),
	)
}

func (s *Server) listOrigins(ctx context.Context, in *PageQuery) (*listOut[originJSON], error) {
	rows, err := s.o.Origins.Store.Origins(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newOriginJSON, func(o control.Origin) uuid.UUID { return o.ID }), nil
}

func (s *Server) addOrigin(ctx context.Context, in *struct {
	Body struct {
		Origin string `json:"origin" maxLength:"300" doc:"Such as https://shop.example: scheme, host and port as browsers send them. No pattern."`
	}
}) (*reply[originJSON], error) {
	o, err := s.o.Origins.Add(ctx, in.Body.Origin)
	if err != nil {
		return nil, err
	}
	return &reply[originJSON]{newOriginJSON(o)}, nil
}

func (s *Server) removeOrigin(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
}) (*struct{}, error) {
	return nil, s.o.Origins.Store.DeleteOrigin(ctx, in.ID)
}

// callsFrom refuses an origin that is neither this server's own nor listed by
// the tenant of ctx: a call token for it would open nothing but a stranger's
// page. Programs have none.
func (s *Server) callsFrom(ctx context.Context, origin string) error {
	if origin == "" {
		return nil
	}
	if u, err := url.Parse(s.o.PublicURL); err == nil && control.IsOrigin(origin) && origin == u.Scheme+"://"+u.Host {
		return nil
	}
	listed := false
	if s.o.Origins != nil {
		var err error
		if listed, err = s.o.Origins.Listed(ctx, origin); err != nil {
			return err
		}
	}
	if !listed {
		return control.Invalidf("origin", "must be this server's own, or one that your tenant lists at /v1/origins: add it there first")
	}
	return nil
}
