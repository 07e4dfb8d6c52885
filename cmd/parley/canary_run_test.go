package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"parley/agent/providertest"
	"parley/control"
	"parley/signaling/signalingtest"
	"parley/store/postgres/postgrestest"
	"parley/store/vault/vaulttest"
)

// What is planted in the run. The others are made by the program itself.
const (
	canaryVendorKey = "dgc4naryf00dcafe8811aa77bb3302"
	canaryShopKey   = "shpc4nary77aa01c9d2e3f4a5b6c7"
	canaryPhone     = "+12025550177"
	canaryCard      = "4929381027465510" // keyed in on the telephone
	canarySaid      = "5274839201847362" // typed in the chat
)

// A canaryRun is a tenant's day: a node on real storage with secrets in a Vault,
// all of them planted, and all that it lets be seen.
type canaryRun struct {
	*site
	n       *node
	data    string // its folder
	metrics string
	planted map[string]string // secret by what it is

	shop, vendor, box *witness
	cookie            string

	mu      sync.Mutex
	refused strings.Builder // every answer of 400 and above
	shown   strings.Builder // every other that shows no secret once
	live    strings.Builder // the events' stream
}

// A witness is a server that keeps what it was sent.
type witness struct {
	url string

	mu   sync.Mutex
	keys []string // Authorization of each request
	said strings.Builder
}

