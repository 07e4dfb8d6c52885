package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"parley/control"
)

// How long what a person's programs hold is good for.
const (
	AccessLife  = 15 * time.Minute
	RefreshIdle = 14 * 24 * time.Hour // without a refresh
	RefreshLife = 90 * 24 * time.Hour // since the sign-in, whatever is done
)

// A Grant is what one sign-in of a person by a program led to: the family of
// its access and refresh tokens, which ends as one.
type Grant struct {
	ID          uuid.UUID
	User        uuid.UUID
	Session     uuid.UUID // the browser session it came from, with which it ends
	Hash        []byte    // of the newest refresh token
	Scopes      []control.Permission
	FactorAt    time.Time // of the second factor; zero: none was given
	CreatedAt   time.Time
	RefreshedAt time.Time
	ExpiresAt   time.Time // whatever is done
	RevokedAt   time.Time
}

// GrantStore keeps grants.
type GrantStore interface {
	InsertGrant(ctx context.Context, g Grant) error
	Grant(ctx context.Context, id uuid.UUID) (Grant, error)
	// RenewGrant puts hash in the place of was, if the grant is good, was renewed
	// after idle, and was is still its hash; else control.ErrConflict.
	RenewGrant(ctx context.Context, id uuid.UUID, was, hash []byte, idle, at time.Time) (Grant, error)
	// RevokeGrant ends a grant, if there is one and it has not ended: true.
	RevokeGrant(ctx context.Context, id uuid.UUID, why string, at time.Time) (bool, error)
}

// Tokens are what a program gets for a person.
type Tokens struct {
	Access  string
	Refresh string
	Life    time.Duration // of Access
	Scopes  []control.Permission
}

// Grants is the service of people's access and refresh tokens.
type Grants struct {
	Store  GrantStore
	Users  *Users
	Signer *Signer
	Ring   *control.Keyring
	Issuer string // our name in tokens: the public address
	Log    *slog.Logger
}

type accessClaims struct {
	jwt.RegisteredClaims
	Tenant   uuid.UUID        `json:"tenant"`
	Session  uuid.UUID        `json:"sid"` // the grant
	Scope    string           `json:"scope,omitempty"`
	Methods  []string         `json:"amr"`                 // RFC 8176
	FactorAt *jwt.NumericDate `json:"factor_at,omitempty"` // of the second factor
}

const refreshHead = "parley_refresh_"

// IsRefreshToken tells a refresh token from other bearers by its form.
func IsRefreshToken(bearer string) bool { return strings.HasPrefix(bearer, refreshHead) }

func (s *Grants) marked() marked { return marked{s.Ring, refreshHead} }

// Begin makes a grant of a person who is signed in by a browser's session or by
// their password, narrowed to scopes if there are any.
func (s *Grants) Begin(ctx context.Context, p control.Principal, scopes []control.Permission) (Tokens, error) {
	if p.Kind != control.PrincipalUser {
		return Tokens{}, control.ErrCredentials
	}
	if p.Bound { // a token's person is known by more than this tenant's word
		return Tokens{}, control.Refuse(control.ErrForbidden, "who signs in by their organisation's own issuer has no tokens here; let that issuer's tokens be trusted instead")
	}
	for i, scope := range scopes {
		if !slices.Contains(control.Scopes(), scope) || control.Allow(p, scope, control.Object{}) != nil {
			return Tokens{}, control.Invalidf(fmt.Sprintf("scope[%d]", i), "is not a scope, or more than you may do")
		}
	}
	if len(scopes) == 0 {
		scopes = p.Scopes // a narrowed token makes none that is wider
	}
	ctx = control.WithPrincipal(ctx, p)
	now := time.Now().UTC()
	g := Grant{ID: control.NewID(), User: p.User, Session: p.ID, Scopes: scopes, FactorAt: p.FactorAt,
		CreatedAt: now, RefreshedAt: now, ExpiresAt: now.Add(RefreshLife)}
	var t Tokens
	t.Refresh, g.Hash = s.marked().mint(control.Located{Tenant: p.Tenant, ID: g.ID})
	if err := s.Store.InsertGrant(ctx, g); err != nil {
		return Tokens{}, fmt.Errorf("begin a grant: %w", err)
	}
	return t, s.access(ctx, g, &t)
}

