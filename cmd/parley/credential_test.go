package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parley/agent/flow"
	"parley/agent/providertest"
	"parley/control"
	"parley/signaling/signalingtest"
	"parley/store/vault/vaulttest"
)

// A modelServer is a vendor's without a network: it notes by which key it was
// asked, and answers.
type modelServer struct{ keys []string }

func (a *modelServer) RoundTrip(r *http.Request) (*http.Response, error) {
	a.keys = append(a.keys, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	body := `data: {"choices":[{"index":0,"delta":{"content":"Hello."},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
	return &http.Response{StatusCode: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// While the store of secrets is away, an agent's vendor is asked by the key in
// memory for an hour past its time; then conversations go on with the next
// vendor, and come back when it is there again.
func TestCredentialOutlivesItsStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept, vendor := newTill(), &modelServer{}
		service, tenant := kept.service(), control.NewID()
		change := control.SecretChange{Key: "mine", Value: "the tenant's own", Hosts: []string{"api.openai.com"}}
		if _, err := service.Put(control.WithTenant(t.Context(), tenant), change); err != nil {
			t.Fatal(err)
		}
		v := newVendors(Settings{OpenAIKey: "the program's"}, service, slog.New(slog.DiscardHandler))
		v.client = &http.Client{Transport: vendor}
		choices := []control.VendorChoice{{Vendor: "openai", Model: "first", Credential: "mine"}, {Vendor: "openai", Model: "second"}}
		began := time.Now()
		at := func(after time.Duration, want string) {
			t.Helper()
			time.Sleep(time.Until(began.Add(after)))
			vendor.keys = nil
			p, err := v.proposer(tenant.String(), choices, slog.New(slog.DiscardHandler)).Propose(t.Context(), flow.Model{Kind: "agent", Prompt: "x"})
			if err != nil || p.Say != "Hello." || !slices.Equal(vendor.keys, []string{want}) {
				t.Errorf("after %v: %q, %v, by the keys %q, want %q", after, p.Say, err, vendor.keys, want)
			}
		}
		at(0, "the tenant's own")
		kept.leave(true)
		at(4*time.Minute, "the tenant's own")
		at(64*time.Minute, "the tenant's own")
		at(66*time.Minute, "the program's")
		kept.leave(false)
		at(90*time.Minute, "the tenant's own")
	})
}

// A rotated vendor is one whose operator has a new key in force before the old
// one is withdrawn. It counts who was let in by which key, at which of its doors.
type rotated struct {
	ears *providertest.Deepgram

	mu    sync.Mutex
	valid []string
	by    map[[2]string]int // door and key → those let in
	shut  int               // those not
}

// door opens an address of the vendor.
func (r *rotated) door(t *testing.T, name string) (address string) {
	t.Helper()
	to, err := url.Parse(r.ears.URL)
	if err != nil {
		t.Fatal(err)
	}
	behind := httputil.NewSingleHostReverseProxy(to)
	behind.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError) // callers hang up
	return newWitness(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if !r.admit(name, strings.TrimPrefix(req.Header.Get("Authorization"), "Token ")) {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		behind.ServeHTTP(w, req)
	})).url
}

func (r *rotated) admit(door, key string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.valid, key) {
		r.shut++
		return false
	}
	r.by[[2]string{door, key}]++
	return true
}

func (r *rotated) takes(keys ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.valid = keys
}

// count tells how many were let in at a door, by a key or "" for all.
func (r *rotated) count(door, key string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for k, times := range r.by {
		if k[0] == door && (key == "" || k[1] == key) {
			n += times
		}
	}
	return n
}

// callers place calls at a node one after the other, each until the vendor is
// asked for it, until ctx ends.
func (r *rotated) callers(ctx context.Context, t *testing.T, n *node) {
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for ctx.Err() == nil {
		before := r.count(n.name, "")
		c, err := signalingtest.Call(t.Context(), signalingtest.CarrierOptions{URL: n.url, PublicURL: sitePublic, Agent: "cashier",
			From: "+15550001", To: "+15550002", AuthToken: siteToken, AccountSID: siteAccount})
		if err != nil {
			t.Error(err)
			return
		}
		for r.count(n.name, "") == before && ctx.Err() == nil {
			<-poll.C
		}
		_ = c.HangUp()
		<-c.Done()
	}
}

// An agent's vendor key is put into Vault by the API, and rotated while calls
// come to two nodes: no call is refused by the vendor, and the node that did not
// hear of it by the API uses the new key long before the old would have lapsed
// from its memory.
func TestCredentialRotatesUnderLoad(t *testing.T) {
	t.Parallel()
	s, vendor := newSite(t, directly), &rotated{ears: providertest.NewDeepgram(providertest.DeepgramScript{}), by: map[[2]string]int{}}
	t.Cleanup(vendor.ears.Close)
	s.env = append(s.env, vaultFor(t, vaulttest.Start(t))...)
	var nodes []*node
	var hosts []string
	for _, name := range []string{"a", "b"} {
		hosts = append(hosts, `"`+vendor.door(t, name)+`"`)
		s.env = append(s.env, "DEEPGRAM_BASE_URL="+strings.Trim(hosts[len(hosts)-1], `"`))
		nodes = append(nodes, s.start(name, "127.0.0.1:0"))
	}
	a := nodes[0]
	put := func(key string, want int) {
		t.Helper()
		s.ask(a, "PUT", "/v1/secrets/deepgram", s.key, `{"value":"`+key+`","hosts":[`+strings.Join(hosts, ",")+`]}`, want)
	}
	used := func(key string) func() bool {
		return func() bool { return vendor.count("a", key) > 1 && vendor.count("b", key) > 1 }
	}
	const first = "dgfirst00dcafe8811aa77bb3300"
	vendor.takes(first)
	put(first, 201)
	flow := s.ask(a, "GET", "/v1/flows", s.key, "", 200)["items"].([]any)[0].(map[string]any)["id"].(string)
	s.ask(a, "POST", "/v1/agents", s.key, `{"name":"cashier","settings":{"kind":"flow","flow_id":"`+flow+`"}}`, 201)
	s.ask(a, "POST", "/v1/agents/cashier/versions", s.key, `{"settings":{"kind":"flow","flow_id":"`+flow+`",
		"stt":[{"vendor":"deepgram","credential":"deepgram"}],"tts":[{"vendor":"flite"}]}}`, 201)
	s.ask(a, "POST", "/v1/agents/cashier/publish", s.key, `{"number":2}`, 200)

	ctx, end := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	defer callers.Wait()
	defer end()
	for _, n := range nodes {
		callers.Go(func() { vendor.callers(ctx, t, n) })
	}
	s.await(60*time.Second, "the first calls", used(first))
	old := first
	for i := range 3 {
		next := fmt.Sprintf("dgnext%d0dcafe8811aa77bb3300", i)
		vendor.takes(old, next)
		put(next, 200)
		began := time.Now()
		s.await(60*time.Second, "both nodes to use the new key", used(next)) // from memory, the old one would serve for 5 minutes
		t.Logf("rotated: both nodes have used the new key twice after %v", time.Since(began).Round(10*time.Millisecond))
		vendor.takes(next)
		old = next
	}
	end()
	callers.Wait()
	if vendor.shut > 0 {
		t.Errorf("%d calls were refused by the vendor", vendor.shut)
	}
	for _, n := range nodes {
		if strings.Contains(n.log.String(), old) {
			t.Errorf("the key is in the log of %s", n.name)
		}
	}
	s.tokensAreRevoked(nodes...)
}
