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
}

type policyOut struct {
	ETag string `header:"ETag"`
	Body policyJSON
}

func newPolicyOut(p outbound.Policy) *policyOut {
	f := PolicyFields{quietJSON{outbound.Clock(p.Quiet.From), outbound.Clock(p.Quiet.Until), p.Zone}, p.Concurrency, p.OfNumber, p.PerMinute,
		float64(p.DailySpend) / 1e6, p.Prefixes, p.Consent}
	if f.Prefixes == nil {
		f.Prefixes = []string{}
	}
	return &policyOut{etag(p.Revision), policyJSON{f, when(p.Updated)}}
}

func (s *Server) outboundPolicy() error {
	return errors.Join(
		operation(s, reads("/v1/outbound-policy", control.TenantRead), "get-outbound-policy", "What outbound calls may do", 200, s.getOutboundPolicy),
		operation(s, writes("PUT", "/v1/outbound-policy", control.TenantManage, 64<<10), "put-outbound-policy",
			"Say what outbound calls may do; it holds for the next one", 200, s.putOutboundPolicy),
	)
}

func (s *Server) getOutboundPolicy(ctx context.Context, _ *struct{}) (*policyOut, error) {
	p, err := s.o.Policies.OutboundPolicy(ctx)
	if err != nil {
		return nil, err
	}
	return newPolicyOut(p), nil
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
	return newPolicyOut(p), nil
}