// newWitness answers requests by next, or else with 200.
func newWitness(t *testing.T, next http.Handler) *witness {
	w := &witness{}
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		w.keys = append(w.keys, r.Header.Get("Authorization"))
		w.mu.Unlock()
		if next != nil {
			next.ServeHTTP(rw, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		w.mu.Lock()
		w.said.Write(body)
		w.mu.Unlock()
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"told":"`+r.Header.Get("Authorization")+`"}`) // gives away what it was sent
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	w.url = s.URL
	return w
}

// sent returns the credentials that came, each once.
func (w *witness) sent() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Compact(slices.Sorted(slices.Values(w.keys)))
}

func (w *witness) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said.String()
}

// newCanaryRun starts the node.
func newCanaryRun(t *testing.T) (*canaryRun, postgrestest.Database) {
	t.Helper()
	r := &canaryRun{planted: map[string]string{}, data: t.TempDir(), metrics: freeAddress(t)}
	db := databases.New(t)
	r.site = newSiteOn(t, db, directly)
	ears := providertest.NewDeepgram(providertest.DeepgramScript{Key: canaryVendorKey})
	t.Cleanup(ears.Close)
	to, err := url.Parse(ears.URL)
	if err != nil {
		t.Fatal(err)
	}
	r.vendor, r.shop, r.box = newWitness(t, httputil.NewSingleHostReverseProxy(to)), newWitness(t, nil), newWitness(t, nil)
	r.env = append(r.env, vaultFor(t, vaulttest.Start(t))...)
	r.env = append(r.env, "PARLEY_LOG_LEVEL=debug", "PARLEY_ADMIN_LISTEN="+r.metrics, "PARLEY_ADMIN_TOKEN_FILE="+file(t, adminToken), "DEEPGRAM_BASE_URL="+r.vendor.url,
		"PARLEY_EGRESS_ALLOW="+strings.TrimPrefix(r.shop.url, "http://")+","+strings.TrimPrefix(r.box.url, "http://"))
	r.n = r.start("a", "127.0.0.1:0", "--data", r.data)
	r.planted["password"], r.planted["first API key"] = r.password, r.key
	return r, db
}

// vaultFor is the environment of a node whose tenants' secrets are in a Vault.
func vaultFor(t *testing.T, v *vaulttest.Server) []string {
	t.Helper()
	role, secret := v.AppRole(t, `path "kv/*" { capabilities = ["create", "read", "update", "delete", "list"] }`, "1h", "2h")
	return []string{"VAULT_ADDR=" + v.URL, "VAULT_ROLE_ID=" + role, "VAULT_SECRET_ID=" + secret, "PARLEY_SECRETS=vault://kv/parley/tenants"}
}

// send sends a request, by the cookie where bearer is empty, and keeps the
// answer with all that goes with it: among what was refused, or what was shown.
func (r *canaryRun) send(method, path, bearer, body string) (int, map[string]any) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), method, r.n.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if req.Header.Set("Content-Type", "application/json"); bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	} else if r.cookie != "" {
		req.Header.Set("Cookie", r.cookie)
		req.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	var head bytes.Buffer
	_ = res.Header.Write(&head)
	for _, c := range res.Cookies() {
		if strings.HasSuffix(c.Name, "parley_session") && c.Value != "" {
			r.cookie, r.planted["session cookie of "+path] = c.Name+"="+c.Value, c.Value
		}
	}
	var m map[string]any
	_ = json.Unmarshal(raw, &m)
	switch all := head.String() + string(raw) + "\n"; {
	case res.StatusCode >= 400:
		r.refused.WriteString(all)
	case method == http.MethodGet:
		r.shown.WriteString(all)
	}
	return res.StatusCode, m
}

func (r *canaryRun) want(status int, method, path, bearer, body string) map[string]any {
	r.t.Helper()
	got, m := r.send(method, path, bearer, body)
	if got != status {
		r.t.Fatalf("%s %s: %d %v, want %d", method, path, got, m, status)
	}
	return m
}

// plant notes a secret that an answer showed this once.
func (r *canaryRun) plant(what string, m map[string]any, field string) string {
	r.t.Helper()
	s, _ := m[field].(string)
	if len(s) < 8 {
		r.t.Fatalf("%s: no %s in %v", what, field, m)
	}
	r.planted[what] = s
	return s
}

// signIn enrols an authenticator app, comes again by a recovery code, and takes
// tokens and a key.
func (r *canaryRun) signIn() {
	r.t.Helper()
	login := `{"email":"` + siteOwner + `","password":"` + r.password + `"}`
	r.want(200, "POST", "/v1/auth/login", "", login)
	app := r.plant("TOTP secret", r.want(201, "POST", "/v1/auth/factors/totp", "", ""), "secret")
	code, err := totp.GenerateCode(app, time.Now())
	if err != nil {
		r.t.Fatal(err)
	}
	codes := r.want(200, "POST", "/v1/auth/factors/totp/confirm", "", `{"code":"`+code+`"}`)["recovery_codes"].([]any)
	r.planted["spent recovery code"], r.planted["recovery code"] = codes[0].(string), codes[1].(string)
	r.cookie = ""
	due := r.want(200, "POST", "/v1/auth/login", "", login)["second_factor"].(map[string]any)
	ticket := r.plant("ticket", due, "ticket")
	r.want(200, "POST", "/v1/auth/mfa", "", `{"ticket":"`+ticket+`","recovery_code":"`+codes[0].(string)+`"}`)
	tokens := r.want(200, "POST", "/v1/auth/token", "", `{"grant_type":"session"}`)
	r.plant("access token", tokens, "access_token")
	old := r.plant("spent refresh token", tokens, "refresh_token")
	tokens = r.want(200, "POST", "/v1/auth/refresh", "", `{"refresh_token":"`+old+`"}`)
	r.plant("refresh token", tokens, "refresh_token")
	r.plant("API key", r.want(201, "POST", "/v1/keys", "", `{"name":"little","scopes":["calls.read"]}`), "secret")
	r.plant("temporary token", r.want(201, "POST", "/v1/tokens", r.key, `{"name":"t","scopes":["calls.read"]}`), "token")
}

// cardFlow asks for what nobody may see and sends it to the shop.
func (r *canaryRun) cardFlow() string {
	return `{"schema":"flow/1","id":"card","version":"1.0.0","entry":"card","nodes":[
		{"id":"card","type":"question","content":{"question":"Your card?","input_type":"text","variable":"card"},
		 "voice":{"sensitive":true,"digits":{"max":16},"no_input":{"timeout_ms":60000}},"connections":{"default":"pay","no_input":"bye","no_match":"bye"}},
		{"id":"pay","type":"action","content":{"actions":[{"type":"api_call","config":{"url":"` + r.shop.url + `/pay","method":"POST",
		 "headers":{"Authorization":"Bearer {secret:shop}"},"body":{"card":"{card}"},"response_variable":"user.got"}}]},"connections":{"success":"bye","error":"bye"}},
		{"id":"bye","type":"hangup","content":{"text":"Thank you. {user.got.told}"}}]}`
}

// equip puts the vendor's key and the shop's into Vault, and makes the webhook,
// the flow and the agent that use them.
func (r *canaryRun) equip() {
	r.t.Helper()
	for name, value := range map[string]string{"deepgram": canaryVendorKey, "shop": canaryShopKey} {
		host := map[string]string{"deepgram": r.vendor.url, "shop": r.shop.url}[name]
		r.planted["secret "+name] = value
		r.want(201, "PUT", "/v1/secrets/"+name, "", `{"value":"`+value+`","hosts":["`+host+`"]}`)
	}
	r.plant("webhook secret", r.want(201, "POST", "/v1/webhooks", "", `{"name":"box","url":"`+r.box.url+`"}`), "secret")
	flow := r.want(201, "POST", "/v1/flows", r.key, `{"name":"card","document":`+r.cardFlow()+`}`)["id"].(string)
	r.want(200, "POST", "/v1/flows/"+flow+"/publish", r.key, `{}`)
	r.want(201, "POST", "/v1/agents", r.key, `{"name":"cashier","settings":{"kind":"flow","flow_id":"`+flow+`","record":true,
		"stt":[{"vendor":"deepgram","credential":"deepgram"}],"tts":[{"vendor":"flite"}]}}`)
}

// follow reads the stream of events until the test ends.
func (r *canaryRun) follow() {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", r.n.url+"/v1/events", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.key)
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 200 {
		r.t.Fatal(res, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			r.mu.Lock()
			r.live.WriteString(lines.Text() + "\n")
			r.mu.Unlock()
		}
	}()
	r.t.Cleanup(func() { _ = res.Body.Close(); <-done })
}

func (r *canaryRun) followed() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live.String()
}

// talk holds a chat, and a call that keys in a card number.
func (r *canaryRun) talk() (call control.Call) {
	r.t.Helper()
	chat := r.want(201, "POST", "/chat/start", r.key, `{"flow_id":"card"}`)
	token := r.plant("chat's token", chat, "session_token")
	r.want(200, "POST", "/chat/sessions/"+token+"/interact", token, `{"input":"`+canarySaid+`"}`)
	r.want(200, "GET", "/v1/sessions/"+chat["session_id"].(string)+"/history", r.key, "")

	p := r.ring(signalingtest.CarrierOptions{Agent: "cashier", From: canaryPhone})
	p.sounded()
	p.quiet()
	p.Digits(canaryCard)
	r.await(60*time.Second, "the call's records", func() bool {
		call, _ = r.records(p.SID)
		return call.EndReason != ""
	})
	if call.EndReason != "goodbye" {
		r.t.Errorf("the call ended by %s", call.EndReason)
	}
	return call
}

// misplace sends every secret where it does not belong: none of it comes back.
func (r *canaryRun) misplace() {
	r.t.Helper()
	before := r.cookie
	for _, secret := range slices.Sorted(maps.Values(r.planted)) {
		text, _ := json.Marshal(secret)
		for _, a := range [][4]string{
			{"GET", "/v1/agents", secret + "x", ""},
			{"GET", "/v1/agents?limit=" + url.QueryEscape(secret), r.key, ""},
			{"GET", "/v1/calls/" + url.PathEscape(secret), r.key, ""},
			{"GET", "/nowhere/" + url.PathEscape(secret), r.key, ""},
			{"POST", "/v1/agents", r.key, `{"name":` + string(text) + `,"settings":{"kind":` + string(text) + `}}`},
			{"POST", "/v1/flows/validate", r.key, `{"document":` + string(text) + `}`},
			{"POST", "/v1/auth/refresh", r.key, `{"refresh_token":` + string(text[:len(text)-1]) + `x"}`},
			{"POST", "/v1/numbers", r.key, `{"number":` + string(text) + `,` + string(text) + `:1}`},
		} {
			if status, m := r.send(a[0], a[1], a[2], a[3]); status < 400 && a[1] != "/v1/flows/validate" {
				r.t.Errorf("%s %s is taken: %d %v", a[0], a[1], status, m)
			}
		}
	}
	r.cookie = before
}

