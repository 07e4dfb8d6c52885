package api

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"time"

	"parley/control"
)

// requestTime is the longest that a request without a stream may take.
const requestTime = 15 * time.Second

// outer is what every answer goes through, also those without a route.
func (s *Server) outer(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var raw [8]byte
		_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
		id := hex.EncodeToString(raw[:])
		r = r.WithContext(control.WithRequest(r.Context(), id))
		s.headers(w.Header(), id)
		out := &recorder{ResponseWriter: w, began: time.Now()}
		defer s.finish(out, r, id)
		if _, pattern := mux.Handler(r); pattern == "" {
			notThere(mux, r).write(out)
			return
		}
		mux.ServeHTTP(out, r)
	})
}

// notThere tells a wrong method from a wrong path.
func notThere(mux *http.ServeMux, r *http.Request) *Problem {
	for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := mux.Handler(other); pattern != "" {
			return newProblem(405, "wrong_method", "this address takes other methods")
		}
	}
	return newProblem(404, "not_found", "there is no such address")
}

// headers are on every answer; a handler of pages sets its own policy over them.
func (s *Server) headers(h http.Header, id string) {
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-store")
	if s.secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
}

// finish recovers from a handler's panic and logs the request by its route:
// paths hold tokens.
func (s *Server) finish(w *recorder, r *http.Request, id string) {
	if v := recover(); v != nil {
		if v == http.ErrAbortHandler {
			panic(v)
		}
		s.o.Log.Error("panic in a handler", "request", id, "route", r.Pattern, "panic", v, "stack", string(debug.Stack()))
		if w.status == 0 {
			newProblem(500, "internal", "internal error").write(w)
		}
	}
	s.o.Log.Info("request", "request", id, "route", r.Pattern, "method", method(r.Method), "status", w.status,
		"bytes", w.bytes, "ms", time.Since(w.began).Milliseconds())
}

// method keeps a client's invented words out of logs.
func method(m string) string {
	switch m {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return m
	}
	return "other"
}

// guard holds a route to what it says of itself.
func (s *Server) guard(route Route, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !route.Long {
			ctx, cancel := context.WithTimeout(r.Context(), requestTime)
			defer cancel()
			r = r.WithContext(ctx)
		}
		r.Body = http.MaxBytesReader(w, r.Body, max(route.Body, 0))
		p, err := s.admit(route, r)
		if err != nil {
			s.problem(r.Context(), err).write(w)
			return
		}
		if ok, wait := s.allow(r, route, p); !ok {
			tooMany(wait).write(w)
			return
		}
		if p.Kind != "" {
			r = r.WithContext(control.WithPrincipal(r.Context(), p))
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
	case Public, Webhook, Internal:
		return control.Principal{}, nil
	}
	if !offersCredentials(r) {
		if route.Class == Session { // the handler has tokens of its own
			return control.Principal{}, nil
		}
		return control.Principal{}, control.ErrCredentials
	}
	// Checking them costs a look into storage.
	if ok, wait := s.o.Limits.Allow(r.Context(), "checks address:"+address(r), checks.N, checks.Per); !ok {
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
		if ok, wait := s.o.Limits.Allow(r.Context(), "guesses address:"+address(r), guesses.N, guesses.Per); !ok {
			return p, tooMany(wait)
		}
	}
	if err != nil {
		return p, err
	}
	if p.Kind == control.PrincipalCallToken {
		return p, control.ErrForbidden // opens a call, by its own route
	}
	if route.Class == Admin && p.Kind == control.PrincipalUser && p.Role != control.RoleOwner && p.Role != control.RoleAdmin {
		return p, control.ErrForbidden
	}
	return p, control.Allow(p, route.Permission, control.Object{})
}

// Credentials of one address that are checked, and that may be wrong: a server
// with many users and good keys is not held to the second.
var (
	checks  = Limit{6000, time.Minute}
	guesses = Limit{60, time.Minute}
)

// allow counts a request against its principal, or where there is none, its
// address. Where anybody may come, those with a key are counted by their address
// too: who holds many keys gains nothing.
func (s *Server) allow(r *http.Request, route Route, p control.Principal) (bool, time.Duration) {
	count := func(who string, l Limit) (bool, time.Duration) {
		return s.o.Limits.Allow(r.Context(), route.key()+" "+who, l.N, l.Per)
	}
	if p.Kind == "" {
		return count("address:"+address(r), route.Limit)
	}
	limit := route.Limit
	if p.Kind == control.PrincipalKey && route.Keyed.N > 0 {
		limit = route.Keyed
	}
	ok, wait := count(p.Kind+":"+p.ID.String(), limit)
	if ok && route.Class == Session {
		ok, wait = count(p.Kind+" address:"+address(r), limit)
	}
	return ok, wait
}

// address is the client's, without the port; of IPv6 the network, of which one
// client has all addresses.
func address(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	a := at.Addr().Unmap()
	if a.Is6() {
		if network, err := a.WithZone("").Prefix(64); err == nil {
			return network.String()
		}
	}
	return a.String()
}

// A recorder remembers what was answered. Sockets can be taken out of it.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	began  time.Time
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush is for streams.
func (w *recorder) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }

// Hijack is for websockets.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	w.status = http.StatusSwitchingProtocols
	return http.NewResponseController(w.ResponseWriter).Hijack()
}
