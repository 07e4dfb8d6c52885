package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"parley/control"
	"parley/control/ingress"
)

// requestTime is the longest that a request without a stream may take.
const requestTime = 15 * time.Second

// guard holds a route to what it says of itself.
func (s *Server) guard(route Route, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := recorded(w)
		out.route = route
		if !route.Long {
			ctx, cancel := context.WithTimeout(r.Context(), requestTime)
			defer cancel()
			r = r.WithContext(ctx)
		}
		r.Body = http.MaxBytesReader(w, r.Body, max(route.Body, 0))
		p, err := s.admit(route, r)
		out.who = p
		if p.Kind != "" {
			if route.Long {
				r = r.WithContext(s.staying(route, r, p))
			}
			r = r.WithContext(control.WithPrincipal(r.Context(), p))
		}
		if route.crosses() {
			s.shareWithOrigin(w, r, route)
		}
		if err != nil {
			s.unadmitted(err)
			s.problem(r.Context(), err).write(w)
			return
		}
		if no := s.limit(w, r, route, p); no != nil {
			no.write(w)
			return
		}
		if no := s.body(route, r, out); no != nil {
			no.write(w)
			return
		}
		if route.Class == Session && strings.HasPrefix(route.Pattern, "/chat/") {
			r = cross(w, r)
		}
		if route.nameable() {
			s.once(route, h, w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// admit finds out who asks, and whether they may come to the route.
func (s *Server) admit(route Route, r *http.Request) (control.Principal, error) {
	if route.Class != Webhook {
		if err := s.inAddress(r); err != nil {
			return control.Principal{}, err
		}
	}
	switch route.Class {
	case Public, Webhook:
		return control.Principal{}, nil
	case Internal:
		return control.Principal{}, s.admitInternal(r)
	}
	if !offersCredentials(r) {
		if route.Class == Session { // the handler has tokens of its own
			return control.Principal{}, nil
		}
		return control.Principal{}, control.ErrCredentials
	}
	// Checking them costs a look into storage.
	if ok, wait := s.allowed(r.Context(), "checks address:"+address(r), checks, max(route.Cost, 1)); !ok {
		s.metrics.Limited("address")
		return control.Principal{}, tooMany(wait)
	}
	p, err := s.Authenticate(r)
	if err == nil {
		err = s.o.Tenants.Standing(r.Context(), p.Tenant)
	}
	if route.Class == Session { // what is no key of ours is for the handler
		if errors.Is(err, control.ErrUnavailable) || errors.Is(err, control.ErrSuspended) {
			return control.Principal{}, err
		}
		if err != nil {
			return control.Principal{}, nil
		}
		return p, nil
	}
	if errors.Is(err, control.ErrCredentials) {
		if no := s.guessed(r); no != nil {
			return p, no
		}
	}
	if err != nil {
		return control.Principal{}, err
	}
	if p.Kind == control.PrincipalKey {
		s.o.Gate.Watch.KeyUsed(r.Context(), p.Tenant.String(), p.ID.String(), control.ClientOf(r.Context()))
	}
	return p, s.permit(route, p)
}

// permit tells whether p may come to a route that somebody was let in to.
func (s *Server) permit(route Route, p control.Principal) error {
	if p.Kind == control.PrincipalCallToken {
		return control.ErrForbidden // opens a call, by its own route
	}
	if route.Class == Admin && p.Kind == control.PrincipalUser && p.Role != control.RoleOwner && p.Role != control.RoleAdmin {
		return control.ErrForbidden
	}
	if err := control.Allow(p, route.Permission, control.Object{}); err != nil {
		return err
	}
	return s.o.SecondFactor.Demand(p, route.Class == Admin, route.Dangerous(), time.Now())
}

// admitInternal checks who asks on the admin listener, whatever the address.
func (s *Server) admitInternal(r *http.Request) error {
	if s.o.Gate.Internal == nil || s.o.Gate.Internal(r) {
		return nil
	}
	if no := s.guessed(r); no != nil {
		return no
	}
	return control.ErrCredentials
}

// guessed counts wrong credentials by address.
func (s *Server) guessed(r *http.Request) error {
	if ok, wait := s.allowed(r.Context(), "guesses address:"+address(r), guesses, 1); !ok {
		s.metrics.Limited("guesses")
		return tooMany(wait)
	}
	return nil
}

// unadmitted counts who did not get in.
func (s *Server) unadmitted(err error) {
	switch {
	case errors.Is(err, control.ErrCredentials):
		s.metrics.AuthFailed("credentials")
	case errors.Is(err, control.ErrForbidden):
		s.metrics.AuthFailed("permission")
	}
}

// Credentials of one address that are checked, in units of routes' cost, and
// that may be wrong: a server with many users and good keys is not held to the
// second.
var (
	checks  = Limit{6000, time.Minute}
	guesses = Limit{60, time.Minute}
)

// Budgets over all routes, in units of their cost: of a tenant, of one of its
// principals, and of an address that nobody vouches for. Webhooks come from few
// addresses for many tenants, and have none.
var (
	ofTenant    = Limit{120_000, time.Minute}
	ofPrincipal = Limit{60_000, time.Minute}
	ofAddress   = Limit{6000, time.Minute}
)

// allowed counts one thing.
func (s *Server) allowed(ctx context.Context, key string, l Limit, cost int) (bool, time.Duration) {
	v := s.o.Limits.Take(ctx, ingress.Ask{Key: key, N: l.N, Per: l.Per, Cost: cost})
	return v.OK, v.Wait
}

// limit counts a request against its principal, or where there is none, its
// address, on the route and over all routes. Where anybody may come, those with
// a key are counted by their address too: who holds many keys gains nothing.
func (s *Server) limit(w http.ResponseWriter, r *http.Request, route Route, p control.Principal) *Problem {
	var asks [4]ingress.Ask
	var by [4]string
	n := 0
	count := func(what, key string, l Limit, cost int) {
		asks[n], by[n] = ingress.Ask{Key: key, N: l.N, Per: l.Per, Cost: cost, Strict: route.Strict}, what
		n++
	}
	cost := max(route.Cost, 1)
	if p.Kind == "" {
		at := "address:" + address(r)
		count("route", route.key()+" "+at, route.Limit, 1)
		if route.Class == Public || route.Class == Session {
			count("address", at, ofAddress, cost)
		}
	} else {
		limit := route.Limit
		if p.Kind == control.PrincipalKey && route.Keyed.N > 0 {
			limit = route.Keyed
		}
		who := p.Kind + ":" + p.ID.String()
		count("route", route.key()+" "+who, limit, 1)
		if route.Class == Session {
			count("address", route.key()+" "+p.Kind+" address:"+address(r), limit, 1)
		}
		count("principal", who, ofPrincipal, cost)
		count("tenant", "tenant:"+p.Tenant.String(), ofTenant, cost)
	}
	v := s.o.Limits.Take(r.Context(), asks[:n]...)
	if v.Alone {
		s.metrics.Alone()
	}
	if route.Class != Internal {
		announce(w.Header(), by[v.Of], asks[v.Of], v)
	}
	if v.OK {
		return nil
	}
	s.metrics.Limited(by[v.Of])
	return tooMany(v.Wait)
}

// announce tells how much is left of the limit that is the nearest
// (draft-ietf-httpapi-ratelimit-headers-10).
func announce(h http.Header, name string, a ingress.Ask, v ingress.Verdict) {
	policy := make([]byte, 0, 64)
	policy = append(append(append(policy, '"'), name...), `";q=`...)
	policy = append(strconv.AppendInt(policy, int64(a.N), 10), ";w="...)
	policy = strconv.AppendInt(policy, int64(max(a.Per, time.Second)/time.Second), 10)
	left := make([]byte, 0, 64)
	left = append(append(append(left, '"'), name...), `";r=`...)
	left = append(strconv.AppendInt(left, int64(max(v.Left, 0)), 10), ";t="...)
	left = strconv.AppendInt(left, int64((max(v.Reset, v.Wait)+time.Second-1)/time.Second), 10)
	h["Ratelimit-Policy"], h["Ratelimit"] = []string{string(policy)}, []string{string(left)}
}
