package main

import (
	"bytes"
	"cmp"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/signaling/signalingtest"
	"parley/store/linetest"
	"parley/store/postgres/postgrestest"
	"parley/store/vault/vaulttest"
)

// An outage is how a node loses one of what it stands on.
type outage struct {
	dependency, fault string

	lose, restore func(*ground)
	// during checks what holds meanwhile, while the caller answers.
	during func(*ground)
	// back waits until all of it is there again; may be nil.
	back func(*ground)
}

// A ground is what a node stands on, with calls and chats on it.
type ground struct {
	*site
	n    *node
	load *load
	db   postgrestest.Database

	own      *postgrestest.Own // Postgres, where it is killed or stopped
	postgres *linetest.Line
	toRedis  *linetest.Line
	vault    *vaulttest.Server
	toVault  *linetest.Line
}

// outages are each dependency by each fault. Vault's server keeps all in memory,
// so that killed it would have lost everything: it is cut off and comes back
// sealed, as one that was started again does. Redis is the tests' own, in this
// process: it is stopped by a line that swallows everything, and killed it comes
// back empty.
var outages = []outage{
	{"postgres", "killed", func(g *ground) { g.own.Kill(g.t) }, func(g *ground) { g.own.Revive(g.t) }, (*ground).refusing, nil},
	{"postgres", "paused", func(g *ground) { g.own.Pause(g.t) }, func(g *ground) { g.own.Resume(g.t) }, (*ground).unready, nil},
	{"postgres", "slowed", func(g *ground) { g.postgres.Slow(20 * time.Millisecond) }, func(g *ground) { g.postgres.Restore() }, (*ground).chatsGoOn, nil},
	{"redis", "killed", func(g *ground) { g.redis.FlushAll(); g.redis.Close() }, (*ground).reviveRedis, (*ground).withoutRedis, (*ground).registered},
	{"redis", "paused", func(g *ground) { g.toRedis.Hang() }, func(g *ground) { g.toRedis.Restore() }, (*ground).withoutRedis, (*ground).registered},
	{"redis", "slowed", func(g *ground) { g.toRedis.Slow(200 * time.Millisecond) }, func(g *ground) { g.toRedis.Restore() }, (*ground).chatsGoOn, (*ground).registered},
	{"vault", "killed", func(g *ground) { g.vault.Seal(g.t); g.toVault.Cut() }, func(g *ground) { g.toVault.Restore(); g.vault.Unseal(g.t) }, (*ground).withoutVault, (*ground).putsSecrets},
	{"vault", "paused", func(g *ground) { g.vault.Pause() }, func(g *ground) { g.vault.Resume() }, (*ground).withoutVault, (*ground).putsSecrets},
	{"vault", "slowed", func(g *ground) { g.toVault.Slow(200 * time.Millisecond) }, func(g *ground) { g.toVault.Restore() }, (*ground).chatsGoOn, (*ground).putsSecrets},
}

