package api

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/ingress"
)

// A Gate is what requests meet before their route is looked up. The zero value
// trusts no proxy, blocks nobody and watches nothing.
type Gate struct {
	Proxies ingress.Proxies
	Blocks  *ingress.Blocks  // nil: nobody is kept out
	Watch   *ingress.Watch   // nil: no signals
	Metrics *ingress.Metrics // nil: not counted
	Key     []byte           // makes pseudonyms of clients for the log
	// Internal checks who asks on the admin listener. Nil: it is open.
	Internal func(*http.Request) bool
	// Apart are the planes with a listener of their own; the others' routes are
	// reached by the public one.
	Apart []Plane
}

// outer is what every answer goes through, also those without a route.
func (s *Server) outer(plane Plane) http.Handler {
	mux := s.muxes.at(plane)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var raw [8]byte
		_, _ = rand.Read(raw[:]) // never fails (crypto/rand)
		id := hex.EncodeToString(raw[:])
		client, unproxied := s.o.Gate.Proxies.Client(r)
		if plane == InternalPlane {
			unproxied = nil // nobody comes there by the public's proxies
		}
		r = r.WithContext(control.WithClient(control.WithRequest(r.Context(), id), client.Addr))
		if client.Proxied { // from here on, the peer is who the proxy speaks for
			r.RemoteAddr = netip.AddrPortFrom(client.Addr, 0).String()
		}
		w.Header()["X-Request-Id"] = []string{id}
		ingress.Harden(w.Header(), s.secure || client.Secure)
		if ingress.Unframed(r) {
			w.Header().Set("Connection", "close")
		}
		out := &recorder{ResponseWriter: w, began: time.Now()}
		defer s.finish(out, r, id)
		if no := s.refuse(r, client, unproxied); no != nil {
			s.blocked(r, out, no).write(out)
			return
		}
		if _, pattern := mux.Handler(r); pattern == "" {
			notThere(mux, out, r).write(out)
			return
		}
		mux.ServeHTTP(out, r)
	})
}

// refuse holds a request to what is true of all. Probes of the machine's own
// health come past the proxies.
func (s *Server) refuse(r *http.Request, c ingress.Client, unproxied error) *ingress.Refusal {
	if unproxied != nil && !slices.Contains(everywhere, r.URL.Path) {
		return &ingress.Refusal{Rule: "unproxied", Status: http.StatusForbidden, Code: "unproxied",
			Detail: "requests are taken through the proxy alone; use the public address"}
	}
	if s.o.Gate.Blocks != nil {
		if _, out := s.o.Gate.Blocks.Blocked(c.Addr); out {
			return &ingress.Refusal{Rule: "denied", Status: http.StatusForbidden, Code: "blocked",
				Detail: "requests from your network are not taken for now; ask the operator if that is a mistake"}
		}
	}
	return ingress.Check(r)
}

// blocked counts and logs a refusal, and makes its answer.
func (s *Server) blocked(r *http.Request, out *recorder, no *ingress.Refusal) *Problem {
	s.metrics.Blocked(no.Rule)
	s.o.Log.Warn("request blocked", "rule", no.Rule, "request", control.RequestOf(r.Context()), "route", r.Pattern,
		"tenant", out.of(), "client", ingress.Pseudonym(s.o.Gate.Key, address(r)))
	p := newProblem(no.Status, no.Code, no.Detail)
	if no.Status == http.StatusMethodNotAllowed {
		out.Header().Set("Allow", strings.Join(ingress.Methods(), ", "))
	}
	return p
}

// notThere tells a wrong method from a wrong path.
func notThere(mux *http.ServeMux, w http.ResponseWriter, r *http.Request) *Problem {
	var allow []string
	for _, m := range ingress.Methods() {
		other := r.Clone(r.Context())
		other.Method = m
		if _, pattern := mux.Handler(other); pattern != "" && !strings.HasSuffix(pattern, anyOf) {
			allow = append(allow, m)
		}
	}
	if len(allow) > 0 {
		w.Header().Set("Allow", strings.Join(allow, ", "))
		return newProblem(405, "wrong_method", "this address takes other methods")
	}
	return newProblem(404, "not_found", "there is no such address")
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
	took, class := time.Since(w.began), string(w.route.Class)
	if class == "" {
		class = "none"
	}
	s.metrics.Answered(class, w.status, took, w.route.Long)
	s.o.Log.Info("request", "request", id, "route", r.Pattern, "class", class, "method", method(r.Method), "status", w.status,
		"tenant", w.of(), "bytes", w.bytes, "ms", took.Milliseconds())
	if w.status == http.StatusNotFound && strings.Contains(w.route.Pattern, "{") && s.o.Gate.Watch != nil {
		s.missed(w, r)
	}
}

// missed tells of an id that is not there, by whoever asked.
func (s *Server) missed(w *recorder, r *http.Request) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), time.Second)
	defer cancel()
	who := "address:" + address(r)
	if w.who.Kind != "" {
		who = w.who.Kind + ":" + w.who.ID.String()
	}
	s.o.Gate.Watch.Missed(ctx, w.of(), who, r.URL.Path, control.ClientOf(r.Context()))
}

// method keeps a client's invented words out of logs.
func method(m string) string {
	if slices.Contains(ingress.Methods(), m) {
		return m
	}
	return "other"
}

// address is the client's as limits have it: of IPv6 the network, of which one
// client has all addresses.
func address(r *http.Request) string {
	at, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return ingress.Name(ingress.Network(at.Addr()))
}

// A recorder remembers what was answered, on which route and to whom. Sockets
// can be taken out of it.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
	began  time.Time
	route  Route             // zero before one was found
	who    control.Principal // zero before one was found
}

// of is the tenant for whom a request was, for the log.
func (w *recorder) of() string {
	if w.who.Tenant == uuid.Nil {
		return ""
	}
	return w.who.Tenant.String()
}

// recorded returns what remembers the answer; one of its own where a handler is
// called by itself.
func recorded(w http.ResponseWriter) *recorder {
	if out, ok := w.(*recorder); ok {
		return out
	}
	return &recorder{ResponseWriter: w, began: time.Now()}
}

// WriteHeader implements [http.ResponseWriter].
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
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