// Refresh trades a refresh token for new ones. It is good once: one that comes
// again was copied by somebody, who may be either of the two, so that all
// tokens of the grant end. There is no time of grace, also not for one that was
// sent twice at once: a program refreshes by one road at a time.
func (s *Grants) Refresh(ctx context.Context, token string) (Tokens, error) {
	at, err := s.marked().open(token)
	if err != nil {
		return Tokens{}, err
	}
	now := time.Now().UTC()
	ctx = control.WithTenant(ctx, at.Tenant)
	var t Tokens
	next, hash := s.marked().mint(at)
	t.Refresh = next
	g, err := s.Store.RenewGrant(ctx, at.ID, s.marked().hash(token), hash, now.Add(-RefreshIdle), now)
	if errors.Is(err, control.ErrConflict) {
		return Tokens{}, s.reused(ctx, at.ID, token, now)
	}
	if err != nil {
		return Tokens{}, fmt.Errorf("refresh: %w", err)
	}
	if _, err := s.Users.Store.User(ctx, g.User); err != nil {
		return Tokens{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	return t, s.access(ctx, g, &t)
}

// reused ends the grant of a token that we made and that is no longer its
// newest. One that has only idled, or ended, was not copied.
func (s *Grants) reused(ctx context.Context, id uuid.UUID, token string, now time.Time) error {
	g, err := s.Store.Grant(ctx, id)
	if err != nil {
		return control.NotFoundIs(err, control.ErrCredentials)
	}
	if !g.RevokedAt.IsZero() || slices.Equal(g.Hash, s.marked().hash(token)) {
		return control.ErrCredentials
	}
	revoked, err := s.Store.RevokeGrant(ctx, id, "reuse", now)
	if err != nil {
		return err
	}
	if tenant, _ := control.TenantOf(ctx); revoked {
		s.Log.WarnContext(ctx, "security", "event", "refresh token reused", "tenant", tenant, "grant", id, "user", g.User, "request", control.RequestOf(ctx))
	}
	return control.Refuse(control.ErrCredentials, "the refresh token was used before, so all tokens of its sign-in have ended: sign in again")
}

// access adds a new access token of the grant.
func (s *Grants) access(ctx context.Context, g Grant, t *Tokens) (err error) {
	tenant, _ := control.TenantOf(ctx)
	now := time.Now().Truncate(time.Second)
	t.Life, t.Scopes = min(AccessLife, time.Until(g.ExpiresAt)).Truncate(time.Second), g.Scopes
	claims := accessClaims{Tenant: tenant, Session: g.ID, Scope: joinScopes(g.Scopes), Methods: []string{"pwd"},
		RegisteredClaims: jwt.RegisteredClaims{Issuer: s.Issuer, Subject: g.User.String(), Audience: jwt.ClaimStrings{AudienceAPI},
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(t.Life)),
			ID: control.NewID().String()}}
	if !g.FactorAt.IsZero() {
		claims.Methods, claims.FactorAt = append(claims.Methods, "mfa"), jwt.NewNumericDate(g.FactorAt)
	}
	t.Access, err = s.Signer.sign(ctx, typeAccess, claims)
	return err
}

// Verify returns the principal of an access token: what it may do is looked up
// and not the token's to say, and it ends with its grant.
func (s *Grants) Verify(ctx context.Context, token string) (control.Principal, error) {
	var c accessClaims
	if err := s.Signer.verify(ctx, token, typeAccess, s.Issuer, AudienceAPI, &c); err != nil {
		return control.Principal{}, err
	}
	ctx = control.WithTenant(ctx, c.Tenant)
	g, err := s.Store.Grant(ctx, c.Session)
	if err != nil {
		return control.Principal{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	if now := time.Now(); !g.RevokedAt.IsZero() || !now.Before(g.ExpiresAt) || g.User.String() != c.Subject {
		return control.Principal{}, control.Refuse(control.ErrCredentials, "the sign-in of this token has ended: sign in again")
	}
	u, err := s.Users.Store.User(ctx, g.User) // no longer a member: not found
	if err != nil {
		return control.Principal{}, control.NotFoundIs(err, control.ErrCredentials)
	}
	p := control.Principal{Kind: control.PrincipalUser, ID: g.ID, Tenant: c.Tenant, User: g.User, Role: u.Role, Platform: u.Platform,
		Scopes: splitScopes(c.Scope), Expires: c.ExpiresAt.UTC()}
	if c.FactorAt != nil {
		p.FactorAt = c.FactorAt.UTC()
	}
	p.NoFactor = !u.Factor && p.FactorAt.IsZero()
	return p, nil
}

// End revokes the grant of a person's access token; of anybody else, nothing.
func (s *Grants) End(ctx context.Context, p control.Principal) error {
	if p.Kind != control.PrincipalUser {
		return nil
	}
	_, err := s.Store.RevokeGrant(control.WithTenant(ctx, p.Tenant), p.ID, "sign_out", time.Now().UTC())
	return err
}

// Revoke ends the grant of a refresh token (RFC 7009). A token that is not ours
// is nothing to revoke, and no error.
func (s *Grants) Revoke(ctx context.Context, token string) error {
	at, err := s.marked().open(token)
	if err != nil {
		return nil
	}
	_, err = s.Store.RevokeGrant(control.WithTenant(ctx, at.Tenant), at.ID, "sign_out", time.Now().UTC())
	return err
}

// joinScopes and splitScopes are the form that tokens have them in (RFC 6749 §3.3).
func joinScopes(scopes []control.Permission) string {
	words := make([]string, len(scopes))
	for i, p := range scopes {
		words[i] = string(p)
	}
	return strings.Join(words, " ")
}

func splitScopes(text string) []control.Permission {
	var scopes []control.Permission
	for _, w := range strings.Fields(text) {
		scopes = append(scopes, control.Permission(w))
	}
	return scopes
}
