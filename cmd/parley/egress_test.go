package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/control"
	"parley/control/egress"
)

// ownRules are what a tenant says of where it may call; it may fail.
type ownRules struct {
	policy control.EgressPolicy
	err    error
	asked  int
}

func (s *ownRules) EgressPolicy(context.Context) (control.EgressPolicy, error) {
	s.asked++
	return s.policy, s.err
}

func (s *ownRules) PutEgressPolicy(context.Context, control.EgressPolicy, int) (control.EgressPolicy, error) {
	return control.EgressPolicy{}, errors.New("nobody asks")
}

// What a tenant lists holds for its flows' requests and no other tenant's, is
// audited once a minute, and never keeps anybody from the operator's own API.
func TestTenantsHosts(t *testing.T) {
	var ids []string
	listen := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ids = append(ids, r.Header.Get("X-Request-Id")) }))
	defer listen.Close()
	host := strings.TrimPrefix(listen.URL, "http://")
	var trail trail
	client, err := newEgress(egress.Options{Allow: []string{host}}, "", &trail, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	policy := &ownRules{policy: control.EgressPolicy{Hosts: []string{"api.example.com"}, Calls: 2}}
	tenant := uuid.New()
	s := sender{client: client, rules: &control.EgressRules{Store: policy}, meter: &egress.LocalMeter{}}
	u, err := url.Parse(listen.URL)
	if err != nil {
		t.Fatal(err)
	}
	ctx := control.WithRequest(control.WithTenant(t.Context(), tenant), "r1")
	send := func(s sender, ctx context.Context) error {
		_, err := s.Send(ctx, effect.Request{Method: "GET", URL: u, Header: http.Header{}})
		return err
	}
	for range 3 {
		if err := send(s, ctx); !errors.Is(err, effect.ErrRefused) {
			t.Errorf("a host that is not listed: %v", err)
		}
	}
	if got, want := trail.of(tenant), "egress.refuse host:"+host; got != want || policy.asked != 1 {
		t.Errorf("audited %q, want %q; %d looks", got, want, policy.asked)
	}
	inside := s
	inside.always = host
	for i, want := range []bool{true, true, false} { // of the tenant's own budget
		err := send(inside, ctx)
		var over *effect.Overspent
		if ok := err == nil; ok != want || !ok && (!errors.As(err, &over) || over.Budget != "own.calls") {
			t.Errorf("call %d of the operator's API: %v", i, err)
		}
	}
	if !slices.Equal(ids, []string{"r1", "r1"}) {
		t.Errorf("request ids %q", ids)
	}
}

// Storage that is away leaves the last word standing, and lets nobody out of
// whom it has said nothing.
func TestTenantsHostsWithoutStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		policy := &ownRules{policy: control.EgressPolicy{Hosts: []string{"a.example"}}}
		rules := &control.EgressRules{Store: policy}
		known, unknown := control.WithTenant(t.Context(), uuid.New()), control.WithTenant(t.Context(), uuid.New())
		if _, err := rules.Of(known); err != nil {
			t.Fatal(err)
		}
		policy.err = control.ErrUnavailable
		time.Sleep(time.Hour)
		if p, err := rules.Of(known); err != nil || len(p.Hosts) != 1 {
			t.Errorf("of one it knows: %v, %v", p, err)
		}
		if _, err := rules.Of(unknown); !errors.Is(err, control.ErrUnavailable) {
			t.Errorf("of one it does not: %v", err)
		}
		policy.err, policy.policy.Hosts = nil, nil
		if p, err := rules.Of(known); err != nil || len(p.Hosts) != 0 {
			t.Errorf("when it is back: %v, %v", p, err)
		}
	})
}

// Vendors' requests go to the vendors that are configured, and their keys
// nowhere else.
func TestVendorsHosts(t *testing.T) {
	got := hostsOf(map[string]string{"openai": "http://127.0.0.1:9000/v1"})
	for _, want := range []string{"127.0.0.1:9000", "api.deepgram.com", "api.elevenlabs.io"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in %v", want, got)
		}
	}
	if slices.Contains(got, "api.openai.com") {
		t.Errorf("a vendor that is somewhere else is in %v", got)
	}
	var log bytes.Buffer
	v := newVendors(Settings{}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	defer v.client.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "http://127.0.0.1:1/", nil)
	if err != nil {
		t.Fatal(err)
	}
	var refused *egress.Refusal
	if _, err := v.client.Do(r); !errors.As(err, &refused) || !strings.Contains(log.String(), "127.0.0.1:1") {
		t.Errorf("another host: %v, log %s", err, &log)
	}
}
