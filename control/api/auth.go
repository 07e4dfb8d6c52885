package api

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

// cookieName of people's browsers.
const cookieName = "parley_session"

// Authenticate returns who makes a request: by a key or token (Bearer, or
// X-API-Key), or as a signed-in browser. A cookie counts for a request that
// changes something only if it comes from our own pages. A call token is not
// used up by this; a temporary token that is good once is. Errors:
// control.ErrCredentials, ErrForbidden, ErrUnavailable.
func (s *Server) Authenticate(r *http.Request) (control.Principal, error) {
	return s.identify(r, false)
}

// identify returns whom a request's credentials are of. again: they have let them
// in before; they count neither as used nor as used up.
func (s *Server) identify(r *http.Request, again bool) (control.Principal, error) {
	v := identity.Visit{Origin: r.Header.Get("Origin"), Network: identity.Network(address(r)), Peek: again, Again: again}
	if bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		// Chats and calls have bearers of their own, which are no keys.
		v.Imported = s.routes[r.Pattern].Class != Session
		return s.o.Bearers.Verify(identity.ForTenant(r.Context(), r.Header.Get("X-Parley-Tenant")), bearer, v)
	}
	if key := r.Header.Get("X-API-Key"); key != "" {
		v.Imported = true
		return s.o.Bearers.Verify(r.Context(), key, v)
	}
	c, err := r.Cookie(cookieName)
	if err != nil {
		return control.Principal{}, control.ErrCredentials
	}
	if err := s.csrf.Check(r); err != nil {
		return control.Principal{}, newProblem(403, "cross_origin", "the request comes from another page")
	}
	if again {
		return s.o.Users.Peek(r.Context(), c.Value)
	}
	return s.o.Users.Verify(r.Context(), c.Value)
}

// offersCredentials reports whether there is anything to check.
func offersCredentials(r *http.Request) bool {
	if r.Header.Get("Authorization") != "" || r.Header.Get("X-API-Key") != "" {
		return true
	}
	_, err := r.Cookie(cookieName)
	return err == nil
}

type loginIn struct {
	Browser
	Body struct {
		Email    string    `json:"email" maxLength:"320"`
		Password string    `json:"password" maxLength:"1024"`
		TenantID uuid.UUID `json:"tenant_id,omitempty" doc:"Which one to work in; without, the first that you joined."`
	}
}

// openedOut is a session that has begun.
type openedOut struct {
	SetCookie []http.Cookie `header:"Set-Cookie"`
	Body      struct {
		TenantID string    `json:"tenant_id,omitempty"`
		UserID   string    `json:"user_id,omitempty"`
		Role     string    `json:"role,omitempty"`
		Expires  time.Time `json:"expires_at,omitzero"`
		Failed   int       `json:"failed_sign_ins" doc:"How many failed since the last that did not. If they were not yours, change your password."`
		Left     *int      `json:"recovery_codes_left,omitempty" doc:"Where one was used."`
		Due      *dueJSON  `json:"second_factor,omitempty" doc:"The sign-in waits for the second factor; no session has begun, and there is nothing else in the answer."`
	}
}

func (s *Server) newOpenedOut(o identity.Opened) *openedOut {
	out := new(openedOut)
	if out.Body.Due = newDueJSON(o.Ticket); o.Ticket != nil {
		return out
	}
	left := int(time.Until(o.Session.ExpiresAt).Seconds())
	out.SetCookie = []http.Cookie{s.cookie(cookieName, o.Cookie, left), s.cookie(knownName, o.Known, int(identity.KnownLife.Seconds()))}
	p := o.Principal
	out.Body.TenantID, out.Body.UserID, out.Body.Role = p.Tenant.String(), p.User.String(), string(p.Role)
	out.Body.Expires, out.Body.Failed = o.Session.ExpiresAt.Truncate(time.Second), o.Failed
	return out
}

// signing is a public route that takes a secret which may be guessed.
func signing(pattern string) Route {
	return Route{Method: "POST", Pattern: pattern, Class: Public, Permission: control.Anyone,
		Limit: Limit{10, time.Minute}, Strict: true, Cost: 10, Body: 4 << 10}
}

