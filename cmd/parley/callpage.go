package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"parley/control"
	"parley/control/console"
)

// lookupPage finds an agent for its page. One that is not public is shown as
// well: the page asks to sign in.
func (g *gateway) lookupPage(ctx context.Context, name string) (console.Page, error) {
	_, a, err := g.agents.Find(ctx, name)
	if errors.Is(err, control.ErrNotFound) {
		return console.Page{}, console.ErrNoAgent
	}
	return console.Page{Agent: a.ID.String(), Name: title(a.Name), Public: a.Public}, err
}

// title is an agent's name for people: "front-desk" is "Front desk".
func title(name string) string {
	name = strings.ReplaceAll(name, "-", " ")
	if name == "" {
		return name
	}
	return strings.ToUpper(name[:1]) + name[1:]
}

// mintToken lets the call page open one call.
func (g *gateway) mintToken(r *http.Request, name string) (console.Token, error) {
	ctx, a, err := g.agents.Find(r.Context(), name)
	if errors.Is(err, control.ErrNotFound) {
		return console.Token{}, console.ErrNoAgent
	}
	if err != nil {
		return console.Token{}, err
	}
	if !a.Public {
		tenant, _ := control.TenantOf(ctx)
		if control.Allow(control.PrincipalOf(r.Context()), control.CallsStart, control.Object{Tenant: tenant}) != nil {
			return console.Token{}, console.ErrSignIn
		}
	}
	token, _, err := g.tokens.Mint(ctx, a.ID, r.Header.Get("Origin"))
	if err != nil {
		return console.Token{}, err
	}
	t := console.Token{Token: token}
	for _, s := range g.webrtc.ICEServers(ctx, a.ID.String(), time.Now()) {
		t.ICEServers = append(t.ICEServers, console.ICEServer{URLs: []string{s.URL}, Username: s.Username, Credential: s.Credential})
	}
	return t, nil
}
