package identity

import (
	"context"
	"crypto/hmac"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// A BrowserSession is a person signed in by a browser's cookie.
type BrowserSession struct {
	ID         uuid.UUID
	User       uuid.UUID
	Tenant     uuid.UUID // set where sessions of several tenants are listed
	Hash       []byte    // HMAC-SHA-256 of the cookie
	How        string    // the first step: "password", "oidc", "switch"
	Network    string    // of the browser, coarse: 203.0.113.0/24
	Agent      string    // its family: "Firefox on Linux"
	CreatedAt  time.Time
	LastUsedAt time.Time // to the minute
	ExpiresAt  time.Time
	RevokedAt  time.Time // zero: not revoked
	FactorAt   time.Time // when a second factor was last given; zero: never
	Bound      bool      // see [control.Principal]
}

// SessionStore keeps the sessions of people's browsers.
type SessionStore interface {
	LocateBrowserSession(ctx context.Context, hash []byte) (control.Located, error)
	// BrowserSession returns a session with its person, who is a member still.
	BrowserSession(ctx context.Context, id uuid.UUID) (BrowserSession, User, error)
	// BrowserSessions returns a person's newest 100 in the tenant that have not
	// been revoked and expire after now.
	BrowserSessions(ctx context.Context, user uuid.UUID, now time.Time) ([]BrowserSession, error)
	InsertBrowserSession(ctx context.Context, s BrowserSession) error
	// RotateBrowserSession gives a session another cookie.
	RotateBrowserSession(ctx context.Context, id uuid.UUID, hash []byte) error
	// TouchBrowserSession notes that the session was used, at most once a minute.
	TouchBrowserSession(ctx context.Context, id uuid.UUID, at time.Time) error
	// RevokeBrowserSessions ends a person's sessions in the tenant: the one, or
	// with uuid.Nil all but the other. It returns how many had not ended.
	RevokeBrowserSessions(ctx context.Context, user, one, but uuid.UUID, reason string) (int, error)
	// LapsedPeople returns tenants with sessions, invitations and links that
	// expired before; DeleteLapsed deletes those of the tenant of ctx.
	LapsedPeople(ctx context.Context, before time.Time) ([]control.Located, error)
	DeleteLapsed(ctx context.Context, before time.Time) error
}

// How long a browser stays signed in.
const (
	SessionLife = 12 * time.Hour   // at most
	SessionIdle = 30 * time.Minute // without a request
	// KnownLife is how long a browser is remembered that its person signed in
	// with, whom strangers' guesses then cannot lock out there.
	KnownLife = 180 * 24 * time.Hour
)

const (
	sessionPurpose = "browser-session"
	knownPurpose   = "known-browser"
)

// A Client is the browser that a request comes from, as far as signing in goes.
type Client struct {
	Address string // without port
	Agent   string // as User-Agent has it
	Session string // cookie of a session before; may be empty
	Known   string // cookie of a browser that somebody signed in with; may be empty
}

// An Entry is a first step of signing in that succeeded.
type Entry struct {
	User   uuid.UUID
	Tenant uuid.UUID // nil: the first that the person joined and that is not suspended
	How    string    // "password", "oidc"
	// FactorAt is when a second factor was given; zero: the member's own is asked
	// for, if there is one.
	FactorAt time.Time
	Bound    bool      // see [control.Principal]
	Ends     time.Time // of the session; zero: after SessionLife
	Client   Client
}

// Opened is a session that has just begun.
type Opened struct {
	Cookie    string // of the session; kept nowhere else
	Known     string // cookie of the browser, for KnownLife
	Session   BrowserSession
	Principal control.Principal
	Failed    int // sign-ins that failed since the last that did not
	// Ticket is for the second factor, without which no session has begun: then
	// all else is zero but Failed.
	Ticket *Ticket
}

// SignIn ends every first step of signing in that succeeded: it begins a
// session, and ends the one that the browser had; or where the member has a
// second factor to give first, it returns a ticket for that. Errors:
// control.ErrCredentials for who is no member, control.ErrSuspended.
func (s *Users) SignIn(ctx context.Context, e Entry) (Opened, error) {
	all, err := s.Store.Memberships(ctx, e.User)
	if err != nil {
		return Opened{}, err
	}
	if e.Tenant != uuid.Nil {
		all = slices.DeleteFunc(all, func(m Membership) bool { return m.Tenant.ID != e.Tenant })
	}
	if len(all) == 0 {
		return Opened{}, control.ErrCredentials
	}
	i := slices.IndexFunc(all, func(m Membership) bool { return m.Tenant.SuspendedAt.IsZero() })
	if i < 0 {
		return Opened{}, control.ErrSuspended
	}
	tenant := all[i].Tenant.ID
	if e.FactorAt.IsZero() {
		t, err := s.due(ctx, started{User: e.User, Tenant: tenant, How: e.How, Bound: e.Bound})
		if t != nil || err != nil {
			return Opened{Ticket: t}, err
		}
	}
	if e.Ends.IsZero() {
		e.Ends = time.Now().UTC().Add(SessionLife)
	}
	opened, err := s.open(ctx, tenant, BrowserSession{User: e.User, How: e.How, ExpiresAt: e.Ends, FactorAt: e.FactorAt, Bound: e.Bound}, e.Client)
	if err != nil {
		return Opened{}, fmt.Errorf("sign in: %w", err)
	}
	return opened, s.endOld(ctx, e.Client.Session)
}

// open begins a session of b's user in the tenant.
func (s *Users) open(ctx context.Context, tenant uuid.UUID, b BrowserSession, c Client) (Opened, error) {
	ctx = in(ctx, tenant, b.User)
	u, err := s.Store.User(ctx, b.User)
	if err != nil {
		return Opened{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	cookie := control.RandomText(32)
	b.ID, b.Tenant, b.Hash = control.NewID(), tenant, s.Ring.MAC(sessionPurpose, cookie)
	b.CreatedAt = time.Now().UTC()
	b.LastUsedAt, b.Network, b.Agent = b.CreatedAt, network(c.Address), agentFamily(c.Agent)
	if err := s.Sessions.InsertBrowserSession(ctx, b); err != nil {
		return Opened{}, err
	}
	return Opened{Cookie: cookie, Known: s.known(b.User), Session: b, Principal: principal(b, u)}, nil
}

// principal is who a session lets in.
func principal(b BrowserSession, u User) control.Principal {
	return control.Principal{Kind: control.PrincipalUser, ID: b.ID, Tenant: b.Tenant, User: u.ID, Role: u.Role,
		Platform: u.Platform && !b.Bound, Bound: b.Bound, FactorAt: b.FactorAt, NoFactor: !u.Factor && b.FactorAt.IsZero()}
}

// endOld ends the session that the browser had before, if it had one.
func (s *Users) endOld(ctx context.Context, cookie string) error {
	if cookie == "" {
		return nil
	}
	p, err := s.Verify(ctx, cookie)
	if errors.Is(err, control.ErrCredentials) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = s.Sessions.RevokeBrowserSessions(control.WithPrincipal(ctx, p), p.User, p.ID, uuid.Nil, "sign_in")
	return err
}

// Switch goes on in another tenant of the person: with a new session, that ends
// when the old one would have. The second factor of the other tenant is asked
// for, where there is one. A tenant that is not theirs is control.ErrNotFound.
func (s *Users) Switch(ctx context.Context, p control.Principal, tenant uuid.UUID, c Client) (Opened, error) {
	if p.Kind != control.PrincipalUser || p.Bound {
		return Opened{}, control.ErrForbidden
	}
	old, _, err := s.Sessions.BrowserSession(ctx, p.ID)
	if err != nil {
		return Opened{}, control.NotFoundIs(err, control.ErrForbidden) // signed in otherwise
	}
	all, err := s.Store.Memberships(ctx, p.User)
	if err != nil {
		return Opened{}, err
	}
	i := slices.IndexFunc(all, func(m Membership) bool { return m.Tenant.ID == tenant })
	switch {
	case i < 0:
		return Opened{}, control.ErrNotFound
	case !all[i].Tenant.SuspendedAt.IsZero():
		return Opened{}, control.ErrSuspended
	}
	t, err := s.due(ctx, started{User: p.User, Tenant: tenant, How: "switch", Ends: old.ExpiresAt})
	if t != nil || err != nil {
		return Opened{Ticket: t}, err
	}
	opened, err := s.open(ctx, tenant, BrowserSession{User: p.User, How: "switch", ExpiresAt: old.ExpiresAt}, c)
	if err != nil {
		return Opened{}, fmt.Errorf("switch tenant: %w", err)
	}
	_, err = s.Sessions.RevokeBrowserSessions(ctx, p.User, p.ID, uuid.Nil, "switch")
	return opened, err
}

// Rotate gives the session of p another cookie and returns it: for when it may
// do more from now on.
func (s *Users) Rotate(ctx context.Context, p control.Principal) (string, error) {
	cookie := control.RandomText(32)
	return cookie, s.Sessions.RotateBrowserSession(control.WithTenant(ctx, p.Tenant), p.ID, s.Ring.MAC(sessionPurpose, cookie))
}

// Verify returns the principal of a cookie; control.ErrCredentials if it has ended.
func (s *Users) Verify(ctx context.Context, cookie string) (control.Principal, error) {
	return s.verify(ctx, cookie, true)
}

// Peek is Verify that does not count as a use: who only looks on lapses.
func (s *Users) Peek(ctx context.Context, cookie string) (control.Principal, error) {
	return s.verify(ctx, cookie, false)
}

func (s *Users) verify(ctx context.Context, cookie string, uses bool) (control.Principal, error) {
	at, err := s.Sessions.LocateBrowserSession(ctx, s.Ring.MAC(sessionPurpose, cookie))
	if err != nil {
		return control.Principal{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	ctx = control.WithTenant(ctx, at.Tenant)
	b, u, err := s.Sessions.BrowserSession(ctx, at.ID)
	if err != nil {
		return control.Principal{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	now := time.Now()
	if !b.live(now) {
		return control.Principal{}, control.ErrCredentials
	}
	if uses && now.Sub(b.LastUsedAt) > time.Minute {
		if err := s.Sessions.TouchBrowserSession(ctx, b.ID, now.UTC()); err != nil {
			return control.Principal{}, err
		}
	}
	return principal(b, u), nil
}

// live tells whether the session has neither ended nor lapsed.
func (b BrowserSession) live(now time.Time) bool {
	return b.RevokedAt.IsZero() && now.Before(b.ExpiresAt) && now.Sub(b.LastUsedAt) < SessionIdle
}

// Logout ends the session of a principal.
func (s *Users) Logout(ctx context.Context, p control.Principal) error {
	if p.Kind != control.PrincipalUser {
		return nil
	}
	_, err := s.Sessions.RevokeBrowserSessions(control.WithTenant(ctx, p.Tenant), p.User, p.ID, uuid.Nil, "sign_out")
	return err
}

// List returns a person's live sessions in all of their tenants, the newest
// first.
func (s *Users) List(ctx context.Context, p control.Principal) ([]BrowserSession, error) {
	if p.Kind != control.PrincipalUser {
		return nil, control.ErrForbidden
	}
	var list []BrowserSession
	now := time.Now()
	err := s.within(ctx, p, func(ctx context.Context) error {
		part, err := s.Sessions.BrowserSessions(ctx, p.User, now.UTC())
		list = append(list, part...)
		return err
	})
	list = slices.DeleteFunc(list, func(b BrowserSession) bool { return !b.live(now) })
	slices.SortFunc(list, func(a, b BrowserSession) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return list, err
}

// Revoke ends one session of a person, in whichever of the tenants p reaches;
// control.ErrNotFound if it is not theirs or has ended.
func (s *Users) Revoke(ctx context.Context, p control.Principal, id uuid.UUID) error {
	if p.Kind != control.PrincipalUser || id == uuid.Nil {
		return control.ErrNotFound
	}
	ended := 0
	err := s.within(ctx, p, func(ctx context.Context) error {
		n, err := s.Sessions.RevokeBrowserSessions(ctx, p.User, id, uuid.Nil, "revoked")
		ended += n
		return err
	})
	if err == nil && ended == 0 {
		err = control.ErrNotFound
	}
	return err
}

// RevokeOthers ends all sessions of a person but the one of p.
func (s *Users) RevokeOthers(ctx context.Context, p control.Principal) error {
	if p.Kind != control.PrincipalUser {
		return control.ErrForbidden
	}
	return s.within(ctx, p, func(ctx context.Context) error {
		_, err := s.Sessions.RevokeBrowserSessions(ctx, p.User, uuid.Nil, p.ID, "revoked")
		return err
	})
}

// within runs f in each tenant that a principal reaches: who was let in by a
// tenant's own issuer reaches that one alone.
func (s *Users) within(ctx context.Context, p control.Principal, f func(context.Context) error) error {
	if p.Bound {
		return f(in(ctx, p.Tenant, p.User))
	}
	return s.eachTenant(ctx, p.User, f)
}

// endAll ends a person's sessions in all tenants, but one.
func (s *Users) endAll(ctx context.Context, user, but uuid.UUID, reason string) error {
	return s.eachTenant(ctx, user, func(ctx context.Context) error {
		_, err := s.Sessions.RevokeBrowserSessions(ctx, user, uuid.Nil, but, reason)
		return err
	})
}

// eachTenant runs f in each tenant of a person, on that person's behalf.
func (s *Users) eachTenant(ctx context.Context, user uuid.UUID, f func(context.Context) error) error {
	all, err := s.Store.Memberships(ctx, user)
	for _, m := range all {
		err = errors.Join(err, f(in(ctx, m.Tenant.ID, user)))
	}
	return err
}

// known returns a cookie that says: this person signed in with this browser.
func (s *Users) known(user uuid.UUID) string {
	nonce := control.RandomText(16)
	return nonce + "." + s.knownSum(user, nonce)
}

func (s *Users) knownSum(user uuid.UUID, nonce string) string {
	return base64.RawURLEncoding.EncodeToString(s.Ring.MAC(knownPurpose, user.String()+nonce))
}

// gate names what counts a client's failures: the browser itself where the
// person has signed in with it before, whom the lock of the account then does
// not bind; else its address.
func (s *Users) gate(user uuid.UUID, c Client) (key string, known bool) {
	nonce, sum, ok := strings.Cut(c.Known, ".")
	if ok && user != uuid.Nil && hmac.Equal([]byte(sum), []byte(s.knownSum(user, nonce))) {
		return "browser " + nonce, true
	}
	return "address " + c.Address, false
}

// network is an address as coarse as it is shown to people: the /24, or of IPv6
// the /48.
func network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		if p, err := netip.ParsePrefix(address); err == nil { // clients by IPv6 are networks already
			a = p.Addr()
		}
	}
	bits := 24
	if a = a.Unmap(); a.Is6() {
		bits = 48
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil || !a.IsValid() {
		return ""
	}
	return p.String()
}

// agentFamily tells a browser and its system from User-Agent, and nothing more.
func agentFamily(agent string) string {
	find := func(names ...string) string { // pairs of what is there and what it means
		for i := 0; i+1 < len(names); i += 2 {
			if strings.Contains(agent, names[i]) {
				return names[i+1]
			}
		}
		return ""
	}
	browser := find("Edg", "Edge", "OPR/", "Opera", "Firefox/", "Firefox", "FxiOS/", "Firefox", "Chrome/", "Chrome", "CriOS/", "Chrome", "Safari/", "Safari")
	system := find("Android", "Android", "iPhone", "iOS", "iPad", "iOS", "Windows", "Windows", "Mac OS X", "macOS", "Linux", "Linux")
	switch {
	case browser == "":
		return "another program"
	case system == "":
		return browser
	}
	return browser + " on " + system
}
