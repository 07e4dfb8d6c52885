package identity

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// An Invitation lets somebody join a tenant, once.
type Invitation struct {
	ID        uuid.UUID
	Email     string
	Role      control.Role
	Platform  bool      // makes a platform administrator too
	Hash      []byte    // HMAC-SHA-256 of the token
	InvitedBy uuid.UUID // a user; nil: a program
	CreatedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // zero: not yet
	RevokedAt time.Time
}

// How long links are good.
const (
	InvitationLife = 7 * 24 * time.Hour
	ResetLife      = 24 * time.Hour
)

// InvitationStore keeps invitations.
type InvitationStore interface {
	Invitations(ctx context.Context, p control.Page) ([]Invitation, error)
	LocateInvitation(ctx context.Context, hash []byte) (control.Located, error)
	Invitation(ctx context.Context, id uuid.UUID) (Invitation, error)
	// InsertInvitation returns control.ErrConflict if one to the same address is
	// open already.
	InsertInvitation(ctx context.Context, i Invitation) error
	// RenewInvitation gives an open one another token; control.ErrNotFound if it
	// is not.
	RenewInvitation(ctx context.Context, id uuid.UUID, hash []byte, expires time.Time) (Invitation, error)
	RevokeInvitation(ctx context.Context, id uuid.UUID) error
	// AcceptInvitation uses an open one up and makes u a member: u is stored
	// with it if it is new. control.ErrNotFound if it is not open any more,
	// control.ErrConflict if u is a member already.
	AcceptInvitation(ctx context.Context, i Invitation, u User, isNew bool) error
	// IsMember tells whether an address is a member's.
	IsMember(ctx context.Context, email string) (bool, error)
}

// Invitations is the service of invitations.
type Invitations struct {
	Store InvitationStore
	Users *Users
	Links Links
	// Send brings an invitation to whom it is for; nil: who invites does.
	Send func(ctx context.Context, i Invitation, link Link) error
}

// Invited is an invitation with its link, which is shown this once.
type Invited struct {
	Invitation
	Link Link
}

// Create invites an address to the tenant of ctx. Nobody gives a role that can
// do more than they.
func (s *Invitations) Create(ctx context.Context, address string, role control.Role) (Invited, error) {
	address, err := email(address)
	if err != nil {
		return Invited{}, err
	}
	if !slices.Contains(control.Roles(), role) {
		return Invited{}, control.Invalidf("role", "must be owner, admin, editor, agent, viewer or billing")
	}
	if !control.PrincipalOf(ctx).MayGive(role) {
		return Invited{}, control.ErrForbidden
	}
	return s.make(ctx, address, role, false)
}

// make invites without asking who may.
func (s *Invitations) make(ctx context.Context, address string, role control.Role, platform bool) (Invited, error) {
	member, err := s.Store.IsMember(ctx, address)
	if err != nil {
		return Invited{}, err
	}
	if member {
		return Invited{}, control.Invalidf("email", "is a member's already; change their role instead")
	}
	link, hash := s.Links.new(inviteKind, InvitationLife)
	i := Invitation{ID: control.NewID(), Email: address, Role: role, Platform: platform, Hash: hash,
		InvitedBy: control.PrincipalOf(ctx).User, CreatedAt: time.Now().UTC(), ExpiresAt: link.ExpiresAt}
	if err := s.Store.InsertInvitation(ctx, i); err != nil {
		return Invited{}, fmt.Errorf("invite: %w", err)
	}
	return Invited{i, link}, s.send(ctx, i, link)
}

func (s *Invitations) send(ctx context.Context, i Invitation, link Link) error {
	if s.Send == nil {
		return nil
	}
	if err := s.Send(ctx, i, link); err != nil {
		return fmt.Errorf("send invitation: %w", err)
	}
	return nil
}

// Resend makes another link for an invitation that nobody has used; the one
// before is good no longer.
func (s *Invitations) Resend(ctx context.Context, id uuid.UUID) (Invited, error) {
	if err := s.mayTouch(ctx, id); err != nil {
		return Invited{}, err
	}
	link, hash := s.Links.new(inviteKind, InvitationLife)
	i, err := s.Store.RenewInvitation(ctx, id, hash, link.ExpiresAt)
	if err != nil {
		return Invited{}, err
	}
	return Invited{i, link}, s.send(ctx, i, link)
}

// Revoke takes an invitation back.
func (s *Invitations) Revoke(ctx context.Context, id uuid.UUID) error {
	if err := s.mayTouch(ctx, id); err != nil {
		return err
	}
	return s.Store.RevokeInvitation(ctx, id)
}

