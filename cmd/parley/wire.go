package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"parley/agent"
	"parley/agent/effect"
	"parley/control"
	"parley/control/api"
	"parley/control/console"
	"parley/control/egress"
	"parley/control/identity"
	"parley/control/ingress"
	"parley/control/outbound"
	"parley/signaling"
	"parley/store/blob"
	"parley/store/postgres"
	"parley/store/redis"
)

// A gateway is everything that serves, built top to bottom by newGateway: the
// only place that knows all parts. run starts it, and stops it in order.
type gateway struct {
	settings Settings
	dev      bool
	log      *slog.Logger

	db      *postgres.Store
	redis   *redis.Client
	blobs   *blob.Folder
	keyring *control.DataKeys // seals what callers say
	people  people
	signIn  signIn
	keys    *identity.Keys
	agents  *control.Agents
	flows   *control.Flows
	content *control.Contents
	trials  *control.Experiments
	calls   *control.Calls
	chats   *control.Chats

	events     *control.Events
	webhooks   *control.Webhooks
	deliveries *control.Deliveries
	post       *egress.Client // of webhooks
	recordings *control.SealedBlobs

	once     *control.Idempotency
	safe     safe
	tokens   *identity.CallTokens
	bearers  *identity.Bearers
	desk     *desk
	tests    *testCalls
	carriers *carriers // whose lines calls are on
	queue    *postgres.Queue
	slots    *control.Admission
	load     *loadWatch
	dialler  *outbound.Dialler // nil: no carrier places calls
	orders   *outbound.Orders
	twilio   *signaling.Twilio
	webrtc   *signaling.WebRTC
	api      *api.Server
	metrics  *prometheus.Registry
	noted    *signalMetrics
	sealer   *control.AuditSealer
	keeper   *control.Keeper
	closers  []func() // of ways out, at the end

	blocks     *ingress.Blocks
	pseudonyms []byte  // key of the names by which clients are remembered
	doors      []*door // the public one first
}

// newGateway builds a gateway that listens already but answers nothing yet.
// The caller calls run, or close.
func newGateway(ctx context.Context, s Settings, ring *control.Keyring, dev bool, unsigned bool, log *slog.Logger) (_ *gateway, err error) {
	g := &gateway{settings: s, dev: dev, log: log, metrics: prometheus.NewRegistry(), load: newLoadWatch()}
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if err := g.listen(ctx); err != nil {
		return nil, err
	}
	weights, err := readVADWeights(s.VADWeights)
	if err != nil {
		return nil, err
	}
	if err := g.openStores(ctx); err != nil {
		return nil, err
	}
	if err := g.openSafe(ctx, ring); err != nil {
		return nil, err
	}
	if err := g.buildKeys(ring); err != nil {
		return nil, err
	}
	if err := g.openPeople(ring); err != nil {
		return nil, err
	}
	g.buildControl(ring)
	g.desk.weights = weights
	if err := g.buildOutside(ring); err != nil {
		return nil, err
	}
	if err := g.buildSignIn(ring); err != nil {
		return nil, err
	}
	if err := g.buildEvents(ring); err != nil {
		return nil, err
	}
	if err := g.buildAudit(ring); err != nil {
		return nil, err
	}
	if err := g.openQueue(ctx); err != nil {
		return nil, err
	}
	g.buildKeeper(ring)
	g.noted = newSignalMetrics(g.metrics)
	if err := g.buildCarriers(); err != nil {
		return nil, err
	}
	if err := g.buildSignaling(ring, unsigned); err != nil {
		return nil, err
	}
	if err := g.buildOutbound(ring); err != nil {
		return nil, err
	}
	return g, g.buildHTTP(ring)
}

func (g *gateway) openStores(ctx context.Context) (err error) {
	if g.db, err = postgres.Open(ctx, g.settings.DatabaseURL, postgres.Options{Listen: g.settings.DatabaseListenURL}); err != nil {
		return err
	}
	if err := g.db.Verify(ctx); err != nil {
		return err
	}
	if g.redis, err = redis.Open(g.settings.RedisURL); err != nil {
		return err
	}
	g.blobs, err = blob.Open(filepath.Join(g.settings.Data, "recordings"))
	return err
}