// TestOutages loses each dependency under calls, chats and requests, in each way
// that it can go. Nothing that was promised is lost, and nothing happens twice.
// PARLEY_OUTAGES is how often each is lost, under a load as many times as heavy;
// `make storm` reports what came of it.
func TestOutages(t *testing.T) {
	times, err := strconv.Atoi(cmp.Or(os.Getenv("PARLEY_OUTAGES"), "1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range outages {
		t.Run(o.dependency+"-"+o.fault, func(t *testing.T) {
			if times == 1 {
				t.Parallel()
			}
			g := newGround(t, o)
			g.load.begin(g.n, 2*times)
			var worst recovery
			for range times {
				worst = worst.or(g.lose(o, times))
			}
			g.load.end()
			g.load.held()
			g.holds()
			g.await(20*time.Second, "the registry to be empty", func() bool { return !g.redis.Exists("live-calls") })
			t.Logf("%s %s: %s; %s", o.dependency, o.fault, worst, g.load.tally())
		})
	}
}

// newGround starts a node on what can be lost.
func newGround(t *testing.T, o outage) *ground {
	t.Helper()
	g := &ground{}
	if o.dependency == "postgres" && o.fault != "slowed" {
		g.own = postgrestest.NewOwn(t)
		g.db = g.own.Database
	} else {
		g.db = databases.New(t)
	}
	g.site = newSiteOn(t, g.db, func(db postgrestest.Database) string {
		p := db.Proxy(t)
		g.postgres = p.Line
		return p.AppURL
	})
	g.toRedis = linetest.Start(t, "tcp", g.redis.Addr())
	g.env = append(g.env, "REDIS_URL=redis://"+g.toRedis.Addr)
	if o.dependency == "vault" {
		g.vault = vaulttest.Start(t)
		u, err := url.Parse(g.vault.URL)
		if err != nil {
			t.Fatal(err)
		}
		g.toVault = linetest.Start(t, "tcp", u.Host)
		role, secret := g.vault.AppRole(t, `path "kv/*" { capabilities = ["create", "read", "update", "delete", "list"] }`, "1h", "2h")
		g.env = append(g.env, "VAULT_ADDR=http://"+g.toVault.Addr, "VAULT_ROLE_ID="+role, "VAULT_SECRET_ID="+secret, "PARLEY_SECRETS=vault://kv/parley/tenants")
	}
	g.load = newLoad(g.site, g.db)
	g.n = g.start("a", "127.0.0.1:0")
	return g
}

// A recovery is how long what took after a dependency was back.
type recovery struct {
	away, ready, chat, request, call, written, whole time.Duration
	chats                                            int
	slowest                                          time.Duration
}

func (r recovery) or(o recovery) recovery {
	return recovery{max(r.away, o.away), max(r.ready, o.ready), max(r.chat, o.chat), max(r.request, o.request), max(r.call, o.call),
		max(r.written, o.written), max(r.whole, o.whole), r.chats + o.chats, max(r.slowest, o.slowest)}
}

func (r recovery) String() string {
	var b strings.Builder
	for _, p := range []struct {
		what string
		took time.Duration
	}{{"away", r.away}, {"back after: ready", r.ready}, {"whole", r.whole}, {"first chat", r.chat}, {"first key", r.request}, {"first new call", r.call},
		{"all of the calls written", r.written}} {
		b.WriteString(p.what + " " + strconv.FormatInt(p.took.Milliseconds(), 10) + " ms, ")
	}
	return b.String() + strconv.Itoa(r.chats) + " chats meanwhile, the slowest " + strconv.FormatInt(r.slowest.Milliseconds(), 10) + " ms"
}

// lose loses it once under so many calls, and returns how long it took to
// recover from that.
func (g *ground) lose(o outage, callers int) (r recovery) {
	g.t.Helper()
	lines := make([]*telephone, callers)
	for i := range lines {
		lines[i] = g.ring(signalingtest.CarrierOptions{})
	}
	for _, p := range lines {
		p.sounded()
	}
	lost := time.Now()
	o.lose(g)
	for _, p := range lines { // calls go on
		p.quiet()
		p.listen()
		p.Digits("1")
	}
	o.during(g)
	for _, p := range lines {
		p.sounded()
		p.quiet()
	}
	if got := lines[0].said("would you like red or blue", "for how many people"); got != "for how many people" {
		g.t.Errorf("without %s, the caller hears %q", o.dependency, got)
	}
	back := time.Now()
	r.away = back.Sub(lost)
	r.chats, r.slowest = g.load.slowest(lost, back)
	o.restore(g)
	back = time.Now()
	var group sync.WaitGroup
	group.Go(func() { g.awaitReady(http.StatusOK); r.ready = time.Since(back) })
	if o.back != nil {
		group.Go(func() { o.back(g); r.whole = time.Since(back) })
	}
	group.Go(func() { g.newCall(); r.call = time.Since(back) })
	group.Go(func() {
		for _, p := range lines {
			p.Digits("4#")
		}
		for _, p := range lines {
			p.answered(wholeCall...)
		}
		r.written = time.Since(back)
	})
	r.chat, r.request = g.load.since(back)
	group.Wait()
	return r
}

// newCall rings until a call is taken.
func (g *ground) newCall() {
	g.await(time.Minute, "a new call", func() bool {
		c, err := signalingtest.Call(g.t.Context(), g.options())
		if err != nil {
			return false
		}
		return c.HangUp() == nil
	})
}

func (g *ground) options() signalingtest.CarrierOptions {
	return signalingtest.CarrierOptions{URL: g.address, PublicURL: sitePublic, Agent: "front-desk", From: "+15550001", To: "+15550002",
		AuthToken: siteToken, AccountSID: siteAccount, RetryPause: 10 * time.Millisecond}
}

// awaitReady waits for what /readyz says.
func (g *ground) awaitReady(want int) {
	g.await(time.Minute, "readyz to say "+strconv.Itoa(want), func() bool {
		res, err := http.Get(g.n.url + "/readyz")
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == want
	})
}

// unready: without Postgres a node says so, and lives.
func (g *ground) unready() {
	g.t.Helper()
	g.awaitReady(http.StatusServiceUnavailable)
	g.alive("/livez")
}

// refusing: and it takes no new call, so that the carrier asks again.
func (g *ground) refusing() {
	g.t.Helper()
	g.unready()
	if _, err := signalingtest.Call(g.t.Context(), g.options()); err == nil || !strings.Contains(err.Error(), "503") {
		g.t.Errorf("a new call without Postgres: %v, want 503", err)
	}
}

// alive asks for what must be answered well.
func (g *ground) alive(path string) {
	g.t.Helper()
	res, err := http.Get(g.n.url + path)
	if err != nil {
		g.t.Error(err)
		return
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		g.t.Errorf("%s: %d", path, res.StatusCode)
	}
}

// chatsGoOn waits for a chat that began meanwhile, and a new call.
func (g *ground) chatsGoOn() {
	g.t.Helper()
	g.alive("/readyz")
	g.load.since(time.Now())
	g.newCall()
}

// withoutRedis everything goes on, and whoever signs in is throttled harder.
func (g *ground) withoutRedis() {
	g.t.Helper()
	g.chatsGoOn()
	const body = `{"email":"nobody@example.com","password":"wrong horse battery staple"}`
	for tries := 1; ; tries++ {
		status, _, err := g.load.tell("POST", "/v1/auth/login", "", "", body)
		if status == http.StatusTooManyRequests {
			return
		}
		if err != nil || status != http.StatusUnauthorized || tries > 2 { // of 10 a minute; a fifth is 2
			g.t.Errorf("sign-in without Redis, try %d: %d, %v, want it refused from the third", tries, status, err)
			return
		}
	}
}

func (g *ground) reviveRedis() {
	if err := g.redis.Restart(); err != nil {
		g.t.Error(err)
	}
}

// registered: the registry of live calls is whole again.
func (g *ground) registered() {
	g.t.Helper()
	g.await(30*time.Second, "the live calls in the registry", func() bool {
		live, err := g.redis.ZMembers("live-calls")
		return err == nil && len(live) > 0
	})
}

// withoutVault secrets are read from memory, and none is put.
func (g *ground) withoutVault() {
	g.t.Helper()
	g.chatsGoOn()
	if status, m, err := g.load.tell("PUT", "/v1/secrets/other", g.key, "", `{"value":"v","hosts":["api.example.com"]}`); status != http.StatusServiceUnavailable {
		g.t.Errorf("put a secret without Vault: %d %v %v", status, m, err)
	}
}

func (g *ground) putsSecrets() {
	g.t.Helper()
	g.await(time.Minute, "a secret to be put", func() bool {
		status, _, _ := g.load.tell("PUT", "/v1/secrets/other", g.key, "", `{"value":"v","hosts":["api.example.com"]}`)
		return status == 200 || status == 201
	})
}

// holds verifies the audit trail by the node's own key.
func (g *ground) holds() {
	g.t.Helper()
	key := ""
	for _, e := range g.env {
		if name, v, _ := strings.Cut(e, "="); name == "PARLEY_KEY_FILE" {
			key = v
		}
	}
	var out, errs bytes.Buffer
	args := []string{"audit", "verify", "--json", "--no-anchor", "--database-url", g.db.AppURL, "--key-file", key}
	if code := run(g.t.Context(), args, stdio{nil, &out, &errs}); code != exitOK {
		g.t.Errorf("audit verify: %d: %s%s", code, &out, &errs)
	}
}
