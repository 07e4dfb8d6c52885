package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"parley/agent/effect"
	"parley/control"
	"parley/control/egress"
)

// A sender sends requests of flows and webhooks by the one way out, to where
// their tenant lets them. It implements [effect.HTTP].
type sender struct {
	client *egress.Client
	rules  *control.EgressRules // nil: tenants say nothing
	meter  egress.Meter         // of what tenants' own budgets spend; nil: they do not bind
	always string               // a host that every tenant may call; empty: none
}

// Send implements [effect.HTTP].
func (s sender) Send(ctx context.Context, r effect.Request) (effect.Response, error) {
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	ctx, err := s.narrow(ctx)
	if err != nil {
		return effect.Response{}, err
	}
	req := (&http.Request{Method: r.Method, URL: r.URL, Header: correlated(ctx, r.Header), Host: r.URL.Host,
		Body: io.NopCloser(bytes.NewReader(r.Body))}).WithContext(ctx)
	res, err := s.client.Do(req)
	var refused *egress.Refusal
	switch {
	case errors.As(err, &refused) && refused.Reason == egress.ReasonBudget:
		return effect.Response{}, &effect.Overspent{Budget: refused.Budget}
	case errors.As(err, &refused):
		return effect.Response{}, fmt.Errorf("%w: %s", effect.ErrRefused, refused.Reason)
	case err != nil:
		return effect.Response{}, err
	}
	body, err := io.ReadAll(res.Body)
	return effect.Response{Status: res.StatusCode, Header: res.Header, Body: body}, err
}

// narrow holds the requests of ctx to what its tenant says.
func (s sender) narrow(ctx context.Context) (context.Context, error) {
	tenant, ok := control.TenantOf(ctx)
	if s.rules == nil || !ok {
		return ctx, nil
	}
	p, err := s.rules.Of(ctx)
	if err != nil {
		return ctx, err
	}
	if len(p.Hosts) > 0 {
		hosts := p.Hosts[:len(p.Hosts):len(p.Hosts)]
		if s.always != "" {
			hosts = append(hosts, s.always)
		}
		ctx = egress.WithHosts(ctx, hosts)
	}
	if most := (egress.Amount{Calls: p.Calls, Bytes: p.Bytes, Time: time.Duration(min(p.Seconds, 1<<31)) * time.Second}); most != (egress.Amount{}) && s.meter != nil {
		ctx = egress.WithBudgets(ctx, egress.Budget{Name: "own", Key: "own:" + tenant.String(), Window: budgetWindow, Most: most, Meter: s.meter})
	}
	return ctx, nil
}

// correlated adds what our log calls the work by, for the far side's log: the
// request's id, or in a call or a chat the conversation's.
func correlated(ctx context.Context, h http.Header) http.Header {
	id := control.RequestOf(ctx)
	if party, ok := control.PartyOf(ctx); ok && id == "" {
		id = party.Conversation.String()
	}
	if id == "" || h.Get("X-Request-Id") != "" {
		return h
	}
	h = h.Clone()
	if h == nil {
		h = http.Header{}
	}
	h.Set("X-Request-Id", id)
	return h
}
