package identity

import (
	"context"
	"net/mail"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// A User is a person. One may belong to several tenants, with one password.
type User struct {
	ID           uuid.UUID
	Email        string       // lower case
	PasswordHash string       // argon2id in the PHC string format, or imported: see [Hasher.Verify]
	Role         control.Role // in the tenant of the context
	Name         string       // as others see it; may be empty
	Platform     bool         // looks after tenants
	Factor       bool         // has a second factor in the tenant of the context
}

// A Membership is a person's place in one tenant.
type Membership struct {
	Tenant Tenant
	Role   control.Role
}

// UserStore keeps the people.
type UserStore interface {
	// LocateUser returns the tenants that the person belongs to, the first
	// joined first; none if there is no such person.
	LocateUser(ctx context.Context, email string) ([]control.Located, error)
	// User returns a member of the tenant of ctx.
	User(ctx context.Context, id uuid.UUID) (User, error)
	// Memberships returns all of a person's, the first joined first; ctx needs
	// no tenant.
	Memberships(ctx context.Context, user uuid.UUID) ([]Membership, error)
	// SetPassword stores the hash of another password, set now, and lifts the
	// lock; where only the form of the hash changed, use Rehash.
	SetPassword(ctx context.Context, user uuid.UUID, hash string) error
	Rehash(ctx context.Context, user uuid.UUID, hash string) error
	// Failures changes the count of a person's failed sign-ins by f, one caller
	// at a time, and returns what it was before.
	Failures(ctx context.Context, user uuid.UUID, f func(Failures) Failures) (Failures, error)
	// SetPlatform makes a person a platform administrator, or takes it back.
	SetPlatform(ctx context.Context, user uuid.UUID, platform bool) error
}

// Users is the service of people who sign in.
type Users struct {
	Store    UserStore
	Sessions SessionStore
	Ring     *control.Keyring
	Hasher   *Hasher
	Audit    control.Audit
	// Rules for new passwords; the zero value knows the built-in list alone.
	Rules PasswordRules
	// Throttle slows down who guesses; the zero value counts on this node alone,
	// and is strict.
	Throttle Throttle
	// Factors are asked for after the first step; nil: nobody has any.
	Factors *Factors
}

// in returns ctx for work of a person's own in a tenant.
func in(ctx context.Context, tenant, user uuid.UUID) context.Context {
	return control.WithPrincipal(ctx, control.Principal{Kind: control.PrincipalUser, Tenant: tenant, User: user})
}

// email returns an address as it is stored; the error is an [*control.Invalid].
func email(s string) (string, error) {
	if err := control.RefuseToken("email", s); err != nil {
		return "", err
	}
	s = strings.ToLower(strings.TrimSpace(s))
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 320 {
		return "", control.Invalidf("email", "must be an e-mail address, as name@example.com")
	}
	return s, nil
}

// personName returns a name as it is stored.
func personName(s string) (string, error) {
	if s = strings.TrimSpace(s); len(s) > 200 {
		return "", control.Invalidf("name", "must be at most 200 bytes")
	}
	return s, plain("name", s)
}

// Login is what a person signs in with.
type Login struct {
	Email, Password string
	Tenant          uuid.UUID // nil: the first that the person joined
	Client          Client
}

// Login checks an e-mail address and password and signs the person in. Unknown
// address, wrong password, foreign tenant and locked account are the same
// control.ErrCredentials, after the same work. Who tries too often is told to
// wait by a [*Throttled], whether the account exists or not.
func (s *Users) Login(ctx context.Context, l Login) (Opened, error) {
	u, at, err := s.find(ctx, l.Email, l.Tenant)
	if err != nil {
		return Opened{}, err
	}
	failed, err := s.prove(control.WithTenant(ctx, at), u, l.Password, l.Client)
	if err != nil {
		return Opened{}, err
	}
	opened, err := s.SignIn(ctx, Entry{User: u.ID, Tenant: l.Tenant, How: "password", Client: l.Client})
	opened.Failed = failed
	return opened, err
}

// find returns a person and one of their tenants; the zero User if there is no
// such person, or not in the tenant that is named.
func (s *Users) find(ctx context.Context, address string, tenant uuid.UUID) (User, uuid.UUID, error) {
	located, err := s.Store.LocateUser(ctx, strings.ToLower(strings.TrimSpace(address)))
	if err != nil {
		return User{}, uuid.Nil, err
	}
	for _, at := range located {
		if tenant == uuid.Nil || tenant == at.Tenant {
			u, err := s.Store.User(control.WithTenant(ctx, at.Tenant), at.ID)
			return u, at.Tenant, control.NotFoundIs(err, nil)
		}
	}
	return User{}, uuid.Nil, nil
}

// prove checks a person's password in a tenant of theirs and returns how many
// times it was wrong before. Each attempt counts as wrong before it is looked
// at, so that many at once gain nothing. The zero User is checked as long, and
// refused.
func (s *Users) prove(ctx context.Context, u User, password string, c Client) (failed int, err error) {
	gate, known := s.gate(u.ID, c)
	if wait, ok := s.Throttle.take(ctx, s.Ring, gate); !ok {
		return 0, &Throttled{wait}
	}
	hash, before := "", Failures{}
	if u.ID != uuid.Nil {
		before, err = s.Store.Failures(ctx, u.ID, func(f Failures) Failures {
			f, free := accounts.take(f, time.Now())
			if hash = ""; free || known {
				hash = u.PasswordHash
			}
			return f
		})
		if err != nil {
			return 0, err
		}
	}
	ok, err := s.Hasher.Verify(ctx, password, hash)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, s.noteFailure(ctx, u.ID, hash == "")
	}
	s.Throttle.giveBack(ctx, s.Ring, gate)
	if _, err := s.Store.Failures(ctx, u.ID, func(Failures) Failures { return Failures{} }); err != nil {
		return 0, err
	}
	return before.All, s.rehash(ctx, u, password)
}