func (g *gateway) buildControl(ring *control.Keyring) {
	v := newVendors(g.settings, g.safe.service, g.log)
	g.keys = &identity.Keys{Store: g.db, Ring: ring}
	g.content = &control.Contents{Store: g.db, Changes: g.db, Shelf: &control.Shelf{Store: g.db}}
	g.flows = &control.Flows{Store: g.db, Changes: g.db, Contents: g.content.Shelf}
	g.agents = &control.Agents{Store: g.db, Flows: g.db, Secrets: g.db, Vendors: vendorTables()}
	g.once = &control.Idempotency{Store: g.db, Ring: ring, Log: g.log}
	g.tokens = &identity.CallTokens{Ring: ring, Used: g.redis}
	g.bearers = identity.NewBearers(g.db, g.people.users, g.keys, g.tokens, g.settings.PublicURL, g.log)
	g.db.KeysChanged(g.bearers.Services.Signer.Changed)
	graphs := &control.Graphs{Store: g.db}
	g.trials = &control.Experiments{Store: g.db, Contents: g.db, Flows: g.db, Graphs: graphs}
	g.calls = &control.Calls{Store: g.db, Changes: g.db, Records: g.db, Agents: g.agents, Graphs: graphs, Numbers: g.db, Accounts: g.db,
		Live: g.redis, Inbox: g.db, Spool: filepath.Join(g.settings.Data, "unwritten.jsonl"), Standing: g.people.tenants.Standing, Ring: ring, Log: g.log, Node: uuid.New()}
	g.buildOperators(ring)
	g.chats = &control.Chats{Store: g.db, Turns: g.db, Flows: g.flows, Graphs: graphs, Ring: ring, Log: g.log}
	g.slots = &control.Admission{Rated: cmp.Or(g.settings.MaxCalls, rated()), Late: g.settings.MaxLate, Hold: signaling.TokenLife, Load: g.load.load}
	g.desk = &desk{calls: g.calls, agents: g.agents, blobs: g.recordings, vendors: v, cache: &agent.SpeechCache{Store: speechStore{g.blobs}},
		log: g.log, slots: g.slots, noted: newDeskMetrics(g.metrics), live: map[string]chan agent.Command{}}
	g.tests = newTestCalls(g.desk, g.log)
	g.desk.beforehand = newPrerenderer(g.agents, graphs, v, g.desk.cache, g.log)
	g.flows.Published = g.desk.beforehand.published
}

// buildOutside lets flows reach the world.
func (g *gateway) buildOutside(ring *control.Keyring) error {
	within := reach{allow: g.settings.EgressAllow, internal: g.settings.InternalURL, proxy: g.settings.EgressProxy}
	var err error
	if within.internal != "" {
		if within.key, err = readInternalKey(g.settings.InternalKeyFile); err != nil {
			return err
		}
	}
	if g.desk.outside, err = newOutside(within, g.safe.service, g.db, g.log); err != nil {
		return err
	}
	g.desk.outside.vendors = g.desk.vendors
	g.desk.outside.rules = &control.EgressRules{Store: g.db}
	g.desk.outside.contents = g.content.Shelf
	g.desk.outside.memory = &effect.Shared{Cells: g.redis}
	if g.desk.outside.bounds, err = readBounds(g.settings, g.redis); err != nil {
		return err
	}
	g.chats.Perform = g.desk.outside.performerOf
	return nil
}

func (g *gateway) buildSignaling(ring *control.Keyring, unsigned bool) (err error) {
	s := g.settings
	g.calls.Carrier, g.calls.Colleagues = g.carriers, g.carriers
	g.twilio = &signaling.Twilio{
		Desk: g.desk, Colleagues: colleagues{g.calls},
		Tokens:    &signaling.MediaTokens{Key: ring.Key("media-token"), Shared: sharedUse{g.redis, "media-token:"}},
		PublicURL: s.PublicURL, MediaURL: s.MediaURL, AccountSID: s.TwilioAccountSID,
		AuthTokens: g.twilioTokens, Signers: g.carriers,
		AllowUnsigned: g.dev, TunnelWithoutSignature: unsigned,
		Logger: g.log, Metrics: g.noted.twilio(),
	}
	g.webrtc, err = signaling.ListenWebRTC(signaling.WebRTCOptions{
		Desk: g.desk, Authorize: g.authorizeBrowser, Flooded: g.flooded,
		Resume: &signaling.MediaTokens{Key: ring.Key("resume-token"), Life: signaling.ResumeLife, Shared: sharedUse{g.redis, "resume-token:"}},
		Port:   s.RTCPort, TCPPort: s.RTCTCP, Bind: net.ParseIP(s.RTCBind), PublicAddr: s.RTCAddr, Loopback: g.dev,
		ICEURLs: s.ICEURLs, TURNSecret: g.safe.setting(s.TURNSecret), MaxSessions: g.slots.Rated,
		Logger: g.log, Metrics: g.noted.webrtc(),
	})
	return err
}

// sharedUse lets signaling's single-use tokens be remembered by all nodes.
type sharedUse struct {
	used control.Single
	kind string
}