// mayTouch refuses who could not have made the invitation.
func (s *Invitations) mayTouch(ctx context.Context, id uuid.UUID) error {
	i, err := s.Store.Invitation(ctx, id)
	if err == nil && (!control.PrincipalOf(ctx).MayGive(i.Role) || i.Platform) {
		err = control.ErrForbidden
	}
	return err
}

// Accept joins the person whom a token was made for: a new one sets a password,
// one who exists proves theirs. It does not sign in. Unknown, used, revoked and
// expired tokens are the same [*control.Invalid].
func (s *Invitations) Accept(ctx context.Context, token, password, name string, c Client) (Membership, error) {
	hash, err := s.Links.hash(inviteKind, token)
	if err != nil {
		return Membership{}, err
	}
	at, err := s.Store.LocateInvitation(ctx, hash)
	if err != nil {
		return Membership{}, control.NotFoundIs(err, errLink)
	}
	ctx = control.WithTenant(ctx, at.Tenant)
	i, err := s.Store.Invitation(ctx, at.ID)
	if err == nil && !i.open(time.Now()) {
		err = errLink
	}
	if err != nil {
		return Membership{}, control.NotFoundIs(err, errLink)
	}
	u, isNew, err := s.person(ctx, i, password, name, c)
	if err != nil {
		return Membership{}, err
	}
	err = s.Store.AcceptInvitation(in(ctx, at.Tenant, u.ID), i, u, isNew)
	if errors.Is(err, control.ErrNotFound) {
		err = errLink // used meanwhile
	}
	return Membership{Tenant: Tenant{ID: at.Tenant}, Role: i.Role}, err
}

func (i Invitation) open(now time.Time) bool {
	return i.UsedAt.IsZero() && i.RevokedAt.IsZero() && now.Before(i.ExpiresAt)
}

// Status says in a word how an invitation stands.
func (i Invitation) Status(now time.Time) string {
	switch {
	case !i.UsedAt.IsZero():
		return "accepted"
	case !i.RevokedAt.IsZero():
		return "revoked"
	case !i.open(now):
		return "expired"
	}
	return "open"
}

// person returns who accepts an invitation: who exists, and knows the password,
// or somebody new with a good one.
func (s *Invitations) person(ctx context.Context, i Invitation, password, name string, c Client) (u User, isNew bool, err error) {
	u, at, err := s.Users.find(ctx, i.Email, uuid.Nil)
	if err != nil {
		return u, false, err
	}
	if u.ID != uuid.Nil {
		_, err := s.Users.prove(control.WithTenant(ctx, at), u, password, c)
		return u, false, err
	}
	if name, err = personName(name); err != nil {
		return u, true, err
	}
	if err := s.Users.Rules.Check(password, i.Email, name); err != nil {
		return u, true, err
	}
	hash, err := s.Users.Hasher.Hash(ctx, password)
	return User{ID: control.NewID(), Email: i.Email, Name: name, PasswordHash: hash, Role: i.Role}, true, err
}

// A Link lets somebody in once. Its token is shown to whom it is made for and
// kept nowhere.
type Link struct {
	Token     string
	URL       string // empty if the program does not know its own address
	ExpiresAt time.Time
}

// Links makes links.
type Links struct {
	Ring *control.Keyring
	// Page is where links lead, "https://host/join"; the token follows after "#",
	// which browsers tell no server. Empty: links are tokens alone.
	Page string
}

const (
	inviteKind = "invite"
	resetKind  = "reset"
)

// linkForm: "parley_", the kind, "_", 32 random bytes.
var linkForm = regexp.MustCompile(`^parley_(invite|reset)_[A-Za-z0-9_-]{43}$`)

var errLink = control.Invalidf("token", "is unknown, used or expired; ask for a new link")

func (l Links) new(kind string, life time.Duration) (Link, []byte) {
	token := "parley_" + kind + "_" + control.RandomText(32)
	link := Link{Token: token, ExpiresAt: time.Now().UTC().Add(life).Truncate(time.Second)}
	if l.Page != "" {
		link.URL = l.Page + "#" + token
	}
	return link, l.Ring.MAC("link/"+kind, token)
}

// hash returns what is stored of a token of the kind.
func (l Links) hash(kind, token string) ([]byte, error) {
	if m := linkForm.FindStringSubmatch(token); m == nil || m[1] != kind {
		return nil, errLink
	}
	return l.Ring.MAC("link/"+kind, token), nil
}
