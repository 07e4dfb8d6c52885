package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/agent/effect"
	"parley/agent/flow"
	"parley/control"
	"parley/control/api"
	"parley/control/identity"
	"parley/control/ingress"
	"parley/control/outbound"
	"parley/store/blob"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

var server postgrestest.Server

func TestMain(m *testing.M) { os.Exit(server.Main(m)) }

// always allows; once remembers.
type always struct{}

func (always) Take(context.Context, ...ingress.Ask) ingress.Verdict { return ingress.Verdict{OK: true} }

type once map[string]bool

func (o once) Use(_ context.Context, key string, _ time.Duration) bool {
	seen := o[key]
	o[key] = true
	return !seen
}

// A plane is a control plane with a demo tenant.
type plane struct {
	*api.Server
	t     *testing.T
	db    postgrestest.Database
	store *postgres.Store
	o     api.Options
	demo  identity.DemoMade
	log   *strings.Builder
	// perform does chats' effects; nil fails them.
	effect   func(flow.Effect) flow.Result
	doc      *document        // that all answers are held to
	sent     []effect.Request // to webhooks
	keeper   *drawer
	degraded string // what is away
}

func (p *plane) perform(_ context.Context, e flow.Effect) flow.Result {
	if c, ok := e.(flow.Call); ok && p.effect == nil {
		return flow.Result{ID: c.ID, Outcome: "error"}
	}
	return p.effect(e)
}

// greeting is a small flow.
const greeting = `{"nodes":[{"id":"a","type":"message","content":{"text":"Hello."}}]}`

const password = "correct horse battery"

