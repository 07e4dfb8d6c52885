package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
	"parley/control/outbound"
	"parley/signaling"
	"parley/signaling/signalingtest"
	"parley/store/postgres"
	"parley/store/redis"
)

// TestDials places calls with a carrier that fails in all its ways, lost
// callbacks, processes that are killed and start again, and a Redis that is
// emptied and away. The carrier itself counts whether limits hold, and what
// stands in the end must be what it counted. PARLEY_DIALS sets how many.
func TestDials(t *testing.T) {
	orders, err := strconv.Atoi(cmp.Or(os.Getenv("PARLEY_DIALS"), "200"))
	if err != nil {
		t.Fatal(err)
	}
	w := newDialWorld(t, orders)
	w.start()
	w.start()
	w.disturb(orders)
	w.settle(orders)
	w.stop()
	w.audit()
}

const dialHaste = 20

var dialPrices = outbound.Prices{"+": 20_000}

// A dialWorld is two tenants with their limits, the carrier, and the processes.
type dialWorld struct {
	t       *testing.T
	url     string // of the database
	store   *postgres.Store
	super   *pgx.Conn
	redis   *miniredis.Miniredis
	ring    *control.Keyring
	rest    *signalingtest.REST
	tenants []uuid.UUID
	dials   map[uuid.UUID]uuid.UUID // tenants, by order
	began   time.Time
	lives   sync.WaitGroup // of calls

	mu    sync.Mutex
	nodes []*dialNode
	kills int
	calls map[string]*simCall
	rung  map[string]int // calls of each attempt
	asked map[string]int // requests to call a number
	kinds map[string]int // of trouble
	wrong []string
}

// A simCall is the carrier's own count.
type simCall struct {
	tenant int
	ref    string
	status *url.URL
	at     time.Time
	held   outbound.Money // at most
	cost   outbound.Money
	final  string
	cut    chan struct{} // hung up by REST
	once   sync.Once
}

// dialBounds are the tenants' limits, by tenant.
var dialBounds = []outbound.Policy{
	{Zone: "UTC", Concurrency: 10, OfNumber: 10, PerMinute: 60_000, Prefixes: outbound.Prefixes{"+"}},
	{Zone: "UTC", Concurrency: 20, OfNumber: 14, PerMinute: 1500, DailySpend: 70 * 20_000, Prefixes: outbound.Prefixes{"+"}},
}

func dialFrom(tenant int) string { return fmt.Sprintf("+1202555019%d", tenant) }

func newDialWorld(t *testing.T, orders int) *dialWorld {
	db := databases.New(t)
	w := &dialWorld{t: t, url: db.AppURL, redis: miniredis.RunT(t), rest: &signalingtest.REST{AccountSID: siteAccount, AuthToken: siteToken},
		dials: map[uuid.UUID]uuid.UUID{}, calls: map[string]*simCall{}, rung: map[string]int{}, asked: map[string]int{}, kinds: map[string]int{}, began: time.Now()}
	w.rest.Place, w.rest.End = w.place, w.hangUp
	w.rest.Vex(w.vex)
	var err error
	if w.store, err = postgres.Open(t.Context(), db.AppURL, postgres.Options{MaxConns: 4}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.store.Close)
	if w.super, err = pgx.Connect(t.Context(), db.SuperURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.super.Close(context.Background()) })
	if w.ring, err = control.NewKeyring([]byte(strings.Repeat("k", 32))); err != nil {
		t.Fatal(err)
	}
	if _, err := newDataKeys(Settings{}, keyProviders{ring: w.ring}, w.store, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	for i, p := range dialBounds {
		w.tenant(i, p, orders)
	}
	return w
}

