package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

// tokenJSON is what a program gets for a person, in OAuth's words (RFC 6749 §5.1).
type tokenJSON struct {
	AccessToken  string `json:"access_token" doc:"Bearer for this API."`
	TokenType    string `json:"token_type" enum:"Bearer"`
	ExpiresIn    int    `json:"expires_in" doc:"Seconds that the access token is good for."`
	RefreshToken string `json:"refresh_token" doc:"Trade it once at /v1/auth/refresh. One that is used again ends the whole sign-in."`
	Scope        string `json:"scope,omitempty" doc:"What the tokens are narrowed to; absent: all that the person may do."`
}

func newTokenReply(t identity.Tokens) *reply[tokenJSON] {
	words := make([]string, len(t.Scopes))
	for i, p := range t.Scopes {
		words[i] = string(p)
	}
	return &reply[tokenJSON]{tokenJSON{t.Access, "Bearer", int(t.Life.Seconds()), t.Refresh, strings.Join(words, " ")}}
}

func (s *Server) tokens() error {
	open := func(pattern string, n int) Route {
		return Route{Method: "POST", Pattern: pattern, Class: Public, Permission: control.Anyone, Limit: Limit{n, time.Minute}, Body: 4 << 10}
	}
	token := open("/v1/auth/token", 10)
	token.Class, token.Strict, token.Cost = Session, true, 10
	jwks := Route{Method: "GET", Pattern: "/.well-known/jwks.json", Class: Public, Permission: control.Anyone,
		Limit: Limit{600, time.Minute}, Body: NoBody}
	return errors.Join(
		operation(s, token, "create-token", "Sign a program in for a person: access and refresh token", 200, s.createToken),
		operation(s, open("/v1/auth/refresh", 60), "refresh-token", "Trade a refresh token for new tokens", 200, s.refreshToken),
		operation(s, open("/v1/auth/revoke", 60), "revoke-token", "End the sign-in of a refresh token", 204, s.revokeToken),
		s.Handle(jwks, http.HandlerFunc(s.serveJWKS)),
	)
}

func (s *Server) createToken(ctx context.Context, in *struct {
	Browser
	Authorization string `header:"Authorization" hidden:"true"`
	APIKey        string `header:"X-API-Key" hidden:"true"`
	Body          struct {
		GrantType string    `json:"grant_type" enum:"password,session" doc:"password: by e-mail address and password. session: by the cookie of a signed-in browser, whose second factor counts."`
		Email     string    `json:"email,omitempty" maxLength:"320"`
		Password  string    `json:"password,omitempty" maxLength:"1024"`
		TenantID  uuid.UUID `json:"tenant_id,omitempty" doc:"With a password: which one to work in; without, the first that you joined."`
		Scope     string    `json:"scope,omitempty" maxLength:"2000" doc:"Narrows the tokens to these scopes, with a space between."`
	}
}) (*reply[tokenJSON], error) {
	// A token must not beget one that outlives it: only people begin anew.
	p := control.PrincipalOf(ctx)
	if in.Authorization != "" || in.APIKey != "" {
		p = control.Principal{}
	}
	if in.Body.GrantType == "password" {
		client := in.client
		client.Session = "" // a program's sign-in ends no browser's
		o, err := s.o.Users.Login(ctx, identity.Login{Email: in.Body.Email, Password: in.Body.Password, Tenant: in.Body.TenantID, Client: client})
		if err != nil {
			s.signInFailed(ctx, in.Body.Email, err)
			return nil, notSignedIn(err)
		}
		if o.Ticket != nil {
			return nil, newProblem(403, "second_factor_required", "this account has a second factor: sign in by /v1/auth/login and /v1/auth/mfa, then ask for tokens by grant_type session")
		}
		p = o.Principal
	}
	var scopes []control.Permission
	for _, w := range strings.Fields(in.Body.Scope) {
		scopes = append(scopes, control.Permission(w))
	}
	t, err := s.o.Bearers.Grants.Begin(ctx, p, scopes)
	if err != nil {
		return nil, err
	}
	return newTokenReply(t), nil
}

func (s *Server) refreshToken(ctx context.Context, in *struct {
	Body struct {
		RefreshToken string `json:"refresh_token" maxLength:"300"`
	}
}) (*reply[tokenJSON], error) {
	t, err := s.o.Bearers.Grants.Refresh(ctx, in.Body.RefreshToken)
	if err != nil {
		return nil, err
	}
	return newTokenReply(t), nil
}

func (s *Server) revokeToken(ctx context.Context, in *struct {
	Body struct {
		Token string `json:"token" maxLength:"300" doc:"A refresh token. What is none is nothing to revoke, and answered the same (RFC 7009)."`
	}
}) (*struct{}, error) {
	return nil, s.o.Bearers.Grants.Revoke(ctx, in.Body.Token)
}

// serveJWKS publishes the keys that tokens are checked with (RFC 7517).
func (s *Server) serveJWKS(w http.ResponseWriter, r *http.Request) {
	set, err := s.o.Bearers.Grants.Signer.JWKS(r.Context())
	if err != nil {
		s.problem(r.Context(), err).write(w)
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_ = json.NewEncoder(w).Encode(set) // the client is gone, or it is not
}
