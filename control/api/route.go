package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"parley/control"
)

// A Class says who may come to a route at all.
type Class string

// The classes.
const (
	Public   Class = "public"   // anybody; nothing of a tenant
	Webhook  Class = "webhook"  // a named verifier in the handler checks who sends
	Session  Class = "session"  // the handler checks a token of its own; credentials are read if they come
	Tenanted Class = "tenant"   // a principal of a tenant, with the permission
	Admin    Class = "admin"    // an owner or admin in the tenant, with the permission
	Internal Class = "internal" // only on the admin listener
)

// A Limit is how often one client may ask.
type Limit struct {
	N   int
	Per time.Duration
}

// NoBody is the body limit of a route that takes none.
const NoBody = -1

// A Route is all that must be said before something is reachable.
type Route struct {
	Method, Pattern string // as net/http.ServeMux has it: "GET", "/v1/calls/{id}"
	Class           Class
	Permission      control.Permission // control.Anyone for public, webhook and session
	Limit           Limit              // by principal, or by address where there is none
	Keyed           Limit              // by API key instead, where programs speak for many people; zero: Limit
	Body            int64              // bytes; NoBody for none
	Types           []string           // of the body; default application/json, and what is written +json
	Cost            int                // units of the budgets over all routes that a request takes; default 1
	Strict          bool               // limited harder while Redis is away: sign-in
	Plane           Plane              // default by the path
	Verifier        string             // class webhook: who checks, e.g. "twilio"
	Long            bool               // a socket or a stream: no time limit
	StepUp          bool               // a person must just have given a second factor; see [Route.Dangerous]
	NoStepUp        string             // why a person need not, though it would be asked for

	// For the document, of a handler without types: what the route does, and the
	// type of what it answers. Optional.
	Summary, Media string
}

func (r Route) key() string { return r.Method + " " + r.Pattern }

// dangerous tells whether a route changes who may do what.
func (r Route) dangerous() bool {
	switch r.Permission {
	case control.KeysManage, control.SecretsManage, control.TenantManage, control.TokensMint, control.UsersManage, control.Platform:
		return r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions
	}
	return false
}

// Dangerous tells whether a person must have given a second factor in the last
// ten minutes: where the route says so, and wherever who may do what changes,
// unless the route says why not.
func (r Route) Dangerous() bool { return r.StepUp || r.dangerous() && r.NoStepUp == "" }

// validate reports what is not said.
func (r Route) validate() error {
	classes := []Class{Public, Webhook, Session, Tenanted, Admin, Internal}
	switch {
	case r.Method == "" || !strings.HasPrefix(r.Pattern, "/"):
		return errors.New("no method or pattern")
	case !slices.Contains(classes, r.Class):
		return errors.New("no class")
	case !r.Permission.Known():
		return errors.New("no permission that there is")
	case (r.Class == Tenanted || r.Class == Admin) && r.Permission == control.Anyone:
		return errors.New("a tenant's route is open to anyone")
	case (r.Class == Public || r.Class == Webhook || r.Class == Session) && r.Permission != control.Anyone:
		return errors.New("asks for a permission that its class does not check")
	case r.Limit.N <= 0 || r.Limit.Per <= 0:
		return errors.New("no rate limit")
	case r.Body == 0 || r.Body < NoBody:
		return errors.New("no body limit")
	case r.NoStepUp != "" && !r.dangerous():
		return errors.New("says why no second factor is asked for, and none would be")
	case r.StepUp && r.Class != Tenanted && r.Class != Admin:
		return errors.New("asks for a second factor of people whom its class does not know")
	case (r.Class == Webhook) != (r.Verifier != ""):
		return errors.New("a webhook needs a verifier, and nothing else has one")
	}
	return nil
}

// Handle makes a handler of another package reachable, behind the same guard
// as all. It fails for a route that does not say all of itself, or twice.
func (s *Server) Handle(r Route, h http.Handler) error {
	if err := r.validate(); err != nil {
		return fmt.Errorf("route %s: %w", r.key(), err)
	}
	if _, ok := s.routes[r.key()]; ok {
		return fmt.Errorf("route %s: registered twice", r.key())
	}
	s.routes[r.key()] = r
	if r.listed() {
		s.list(r)
	}
	s.muxes.handle(r, s.guard(r, h))
	return nil
}

// Routes lists all routes, sorted: for the documentation and for tests.
func (s *Server) Routes() []Route {
	list := make([]Route, 0, len(s.routes))
	for _, r := range s.routes {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Route) int { return strings.Compare(a.Pattern+a.Method, b.Pattern+b.Method) })
	return list
}
