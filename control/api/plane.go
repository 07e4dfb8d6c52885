package api

import (
	"net/http"
	"slices"
	"strings"
)

// A Plane is a part of all routes that can have a listener of its own. A route
// is reached by its plane's listener and is 404 at every other.
type Plane string

// The planes.
const (
	PublicPlane   Plane = "public"   // carriers, browsers' calls, chats, pages
	ControlPlane  Plane = "control"  // /v1, its documentation, the console
	MediaPlane    Plane = "media"    // websockets of calls' audio
	InternalPlane Plane = "internal" // metrics, profiles: always apart
)

// everywhere are the paths that every listener answers: load balancers ask the
// port that they send to.
var everywhere = []string{"/livez", "/readyz"}

// controlPaths begin the addresses of the control plane.
var controlPaths = []string{"/v1/", "/auth/", "/console", "/docs", "/openapi.json"}

// plane is where the route belongs.
func (r Route) plane() Plane {
	switch {
	case r.Class == Internal:
		return InternalPlane
	case r.Plane != "":
		return r.Plane
	case slices.ContainsFunc(controlPaths, func(p string) bool { return strings.HasPrefix(r.Pattern, p) }):
		return ControlPlane
	}
	return PublicPlane
}

// muxes has one for each listener.
type muxes map[Plane]*http.ServeMux

func newMuxes(apart []Plane) muxes {
	m := muxes{PublicPlane: http.NewServeMux(), InternalPlane: http.NewServeMux()}
	for _, p := range apart {
		if m[p] == nil {
			m[p] = http.NewServeMux()
		}
	}
	return m
}

// at is the one that serves a plane.
func (m muxes) at(p Plane) *http.ServeMux {
	if mux := m[p]; mux != nil {
		return mux
	}
	return m[PublicPlane]
}

// handle makes a route reachable.
func (m muxes) handle(r Route, h http.Handler) {
	if !slices.Contains(everywhere, r.Pattern) {
		m.at(r.plane()).Handle(r.key(), h)
		return
	}
	for _, mux := range m {
		mux.Handle(r.key(), h)
	}
}

// HandlerOf answers the listener of a plane: that of the public one too for a
// plane that is not apart.
func (s *Server) HandlerOf(p Plane) http.Handler { return s.outer(p) }

// Handler answers the public listener.
func (s *Server) Handler() http.Handler { return s.HandlerOf(PublicPlane) }

// InternalHandler answers the admin listener: routes of class internal.
func (s *Server) InternalHandler() http.Handler { return s.HandlerOf(InternalPlane) }
