package main

import (
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"parley/control"
	"parley/control/ingress"
	"parley/signaling"
)

// Whose sessions were ended three times for sending too much opens no more for a
// while, on no node, with whatever session of theirs; others do.
func TestFloodsByPrincipal(t *testing.T) {
	a := newWired(t)
	b := newWired(t, func(s *Settings) { s.RedisURL = "redis://" + a.redis.Addr() })
	b.agents = a.agents // of one database
	made := a.tenant("owner@example.com")
	key := control.Principal{Kind: control.PrincipalKey, ID: control.NewID(), Tenant: made.Tenant, Scopes: []control.Permission{control.CallsStart}}
	other, person := key, control.Principal{Kind: control.PrincipalUser, ID: control.NewID(), Tenant: made.Tenant, User: control.NewID(), Role: control.RoleOwner}
	other.ID = control.NewID()
	again := person
	again.ID = control.NewID() // another session of the same person
	page := control.Principal{Kind: control.PrincipalCallToken, ID: control.NewID(), Tenant: made.Tenant, Agent: made.Agents[0].ID, Scopes: []control.Permission{control.CallsStart}}
	opens := func(n *wired, p control.Principal, from string) (string, error) {
		t.Helper()
		ctx := control.WithClient(control.WithPrincipal(control.WithTenant(t.Context(), made.Tenant), p), netip.MustParseAddr(from))
		r := (&http.Request{Header: http.Header{}}).WithContext(ctx)
		return n.authorizeBrowser(r, made.Agents[0].ID.String())
	}
	for i := range floodsMost {
		for name, p := range map[string]control.Principal{"key": key, "person": person} {
			who, err := opens(a, p, "192.0.2.1")
			if err != nil || who == "" {
				t.Fatalf("%s, session %d: %q, %v", name, i, who, err)
			}
			a.flooded(who)
		}
	}
	for name, tt := range map[string]struct {
		n    *wired
		p    control.Principal
		from string
		want error
	}{
		"key":             {a, key, "192.0.2.1", signaling.ErrTooMany},
		"key-elsewhere":   {a, key, "198.51.100.1", signaling.ErrTooMany},
		"key-other-node":  {b, key, "192.0.2.1", signaling.ErrTooMany},
		"other-key":       {a, other, "192.0.2.1", nil},
		"person":          {b, person, "192.0.2.1", signaling.ErrTooMany},
		"another-session": {b, again, "192.0.2.1", signaling.ErrTooMany},
		"page":            {a, page, "192.0.2.1", signaling.ErrUnauthorized}, // as far as its token, which there is not
	} {
		if _, err := opens(tt.n, tt.p, tt.from); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	for range floodsMost { // pages have a token for anybody: their network counts
		a.flooded(ingress.Pseudonym(a.pseudonyms, principalOf(control.WithClient(t.Context(), netip.MustParseAddr("192.0.2.1")), page)))
	}
	if _, err := opens(a, page, "192.0.2.1"); !errors.Is(err, signaling.ErrTooMany) {
		t.Errorf("a page of the network: %v", err)
	}
	if _, err := opens(a, page, "198.51.100.1"); !errors.Is(err, signaling.ErrUnauthorized) {
		t.Errorf("a page of another network: %v", err)
	}
	for _, k := range a.redis.Keys() {
		if strings.Contains(k, "192.0.2.") || strings.Contains(k, person.User.String()) {
			t.Errorf("Redis knows somebody by name: %s", k)
		}
	}
	a.redis.FastForward(floodsWindow)
	if _, err := opens(b, key, "192.0.2.1"); err != nil {
		t.Errorf("once the window has passed: %v", err)
	}
}
