package api

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"time"

	"parley/control"
)

// requestTime is the longest that a request without a stream may take.
const requestTime = 15 * time.Second

type requestKey struct{}

// requestID returns the id under which the request is logged and answered.
func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// outer is what every answer goes through, also those without a route.
func (s *Server) outer(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var raw [8]byte
		_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
		id := hex.EncodeToString(raw[:])
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, id))
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
			w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
			newProblem(429, "too_many", "too many requests; wait a while").write(w)
			return
		}
		if p.Kind != "" {
			r = r.WithContext(control.WithPrincipal(r.Context(), p))
		}
		h.ServeHTTP(w, r)
	})
}

// admit finds out who asks, and whether they may come to the route.
func (s *Server) admit(route Route, r *http.Request) (control.Principal, error) {
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
	// Guesses of credentials are limited by address before they are checked.
	if ok, _ := s.o.Limits.Allow(r.Context(), "address:"+address(r), 600, time.Minute); !ok {
		return control.Principal{}, newProblem(429, "too_many", "too many requests; wait a while")
	}
	p, err := s.Authenticate(r)
	if route.Class == Session {
		if err != nil {
			return control.Principal{}, nil
		}
		return p, nil
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

func (s *Server) allow(r *http.Request, route Route, p control.Principal) (bool, time.Duration) {
	who := "address:" + address(r)
	if p.Kind != "" {
		who = p.Kind + ":" + p.ID.String()
	}
	return s.o.Limits.Allow(r.Context(), route.key()+" "+who, route.Limit.N, route.Limit.Per)
}

// address is the client's, without the port.
func address(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
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
