package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"parley/control"
	"parley/control/ingress"
	"parley/signaling"
)

// Whoever had so many sessions ended for sending too much, within the window,
// opens no more until it has passed: each session's own limits begin anew.
const (
	floodsMost   = 3
	floodsWindow = 10 * time.Minute
)

// authorizeBrowser decides who may open a call: a call token of the agent, used
// up by this, or an API key or signed-in person of its tenant. Who is whom
// floods are counted for.
func (g *gateway) authorizeBrowser(r *http.Request, name string) (who string, err error) {
	ctx, p := r.Context(), control.PrincipalOf(r.Context())
	if p.Kind == "" {
		return "", signaling.ErrUnauthorized
	}
	_, a, err := g.agents.Find(ctx, name)
	if errors.Is(err, control.ErrNotFound) {
		return "", signaling.ErrForbidden // of this tenant there is none
	}
	if err != nil {
		return "", err
	}
	if err := control.Allow(p, control.CallsStart, control.Object{Tenant: p.Tenant, Agent: a.ID}); err != nil {
		return "", signaling.ErrForbidden
	}
	who = ingress.Pseudonym(g.pseudonyms, principalOf(ctx, p))
	if g.floods(ctx, who, "opens") > floodsMost { // this counts itself, once
		return "", signaling.ErrTooMany
	}
	if p.Kind != control.PrincipalCallToken {
		return who, nil
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if _, err := g.tokens.Spend(ctx, token, r.Header.Get("Origin")); err != nil {
		return "", signaling.ErrUnauthorized
	}
	return who, nil
}

// principalOf is whom floods are counted for: the person or key. A call token is good
// for one call, and pages have one for anybody, so it is the network that counts
// there.
func principalOf(ctx context.Context, p control.Principal) string {
	switch p.Kind {
	case control.PrincipalUser:
		return "user " + p.User.String()
	case control.PrincipalCallToken:
		return "network " + ingress.Name(ingress.Network(control.ClientOf(ctx)))
	}
	return p.Kind + " " + p.ID.String()
}

// flooded notes a session that was ended for sending too much.
func (g *gateway) flooded(who string) {
	g.floods(context.Background(), who, control.NewID().String())
}

// floods counts something for who, a pseudonym, on all nodes, and returns how many there
// were in the window.
func (g *gateway) floods(ctx context.Context, who, what string) int {
	n, _, _ := g.redis.Sight(ctx, "flood "+who, what, floodsWindow)
	return n
}