func (s sharedUse) Use(ctx context.Context, id string, ttl time.Duration) (bool, error) {
	return s.used.Use(ctx, s.kind+id, ttl), nil
}

// buildHTTP mounts everything behind the one registry.
func (g *gateway) buildHTTP(ring *control.Keyring) error {
	gate, err := g.gate(ring.Key("clients in logs"))
	if err != nil {
		return err
	}
	g.api, err = api.New(api.Options{
		Gate: gate, Origins: &control.Origins{Store: g.db}, SecurityContact: g.settings.SecurityContact,
		Contents: g.content, Experiments: g.trials, Idempotency: g.once,
		Users: g.people.users, Tenants: g.people.tenants, Members: g.people.members,
		Keys: g.keys, Bearers: g.bearers, Agents: g.agents, Flows: g.flows, Numbers: &control.Numbers{Store: g.db, Agents: g.db, Accounts: g.db}, Carriers: g.carriers.accounts, CarrierCheck: g.carriers.check,
		Factors: g.signIn.factors, OIDC: g.signIn.oidc, Issuers: g.signIn.issuers, SecondFactor: g.secondFactor(),
		Calls: g.calls, Chats: g.chats, Events: g.events, Figures: g.db, Webhooks: g.webhooks, Deliveries: g.deliveries, Audit: g.db, Seals: g.db, Secrets: g.safe.service, Tokens: g.tokens, Blobs: g.recordings, Limits: g.redis, Log: g.log, Ready: g.db.Ping, Busy: g.slots.Refusing, Degraded: g.safe.degraded,
		Egress: g.db, Ledger: g.db, Orders: g.orders, Dials: g.db, Policies: g.db, Stops: g.db, Keeper: g.keeper, TestCalls: g.tests,
		PublicURL: g.settings.PublicURL, Version: version,
	})
	if err != nil {
		return err
	}
	if err := errors.Join(g.mountTwilio(), g.mountWebRTC(), g.mountPages(), g.mountJoin(), g.mountInternal()); err != nil {
		return err
	}
	for _, d := range g.doors {
		d.server = ingress.NewServer(g.api.HandlerOf(d.plane), gate.Proxies.Trusts, g.log)
	}
	return nil
}

const kib = 1 << 10

func (g *gateway) mountTwilio() error {
	for _, r := range g.twilio.Routes() {
		method, pattern, _ := strings.Cut(r.Pattern, " ")
		route := api.Route{Method: method, Pattern: pattern, Class: api.Webhook, Permission: control.Anyone,
			Limit: api.Limit{N: 6000, Per: time.Minute}, Body: 64 * kib, Verifier: "twilio-signature",
			Types: []string{"application/x-www-form-urlencoded", "application/json"}}
		if method == http.MethodGet { // the media socket
			route.Class, route.Verifier, route.Body, route.Long, route.Types = api.Session, "", api.NoBody, true, nil
			route.Plane = api.MediaPlane
		}
		if err := g.api.Handle(route, r.Handler); err != nil {
			return err
		}
	}
	return nil
}

