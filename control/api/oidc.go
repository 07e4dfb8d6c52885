package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"parley/control"
	"parley/control/identity"
)

// oidc is how people sign in by other issuers: browsers come here, not programs.
func (s *Server) oidc() error {
	open := func(pattern string) Route {
		return Route{Method: "GET", Pattern: pattern, Class: Public, Permission: control.Anyone, Limit: Limit{30, time.Minute}, Body: NoBody}
	}
	link := writes("POST", "/v1/auth/oidc/{provider}/link", control.SignedIn, 4<<10)
	link.StepUp = true
	return errors.Join(
		operation(s, open("/v1/auth/oidc"), "list-sign-in-providers", "Who may be signed in by, besides a password", 200, s.listOIDC),
		operation(s, open("/v1/auth/oidc/{provider}/start"), "start-oidc", "Go to an issuer to sign in", 303, s.startOIDC),
		operation(s, open("/v1/auth/oidc/{provider}/callback"), "finish-oidc", "Come back from an issuer", 303, s.finishOIDC),
		operation(s, link, "link-oidc", "Sign in by an issuer from now on, as whom you are", 200, s.linkOIDC),
	)
}

// wayName is the cookie of browsers that are on their way to an issuer and
// back. Of https it is one that no other host can set.
func (s *Server) wayName() string {
	if s.secure {
		return "__Host-parley_way"
	}
	return "parley_way"
}

// Way tells which browser is on its way to an issuer; exported for huma, which
// fills it.
type Way struct {
	Browser
	cookies map[string]string
}

var _ huma.Resolver = (*Way)(nil)

// Resolve implements huma.Resolver.
func (w *Way) Resolve(ctx huma.Context) []error {
	r, _ := humago.Unwrap(ctx)
	w.cookies = map[string]string{}
	for _, c := range r.Cookies() {
		w.cookies[c.Name] = c.Value
	}
	return w.Browser.Resolve(ctx)
}

// way returns the browser's cookie, so that two sign-ins at once both come back.
func (s *Server) way(w Way) string {
	if v := w.cookies[s.wayName()]; len(v) == 43 {
		return v
	}
	return control.RandomText(32)
}

type oidcListOut struct {
	Body struct {
		Items []oidcJSON `json:"items"`
	}
}

type oidcJSON struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	URL  string `json:"url" doc:"Send the browser there."`
}

func (s *Server) listOIDC(context.Context, *struct{}) (*oidcListOut, error) {
	out := new(oidcListOut)
	out.Body.Items = []oidcJSON{}
	for _, p := range s.o.OIDC.Operator {
		out.Body.Items = append(out.Body.Items, oidcJSON{p.Name, p.Settings.Kind, "/v1/auth/oidc/" + p.Name + "/start"})
	}
	return out, nil
}

type redirectOut struct {
	Location  string        `header:"Location"`
	SetCookie []http.Cookie `header:"Set-Cookie"`
}

func (s *Server) startOIDC(ctx context.Context, in *struct {
	Way
	Provider string `path:"provider" maxLength:"63" doc:"The operator's name of it, or the id of a tenant's own."`
	ReturnTo string `query:"return_to" maxLength:"1000" doc:"Path of this site to go on at."`
}) (*redirectOut, error) {
	way := s.way(in.Way)
	to, err := s.o.OIDC.Start(ctx, in.Provider, in.ReturnTo, way, control.Principal{})
	if err != nil {
		return nil, s.oidcProblem(ctx, err)
	}
	return &redirectOut{to, []http.Cookie{s.cookie(s.wayName(), way, int(identity.OIDCLife.Seconds()))}}, nil
}

type linkOut struct {
	SetCookie []http.Cookie `header:"Set-Cookie"`
	Body      struct {
		URL string `json:"url" doc:"Send the browser there."`
	}
}

func (s *Server) linkOIDC(ctx context.Context, in *struct {
	Way
	Provider string `path:"provider" maxLength:"63"`
	Body     struct {
		ReturnTo string `json:"return_to,omitempty" maxLength:"1000"`
	}
}) (*linkOut, error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	way := s.way(in.Way)
	out := &linkOut{SetCookie: []http.Cookie{s.cookie(s.wayName(), way, int(identity.OIDCLife.Seconds()))}}
	if out.Body.URL, err = s.o.OIDC.Start(ctx, in.Provider, in.Body.ReturnTo, way, p); err != nil {
		return nil, s.oidcProblem(ctx, err)
	}
	return out, nil
}

func (s *Server) finishOIDC(ctx context.Context, in *struct {
	Way
	Provider string `path:"provider" maxLength:"63"`
	Code     string `query:"code" maxLength:"4000"`
	State    string `query:"state" maxLength:"200"`
	Issuer   string `query:"iss" maxLength:"500"`
	Error    string `query:"error" maxLength:"200"`
}) (*redirectOut, error) {
	back, err := s.o.OIDC.Callback(ctx, in.Provider,
		identity.Return{Code: in.Code, State: in.State, Issuer: in.Issuer, Error: in.Error}, in.cookies[s.wayName()], in.client)
	if err != nil {
		return nil, s.oidcProblem(ctx, err)
	}
	out := &redirectOut{Location: back.ReturnTo}
	switch {
	case back.Linked:
	case back.Ticket != nil:
		out.Location = withQuery(out.Location, "second_factor", "due")
		c := s.cookie(ticketName, back.Ticket.Secret, int(identity.TicketLife.Seconds()))
		c.Path, c.SameSite = "/v1/auth/mfa", http.SameSiteStrictMode
		out.SetCookie = []http.Cookie{c}
	default:
		out.SetCookie = s.newOpenedOut(back.Opened).SetCookie
	}
	return out, nil
}

// withQuery adds to the query of a path of ours.
func withQuery(path, key, value string) string {
	u, err := url.Parse(path)
	if err != nil {
		return "/"
	}
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// oidcProblem says what may be said to who signs in; the rest is for the log.
func (s *Server) oidcProblem(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, identity.ErrNotAdmitted):
		return newProblem(403, "not_admitted", "nobody has let this account in: ask for an invitation to its e-mail address, or sign in by your password and link it")
	case errors.Is(err, identity.ErrIssuer):
		s.o.Log.WarnContext(ctx, "an issuer's answer does not hold", "request", control.RequestOf(ctx), "error", err)
		return newProblem(401, "issuer_refused", "the sign-in did not hold at who you signed in by: begin again")
	case errors.Is(err, control.ErrUnavailable):
		s.o.Log.WarnContext(ctx, "an issuer is away", "request", control.RequestOf(ctx), "error", err)
		return newProblem(503, "unavailable", "who you sign in by does not answer; try again shortly")
	case errors.Is(err, control.ErrCredentials):
		return newProblem(401, "sign_in_expired", "this sign-in was begun in another browser, took longer than ten minutes, or is done: begin again")
	}
	return err
}
