package main

import (
	"cmp"
	"crypto/rand"
	"log/slog"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"parley/control"
	"parley/control/identity"
	"parley/media"
	"parley/signaling/signalingtest"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

var databases postgrestest.Server

// asProgram makes this test binary the program itself: a process that a test
// may kill.
const asProgram = "PARLEY_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	miniredis.DumpMaxLineLen = 1 << 20 // what looks for secrets looks at all of them
	os.Exit(databases.Main(m))
}

// A site is what several nodes share, in production: a database, a Redis, a
// load balancer, and Twilio.
type site struct {
	t        *testing.T
	store    *postgres.Store
	redis    *miniredis.Miniredis
	balancer *signalingtest.Balancer
	address  string // the balancer's
	twilio   *signalingtest.REST
	env      []string // of its nodes
	key      string   // an API key
	password string   // of its owner

	colleagues *atomic.Int32 // how many were called so far
}

// siteOwner signs in with the site's password.
const siteOwner = "owner@example.test"

const (
	sitePublic  = "https://voice.example.test"
	siteAccount = "AC0123456789abcdef0123456789abcdef"
	siteToken   = "0123456789abcdef"
)

func newSite(t *testing.T, databaseURL func(postgrestest.Database) string) *site {
	t.Helper()
	return newSiteOn(t, databases.New(t), databaseURL)
}

func newSiteOn(t *testing.T, db postgrestest.Database, databaseURL func(postgrestest.Database) string) *site {
	t.Helper()
	store, err := postgres.Open(t.Context(), db.AppURL, postgres.Options{MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	s := &site{t: t, store: store, redis: miniredis.RunT(t), balancer: &signalingtest.Balancer{},
		twilio: &signalingtest.REST{AccountSID: siteAccount, AuthToken: siteToken}, colleagues: &atomic.Int32{}}
	front := httptest.NewServer(s.balancer)
	api := httptest.NewServer(s.twilio)
	t.Cleanup(func() {
		front.CloseClientConnections()
		front.Close()
		api.Close()
		for _, stray := range s.twilio.Strays() {
			t.Errorf("Twilio's document: %s", stray)
		}
	})
	s.address, s.password = front.URL, password()

	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	ring, err := control.NewKeyring(secret)
	if err != nil {
		t.Fatal(err)
	}
	// It reads what the nodes seal.
	if _, err := newDataKeys(Settings{}, keyProviders{ring: ring}, store, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	made, err := identity.EnsureDemo(t.Context(), identity.DemoServices{
		Users: &identity.Users{Store: store, Sessions: store, Ring: ring, Hasher: identity.NewHasher(1), Audit: store}, Tenants: store,
		Keys: &identity.Keys{Store: store, Ring: ring}, Flows: &control.Flows{Store: store, Changes: store},
		Agents: &control.Agents{Store: store, Flows: store, Vendors: vendorTables()},
	}, identity.Demo{AdminEmail: siteOwner, AdminPassword: s.password, Flow: []byte(shortFlow)}, true)
	if err != nil {
		t.Fatal(err)
	}
	s.key = made.APIKey
	s.env = append(os.Environ(), asProgram+"=1", "DATABASE_URL="+databaseURL(db), "REDIS_URL=redis://"+s.redis.Addr(),
		"PARLEY_PUBLIC_URL="+sitePublic, "PARLEY_KEY_FILE="+keyFile, "PARLEY_ADMIN_LISTEN=", "PARLEY_MAX_LATE=0", // tests share the machine
		"TWILIO_ACCOUNT_SID="+siteAccount, "TWILIO_AUTH_TOKEN="+siteToken, "PARLEY_PLAIN_SECRETS=allow", "TWILIO_BASE_URL="+api.URL)
	return s
}

// shortFlow asks two questions, both answered by keys.
const shortFlow = `{"schema": "flow/1", "id": "short", "version": "1.0.0", "entry": "colour",
	"locales": {"default": "en-US"},
	"nodes": [
	  {"id": "colour", "type": "question", "content": {"question": "Would you like red or blue?",
	    "input_type": "choice", "variable": "colour", "store": "value", "options": [
	      {"label": "Red", "value": "red", "dtmf": "1"}, {"label": "Blue", "value": "blue", "dtmf": "2"}]},
	   "voice": {"no_input": {"after": "60s"}},
	   "connections": {"red": "party", "blue": "party", "no_input": "bye", "no_match": "bye"}},
	  {"id": "party", "type": "question", "content": {"question": "For how many people?", "input_type": "number",
	    "variable": "party", "validation": {"required": true, "min": 1, "max": 12}},
	   "voice": {"digits": {"max": 2, "finish_key": "#"}},
	   "connections": {"default": "bye", "no_input": "bye", "no_match": "bye"}},
	  {"id": "bye", "type": "hangup", "content": {"text": "Thank you, goodbye."}}]}`

func directly(db postgrestest.Database) string { return db.AppURL }

// A node is one `parley serve`, a process of its own.
type node struct {
	name string
	cmd  *exec.Cmd
	url  string
	log  syncBuffer
	done chan struct{} // closed when it has ended
}

// start runs a node, puts it behind the balancer, and returns when it answers.
func (s *site) start(name, listen string, args ...string) *node {
	s.t.Helper()
	n := &node{name: name, done: make(chan struct{})}
	n.cmd = exec.Command(os.Args[0], append([]string{"serve", "--listen", listen, "--data", filepath.Join(s.t.TempDir(), name)}, args...)...)
	n.cmd.Env = s.env
	serving := &readyWriter{want: `"serving"`, ready: make(chan struct{})}
	n.cmd.Stderr = &teeWriter{&n.log, serving}
	if err := n.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() { defer close(n.done); _ = n.cmd.Wait() }()
	s.t.Cleanup(func() {
		_ = n.cmd.Process.Signal(syscall.SIGCONT)
		_ = n.cmd.Process.Kill()
		<-n.done
		if s.t.Failed() {
			s.t.Logf("log of %s:\n%s", name, n.log.String())
		}
	})
	select {
	case <-serving.ready:
	case <-n.done:
		s.t.Fatalf("%s ended:\n%s", name, n.log.String())
	case <-time.After(time.Minute):
		s.t.Fatalf("%s is not ready:\n%s", name, n.log.String())
	}
	_, rest, _ := strings.Cut(n.log.String(), `"listen":"`)
	address, _, _ := strings.Cut(rest, `"`)
	n.url = "http://" + address
	s.balancer.Add(n.url)
	return n
}

// A teeWriter writes to several, as one.
type teeWriter struct {
	log   *syncBuffer
	ready *readyWriter
}

func (w *teeWriter) Write(p []byte) (int, error) {
	_, _ = w.log.Write(p)
	return w.ready.Write(p)
}

func (n *node) signal(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := n.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
}

// A telephone is a caller of the site who notes what he hears, and when.
type telephone struct {
	*signalingtest.CarrierCall
	s *site

	mu     sync.Mutex
	heard  []int16 // 8 kHz, since the last listen
	sounds time.Time
	since  time.Time
}

// ring calls the demo's front desk, or whom the options name.
func (s *site) ring(o signalingtest.CarrierOptions) *telephone {
	s.t.Helper()
	p := &telephone{s: s}
	o.URL, o.PublicURL, o.Agent, o.From = s.address, sitePublic, cmp.Or(o.Agent, "front-desk"), cmp.Or(o.From, "+15550001")
	o.To, o.AuthToken, o.AccountSID, o.REST = "+15550002", siteToken, siteAccount, s.twilio
	o.StatusURL, o.Heard = sitePublic+"/twilio/status", p.hear
	c, err := signalingtest.Call(s.t.Context(), o)
	if err != nil {
		s.t.Fatal(err)
	}
	p.CarrierCall = c
	s.t.Cleanup(func() { _ = c.HangUp() })
	return p
}

func (p *telephone) hear(at time.Time, frame []byte, played int) {
	pcm := media.DecodePCMU(nil, frame)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = append(p.heard, pcm...)
	if played > 0 && p.sounds.IsZero() && at.After(p.since) && loud(pcm) {
		p.sounds = at
	}
}

// listen begins anew.
func (p *telephone) listen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard, p.sounds, p.since = nil, time.Time{}, time.Now()
}

// sounded waits until something is heard, and returns how long it took since
// listen.
func (p *telephone) sounded() time.Duration {
	p.s.t.Helper()
	var took time.Duration
	p.s.await(45*time.Second, "the agent's voice", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		took = p.sounds.Sub(p.since)
		return !p.sounds.IsZero()
	})
	return took
}

// quiet waits for the agent to finish: half a second of silence after sound.
func (p *telephone) quiet() {
	p.s.t.Helper()
	p.s.await(45*time.Second, "the agent to finish", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.sounds.IsZero() || time.Since(p.sounds) < 500*time.Millisecond {
			return false
		}
		for last := p.heard[max(0, len(p.heard)-4000):]; len(last) >= 160; last = last[160:] {
			if loud(last[:160]) {
				return false
			}
		}
		return true
	})
}