func (g *gateway) mountWebRTC() error {
	for _, r := range g.webrtc.Routes() {
		methods := []string{http.MethodPost, http.MethodOptions}
		if strings.Contains(r.Pattern, "/session/") {
			methods = []string{http.MethodPatch, http.MethodDelete, http.MethodOptions}
		}
		for _, m := range methods {
			route := api.Route{Method: m, Pattern: r.Pattern, Class: api.Session, Permission: control.Anyone,
				Limit: api.Limit{N: 600, Per: time.Minute}, Body: 64 * kib, Types: []string{signaling.TypeFragment}}
			if m == http.MethodPost {
				route.Limit.N, route.Cost, route.Types = 60, 10, []string{signaling.TypeOffer}
			}
			if err := g.api.Handle(route, r.Handler); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *gateway) mountPages() error {
	page, err := console.CallPage{Lookup: g.lookupPage, MintToken: g.mintToken, Log: g.log}.Handler()
	if err != nil {
		return err
	}
	route := func(method, pattern string, n int, body int64) api.Route {
		return api.Route{Method: method, Pattern: pattern, Class: api.Session, Permission: control.Anyone,
			Limit: api.Limit{N: n, Per: time.Minute}, Body: body}
	}
	return errors.Join(
		g.api.Handle(route("GET", "/call/{agent}", 120, api.NoBody), page),
		g.api.Handle(route("POST", "/call/{agent}/token", 20, 4*kib), page),
		g.api.Handle(route("GET", "/call/assets/{version}/{file}", 1200, api.NoBody), page),
	)
}

// mountInternal serves metrics and profiles on the admin listener only.
func (g *gateway) mountInternal() error {
	g.metrics.MustRegister(agent.Metrics()...)
	g.metrics.MustRegister(secretMetrics(g.safe.service.Stats), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	route := func(pattern string) api.Route {
		return api.Route{Method: "GET", Pattern: pattern, Class: api.Internal, Permission: control.Anyone,
			Limit: api.Limit{N: 600, Per: time.Minute}, Body: api.NoBody, Long: true}
	}
	return errors.Join(
		g.api.Handle(route("/metrics"), promhttp.HandlerFor(g.metrics, promhttp.HandlerOpts{})),
		g.api.Handle(route("/debug/pprof/"), http.HandlerFunc(pprof.Index)),
		g.api.Handle(route("/debug/pprof/profile"), http.HandlerFunc(pprof.Profile)),
		g.api.Handle(route("/debug/pprof/trace"), http.HandlerFunc(pprof.Trace)),
	)
}

// run serves until ctx ends; then it takes nothing new, lets calls finish, and
// ends everything in order. ready is called when all of it answers.
func (g *gateway) run(ctx context.Context, ready func()) error {
	defer g.close()
	// What serves calls outlives ctx, until the calls have ended.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()

	var group errgroup.Group
	failed, fail := context.WithCancelCause(ctx)
	serve := func(s *http.Server, l net.Listener) {
		s.BaseContext = func(net.Listener) context.Context { return life }
		group.Go(func() error {
			err := s.Serve(l)
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			fail(err)
			return err
		})
	}
	if err := g.calls.Recover(ctx); err != nil {
		g.log.Warn("no call is taken before these records are written", "err", err)
	}
	if g.dev { // which is alone on its database
		if n, err := g.calls.CloseAll(ctx); err != nil {
			g.log.Warn("calls that an earlier process left open stay open", "err", err)
		} else if n > 0 {
			g.log.Info("closed calls that an earlier process left open", "calls", n)
		}
	}
	group.Go(func() error { return g.calls.Run(work) })
	group.Go(func() error { return g.calls.Hub.Run(work) })
	group.Go(func() error { return g.checkKeys(work) })
	group.Go(func() error { return g.safe.service.Run(work) })
	if g.safe.vault != nil {
		group.Go(func() error { return g.safe.vault.Run(work) })
	}
	group.Go(func() error { g.load.run(work); return nil })
	group.Go(func() error { return g.chats.Run(work) })
	group.Go(func() error { return g.once.Run(work) })
	group.Go(func() error { return g.desk.beforehand.run(work) })
	group.Go(func() error { return g.events.Run(work) })
	group.Go(func() error { return g.figures().Run(work) })
	group.Go(func() error { return g.deliveries.Run(work) })
	group.Go(func() error { return g.queue.Run(work) })
	group.Go(func() error { return g.sealer.Run(work) })
	group.Go(func() error { return g.keeper.Run(work) })
	group.Go(func() error { return g.tests.run(life) })
	group.Go(func() error { return g.people.users.Run(work, g.log) })
	group.Go(func() error { return g.blocks.Run(work) })
	if g.dialler != nil {
		group.Go(func() error { return g.dialler.Run(failed) }) // nobody is called by a process that ends
	}
	for _, d := range g.doors {
		serve(d.server, d.listener)
	}
	ready()
	<-failed.Done()

	g.api.Drain()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.settings.Drain+15*time.Second)
	defer cancel()
	g.desk.drain(stop, g.settings.Drain)
	end() // calls that are left
	err := g.webrtc.Shutdown(stop)
	last, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancelLast()
	for _, d := range g.doors {
		err = errors.Join(err, d.server.Shutdown(last))
	}
	g.desk.waitIdle(last, 2*time.Second)
	stopWork()
	return errors.Join(err, group.Wait())
}

// close releases what newGateway opened. Calling it twice does nothing.
func (g *gateway) close() {
	g.people.close()
	if g.desk != nil {
		g.desk.vendors.client.CloseIdleConnections()
	}
	if g.post != nil {
		g.post.Close()
	}
	for _, closed := range g.closers {
		closed()
	}
	for _, d := range g.doors {
		_ = d.listener.Close()
	}
	if g.queue != nil {
		g.queue.Close()
		g.queue = nil
	}
	if g.db != nil {
		g.db.Close()
		g.db = nil
	}
	if g.redis != nil {
		_ = g.redis.Close()
		g.redis = nil
	}
	if g.blobs != nil {
		_ = g.blobs.Close()
		g.blobs = nil
	}
}
