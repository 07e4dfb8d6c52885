package identity

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// admit returns the member that somebody is, and makes one of who was invited
// or whom the provider's rule admits.
//
// Who has come before is known by issuer and subject, never by e-mail address.
// A tenant's own provider speaks for that tenant alone: whom it admits is a
// person of their own, whatever address it says they have.
func (s *OIDC) admit(ctx context.Context, src source, who outsider) (control.Located, error) {
	at, err := s.known(ctx, src, who)
	switch {
	case err == nil:
		return at, s.mapRole(control.WithTenant(ctx, at.Tenant), src, who, at.ID)
	case !errors.Is(err, control.ErrNotFound):
		return at, err
	}
	if who.email != "" {
		at, err = s.invited(ctx, src, who)
		if err == nil || !errors.Is(err, control.ErrNotFound) {
			return at, err
		}
	}
	role := src.settings.role(who.groups)
	if src.admits == uuid.Nil || role == "" || !src.settings.covers(who) {
		return control.Located{}, ErrNotAdmitted
	}
	return s.enter(ctx, src, who, src.admits, Invitation{Role: role})
}

// known finds who has come before.
func (s *OIDC) known(ctx context.Context, src source, who outsider) (control.Located, error) {
	store := s.Providers.Store
	if src.tenant == uuid.Nil {
		return store.LocateIdentity(ctx, src.key, who.issuer, who.subject)
	}
	user, err := store.Identity(control.WithTenant(ctx, src.tenant), src.key, who.issuer, who.subject)
	return control.Located{Tenant: src.tenant, ID: user}, err
}

// covers tells whether the provider's own rule is about somebody: a mapped group,
// a directory that is listed, or a proven address of a domain that is.
func (s ProviderSettings) covers(who outsider) bool {
	for _, g := range who.groups {
		if s.Groups[g] != "" {
			return true
		}
	}
	_, domain, _ := strings.Cut(who.email, "@")
	return len(s.Directories) > 0 || // verified by now to be one of them
		domain != "" && slices.ContainsFunc(s.Domains, func(d string) bool { return strings.EqualFold(d, domain) })
}

// invited takes an open invitation to the proven address.
func (s *OIDC) invited(ctx context.Context, src source, who outsider) (control.Located, error) {
	tenants, err := s.Providers.Store.LocateInvited(ctx, who.email)
	if err != nil {
		return control.Located{}, err
	}
	for _, at := range tenants {
		if src.tenant != uuid.Nil && at.Tenant != src.tenant {
			continue
		}
		i, err := s.Invitations.Invitation(control.WithTenant(ctx, at.Tenant), at.ID)
		if err != nil {
			return control.Located{}, err
		}
		// What may do most is for who follows its link.
		if i.Platform || i.Role == control.RoleOwner && !src.settings.Owners || !i.open(time.Now()) {
			continue
		}
		return s.enter(ctx, src, who, at.Tenant, i)
	}
	return control.Located{}, control.ErrNotFound
}

// enter makes somebody a member by an invitation, or with no id by a rule.
func (s *OIDC) enter(ctx context.Context, src source, who outsider, tenant uuid.UUID, by Invitation) (control.Located, error) {
	a := s.admission(src, who, User{ID: control.NewID(), Role: by.Role, Name: who.name})
	a.NewUser, a.NewMember, a.Invitation = true, true, by.ID
	a.User.Email = s.nowhere(src, who)
	if src.tenant != uuid.Nil || who.email == "" {
		if a.User.Name == "" {
			a.User.Name = who.email
		}
	} else {
		a.User.Email = who.email
		have, err := s.Users.Store.LocateUser(ctx, who.email)
		if err != nil {
			return control.Located{}, err
		}
		for _, at := range have {
			a.User.ID, a.NewUser = at.ID, false
			if at.Tenant == tenant { // a member who signs in otherwise: they link it themselves
				return control.Located{}, ErrNotAdmitted
			}
		}
		if len(have) > 0 && by.ID == uuid.Nil {
			return control.Located{}, ErrNotAdmitted // somebody whom a rule is not asked about
		}
	}
	err := s.Providers.Store.Admit(in(ctx, tenant, a.User.ID), a)
	if errors.Is(err, control.ErrConflict) { // came twice at once, or the invitation went
		err = ErrNotAdmitted
	}
	return control.Located{Tenant: tenant, ID: a.User.ID}, err
}

func (s *OIDC) admission(src source, who outsider, u User) Admission {
	return Admission{Link: control.NewID(), Provider: src.key, Issuer: who.issuer, Subject: who.subject, User: u}
}

// link adds an identity to the member who asked for it and signs in otherwise.
func (s *OIDC) link(ctx context.Context, src source, who outsider, j journey) error {
	if src.tenant != uuid.Nil && src.tenant != j.Tenant {
		return control.ErrCredentials
	}
	at, err := s.known(ctx, src, who)
	switch {
	case err == nil && at.ID == j.User && at.Tenant == j.Tenant:
		return nil
	case err == nil:
		return control.ErrConflict // somebody else's
	case !errors.Is(err, control.ErrNotFound):
		return err
	}
	return s.Providers.Store.Admit(in(ctx, j.Tenant, j.User), s.admission(src, who, User{ID: j.User}))
}

// mapRole gives a member the role that their groups have now. Without one they
// may not come any more. Owners are changed only where the mapping may make them.
func (s *OIDC) mapRole(ctx context.Context, src source, who outsider, user uuid.UUID) error {
	store := s.Providers.Store
	if err := store.TouchIdentity(ctx, src.key, who.issuer, who.subject, time.Now().UTC()); err != nil {
		return err
	}
	tenant, _ := control.TenantOf(ctx)
	if len(src.settings.Groups) == 0 || tenant != src.admits {
		return nil
	}
	role := src.settings.role(who.groups)
	if role == "" {
		return ErrNotAdmitted
	}
	_, err := s.Members.ChangeMember(ctx, user, func(m Member, owners int) (Member, error) {
		if m.Role == control.RoleOwner && (!src.settings.Owners || owners < 2) {
			return m, nil
		}
		m.Role = role
		return m, nil
	})
	return control.NotFoundIs(err, ErrNotAdmitted)
}