// tenant makes one, with its share of the orders.
func (w *dialWorld) tenant(i int, p outbound.Policy, orders int) {
	agents := &control.Agents{Store: w.store, Flows: w.store, Vendors: vendorTables()}
	made, err := identity.EnsureDemo(w.t.Context(), identity.DemoServices{
		Users: &identity.Users{Store: w.store, Sessions: w.store, Ring: w.ring, Hasher: identity.NewHasher(1), Audit: w.store}, Tenants: w.store,
		Keys: &identity.Keys{Store: w.store, Ring: w.ring}, Flows: &control.Flows{Store: w.store, Changes: w.store}, Agents: agents,
	}, identity.Demo{AdminEmail: fmt.Sprintf("%d@b.c", i), AdminPassword: password(), Flow: []byte(shortFlow)}, true)
	if err != nil {
		w.t.Fatal(err)
	}
	tenant := made.Tenant
	ctx := control.WithTenant(w.t.Context(), tenant)
	w.tenants = append(w.tenants, tenant)
	numbers := &control.Numbers{Store: w.store, Agents: w.store, Accounts: w.store}
	if _, err := numbers.Create(ctx, control.Number{E164: dialFrom(i), Agent: made.Agents[0].ID}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.store.PutOutboundPolicy(ctx, p, -1); err != nil {
		w.t.Fatal(err)
	}
	taker := &outbound.Orders{Store: atOnce{w.store}, Changes: w.store, Policies: w.store, Agents: agents, Places: func(uuid.UUID) bool { return true }}
	for n := i; n < orders; n += len(dialBounds) {
		d, err := taker.Create(ctx, outbound.Order{Agent: "front-desk", From: dialFrom(i), To: fmt.Sprintf("+1212556%04d", n),
			Settings: outbound.Settings{MaxSeconds: 170, RingSeconds: 5, Retry: outbound.Retry{Attempts: 3}}})
		if err != nil {
			w.t.Fatal(err)
		}
		w.dials[d.ID] = tenant
	}
}

// atOnce takes orders whose attempts follow each other at once.
type atOnce struct{ *postgres.Store }

func (s atOnce) InsertDial(ctx context.Context, d outbound.Dial) error {
	d.Settings.Retry.BackoffSeconds = 0
	return s.Store.InsertDial(ctx, d)
}

// fate is a number that a callee's so-many-th request always draws.
func fate(salt, to string, n, of int) int {
	h := fnv.New32a()
	fmt.Fprint(h, salt, to, n)
	x := h.Sum32()
	x ^= x >> 16
	x *= 0x85ebca6b
	x ^= x >> 13
	return int(x % uint32(of))
}

// vex is what goes wrong with a request to place a call.
func (w *dialWorld) vex(sid string, form url.Values) *signalingtest.Trouble {
	if sid != "" || form.Get("To") == "" {
		return nil
	}
	to := form.Get("To")
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.asked[to]
	w.asked[to]++
	kind, trouble := "", &signalingtest.Trouble{}
	switch f := fate("trouble", to, n, 100); {
	case f < 5:
		kind, trouble.Status, trouble.Code = "500", 500, 20500
	case f < 9:
		kind, trouble.Status, trouble.Code, trouble.Late = "500 after it was placed", 500, 20500, true
	case f < 11:
		kind, trouble.Silent = "silence", true
	case f < 14:
		kind, trouble.Silent, trouble.Late = "silence after it was placed", true, true
	case f < 17:
		kind = "cut off"
	case f < 20:
		kind, trouble.Late = "cut off after it was placed", true
	case f < 25:
		kind, trouble.Status, trouble.Code = "429", 429, 20429
	default:
		return nil
	}
	w.kinds[kind]++
	return trouble
}

// place begins a call, and holds the limits against what is open.
func (w *dialWorld) place(form url.Values) (string, error) {
	to := form.Get("To")
	answer, err := url.Parse(form.Get("Url"))
	if err != nil {
		return "", err
	}
	status, err := url.Parse(form.Get("StatusCallback"))
	if err != nil {
		return "", err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if fate("refused", to, 0, 40) == 0 {
		w.kinds["refused"]++
		return "", errors.New("not a number")
	}
	c := &simCall{tenant: slices.Index([]string{dialFrom(0), dialFrom(1)}, form.Get("From")), ref: answer.Query().Get("dial"), status: status,
		at: time.Now(), held: 3 * 20_000, cut: make(chan struct{})}
	sid := fmt.Sprintf("CA%032x", len(w.calls)+1)
	w.calls[sid] = c
	w.rung[c.ref]++
	w.hold(c)
	w.rest.Note(signalingtest.Placed{SID: sid, From: form.Get("From"), To: to, Status: "queued", Created: time.Now()})
	n := w.asked[to]
	w.lives.Go(func() { w.live(sid, c, to, n) })
	return sid, nil
}

// hold looks whether a call that begins keeps the limits. w.mu is held.
func (w *dialWorld) hold(c *simCall) {
	p := dialBounds[c.tenant]
	open, lately, money := 0, 0, outbound.Money(0)
	for _, other := range w.calls {
		if other.tenant != c.tenant {
			continue
		}
		if c.at.Sub(other.at) < time.Second {
			lately++
		}
		if money += other.cost; other.final == "" {
			open++
			money += other.held
		}
	}
	if open > min(p.Concurrency, p.OfNumber) {
		w.wrong = append(w.wrong, fmt.Sprintf("tenant %d has %d calls at once", c.tenant, open))
	}
	days := outbound.Money(1 + time.Now().UTC().Truncate(24*time.Hour).Sub(w.began.UTC().Truncate(24*time.Hour))/(24*time.Hour))
	if p := w.spendBound(c.tenant); p > 0 && money > p*days {
		w.wrong = append(w.wrong, fmt.Sprintf("tenant %d has spent or set aside %d", c.tenant, money))
	}
	// The rate, what may come at once, and what was let go and is under way.
	if most := p.PerMinute/60 + p.PerMinute/60 + 32; p.PerMinute < 60_000 && lately > most {
		w.wrong = append(w.wrong, fmt.Sprintf("tenant %d begins %d calls in a second", c.tenant, lately))
	}
}

// spendBound is a tenant's, which an operator lifts at the end. w.mu is held.
func (w *dialWorld) spendBound(tenant int) outbound.Money {
	if w.kinds["spend lifted"] > 0 {
		return 0
	}
	return dialBounds[tenant].DailySpend
}

// live is what becomes of a call.
func (w *dialWorld) live(sid string, c *simCall, to string, n int) {
	stages := []string{"initiated", "ringing"}
	final, talked := "completed", time.Duration(1+fate("length", to, n, 160))*time.Second
	switch f := fate("end", to, n, 10); {
	case f < 2:
		final = "busy"
	case f < 4:
		final = "no-answer"
	case f < 5:
		final = "failed"
	default:
		stages = append(stages, "in-progress")
	}
	for i, stage := range stages {
		if stage != "initiated" {
			w.note(sid, stage, 0)
		}
		w.tell(sid, c, stage, 0, fate("lost"+stage, to, n, 8) == 0)
		select {
		case <-c.cut:
			final = map[bool]string{true: "completed", false: "canceled"}[stage == "in-progress"]
		case <-time.After(time.Duration(fate("wait"+stage, to, n+i, 40)) * time.Millisecond):
			continue
		}
		break
	}
	if final != "completed" {
		talked = 0
	}
	w.note(sid, final, talked)
	w.mu.Lock()
	c.final, c.cost = final, dialPrices.Minute(to).Cost(talked)
	w.mu.Unlock()
	w.tell(sid, c, final, talked, fate("lost", to, n, 12) == 0)
}

func (w *dialWorld) hangUp(sid string) {
	w.mu.Lock()
	c := w.calls[sid]
	w.mu.Unlock()
	c.once.Do(func() { close(c.cut) })
}

func (w *dialWorld) note(sid, status string, talked time.Duration) {
	p, _ := w.rest.Lookup(sid)
	p.Status, p.Duration = status, talked
	w.rest.Note(p)
}

// tell calls back, by any process, if it is not lost.
func (w *dialWorld) tell(sid string, c *simCall, status string, talked time.Duration, lost bool) {
	w.mu.Lock()
	nodes := slices.Clone(w.nodes)
	w.mu.Unlock()
	if lost || len(nodes) == 0 {
		return
	}
	detail := map[string]string{"CallStatus": status, "CallbackSource": "call-progress-events"}
	if talked > 0 {
		detail["CallDuration"] = strconv.Itoa(int(talked / time.Second))
	}
	// Its failure is one more way to be lost.
	_ = nodes[len(status)%len(nodes)].dialler.Reported(context.WithoutCancel(w.t.Context()), c.status.Query().Get("dial"),
		statusReport(signaling.CarrierStatus{Kind: "call", CarrierCallID: sid, Status: status, Detail: detail}))
}

// A dialNode is a process that may be killed: all that it holds on to is taken
// from it at once.
type dialNode struct {
	store   *postgres.Store
	redis   *redis.Client
	dialler *outbound.Dialler
	dead    atomic.Bool
	cancel  context.CancelFunc
	done    chan struct{}
	carrier http.RoundTripper
}

// RoundTrip is its way to the carrier: a dead process reads no answer.
func (n *dialNode) RoundTrip(req *http.Request) (*http.Response, error) {
	if n.dead.Load() {
		return nil, errors.New("killed")
	}
	res, err := n.carrier.RoundTrip(req)
	if n.dead.Load() {
		return nil, errors.New("killed")
	}
	return res, err
}

func (w *dialWorld) start() {
	w.t.Helper()
	n := &dialNode{done: make(chan struct{}), carrier: w.rest}
	var err error
	if n.store, err = postgres.Open(w.t.Context(), w.url, postgres.Options{MaxConns: 8}); err != nil {
		w.t.Fatal(err)
	}
	if n.redis, err = redis.Open("redis://" + w.redis.Addr()); err != nil {
		w.t.Fatal(err)
	}
	rest := &signaling.REST{AccountSID: siteAccount, Secret: func(context.Context) (string, error) { return siteToken, nil },
		Timeout: 200 * time.Millisecond, Transport: n}
	n.dialler = &outbound.Dialler{Node: uuid.New(), Store: n.store, Changes: n.store, Queue: n.store, Policies: n.store, Spend: n.store, Limits: n.redis,
		Carrier: func(context.Context, uuid.UUID) (outbound.Carrier, error) {
			return dialCarrier{rest: rest, base: sitePublic}, nil
		},
		Prices: dialPrices, Ring: w.ring, Log: slog.New(slog.DiscardHandler), Haste: dialHaste}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	n.cancel = cancel
	go func() { defer close(n.done); _ = n.dialler.Run(ctx) }()
	w.mu.Lock()
	w.nodes = append(w.nodes, n)
	w.mu.Unlock()
}

// kill ends the oldest process in the midst of what it does.
func (w *dialWorld) kill() {
	w.mu.Lock()
	n := w.nodes[0]
	w.nodes = w.nodes[1:]
	w.kills++
	w.mu.Unlock()
	n.dead.Store(true)
	n.store.Close()
	_ = n.redis.Close()
	n.cancel()
	<-n.done
}

func (w *dialWorld) stop() {
	w.mu.Lock()
	nodes := w.nodes
	w.nodes = nil
	w.mu.Unlock()
	for _, n := range nodes {
		n.cancel()
		<-n.done
		n.store.Close()
		_ = n.redis.Close()
	}
}

// ended counts orders that are over.
func (w *dialWorld) ended() (n int) {
	w.t.Helper()
	if err := w.super.QueryRow(w.t.Context(), `SELECT count(*) FROM dials WHERE finished_at IS NOT NULL`).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// until waits for so many orders to be over.
func (w *dialWorld) until(n int) {
	w.t.Helper()
	limit := time.Minute + time.Duration(len(w.dials))*200*time.Millisecond
	for deadline := time.Now().Add(limit); w.ended() < n; {
		if time.Now().After(deadline) {
			w.t.Fatalf("only %d of %d orders are over after %v", w.ended(), n, limit)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// disturb kills processes and takes Redis away while about the first half of the
// orders is carried out.
func (w *dialWorld) disturb(orders int) {
	rounds := max(6, orders/100)
	for i := range rounds {
		w.until(i * orders / 3 / rounds)
		switch i % 3 {
		case 0:
			w.kill()
			w.start()
		case 1:
			w.redis.FlushAll()
		case 2:
			w.redis.SetError("LOADING")
			<-time.After(300 * time.Millisecond)
			w.redis.FlushAll()
			w.redis.SetError("")
			w.kill()
			w.start()
		}
	}
}

// settle has all orders end: the tenant whose money is spent gets more.
func (w *dialWorld) settle(orders int) {
	w.until(orders / 2)
	w.mu.Lock()
	w.kinds["spend lifted"] = 1
	w.mu.Unlock()
	for i, p := range dialBounds {
		p.DailySpend = 0
		if _, err := w.store.PutOutboundPolicy(control.WithTenant(w.t.Context(), w.tenants[i]), p, -1); err != nil {
			w.t.Fatal(err)
		}
	}
	w.until(orders)
	w.lives.Wait()
}

// audit holds what is stored against what the carrier counted.
func (w *dialWorld) audit() {
	for _, text := range w.wrong {
		w.t.Error(text)
	}
	for ref, n := range w.rung {
		if n != 1 {
			w.t.Errorf("attempt %s rang %d times", ref, n)
		}
	}
	seen, outcomes := map[string]bool{}, map[string]int{}
	for id, tenant := range w.dials {
		w.auditDial(control.WithTenant(w.t.Context(), tenant), id, seen, outcomes)
	}
	if len(seen) != len(w.calls) {
		w.t.Errorf("%d attempts had a call, the carrier made %d", len(seen), len(w.calls))
	}
	for i, tenant := range w.tenants {
		w.auditTenant(i, control.WithTenant(w.t.Context(), tenant))
	}
	w.t.Logf("%d orders, %d calls, %d kills, %v; trouble %v; in %v", len(w.dials), len(w.calls), w.kills, outcomes, w.kinds, time.Since(w.began).Round(time.Millisecond))
}

var simOutcomes = map[string]string{"completed": outbound.OutcomeAnswered, "busy": outbound.OutcomeBusy, "no-answer": outbound.OutcomeNoAnswer,
	"failed": outbound.OutcomeFailed, "canceled": outbound.OutcomeCanceled}

func (w *dialWorld) auditDial(ctx context.Context, id uuid.UUID, seen map[string]bool, outcomes map[string]int) {
	d, err := w.store.Dial(ctx, id)
	if err != nil {
		w.t.Fatal(err)
	}
	attempts, err := w.store.AttemptsOf(ctx, id)
	if err != nil {
		w.t.Fatal(err)
	}
	outcomes[d.Outcome]++
	if d.FinishedAt.IsZero() || d.Attempts != len(attempts) || len(attempts) == 0 || attempts[len(attempts)-1].Outcome != d.Outcome {
		w.t.Errorf("order %s is %s, %s after %d attempts of %d", id, d.Status, d.Outcome, len(attempts), d.Attempts)
	}
	for _, a := range attempts {
		c := w.calls[a.SID]
		switch {
		case a.Status != outbound.Ended:
			w.t.Errorf("attempt %s is still %s", a.ID, a.Status)
		case a.SID == "" && a.Outcome == outbound.OutcomeRefused:
		case c == nil || seen[a.SID]:
			w.t.Errorf("attempt %s, %s, has the call %q that is none or another's", a.ID, a.Outcome, a.SID)
		case a.Outcome != simOutcomes[c.final] || a.Cost != c.cost:
			w.t.Errorf("attempt %s is %s for %d; the carrier has %s for %d", a.ID, a.Outcome, a.Cost, c.final, c.cost)
		}
		if a.SID != "" {
			seen[a.SID] = true
			if call, err := w.store.Call(ctx, a.ID); err != nil || call.Status != control.CallEnded || call.CarrierCallID != a.SID || call.Direction != "outbound" {
				w.t.Errorf("attempt %s has the call %+v, %v", a.ID, call, err)
			}
		}
	}
}

// auditTenant looks at a tenant's money and leases.
func (w *dialWorld) auditTenant(i int, ctx context.Context) {
	want := outbound.Money(0)
	for c := range maps.Values(w.calls) {
		if c.tenant == i {
			want += c.cost
		}
	}
	if got, err := w.store.OutboundSpent(ctx, w.began.Add(-time.Minute)); err != nil || got != want {
		w.t.Errorf("tenant %d has spent %d, %v; the carrier counts %d", i, got, err, want)
	}
	// What a killed process had taken lapses.
	w.redis.SetTime(time.Now().Add(outbound.Lease))
	client, err := redis.Open("redis://" + w.redis.Addr())
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	if err := client.Release(ctx, outbound.Slot{Tenant: w.tenants[i], Attempt: uuid.New()}, 0); err != nil { // which looks over them
		w.t.Fatal(err)
	}
	if left, err := w.redis.ZMembers("dial:{" + w.tenants[i].String() + "}:slots"); err == nil && len(left) > 0 {
		w.t.Errorf("tenant %d still has the leases %v", i, left)
	}
}
