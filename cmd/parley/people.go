package main

import (
	"errors"
	"strings"
	"time"

	"parley/control"
	"parley/control/api"
	"parley/control/console"
	"parley/control/identity"
	"parley/store/postgres"
)

// joinPage is where links lead that let somebody in.
const joinPage = "/join"

// openPeople adds what only a gateway needs; the caller closes the list.
func (g *gateway) openPeople(ring *control.Keyring) (err error) {
	g.people = newPeople(g.db, ring, g.settings.PublicURL)
	g.people.users.Throttle.Cells = g.redis
	if path := g.settings.BreachedPasswords; path != "" {
		g.people.users.Rules.Breached, err = identity.OpenBreached(path)
	}
	return err
}

// mountJoin serves the page that links of invitations lead to.
func (g *gateway) mountJoin() error {
	route := api.Route{Method: "GET", Pattern: joinPage, Class: api.Public, Permission: control.Anyone,
		Limit: api.Limit{N: 120, Per: time.Minute}, Body: api.NoBody}
	file := route
	file.Pattern = joinPage + "/{file}"
	return errors.Join(g.api.Handle(route, console.Join()), g.api.Handle(file, console.Join()))
}

func (p people) close() {
	if p.users != nil && p.users.Rules.Breached != nil {
		_ = p.users.Rules.Breached.Close()
	}
}

// people are the services of who belongs where.
type people struct {
	users       *identity.Users
	tenants     *identity.Tenants
	members     *identity.Members
	invitations *identity.Invitations
}

func newPeople(db *postgres.Store, ring *control.Keyring, publicURL string) people {
	links := identity.Links{Ring: ring}
	if publicURL != "" {
		links.Page = strings.TrimSuffix(publicURL, "/") + joinPage
	}
	p := people{users: &identity.Users{Store: db, Sessions: db, Ring: ring, Hasher: identity.NewHasher(2), Audit: db}}
	p.invitations = &identity.Invitations{Store: db, Users: p.users, Links: links}
	p.tenants = &identity.Tenants{Store: db, Invitations: p.invitations}
	p.members = &identity.Members{Store: db, Users: p.users, Links: links}
	return p
}
