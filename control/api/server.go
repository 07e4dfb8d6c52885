// Package api is the control plane's REST interface, and the one registry of
// everything reachable by HTTP: no route stands without its class, permission,
// rate limit and body limit.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"parley/control"
	"parley/control/identity"
	"parley/control/ingress"
	"parley/control/outbound"
)

// Options is what a Server works with. All are needed but for those that say
// so.
type Options struct {
	Users    *identity.Users
	Tenants  *identity.Tenants
	Members  *identity.Members
	Keys     *identity.Keys
	Factors  *identity.Factors
	OIDC     *identity.OIDC
	Issuers  *identity.TrustedIssuers
	Agents   *control.Agents
	Flows    *control.Flows
	Numbers  *control.Numbers
	Carriers *control.CarrierAccounts
	// CarrierCheck asks a carrier whether it takes an account's credentials: ""
	// for yes, else what is wrong and what to do.
	CarrierCheck func(ctx context.Context, a control.CarrierAccount) (wrong string, err error)
	Calls        *control.Calls
	Chats        *control.Chats

	// Orders takes orders to call, which Dials keeps; Policies bound them, Stops
	// keep them from being begun.
	Orders   *outbound.Orders
	Dials    outbound.Store
	Policies outbound.Policies
	Stops    outbound.Stops

	// TestCalls have scripted callers talk to agents. Nil: there are none.
	TestCalls control.TestCaller

	// Contents and Experiments are what flows say and how it fares.
	Contents    *control.Contents
	Experiments *control.Experiments

	Events     *control.Events
	Webhooks   *control.Webhooks
	Deliveries *control.Deliveries
	Figures    control.FigureStore
	Audit      control.Audit
	Seals      control.AuditSeals
	Egress     control.EgressPolicies
	// Keeper deletes, and says what was deleted. Nil: nothing can be deleted by hand.
	Keeper *control.Keeper
	// Ledger is what calls used, said and cost.
	Ledger Ledger
	// Secrets of tenants. Nil: there are no routes for them.
	Secrets *control.SecretService

	// Bearers understands all that may come as one, Keys and Tokens among them.
	Bearers *identity.Bearers
	// SecondFactor says of whom a second factor is asked. Empty: of everybody.
	SecondFactor control.SecondFactor

	Tokens *identity.CallTokens
	Blobs  control.Blobs
	Limits ingress.Limiter
	// Origins are pages that may call from a browser. Nil: none.
	Origins *control.Origins
	// Gate is what requests meet before their route.
	Gate Gate
	// Idempotency keeps the answers of requests that name themselves. Nil: they
	// are served each time.
	Idempotency *control.Idempotency
	Log         *slog.Logger
	// Ready reports whether what the server depends on answers; it gets 1 s.
	Ready func(context.Context) error
	// Busy says in a word why no new calls are taken, or "". Nil: they are.
	Busy func() string
	// Degraded says in a word what is away that calls go on without for a while,
	// or "". Nil: nothing.
	Degraded func() string
	// StayCheck is how often it is asked whether who follows a stream still may.
	// Default 15 s.
	StayCheck time.Duration

	// PublicURL of the server, "https://…"; cookies are Secure if it is https.
	PublicURL string
	// SecurityContact is where holes are reported, a mailto: or https: address.
	// Default: security@ the host of PublicURL.
	SecurityContact string
	Version         string // of the program, for the documentation; may be empty
}

// A Server answers the control plane's requests.
type Server struct {
	o        Options
	muxes    muxes // by listener
	metrics  *ingress.Metrics
	routes   map[string]Route
	api      huma.API
	csrf     *http.CrossOriginProtection
	secure   bool
	draining atomic.Bool
	streams  streams
	now      figuresNow
}

// New returns a Server with the control plane's own routes. Others join by
// [Server.Handle] before the first request.
func New(o Options) (*Server, error) {
	s := &Server{
		o: o, muxes: newMuxes(o.Gate.Apart), metrics: o.Gate.Metrics, routes: map[string]Route{},
		csrf: http.NewCrossOriginProtection(), secure: len(o.PublicURL) > 8 && o.PublicURL[:8] == "https://",
	}
	if s.metrics == nil {
		s.metrics = ingress.NewMetrics(prometheus.NewRegistry())
	}
	cfg := huma.DefaultConfig("Parley", o.Version)
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath, cfg.CreateHooks = "", "", "", nil
	cfg.Components.SecuritySchemes = schemes()
	cfg.Transformers = []huma.Transformer{s.quiet}
	s.api = huma.NewAPI(cfg, humago.NewAdapter(pending{s}, ""))
	err := errors.Join(s.health(), s.auth(), s.people(), s.tenants(), s.agents(), s.flows(), s.numbers(), s.carrierAccounts(), s.calls(), s.usage(), s.live(), s.dials(), s.chats(), s.sessions(), s.events(), s.webhooks(),
		s.keys(), s.tokens(), s.temporaryTokens(), s.introspection(), s.secrets(), s.audit(), s.contents(),
		s.origins(), s.blocks(), s.keeping(), s.recordings(), s.analytics(), s.crossings(), s.contact(), s.docs())
	s.nulls()
	return s, err
}

// Drain makes /readyz say 503, so that load balancers send nothing new.
func (s *Server) Drain() { s.draining.Store(true) }

// pending takes the routes that huma makes: they are guarded already when
// they reach the mux, by the Route that was registered just before.
type pending struct{ s *Server }

func (p pending) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	r, ok := p.s.routes[pattern]
	if !ok {
		panic("api: " + pattern + " has no Route") // at start-up: operation registers it first
	}
	r.Body++ // huma counts to the limit by itself, and answers 413 at it
	p.s.muxes.handle(r, p.s.guard(r, http.HandlerFunc(h)))
}

func (p pending) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.s.muxes.at(ControlPlane).ServeHTTP(w, r)
}

// operation registers a typed handler that shows in the OpenAPI document. Its
// errors are the domain's.
func operation[I, O any](s *Server, r Route, id, summary string, status int, h func(context.Context, *I) (*O, error)) error {
	if err := r.validate(); err != nil {
		return errors.New("route " + r.key() + ": " + err.Error())
	}
	if _, ok := s.routes[r.key()]; ok {
		return errors.New("route " + r.key() + ": registered twice")
	}
	s.routes[r.key()] = r
	op := huma.Operation{
		Method: r.Method, Path: r.Pattern, OperationID: id, Summary: summary, DefaultStatus: status,
		MaxBodyBytes: max(r.Body, 0) + 1, Tags: []string{tag(r.Pattern)}, Responses: s.problems(),
	}
	if len(r.Types) == 0 { // read already: a deadline for it would hit the handler, and cancel the connection's context
		op.BodyReadTimeout = -1
	}
	s.describe(&op, r)
	huma.Register(s.api, op, func(ctx context.Context, in *I) (*O, error) {
		out, err := h(ctx, in)
		if err != nil {
			return nil, s.problem(ctx, err)
		}
		return out, nil
	})
	return nil
}