// said returns which of the phrases was heard since listen.
func (p *telephone) said(phrases ...string) string {
	p.s.t.Helper()
	p.mu.Lock()
	heard := append([]int16(nil), p.heard...)
	p.mu.Unlock()
	return recognize(p.s.t, heard, 8000, phrases)
}

func (s *site) await(limit time.Duration, what string, is func() bool) {
	s.t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("waited %v for %s in vain", limit, what)
		}
	}
}

// records returns what is stored of a caller's call.
func (s *site) records(sid string) (control.Call, []string) {
	s.t.Helper()
	return s.recordsOf("twilio", sid)
}

func (s *site) recordsOf(carrier, id string) (control.Call, []string) {
	s.t.Helper()
	at, err := s.store.LocateCarrierCall(s.t.Context(), carrier, id)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx := control.WithTenant(s.t.Context(), at.Tenant)
	c, err := s.store.Call(ctx, at.ID)
	if err != nil {
		s.t.Fatal(err)
	}
	turns, err := s.store.Turns(ctx, at.ID, -1, 200)
	if err != nil {
		s.t.Fatal(err)
	}
	var lines []string
	for i, n := range turns {
		if n.Index != i {
			s.t.Errorf("turn %d has index %d", i, n.Index)
		}
		lines = append(lines, n.Speaker+": "+n.Heard)
	}
	return c, lines
}

// holder is the node that serves a call.
func (s *site) holder(sid string, nodes ...*node) (holder, other *node) {
	s.t.Helper()
	c, _ := s.records(sid)
	for i, n := range nodes {
		if strings.Contains(n.log.String(), `"session began","call":"`+c.ID.String()) {
			return n, nodes[len(nodes)-1-i]
		}
	}
	s.t.Fatal("no node serves the call")
	return nil, nil
}

// freeAddress returns a port that a node may listen on again and again.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