// shows asks for all that the API shows without being asked for a secret.
func (r *canaryRun) shows(call control.Call) {
	r.t.Helper()
	id := "/v1/calls/" + call.ID.String()
	for _, path := range []string{"/v1/secrets", "/v1/secrets/deepgram", "/v1/agents", "/v1/agents/cashier/versions/1", "/v1/webhooks", "/v1/keys", "/v1/tokens", "/v1/users", "/v1/audit?limit=200",
		"/v1/audit/export", "/v1/sessions", "/v1/calls", id, id + "/turns", id + "/transcript", "/v1/flows", "/v1/usage"} {
		r.want(200, "GET", path, r.key, "")
	}
	for _, path := range []string{"/v1/auth/me", "/v1/auth/sessions", "/v1/auth/factors"} {
		r.want(200, "GET", path, "", "")
	}
}

// TestCanaryEverywhere plants a canary wherever a secret belongs, lives through
// a day with them, and then looks for them in all that is written, sent or shown.
func TestCanaryEverywhere(t *testing.T) {
	t.Parallel()
	r, db := newCanaryRun(t)
	r.signIn()
	r.equip()
	r.follow()
	call := r.talk()
	r.misplace()
	r.shows(call)
	r.await(60*time.Second, "the webhook of the call's end", func() bool { return strings.Count(r.box.text(), call.ID.String()) > 1 })
	if got := r.vendor.sent(); !slices.Equal(got, []string{"Token " + canaryVendorKey}) {
		t.Errorf("the vendor was sent %d credentials, want its own", len(got))
	}
	if got := r.shop.sent(); !slices.Equal(got, []string{"Bearer " + canaryShopKey}) {
		t.Errorf("the shop was sent %d credentials, want its own", len(got))
	}
	if got := r.shop.text(); !strings.Contains(got, canaryCard) || !strings.Contains(got, canarySaid) {
		t.Error("the answers did not reach the shop: nothing is tested")
	}
	metrics := fetch(t, "http://"+r.metrics+"/metrics")
	r.n.signal(t, syscall.SIGTERM)
	<-r.n.done
	rows := dump(t, db)
	r.search(map[string]string{"log": r.n.log.String(), "metrics": metrics, "refusals": r.refused.String(), "answers": r.shown.String(), "events": r.followed(), "webhooks": r.box.text(),
		"database": rows, "redis": r.redis.Dump(), "recordings and other files": r.files()})
}

