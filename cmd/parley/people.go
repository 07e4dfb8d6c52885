package main

import (
	"strings"

	"parley/control"
	"parley/control/identity"
	"parley/store/postgres"
)

// joinPage is where links lead that let somebody in.
const joinPage = "/join"

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
