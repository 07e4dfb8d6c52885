package control

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/argon2"
)

// A User is a person. One may belong to several tenants.
type User struct {
	ID           uuid.UUID
	Email        string // lower case
	PasswordHash string // argon2id, in the PHC string format
	Role         Role   // in the tenant of the context
}

// A Tenant is a customer, walled off from all others.
type Tenant struct {
	ID   uuid.UUID
	Name string
}

// UserStore keeps tenants and the people in them.
type UserStore interface {
	// LocateUser returns the user's oldest tenant and id.
	LocateUser(ctx context.Context, email string) (Located, error)
	User(ctx context.Context, id uuid.UUID) (User, error)
	// InsertTenant stores t and u, its first member; ctx has no tenant yet.
	InsertTenant(ctx context.Context, t Tenant, u User) error
	SetPassword(ctx context.Context, user uuid.UUID, hash string) error
}

// SessionStore keeps the sessions of people's browsers.
type SessionStore interface {
	LocateBrowserSession(ctx context.Context, hash []byte) (Located, error)
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
	Ring     *Keyring
	Hasher   *Hasher
}

const sessionPurpose = "browser-session"

// Login checks an e-mail address and password and returns the cookie's value.
// Unknown address and wrong password are the same ErrCredentials, after the
// same work.
func (s *Users) Login(ctx context.Context, email, password string) (string, Principal, error) {
	email = strings.ToLower(strings.TrimSpace(email))
	var u User
	at, err := s.Store.LocateUser(ctx, email)
	if err == nil {
		ctx = WithTenant(ctx, at.Tenant)
		u, err = s.Store.User(ctx, at.ID)
	}
	if err != nil && !errors.Is(err, ErrNotFound) {
		return "", Principal{}, err
	}
	ok, err := s.Hasher.Verify(ctx, password, u.PasswordHash)
	if err != nil {
		return "", Principal{}, err
	}
	if !ok {
		return "", Principal{}, ErrCredentials
	}
	cookie := randomText(32)
	b := BrowserSession{ID: newID(), User: u.ID, Hash: s.Ring.mac(sessionPurpose, cookie), ExpiresAt: time.Now().UTC().Add(SessionLife)}
	if err := s.Sessions.InsertBrowserSession(ctx, b); err != nil {
		return "", Principal{}, fmt.Errorf("sign in: %w", err)
	}
	return cookie, Principal{Kind: PrincipalUser, ID: b.ID, Tenant: at.Tenant, User: u.ID, Role: u.Role}, nil
}

// Verify returns the principal of a cookie; ErrCredentials if it has ended.
func (s *Users) Verify(ctx context.Context, cookie string) (Principal, error) {
	at, err := s.Sessions.LocateBrowserSession(ctx, s.Ring.mac(sessionPurpose, cookie))
	if err != nil {
		return Principal{}, notFoundIs(err, ErrCredentials)
	}
	ctx = WithTenant(ctx, at.Tenant)
	b, err := s.Sessions.BrowserSession(ctx, at.ID)
	if err != nil {
		return Principal{}, notFoundIs(err, ErrCredentials)
	}
	if !b.RevokedAt.IsZero() || !time.Now().Before(b.ExpiresAt) {
		return Principal{}, ErrCredentials
	}
	u, err := s.Store.User(ctx, b.User) // no longer a member: not found
	if err != nil {
		return Principal{}, notFoundIs(err, ErrCredentials)
	}
	return Principal{Kind: PrincipalUser, ID: b.ID, Tenant: at.Tenant, User: u.ID, Role: u.Role}, nil
}

// Logout ends the session of a principal.
func (s *Users) Logout(ctx context.Context, p Principal) error {
	if p.Kind != PrincipalUser {
		return nil
	}
	return s.Sessions.RevokeBrowserSession(WithTenant(ctx, p.Tenant), p.ID, time.Now().UTC())
}

// A Hasher makes and checks passwords by argon2id (RFC 9106), as many at once
// as it was made for: each takes 19 MiB (OWASP's parameters).
type Hasher struct{ slots chan struct{} }

// NewHasher returns a Hasher that works on n passwords at once.
func NewHasher(n int) *Hasher { return &Hasher{slots: make(chan struct{}, n)} }

const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonHead   = "$argon2id$v=19$m=19456,t=2,p=1$"
)

// Hash returns the PHC string of a password.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	sum, err := h.sum(ctx, password, salt)
	enc := base64.RawStdEncoding
	return argonHead + enc.EncodeToString(salt) + "$" + enc.EncodeToString(sum), err
}

// Verify tells whether the password is that of hash. With an empty hash it
// works as long and says no.
func (h *Hasher) Verify(ctx context.Context, password, hash string) (bool, error) {
	salt, want := make([]byte, 16), []byte(nil)
	if rest, ok := strings.CutPrefix(hash, argonHead); ok {
		a, b, _ := strings.Cut(rest, "$")
		salt, _ = base64.RawStdEncoding.DecodeString(a)
		want, _ = base64.RawStdEncoding.DecodeString(b)
	}
	got, err := h.sum(ctx, password, salt)
	return err == nil && len(want) == 32 && subtle.ConstantTimeCompare(got, want) == 1, err
}

func (h *Hasher) sum(ctx context.Context, password string, salt []byte) ([]byte, error) {
	if len(password) > 1024 {
		return nil, invalid("password", "must be at most 1024 bytes")
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return argon2.IDKey([]byte(password), salt, argonTime, argonMemory, 1, 32), nil
}