// noteFailure writes a failed sign-in to the trail of a person who exists.
func (s *Users) noteFailure(ctx context.Context, user uuid.UUID, locked bool) error {
	if user == uuid.Nil {
		return control.ErrCredentials
	}
	detail := []byte(`{"reason":"password"}`)
	if locked {
		detail = []byte(`{"reason":"locked"}`)
	}
	if err := s.Audit.Note(ctx, control.AuditEntry{Action: "user.sign_in_failed", Object: "user:" + user.String(), Detail: detail}); err != nil {
		return err
	}
	return control.ErrCredentials
}

// rehash brings a password that was just proven to today's form.
func (s *Users) rehash(ctx context.Context, u User, password string) error {
	if Current(u.PasswordHash) {
		return nil
	}
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return err
	}
	return s.Store.Rehash(ctx, u.ID, hash)
}

// ChangePassword sets a person's new password, for who knows the old one, and
// ends the other sessions.
func (s *Users) ChangePassword(ctx context.Context, p control.Principal, old, password string, c Client) error {
	if p.Kind != control.PrincipalUser || p.Bound {
		return control.ErrForbidden
	}
	u, err := s.Store.User(ctx, p.User)
	if err != nil {
		return err
	}
	if _, err := s.prove(ctx, u, old, c); err != nil {
		return err
	}
	if err := s.setPassword(ctx, u, password); err != nil {
		return err
	}
	return s.endAll(ctx, u.ID, p.ID, "password")
}

// setPassword stores a new password that keeps the rules.
func (s *Users) setPassword(ctx context.Context, u User, password string) error {
	if err := s.Rules.Check(password, u.Email, u.Name); err != nil {
		return err
	}
	hash, err := s.Hasher.Hash(ctx, password)
	if err != nil {
		return err
	}
	return s.Store.SetPassword(ctx, u.ID, hash)
}
