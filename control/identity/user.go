package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// A User is a person. One may belong to several tenants.
type User struct {
	ID           uuid.UUID
	Email        string       // lower case
	PasswordHash string       // argon2id, in the PHC string format
	Role         control.Role // in the tenant of the context
}

// A Tenant is a customer, walled off from all others.
type Tenant struct {
	ID   uuid.UUID
	Name string
}

// UserStore keeps tenants and the people in them.
type UserStore interface {
	// LocateUser returns the user's oldest tenant and id.
	LocateUser(ctx context.Context, email string) (control.Located, error)
	User(ctx context.Context, id uuid.UUID) (User, error)
	// InsertTenant stores t and u, its first member; ctx has no tenant yet.
	InsertTenant(ctx context.Context, t Tenant, u User) error
	SetPassword(ctx context.Context, user uuid.UUID, hash string) error
}

// SessionStore keeps the sessions of people's browsers.
type SessionStore interface {
	LocateBrowserSession(ctx context.Context, hash []byte) (control.Located, error)
	BrowserSession(ctx context.Context, id uuid.UUID) (BrowserSession, error)
	InsertBrowserSession(ctx context.Context, s BrowserSession) error
	RevokeBrowserSession(ctx context.Context, id uuid.UUID, at time.Time) error
}

// A BrowserSession is a person signed in by a browser's cookie.
type BrowserSession struct {
	ID        uuid.UUID
	User      uuid.UUID
	Hash      []byte // HMAC-SHA-256 of the cookie
	ExpiresAt time.Time
	RevokedAt time.Time
}

// SessionLife is how long a browser stays signed in.
const SessionLife = 12 * time.Hour

// Users is the service of people who sign in.
type Users struct {
	Store    UserStore
	Sessions SessionStore
	Ring     *control.Keyring
	Hasher   *Hasher
}

const sessionPurpose = "browser-session"

// Login checks an e-mail address and password and returns the cookie's value.
// Unknown address and wrong password are the same control.ErrCredentials, after the
// same work.
func (s *Users) Login(ctx context.Context, email, password string) (string, control.Principal, error) {
	email = strings.ToLower(strings.TrimSpace(email))
	var u User
	at, err := s.Store.LocateUser(ctx, email)
	if err == nil {
		ctx = control.WithTenant(ctx, at.Tenant)
		u, err = s.Store.User(ctx, at.ID)
	}
	if err != nil && !errors.Is(err, control.ErrNotFound) {
		return "", control.Principal{}, err
	}
	ok, err := s.Hasher.Verify(ctx, password, u.PasswordHash)
	if err != nil {
		return "", control.Principal{}, err
	}
	if !ok {
		return "", control.Principal{}, control.ErrCredentials
	}
	cookie := control.RandomText(32)
	b := BrowserSession{ID: control.NewID(), User: u.ID, Hash: s.Ring.MAC(sessionPurpose, cookie), ExpiresAt: time.Now().UTC().Add(SessionLife)}
	if err := s.Sessions.InsertBrowserSession(ctx, b); err != nil {
		return "", control.Principal{}, fmt.Errorf("sign in: %w", err)
	}
	return cookie, control.Principal{Kind: control.PrincipalUser, ID: b.ID, Tenant: at.Tenant, User: u.ID, Role: u.Role}, nil
}

// Verify returns the principal of a cookie; control.ErrCredentials if it has ended.
func (s *Users) Verify(ctx context.Context, cookie string) (control.Principal, error) {
	at, err := s.Sessions.LocateBrowserSession(ctx, s.Ring.MAC(sessionPurpose, cookie))
	if err != nil {
		return control.Principal{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	ctx = control.WithTenant(ctx, at.Tenant)
	b, err := s.Sessions.BrowserSession(ctx, at.ID)
	if err != nil {
		return control.Principal{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	if !b.RevokedAt.IsZero() || !time.Now().Before(b.ExpiresAt) {
		return control.Principal{}, control.ErrCredentials
	}
	u, err := s.Store.User(ctx, b.User) // no longer a member: not found
	if err != nil {
		return control.Principal{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	return control.Principal{Kind: control.PrincipalUser, ID: b.ID, Tenant: at.Tenant, User: u.ID, Role: u.Role}, nil
}

// Logout ends the session of a principal.
func (s *Users) Logout(ctx context.Context, p control.Principal) error {
	if p.Kind != control.PrincipalUser {
		return nil
	}
	return s.Sessions.RevokeBrowserSession(control.WithTenant(ctx, p.Tenant), p.ID, time.Now().UTC())
}
