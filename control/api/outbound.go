package api

import (
	"context"
	"errors"
	"math"
	"time"

	"parley/control"
	"parley/control/outbound"
)

type quietJSON struct {
	From     string `json:"from" maxLength:"5" doc:"By the callee's clock: 21:00."`
	Until    string `json:"until" maxLength:"5" doc:"08:00. Equal to from: there are none."`
	TimeZone string `json:"time_zone" maxLength:"60" doc:"Of numbers that tell of no zone."`
}

// PolicyFields are what outbound calls may do; exported for huma.
type PolicyFields struct {
	QuietHours  quietJSON `json:"quiet_hours"`
	Concurrency int       `json:"concurrency" minimum:"0" maximum:"10000" doc:"Calls at once; 0: none."`
	OfNumber    int       `json:"number_concurrency" minimum:"0" maximum:"10000" doc:"Calls at once from one number."`
	PerMinute   int       `json:"per_minute" minimum:"0" maximum:"60000" doc:"Calls that begin; spread evenly."`
	DailySpend  float64   `json:"daily_spend" minimum:"0" maximum:"1000000" doc:"A day of UTC, in the operator's currency, with what is set aside for calls in progress; 0: no bound."`
	Prefixes    []string  `json:"prefixes" maxItems:"300" doc:"Of numbers that may be called: +1, +4420; + for all. Empty: the country of the number that calls."`
	Consent     bool      `json:"consent_required"`
}

type policyJSON struct {
	PolicyFields
	UpdatedAt *time.Time `json:"updated_at"`
	Stopped   *stopJSON  `json:"stopped" doc:"Null unless outbound calls are stopped, since they looked like toll fraud."`
}

type stopJSON struct {
	Signal    string     `json:"signal" doc:"new_countries, number_range, short_calls, risky_numbers or spend."`
	Count     int        `json:"count"`
	Threshold int        `json:"threshold"`
	About     string     `json:"about,omitempty" doc:"The countries, or how the numbers begin."`
	CausedBy  string     `json:"caused_by,omitempty" doc:"Who ordered most of it: key:id."`
	Reason    string     `json:"reason" doc:"The same in words."`
	StoppedAt time.Time  `json:"stopped_at"`
	LiftedAt  *time.Time `json:"lifted_at"`
}

func newStopJSON(s outbound.Stop) stopJSON {
	return stopJSON{string(s.Signal), s.Count, s.Threshold, s.About, s.By, s.Reason(), s.At, when(s.Lifted)}
}

type policyOut struct {
	ETag string `header:"ETag"`
	Body policyJSON
}

func (s *Server) newPolicyOut(ctx context.Context, p outbound.Policy) (*policyOut, error) {
	f := PolicyFields{quietJSON{outbound.Clock(p.Quiet.From), outbound.Clock(p.Quiet.Until), p.Zone}, p.Concurrency, p.OfNumber, p.PerMinute,
		float64(p.DailySpend) / 1e6, p.Prefixes, p.Consent}
	if f.Prefixes == nil {
		f.Prefixes = []string{}
	}
	stop, err := s.o.Stops.OutboundStop(ctx)
	if err != nil {
		return nil, err
	}
	out := &policyOut{etag(p.Revision), policyJSON{PolicyFields: f, UpdatedAt: when(p.Updated)}}
	if stop.Holds() {
		stopped := newStopJSON(stop)
		out.Body.Stopped = &stopped
	}
	return out, nil
}

func (s *Server) outboundPolicy() error {
	return errors.Join(
		operation(s, reads("/v1/outbound-policy", control.TenantRead), "get-outbound-policy", "What outbound calls may do", 200, s.getOutboundPolicy),
		operation(s, writes("PUT", "/v1/outbound-policy", control.TenantManage, 64<<10), "put-outbound-policy",
			"Say what outbound calls may do; it holds for the next one", 200, s.putOutboundPolicy),
		operation(s, reads("/v1/tenants/{id}/outbound", control.Platform), "get-tenant-outbound",
			"Why a tenant's outbound calls are stopped, or last were; 404: they never were", 200, s.getOutboundStop),
		operation(s, writes("POST", "/v1/tenants/{id}/outbound/resume", control.Platform, NoBody), "resume-tenant-outbound",
			"Let a tenant's outbound calls go on that looked like toll fraud", 200, s.liftOutboundStop),
	)
}

func (s *Server) getOutboundPolicy(ctx context.Context, _ *struct{}) (*policyOut, error) {
	p, err := s.o.Policies.OutboundPolicy(ctx)
	if err != nil {
		return nil, err
	}
	return s.newPolicyOut(ctx, p)
}

func (s *Server) putOutboundPolicy(ctx context.Context, in *struct {
	Match
	Body PolicyFields
}) (*policyOut, error) {
	b := in.Body
	q, err := outbound.ParseQuiet(b.QuietHours.From, b.QuietHours.Until)
	if err != nil {
		return nil, err
	}
	p, err := outbound.Policy{Quiet: q, Zone: b.QuietHours.TimeZone, Concurrency: b.Concurrency, OfNumber: b.OfNumber, PerMinute: b.PerMinute,
		DailySpend: outbound.Money(math.Round(b.DailySpend * 1e6)), Prefixes: b.Prefixes, Consent: b.Consent}.Clean()
	if err != nil {
		return nil, err
	}
	revision, err := in.only()
	if err != nil {
		return nil, err
	}
	p, err = s.o.Policies.PutOutboundPolicy(ctx, p, revision)
	if err != nil {
		return nil, in.matched(err)
	}
	return s.newPolicyOut(ctx, p)
}

func (s *Server) getOutboundStop(ctx context.Context, in *TenantPath) (*reply[stopJSON], error) {
	stop, err := s.o.Stops.OutboundStop(control.WithTenant(ctx, in.ID))
	if err == nil && stop.At.IsZero() {
		err = control.ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	return &reply[stopJSON]{Body: newStopJSON(stop)}, nil
}

func (s *Server) liftOutboundStop(ctx context.Context, in *TenantPath) (*reply[stopJSON], error) {
	ctx = control.WithTenant(ctx, in.ID)
	stop, err := s.o.Stops.LiftOutboundStop(ctx)
	if errors.Is(err, control.ErrConflict) {
		last, err := s.o.Stops.OutboundStop(ctx)
		if err != nil {
			return nil, err
		}
		if last.At.IsZero() {
			return nil, newProblem(409, "not_stopped", "the tenant's outbound calls were never stopped")
		}
		return nil, newProblem(409, "not_stopped", "the tenant's outbound calls go on since "+last.Lifted.Format(time.RFC3339))
	}
	if err != nil {
		return nil, err
	}
	return &reply[stopJSON]{Body: newStopJSON(stop)}, nil
}