func (s *Server) auth() error {
	logout := writes("POST", "/v1/auth/logout", control.SignedIn, NoBody)
	return errors.Join(
		operation(s, signing("/v1/auth/login"), "login", "Sign in by e-mail address and password", 200, s.login),
		operation(s, logout, "logout", "Sign out", 204, s.logout),
		operation(s, reads("/v1/auth/me", control.SignedIn), "get-me", "Who you are, and what you may do", 200, s.getMe),
		operation(s, writes("POST", "/v1/auth/switch", control.SignedIn, 4<<10), "switch-tenant", "Go on in another of your tenants", 200, s.switchTenant),
		operation(s, writes("POST", "/v1/auth/password", control.SignedIn, 8<<10), "change-password", "Change your password, and end your other sessions", 204, s.changePassword),
		operation(s, reads("/v1/auth/sessions", control.SignedIn), "list-own-sessions", "Where you are signed in", 200, s.listOwnSessions),
		operation(s, writes("DELETE", "/v1/auth/sessions", control.SignedIn, NoBody), "revoke-other-sessions", "End all your sessions but this one", 204, s.revokeOtherSessions),
		operation(s, writes("DELETE", "/v1/auth/sessions/{id}", control.SignedIn, NoBody), "revoke-own-session", "End one of your sessions", 204, s.revokeOwnSession),
		s.second(), s.factors(), s.oidc(), s.providers(), s.issuers(),
	)
}

func (s *Server) login(ctx context.Context, in *loginIn) (*openedOut, error) {
	o, err := s.o.Users.Login(ctx, identity.Login{Email: in.Body.Email, Password: in.Body.Password, Tenant: in.Body.TenantID, Client: in.client})
	if err != nil {
		s.signInFailed(ctx, in.Body.Email, err)
		return nil, notSignedIn(err)
	}
	return s.newOpenedOut(o), nil
}

// notSignedIn says the same for all that may be wrong with who signs in.
func notSignedIn(err error) error {
	if errors.Is(err, control.ErrCredentials) {
		return newProblem(401, "unauthenticated", "the e-mail address or the password is wrong, or it was wrong too often: then wait a quarter of an hour, or ask an administrator for a link to set a new one")
	}
	return err
}

// signInFailed tells whoever watches of a wrong password or code for an account.
func (s *Server) signInFailed(ctx context.Context, account string, err error) {
	if errors.Is(err, control.ErrCredentials) {
		s.metrics.AuthFailed("sign_in")
		s.o.Gate.Watch.SignInFailed(ctx, strings.ToLower(account), control.ClientOf(ctx))
	}
}

type logoutOut struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
}

func (s *Server) logout(ctx context.Context, _ *struct{}) (*logoutOut, error) {
	p := control.PrincipalOf(ctx)
	if err := errors.Join(s.o.Users.Logout(ctx, p), s.o.Bearers.Grants.End(ctx, p)); err != nil {
		return nil, err
	}
	return &logoutOut{s.cookie(cookieName, "", -1)}, nil
}

func (s *Server) cookie(name, value string, maxAge int) http.Cookie {
	return http.Cookie{Name: name, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode}
}

func (s *Server) switchTenant(ctx context.Context, in *struct {
	Browser
	Body struct {
		TenantID uuid.UUID `json:"tenant_id"`
	}
}) (*openedOut, error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	o, err := s.o.Users.Switch(ctx, p, in.Body.TenantID, in.client)
	if err != nil {
		return nil, err
	}
	return s.newOpenedOut(o), nil
}

func (s *Server) changePassword(ctx context.Context, in *struct {
	Browser
	Body struct {
		Old string `json:"old_password" maxLength:"1024"`
		New string `json:"password" maxLength:"1024"`
	}
}) (*struct{}, error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	err = s.o.Users.ChangePassword(ctx, p, in.Body.Old, in.Body.New, in.client)
	if errors.Is(err, control.ErrCredentials) {
		return nil, newProblem(403, "wrong_password", "the old password is wrong, or it was wrong too often: then wait a quarter of an hour")
	}
	return nil, err
}
