package api

import (
	"context"
	"net/http"
	"strings"
	"time"

	"parley/control"
	"parley/control/identity"
)

// cookieName of people's browsers.
const cookieName = "parley_session"

// Authenticate returns who makes a request: an API key (Bearer or X-API-Key),
// a call token (Bearer, from its origin, not used up by this), or a signed-in
// browser. A cookie counts for a request that changes something only if it
// comes from our own pages. Errors: control.ErrCredentials, ErrForbidden,
// ErrUnavailable.
func (s *Server) Authenticate(r *http.Request) (control.Principal, error) {
	bearer, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		bearer = r.Header.Get("X-API-Key")
	}
	switch {
	case identity.IsCallToken(bearer):
		return s.o.Tokens.Verify(bearer, r.Header.Get("Origin"))
	case bearer != "":
		return s.o.Keys.Verify(r.Context(), bearer)
	}
	c, err := r.Cookie(cookieName)
	if err != nil {
		return control.Principal{}, control.ErrCredentials
	}
	if err := s.csrf.Check(r); err != nil {
		return control.Principal{}, newProblem(403, "cross_origin", "the request comes from another page")
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
	Body struct {
		Email    string `json:"email" maxLength:"320"`
		Password string `json:"password" maxLength:"1024"`
	}
}

type loginOut struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
	Body      struct {
		TenantID string    `json:"tenant_id"`
		UserID   string    `json:"user_id"`
		Role     string    `json:"role"`
		Expires  time.Time `json:"expires_at"`
	}
}

func (s *Server) auth() error {
	login := Route{Method: "POST", Pattern: "/v1/auth/login", Class: Public, Permission: control.Anyone,
		Limit: Limit{10, time.Minute}, Body: 4 << 10}
	if err := operation(s, login, "login", "Sign in by e-mail address and password", 200, s.login); err != nil {
		return err
	}
	logout := Route{Method: "POST", Pattern: "/v1/auth/logout", Class: Tenanted, Permission: control.SignedIn,
		Limit: Limit{60, time.Minute}, Body: NoBody}
	return operation(s, logout, "logout", "Sign out", 204, s.logout)
}

func (s *Server) login(ctx context.Context, in *loginIn) (*loginOut, error) {
	value, p, err := s.o.Users.Login(ctx, in.Body.Email, in.Body.Password)
	if err != nil {
		return nil, err
	}
	out := new(loginOut)
	out.SetCookie = s.cookie(value, int(identity.SessionLife.Seconds()))
	out.Body.TenantID, out.Body.UserID, out.Body.Role = p.Tenant.String(), p.User.String(), string(p.Role)
	out.Body.Expires = time.Now().UTC().Add(identity.SessionLife).Truncate(time.Second)
	return out, nil
}

type logoutOut struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
}

func (s *Server) logout(ctx context.Context, _ *struct{}) (*logoutOut, error) {
	if err := s.o.Users.Logout(ctx, control.PrincipalOf(ctx)); err != nil {
		return nil, err
	}
	return &logoutOut{s.cookie("", -1)}, nil
}

func (s *Server) cookie(value string, maxAge int) http.Cookie {
	return http.Cookie{Name: cookieName, Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: s.secure, SameSite: http.SameSiteLaxMode}
}