func newPlane(t *testing.T) *plane {
	t.Helper()
	db := server.New(t)
	store, err := postgres.Open(t.Context(), db.AppURL, postgres.Options{MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	ring, err := control.NewKeyring([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = blobs.Close() })
	p := &plane{t: t, db: db, store: store, log: new(strings.Builder), keeper: new(drawer)}
	log := slog.New(slog.NewTextHandler(p.log, nil))
	content := &control.Contents{Store: store, Changes: store, Shelf: &control.Shelf{Store: store}}
	flows := &control.Flows{Store: store, Changes: store, Contents: content.Shelf}
	graphs := &control.Graphs{Store: store}
	agents := &control.Agents{Store: store, Flows: store, Vendors: control.VendorTables{STT: map[string]control.VendorTable{"local": {}}, LLM: map[string]control.VendorTable{"openai": {Models: []string{"gpt"}}}, TTS: map[string]control.VendorTable{"local": {Voices: []string{"slt"}}}}}
	p.o = api.Options{
		Users:    &identity.Users{Store: store, Sessions: store, Ring: ring, Hasher: identity.NewHasher(2), Audit: store},
		Keys:     &identity.Keys{Store: store, Ring: ring},
		Agents:   agents,
		Flows:    flows,
		Contents: content, Experiments: &control.Experiments{Store: store, Contents: store, Flows: store, Graphs: graphs},
		Numbers: &control.Numbers{Store: store, Agents: store, Accounts: store},
		Calls: &control.Calls{Store: store, Changes: store, Records: store, Agents: agents, Numbers: store, Accounts: store,
			Graphs: graphs, Log: log, Node: uuid.New(), Commands: store, Hub: control.NewHub(nil, nil, uuid.New(), log)},
		Chats: &control.Chats{Store: store, Turns: store, Flows: flows, Graphs: graphs, Ring: ring, Log: log,
			Perform: func(uuid.UUID) func(context.Context, flow.Effect) flow.Result { return p.perform }},
		Tokens: &identity.CallTokens{Ring: ring, Used: once{}}, Audit: store, Seals: store, Egress: store, Ledger: store, Origins: &control.Origins{Store: store},
		Blobs: blobs, Limits: always{}, Log: log, Ready: store.Ping, Degraded: func() string { return p.degraded },
		Idempotency: &control.Idempotency{Store: store, Ring: ring, Log: log},
	}
	links := identity.Links{Ring: ring, Page: "https://parley.example/join"}
	p.o.Tenants = &identity.Tenants{Store: store, Invitations: &identity.Invitations{Store: store, Users: p.o.Users, Links: links}}
	p.o.Members = &identity.Members{Store: store, Users: p.o.Users, Links: links}
	p.o.Bearers = identity.NewBearers(store, p.o.Users, p.o.Keys, p.o.Tokens, "https://parley.test", log)
	p.signingIn(ring)
	p.o.Bearers.Foreign = p.o.Issuers.Verify
	p.o.Figures = store
	p.o.TestCalls = silentTests{p.o.Calls}
	p.o.Orders, p.o.Dials, p.o.Policies, p.o.Stops = &outbound.Orders{Store: store, Changes: store, Policies: store, Agents: agents,
		Places: func(uuid.UUID) bool { return true }, Fraud: &outbound.Watch{Stops: store, Traffic: store}}, store, store, store
	p.o.Events = &control.Events{Store: store, Log: log}
	p.o.Keeper = &control.Keeper{Store: store, Tenants: store, Files: blobs, Once: p.o.Idempotency, Ring: ring, Log: log}
	p.o.Carriers = &control.CarrierAccounts{Store: store, Entries: store, Address: &url.URL{Scheme: "https", Host: "api.twilio.com"}, Own: "AC" + strings.Repeat("0", 32)}
	p.o.CarrierCheck = func(_ context.Context, a control.CarrierAccount) (string, error) {
		if a.OldToken != "" {
			return "", errors.New("timeout")
		}
		return "Twilio does not take the credentials", nil
	}
	p.o.Secrets = control.NewSecretService(control.SecretsOptions{Store: store, Keeper: p.keeper, Place: control.SecretRef{Scheme: control.SchemeVault, Mount: "secret", Path: "tenants"}, Log: log})
	p.o.Webhooks = &control.Webhooks{Store: store, Ring: ring}
	p.o.Deliveries = &control.Deliveries{Store: store, Webhooks: p.o.Webhooks, HTTP: p, Changed: p.o.Events.Changed, Log: log}
	if p.Server, err = api.New(p.o); err != nil {
		t.Fatal(err)
	}
	p.demo = p.ensure("admin@example.com", false)
	return p
}

func (p *plane) ensure(email string, renew bool) identity.DemoMade {
	p.t.Helper()
	made, err := identity.EnsureDemo(p.t.Context(), identity.DemoServices{Users: p.o.Users, Tenants: p.store, Keys: p.o.Keys, Flows: p.o.Flows, Agents: p.o.Agents},
		identity.Demo{AdminEmail: email, AdminPassword: password, Flow: []byte(greeting), Prompt: true}, renew)
	if err != nil {
		p.t.Fatal(err)
	}
	return made
}

// do sends a request and returns the answer and its JSON.
func (p *plane) do(method, path, key, body string, header ...string) (*http.Response, map[string]any) {
	p.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		r.Header.Set("Authorization", "Bearer "+key)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, r)
	resp := w.Result()
	raw, _ := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(strings.NewReader(string(raw)))
	if p.doc == nil {
		p.doc = p.document()
	}
	if err := p.doc.fits(r, resp.StatusCode, resp.Header.Get("Content-Type"), raw); err != nil {
		p.t.Errorf("%s %s answers %d, which is not as the document has it: %v\n%s", method, path, resp.StatusCode, err, raw)
	}
	var m map[string]any
	_ = json.Unmarshal(raw, &m)
	return resp, m
}

func (p *plane) want(status int, method, path, key, body string, header ...string) map[string]any {
	p.t.Helper()
	resp, m := p.do(method, path, key, body, header...)
	if resp.StatusCode != status {
		if resp.StatusCode >= 500 {
			p.t.Log(p.log)
		}
		p.t.Errorf("%s %s: %d %v, want %d", method, path, resp.StatusCode, m, status)
	}
	return m
}

func TestEveryRouteIsGuarded(t *testing.T) {
	p := newPlane(t)
	for _, r := range p.Routes() {
		path := strings.NewReplacer("{id}", uuid.NewString(), "{agent}", "front-desk", "{flow}", uuid.NewString()).Replace(r.Pattern)
		resp, _ := p.do(r.Method, path, "", "")
		for _, h := range []string{"X-Content-Type-Options", "Content-Security-Policy", "X-Request-Id", "Referrer-Policy", "X-Frame-Options"} {
			if resp.Header.Get(h) == "" {
				t.Errorf("%s %s: no %s", r.Method, r.Pattern, h)
			}
		}
		if r.Class == api.Tenanted || r.Class == api.Admin {
			if resp.StatusCode != 401 {
				t.Errorf("%s %s without a key: %d, want 401", r.Method, r.Pattern, resp.StatusCode)
			}
			p.want(401, r.Method, path, "parley_aaaaaaaaaaaa_"+strings.Repeat("A", 43), "")
		}
		if r.Body > 0 && r.Class != api.Public && r.Permission != control.Platform {
			big, _ := p.do(r.Method, path, p.demo.APIKey, `{"name":"`+strings.Repeat("x", int(r.Body))+`"}`)
			if big.StatusCode != 413 {
				t.Errorf("%s %s with %d bytes: %d, want 413", r.Method, r.Pattern, r.Body, big.StatusCode)
			}
		}
	}
}

func TestBareRouteIsRefused(t *testing.T) {
	p := newPlane(t)
	good := api.Route{Method: "GET", Pattern: "/x", Class: api.Public, Permission: control.Anyone, Limit: api.Limit{N: 1, Per: time.Second}, Body: api.NoBody}
	for name, spoil := range map[string]func(*api.Route){
		"class": func(r *api.Route) { r.Class = "" }, "permission": func(r *api.Route) { r.Permission = "" },
		"limit": func(r *api.Route) { r.Limit = api.Limit{} }, "body": func(r *api.Route) { r.Body = 0 },
		"verifier": func(r *api.Route) { r.Class = api.Webhook },
		"open":     func(r *api.Route) { r.Class = api.Tenanted },
	} {
		r := good
		spoil(&r)
		if p.Handle(r, http.NotFoundHandler()) == nil {
			t.Errorf("a route without its %s is taken", name)
		}
	}
	if err := p.Handle(good, http.NotFoundHandler()); err != nil {
		t.Error(err)
	}
	if p.Handle(good, http.NotFoundHandler()) == nil {
		t.Error("a route is taken twice")
	}
}

func TestAgentsFlowsNumbersKeys(t *testing.T) {
	p := newPlane(t)
	key := p.demo.APIKey
	f := p.want(201, "POST", "/v1/flows", key, `{"name":"booking","document":`+greeting+`}`)
	id := f["id"].(string)
	p.want(422, "POST", "/v1/flows", key, `{"name":"bad","document":{"broken":1}}`)
	p.want(409, "POST", "/v1/flows", key, `{"name":"booking","document":`+greeting+`}`)
	p.want(422, "POST", "/v1/agents", key, `{"name":"b","settings":{"kind":"flow","flow_id":"`+id+`"}}`)
	if v := p.want(201, "POST", "/v1/flows/"+id+"/versions", key, `{"document":`+greeting+`}`); v["number"] != 2.0 {
		t.Errorf("second version: %v", v)
	}
	p.want(200, "POST", "/v1/flows/"+id+"/publish", key, "")
	a := p.want(201, "POST", "/v1/agents", key, `{"name":"booker","settings":{"kind":"flow","flow_id":"`+id+`","stt":[{"vendor":"local"}]}}`)
	p.want(422, "POST", "/v1/agents", key, `{"name":"c","settings":{"kind":"prompt","prompt":"x","tts":[{"vendor":"acme"}]}}`)
	resp, got := p.do("GET", "/v1/agents/booker", key, "")
	if got["id"] != a["id"] || resp.Header.Get("ETag") != `"1"` {
		t.Errorf("by name: %v, ETag %s", got, resp.Header.Get("ETag"))
	}
	p.want(200, "PATCH", "/v1/agents/booker", key, `{"public":true}`, "If-Match", `"1"`)
	p.want(412, "PATCH", "/v1/agents/booker", key, `{"public":false}`, "If-Match", `"1"`)
	p.want(201, "POST", "/v1/numbers", key, `{"number":"+15550001111","agent_id":"`+a["id"].(string)+`"}`)
	p.want(409, "POST", "/v1/numbers", key, `{"number":"+15550001111","agent_id":"`+a["id"].(string)+`"}`)

	small := p.want(201, "POST", "/v1/keys", key, `{"name":"reader","scopes":["agents.read"]}`)
	secret := small["secret"].(string)
	p.want(200, "GET", "/v1/agents?limit=1", secret, "")
	p.want(403, "GET", "/v1/calls", secret, "")
	p.want(403, "POST", "/v1/keys", secret, `{"name":"more","scopes":["calls.read"]}`)
	p.want(200, "GET", "/v1/agents", "", "", "X-API-Key", secret)
	p.want(204, "DELETE", "/v1/keys/"+small["id"].(string), key, "")
	p.want(401, "GET", "/v1/agents", secret, "")

	page := p.want(200, "GET", "/v1/agents?limit=2", key, "")
	rest := p.want(200, "GET", "/v1/agents?limit=2&after="+page["next"].(string), key, "")
	if n, m := len(page["items"].([]any)), len(rest["items"].([]any)); n != 2 || m != 1 || rest["next"] != nil {
		t.Errorf("pages of %d and %d agents, next %v, want 2 and 1", n, m, rest["next"])
	}
}

func TestLogin(t *testing.T) {
	p := newPlane(t)
	p.want(401, "POST", "/v1/auth/login", "", `{"email":"admin@example.com","password":"wrong"}`)
	p.want(401, "POST", "/v1/auth/login", "", `{"email":"nobody@example.com","password":"wrong"}`)
	resp, _ := p.do("POST", "/v1/auth/login", "", `{"email":"Admin@Example.com","password":"`+password+`"}`)
	if resp.StatusCode != 200 || len(resp.Cookies()) != 2 {
		t.Fatalf("login: %d, cookies %v", resp.StatusCode, resp.Cookies())
	}
	c := resp.Cookies()[0]
	if !c.HttpOnly || c.SameSite != http.SameSiteLaxMode {
		t.Errorf("cookie %v", c)
	}
	cookie := c.Name + "=" + c.Value
	p.want(200, "GET", "/v1/agents", "", "", "Cookie", cookie)
	p.want(403, "POST", "/v1/auth/logout", "", "", "Cookie", cookie, "Sec-Fetch-Site", "cross-site")
	p.want(204, "POST", "/v1/auth/logout", "", "", "Cookie", cookie, "Sec-Fetch-Site", "same-origin")
	p.want(401, "GET", "/v1/agents", "", "", "Cookie", cookie)
}

func TestCallRecords(t *testing.T) {
	p := newPlane(t)
	calls, key := p.o.Calls, p.demo.APIKey
	c, err := calls.Arrive(t.Context(), control.Arrival{Carrier: "webrtc", Agent: "front-desk"})
	if err != nil {
		t.Fatal(err)
	}
	path := "/v1/calls/" + c.ID.String()
	ctx, v, err := calls.Begin(t.Context(), c.ID.String(), func(string) {})
	if err != nil {
		t.Fatal(err)
	}
	v.Journal.Turn(ctx, agent.Turn{Index: 0, Speaker: "agent", Generated: "Hello there", Sent: "Hello there", Heard: "Hello",
		Uses:        []agent.Use{{Kind: agent.UseHeard, Vendor: "deepgram", Model: "nova-3", Amount: 60_000}},
		Interrupted: true, End: time.Second, Latency: agent.Latency{FirstAudio: 312 * time.Millisecond}})
	v.Journal.Turn(ctx, agent.Turn{Index: 1, Speaker: "caller", Heard: "hi\x00", Start: time.Second})
	blobKey := control.BlobKey(c)
	w, err := p.o.Blobs.Create(ctx, blobKey)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(w, "RIFF0123456789")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := calls.Finish(ctx, v, agent.Ending{Reason: "goodbye"}, blobKey); err != nil {
		t.Fatal(err)
	}
	if got := p.want(200, "GET", path, key, ""); got["status"] != "ended" || got["end_reason"] != "goodbye" || got["recorded"] != true {
		t.Errorf("call: %v", got)
	}
	wantLedger(t, p, path, key)
	lines := p.want(200, "GET", path+"/transcript", key, "")["items"].([]any)
	if len(lines) != 2 || lines[0].(map[string]any)["text"] != "Hello" || lines[1].(map[string]any)["text"] != "hi" {
		t.Errorf("transcript: %v", lines)
	}
	turns := p.want(200, "GET", path+"/turns?limit=1", key, "")
	first := turns["items"].([]any)[0].(map[string]any)
	if first["latency"].(map[string]any)["first_audio_ms"] != 312.0 || turns["next"] != "0" {
		t.Errorf("turns: %v", turns)
	}
	resp, _ := p.do("GET", path+"/recording", key, "", "Range", "bytes=4-7")
	if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 206 || string(b) != "0123" {
		t.Errorf("recording: %d %q, want 206 0123", resp.StatusCode, b)
	}
	p.want(409, "POST", path+"/hangup", key, "")
	p.want(200, "GET", "/v1/calls?status=ended&limit=5", key, "")
}

// Another tenant's id is as unknown as one that was never given.
func TestCrossTenantIsNotFound(t *testing.T) {
	p := newPlane(t)
	other := p.ensure("other@example.com", false)
	c, err := p.o.Calls.Arrive(t.Context(), control.Arrival{Carrier: "webrtc", Agent: other.Agents[0].ID.String()})
	if err != nil {
		t.Fatal(err)
	}
	theirs := map[string]string{"{id}": c.ID.String(), "{agent}": other.Agents[0].ID.String(),
		"{flow}": other.Agents[0].Settings.FlowID.String()}
	bodies := map[string]string{"/flows/{flow}/versions": `{"document":` + greeting + `}`, "/call-tokens": `{}`, "/test-call": `{}`, "/v1/agents/{agent}": `{"public":true}`,
		"/v1/flows/{flow}": `{"public":true}`, "/simulate": `{}`, "/say": `{"text":"x"}`, "/whisper": `{"text":"x"}`, "/transfer": `{"to":"+15550009"}`, "/interact": `{"input":"x"}`, "/flows/{flow}/draft": `{"document":{}}`, "/agents/{agent}/draft": `{"settings":{"kind":"prompt"}}`, "/agents/{agent}/versions": `{}`,
		"/v1/numbers/{id}": `{"display_name":"mine"}`, "/v1/carrier-accounts/{id}": `{"name":"mine"}`, "/state": `{"updates":{}}`,
		"/v1/webhooks/{id}": `{"name":"mine"}`, "/v1/keys/{id}": `{"name":"mine"}`, "/v1/users/{id}": `{"role":"viewer"}`, "/v1/tenants/{id}": `{"name":"mine"}`, "/v1/sessions/{id}/events": `{"event":"paid"}`,
		"/passkeys/{id}": `{"name":"mine"}`, "/providers/{id}": `{"name":"mine"}`, "/issuers/{id}": `{"enabled":true}`}
	chat := p.chat(other.APIKey, `{"flow_id":"front-desk"}`)
	hook := p.want(201, "POST", "/v1/webhooks", other.APIKey, `{"name":"theirs","url":"https://a.example"}`)["id"].(string)
	n := 0
	for _, r := range p.Routes() {
		path := r.Pattern
		if strings.HasPrefix(path, "/v1/webhooks/") {
			path = strings.Replace(path, "{id}", hook, 1)
		}
		if strings.HasPrefix(path, "/v1/sessions/") {
			path = strings.Replace(path, "{id}", chat.id, 1)
		}
		path = strings.NewReplacer("{token}", chat.token, "/diff", "/diff?from=1", "{number}", "1", "{command}", uuid.NewString()).Replace(path)
		for from, to := range theirs {
			path = strings.Replace(path, from, to, 1)
		}
		if path == r.Pattern || r.Permission == control.Platform || r.Method == "OPTIONS" { // a preflight asks of the route, not of what it names
			continue
		}
		n++
		body := ""
		for suffix, b := range bodies {
			if r.Body > 0 && strings.HasSuffix(r.Pattern, suffix) {
				body = b
			}
		}
		p.want(404, r.Method, path, p.demo.APIKey, body)
	}
	if n < 10 {
		t.Errorf("only %d routes with an id", n)
	}
}

func TestProblemsNeverEcho(t *testing.T) {
	p := newPlane(t)
	const canary = "zq81canary"
	for _, req := range [][3]string{
		{"POST", "/v1/agents", `{"name":"` + canary + `!","settings":{"kind":"` + canary + `"}}`},
		{"POST", "/v1/agents", `{"` + canary + `":1}`},
		{"POST", "/v1/agents", canary},
		{"POST", "/v1/numbers", `{"number":"` + canary + `","agent_id":"` + canary + `"}`},
		{"POST", "/v1/keys", `{"name":"x","scopes":["` + canary + `"]}`},
		{"GET", "/v1/calls/" + canary, ""},
		{"GET", "/v1/calls?status=" + canary, ""},
		{"GET", "/v1/calls?limit=" + canary, ""},
		{"GET", "/" + canary, ""},
	} {
		resp, m := p.do(req[0], req[1], p.demo.APIKey, req[2])
		raw, _ := json.Marshal(m)
		if resp.StatusCode < 400 || resp.StatusCode >= 500 || strings.Contains(string(raw), canary) || m["code"] == nil || m["code"] == "" {
			t.Errorf("%s %s: %d %s", req[0], req[1], resp.StatusCode, raw)
		}
		if ct := resp.Header.Get("Content-Type"); ct != "application/problem+json" {
			t.Errorf("%s %s: content type %s", req[0], req[1], ct)
		}
	}
	if strings.Contains(p.log.String(), canary) {
		t.Error("the log repeats what was sent")
	}
}

func TestHealth(t *testing.T) {
	p := newPlane(t)
	p.want(200, "GET", "/livez", "", "")
	p.want(200, "GET", "/readyz", "", "")
	p.degraded = "secrets"
	if got := p.want(200, "GET", "/readyz", "", ""); got["status"] != "degraded: secrets" {
		t.Errorf("without secrets: %v", got)
	}
	p.degraded = ""
	if got := p.want(200, "GET", "/readyz", "", ""); got["status"] != "ok" {
		t.Errorf("with all there: %v", got)
	}
	p.want(405, "POST", "/livez", "", "")
	p.Drain()
	p.want(503, "GET", "/readyz", "", "")
	p.want(200, "GET", "/livez", "", "")
	p.store.Close()
	p.want(200, "GET", "/livez", "", "")
	p.want(503, "GET", "/readyz", "", "")
}

func TestDocs(t *testing.T) {
	p := newPlane(t)
	m := p.want(200, "GET", "/openapi.json", "", "")
	if v, _ := m["openapi"].(string); !strings.HasPrefix(v, "3.1") || len(m["paths"].(map[string]any)) < 10 {
		t.Errorf("openapi %v", v)
	}
	resp, _ := p.do("GET", "/docs", "", "")
	if b, _ := io.ReadAll(resp.Body); !strings.Contains(string(b), "/v1/calls/{id}/transcript") || strings.Contains(string(b), "<script") {
		t.Error("docs lack a route, or hold a script")
	}
}

func TestPanicIsAProblem(t *testing.T) {
	p := newPlane(t)
	r := api.Route{Method: "GET", Pattern: "/boom", Class: api.Public, Permission: control.Anyone, Limit: api.Limit{N: 1, Per: time.Second}, Body: api.NoBody}
	if err := p.Handle(r, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") })); err != nil {
		t.Fatal(err)
	}
	if m := p.want(500, "GET", "/boom", "", ""); m["code"] != "internal" || !strings.Contains(p.log.String(), "boom") {
		t.Errorf("problem %v", m)
	}
}

func TestCallToken(t *testing.T) {
	p := newPlane(t)
	p.lists("https://shop.example")
	m := p.want(201, "POST", "/v1/agents/front-desk/call-tokens", p.demo.APIKey, `{"origin":"https://shop.example"}`)
	token := m["token"].(string)
	p.want(403, "GET", "/v1/agents", token, "", "Origin", "https://shop.example")
	if _, err := p.o.Tokens.Spend(t.Context(), token, "https://evil.example"); !errors.Is(err, control.ErrCredentials) {
		t.Errorf("from another origin: %v", err)
	}
	who, err := p.o.Tokens.Spend(t.Context(), token, "https://shop.example")
	if err != nil || who.Agent != p.demo.Agents[0].ID || who.Tenant != p.demo.Tenant {
		t.Errorf("first use: %+v, %v", who, err)
	}
	if _, err := p.o.Tokens.Spend(t.Context(), token, "https://shop.example"); !errors.Is(err, control.ErrCredentials) {
		t.Errorf("second use: %v", err)
	}
	if _, err := p.o.Tokens.Verify(token[:len(token)-1]+"x", identity.Visit{Origin: "https://shop.example"}); err == nil {
		t.Error("a changed token passes")
	}
}

func TestDemoIsIdempotent(t *testing.T) {
	p := newPlane(t)
	again := p.ensure("admin@example.com", false)
	if again.Tenant != p.demo.Tenant || again.APIKey != "" || again.Created || len(again.Agents) != 2 || again.Agents[0].ID != p.demo.Agents[0].ID {
		t.Errorf("second time: %+v", again)
	}
	renewed := p.ensure("admin@example.com", true)
	if renewed.APIKey == "" {
		t.Error("renewing gives no key")
	}
	p.want(200, "GET", "/v1/agents", renewed.APIKey, "")
	p.want(200, "GET", "/v1/agents", p.demo.APIKey, "")
}

// silentTests takes test calls in, and nobody talks in them.
type silentTests struct{ calls *control.Calls }

func (t silentTests) TestCall(ctx context.Context, c control.TestCall) (control.Call, error) {
	if err := c.Validate(); err != nil {
		return control.Call{}, err
	}
	return t.calls.Arrive(ctx, control.Arrival{Carrier: "test", Agent: c.Agent.String(), AgentVersion: c.Version})
}
