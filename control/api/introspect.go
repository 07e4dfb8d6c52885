package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

// introspectJSON says what a token is (RFC 7662 §2.2). Of one that is not
// active, nothing else is said.
type introspectJSON struct {
	Active    bool                 `json:"active"`
	TokenType string               `json:"token_type,omitempty" enum:"Bearer"`
	Kind      string               `json:"kind,omitempty" doc:"user, key, temporary, service or call_token."`
	Subject   string               `json:"sub,omitempty" doc:"The person's id, or that of the key or token."`
	TenantID  *uuid.UUID           `json:"tenant_id,omitempty"`
	Role      control.Role         `json:"role,omitempty" doc:"Of a person."`
	AgentID   *uuid.UUID           `json:"agent_id,omitempty" doc:"Of a call token: the only agent it reaches."`
	Actor     string               `json:"actor,omitempty" doc:"Of a service: on whose behalf it acts."`
	Scope     string               `json:"scope,omitempty" doc:"As in scopes, with a space between."`
	Scopes    []control.Permission `json:"scopes,omitempty" doc:"What the bearer may do, now."`
	Expires   int64                `json:"exp,omitempty" doc:"Unix seconds; absent: it does not expire by itself."`
	FactorAt  int64                `json:"factor_at,omitempty" doc:"When a person last gave a second factor, in Unix seconds."`
}

func newIntrospectJSON(p control.Principal) introspectJSON {
	out := introspectJSON{Active: true, TokenType: "Bearer", Kind: p.Kind, Subject: p.ID.String(), TenantID: &p.Tenant,
		Role: p.Role, Actor: p.Actor, Scopes: control.Held(p)}
	if p.Kind == control.PrincipalUser {
		out.Subject = p.User.String()
	}
	if p.Agent != uuid.Nil {
		out.AgentID = &p.Agent
	}
	words := make([]string, len(out.Scopes))
	for i, scope := range out.Scopes {
		words[i] = string(scope)
	}
	out.Scope = strings.Join(words, " ")
	if !p.Expires.IsZero() {
		out.Expires = p.Expires.Unix()
	}
	if !p.FactorAt.IsZero() {
		out.FactorAt = p.FactorAt.Unix()
	}
	return out
}

func (s *Server) introspection() error {
	r := writes("POST", "/v1/auth/introspect", control.TokensCheck, 10<<10)
	r.Types = []string{"application/x-www-form-urlencoded", typeJSON}
	r.Limit.N = 600 // a service asks for each of its callers, twice a minute
	older := r
	older.Pattern = "/auth/validate-token"
	return errors.Join(
		operation(s, r, "introspect", "What a token is, and what its bearer may do", 200, s.introspect),
		operation(s, older, "validate-token", "The same as introspect", 200, s.introspect),
	)
}

// introspect tells a tenant's own services about its own tokens; keep the answer
// for at most 30 s. Of all that is not an active token of theirs it says the same.
func (s *Server) introspect(ctx context.Context, in *struct {
	ContentType string `header:"Content-Type" hidden:"true"`
	RawBody     []byte `contentType:"application/x-www-form-urlencoded" doc:"token=…, as a form or as a JSON object."`
}) (*reply[introspectJSON], error) {
	token, err := tokenParameter(in.ContentType, in.RawBody)
	if err != nil {
		return nil, err
	}
	p, err := s.o.Bearers.Verify(ctx, token, identity.Visit{Peek: true, Imported: true})
	switch {
	case errors.Is(err, control.ErrUnavailable):
		return nil, err
	case err != nil, p.Tenant != control.PrincipalOf(ctx).Tenant:
		return &reply[introspectJSON]{}, nil
	}
	return &reply[introspectJSON]{newIntrospectJSON(p)}, nil
}

// tokenParameter is the token of a form or of a JSON object.
func tokenParameter(contentType string, body []byte) (string, error) {
	kind, _, _ := strings.Cut(contentType, ";")
	var token string
	switch strings.ToLower(strings.TrimSpace(kind)) {
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(body))
		if err != nil {
			return "", newProblem(400, "malformed", "the body is no form")
		}
		token = form.Get("token")
	case "application/json":
		var in struct {
			Token string `json:"token"`
		}
		if json.Unmarshal(body, &in) != nil {
			return "", newProblem(400, "malformed", "the body is no JSON object")
		}
		token = in.Token
	default:
		return "", newProblem(415, "wrong_type", "send a form (application/x-www-form-urlencoded) or JSON (application/json)")
	}
	if token == "" {
		return "", control.Invalidf("token", "is missing")
	}
	return token, nil
}
