package api

import (
	"context"
	"errors"
	"time"

	"parley/control"
)

// EgressFields are where a tenant's flows and webhooks may call, and how much
// in an hour; exported for huma.
type EgressFields struct {
	Hosts   []string `json:"hosts" maxItems:"200" doc:"Such as api.example.com, *.example.com, api.example.com:8443. Empty: whatever is public."`
	Calls   int64    `json:"calls,omitempty" minimum:"0" doc:"An hour; 0: no bound but the operator's."`
	Bytes   int64    `json:"bytes,omitempty" minimum:"0" doc:"Of bodies, both ways, an hour."`
	Seconds int64    `json:"seconds,omitempty" minimum:"0" doc:"From sending to the whole answer, an hour."`
}

type egressJSON struct {
	EgressFields
	UpdatedAt *time.Time `json:"updated_at"`
}

type egressOut struct {
	ETag string `header:"ETag"`
	Body egressJSON
}

func newEgressOut(p control.EgressPolicy) *egressOut {
	f := EgressFields{p.Hosts, p.Calls, p.Bytes, p.Seconds}
	if f.Hosts == nil {
		f.Hosts = []string{}
	}
	return &egressOut{etag(p.Revision), egressJSON{f, when(p.UpdatedAt)}}
}

func (s *Server) egress() error {
	return errors.Join(
		operation(s, reads("/v1/egress", control.TenantRead), "get-egress", "Where flows and webhooks may call", 200, s.getEgress),
		operation(s, writes("PUT", "/v1/egress", control.TenantManage, 64<<10), "put-egress", "Say where flows and webhooks may call; it holds everywhere within 5 s", 200, s.putEgress),
	)
}

func (s *Server) getEgress(ctx context.Context, _ *struct{}) (*egressOut, error) {
	p, err := s.o.Egress.EgressPolicy(ctx)
	if err != nil {
		return nil, err
	}
	return newEgressOut(p), nil
}

func (s *Server) putEgress(ctx context.Context, in *struct {
	Match
	Body EgressFields
}) (*egressOut, error) {
	p, err := control.EgressPolicy{Hosts: in.Body.Hosts, Calls: in.Body.Calls, Bytes: in.Body.Bytes, Seconds: in.Body.Seconds}.Clean()
	if err != nil {
		return nil, err
	}
	revision, err := in.only()
	if err != nil {
		return nil, err
	}
	p, err = s.o.Egress.PutEgressPolicy(ctx, p, revision)
	if err != nil {
		return nil, in.matched(err)
	}
	return newEgressOut(p), nil
}