// search looks for every secret in every place, and for what is private where it
// may not stand.
func (r *canaryRun) search(places map[string]string) {
	r.t.Helper()
	sensitive := map[string]string{"card keyed in": canaryCard, "card typed": canarySaid}
	number := map[string]string{"caller's number": strings.TrimPrefix(canaryPhone, "+")}
	for place, text := range places {
		if len(text) < 100 {
			r.t.Errorf("%s: only %q: nothing is tested", place, text)
		}
		for what, secrets := range map[string]map[string]string{"": r.planted, "sensitive": sensitive, "number": number} {
			if what == "sensitive" && place == "database" {
				text = withoutStates(text)
			}
			if what == "number" && !slices.Contains([]string{"log", "metrics", "refusals", "redis"}, place) {
				continue // what was called by whom is what the tenant keeps and is told
			}
			if found := leakOf(text, secrets); found != nil {
				r.t.Errorf("%s: %v: %s", place, found, aroundOf(text, secrets))
			}
		}
	}
}

// withoutStates leaves out what conversations remember, which is in clear behind
// row security: docs/encryption.md says why.
func withoutStates(rows string) string {
	var b strings.Builder
	for line := range strings.Lines(rows) {
		if !strings.HasPrefix(line, "public.conversations: ") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// files is all that stands in the node's folder.
func (r *canaryRun) files() string {
	r.t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(r.data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all.WriteString(path + "\n")
		all.Write(b)
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all.String()
}
