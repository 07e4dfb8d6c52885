package api

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// Pages of other origins chat by Bearer, from origins that the flow lists: no
// answer allows a cookie, any origin, or one that is not listed.

const (
	corsMethods = "GET, POST, PATCH"
	corsHeaders = "Authorization, Content-Type"
	corsExposed = "Retry-After, X-Request-Id"
)

// crossing is a request from a page of another origin, and its answer's headers.
type crossing struct {
	origin string
	header http.Header
}

type crossingKey struct{}

// cross notes the origin of a request for a chat.
func cross(w http.ResponseWriter, r *http.Request) *http.Request {
	w.Header().Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		return r
	}
	return r.WithContext(context.WithValue(r.Context(), crossingKey{}, crossing{origin, w.Header()}))
}

// admitOrigin lets the page read the answer, if the flow lists its origin.
func (s *Server) admitOrigin(ctx context.Context, flow uuid.UUID) {
	c, ok := ctx.Value(crossingKey{}).(crossing)
	if !ok {
		return
	}
	f, err := s.o.Flows.Store.Flow(ctx, flow)
	if err == nil && slices.Contains(f.Origins, c.origin) {
		c.header.Set("Access-Control-Allow-Origin", c.origin)
		c.header.Set("Access-Control-Expose-Headers", corsExposed)
	}
}

// admitStart is admitOrigin for a chat that has just begun.
func (s *Server) admitStart(ctx context.Context, token string) {
	if _, ok := ctx.Value(crossingKey{}).(crossing); !ok {
		return
	}
	if ctx, c, err := s.o.Chats.Open(ctx, token); err == nil {
		s.admitOrigin(ctx, c.Flow)
	}
}

// Pages of other origins call the control plane and open calls by Bearer, from
// origins that the tenant lists ([control.Origins]).

const (
	tenantMethods = "GET, POST, PUT, PATCH, DELETE"
	tenantHeaders = "Authorization, Content-Type, If-Match, Idempotency-Key, X-API-Key, Parley-Resume"
	tenantExposed = "Location, ETag, Link, Retry-After, RateLimit, X-Request-Id, Idempotency-Replayed"
)

// anyOf ends the patterns of preflights alone.
const anyOf = "{path...}"

// crosses reports whether pages of listed origins may call the route.
func (r Route) crosses() bool {
	return strings.HasPrefix(r.Pattern, "/v1/") || strings.HasPrefix(r.Pattern, "/webrtc/")
}

// shareWithOrigin lets the page that asks read the answer, if the tenant of the
// request lists its origin; before a tenant is known, if any does.
func (s *Server) shareWithOrigin(w http.ResponseWriter, r *http.Request, route Route) {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || s.o.Origins == nil {
		return
	}
	if ok, err := s.o.Origins.Listed(r.Context(), origin); err != nil || !ok {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", tenantExposed)
	if route.Method == http.MethodOptions {
		h.Set("Access-Control-Allow-Methods", tenantMethods)
		h.Set("Access-Control-Allow-Headers", tenantHeaders)
		h.Set("Access-Control-Max-Age", "600")
	}
}

// crossings answers preflights of the control plane; those of calls are the
// call's own route's.
func (s *Server) crossings() error {
	return s.Handle(Route{Method: http.MethodOptions, Pattern: "/v1/" + anyOf, Class: Public, Permission: control.Anyone,
		Limit: Limit{600, time.Minute}, Body: NoBody},
		http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
}

// preflight answers what a browser asks before it lets a page of another origin
// send. Which flow it is about is not told: it may go on if any lists it.
func (s *Server) preflight(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Origin")
	if origin := r.Header.Get("Origin"); origin != "" && len(origin) <= 255 {
		ok, err := s.o.Flows.Store.OriginListed(r.Context(), origin)
		if err != nil {
			s.problem(r.Context(), err).write(w)
			return
		}
		if ok {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Allow-Methods", corsMethods)
			w.Header().Set("Access-Control-Allow-Headers", corsHeaders)
			w.Header().Set("Access-Control-Max-Age", "600")
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

// preflightRoute is that of a chat's pattern.
func (s *Server) preflightRoute(pattern string) error {
	return s.Handle(Route{Method: http.MethodOptions, Pattern: pattern, Class: Public, Permission: control.Anyone,
		Limit: Limit{600, time.Minute}, Body: NoBody}, http.HandlerFunc(s.preflight))
}
