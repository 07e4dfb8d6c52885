package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent"
	"parley/control"
	"parley/control/api"
	"parley/control/identity"
)

// forEverybody lists routes that show one tenant's object to all, each with the
// reason.
var forEverybody = map[string]string{
	"GET /call/{agent}":                 "the page of an agent that is published for all",
	"POST /call/{agent}/token":          "the same agent's page asks for a token",
	"PUT /v1/secrets/{key}":             "makes what is missing, of one's own tenant",
	"GET /join/{file}":                  "files of the program",
	"GET /call/assets/{version}/{file}": "files of the program",
	"POST /twilio/voice/{agent}":        "a webhook, which Twilio's signature lets in",
	"POST /twilio/consult/{id}":         "a webhook, which Twilio's signature lets in",
	"POST /twilio/consult/{id}/answer":  "the same",
	"POST /twilio/consult/{id}/status":  "the same",
	"GET /twilio/media/{token}":         "the token of a call is the right to it",
	// These have tests of their own, with a real issuer and a real device.
	"GET /v1/auth/oidc/{provider}/start":    "every browser may go to an issuer",
	"GET /v1/auth/oidc/{provider}/callback": "the state of the journey is the right to it",
	"POST /v1/auth/oidc/{provider}/link":    "people's own: a key has none",
	"PATCH /v1/auth/factors/passkeys/{id}":  "people's own: a key has none",
	"DELETE /v1/auth/factors/passkeys/{id}": "people's own: a key has none",
}

// asksByPreflight: a preflight asks of the route, not of what it names.
func asksOfObject(r api.Route) bool {
	return strings.Contains(r.Pattern, "{") && r.Method != http.MethodOptions && r.Class != api.Internal && forEverybody[r.Method+" "+r.Pattern] == ""
}

// belongings gives a tenant one object of each kind, by the API as far as it
// goes.
func (w *wired) belongings(made identity.DemoMade) (chatToken string) {
	w.t.Helper()
	post := func(path, body string) map[string]any {
		w.t.Helper()
		w.forgive()
		got := w.ask(sending{method: "POST", path: path, bearer: made.APIKey, body: body})
		var m map[string]any
		if err := json.Unmarshal([]byte(got.body), &m); err != nil || got.status >= 300 {
			w.t.Fatalf("POST %s: %d %s", path, got.status, got.body)
		}
		return m
	}
	flow, desk := made.Agents[0].Settings.FlowID.String(), made.Agents[0]
	chat := post("/chat/start", `{"flow_id":"`+flow+`"}`)
	number := post("/v1/numbers", fmt.Sprintf(`{"number":"+1555%07d","agent_id":"%s"}`, uuid.New().ID()%1e7, desk.ID))["number"]
	post("/v1/calls", fmt.Sprintf(`{"agent_id":"%s","to":"+12025550123","from":"%s","at":"%s","consent":{"given":true,"source":"form","at":"2026-01-02T03:04:05Z"}}`,
		desk.ID, number, time.Now().Add(48*time.Hour).UTC().Format(time.RFC3339)))
	post("/v1/webhooks", `{"name":"w","url":"https://hooks.example"}`)
	post("/v1/origins", `{"origin":"https://shop.example"}`)
	post("/v1/auth/providers", `{"name":"corp","settings":{"kind":"generic","issuer":"https://login.example","client_id":"c"}}`)
	post("/v1/auth/issuers", `{"issuer":"https://login.example","settings":{"scopes":{"read":["calls.read"]}}}`)
	secret := w.ask(sending{method: "PUT", path: "/v1/secrets/crm-" + made.Tenant.String()[24:], bearer: made.APIKey,
		body: `{"value":"long enough to be one","hosts":["api.example.com","api.twilio.com"]}`})
	if secret.status >= 300 {
		w.t.Fatalf("put a secret: %d %s", secret.status, secret.body)
	}
	post("/v1/carrier-accounts", `{"name":"own","account_sid":"AC`+strings.Repeat("a", 32)+`","token_secret":"crm-`+made.Tenant.String()[24:]+`"}`)
	if draft := w.ask(sending{method: "PUT", path: "/v1/agents/" + desk.ID.String() + "/draft", bearer: made.APIKey,
		body: `{"settings":{"kind":"prompt","prompt":"x"}}`}); draft.status >= 300 {
		w.t.Fatalf("put a draft: %d %s", draft.status, draft.body)
	}
	post("/v1/keys", `{"name":"theirs","scopes":["calls.read"]}`)
	post("/v1/holds", `{"caller":"+15550009999","reason":"case 1"}`)
	post("/v1/erasures", `{"caller":"+15550008888"}`)
	content := post("/v1/content", `{"type":"joke","content":{"text":"Ha."}}`)
	post("/v1/content/"+content["id"].(string)+"/variants", `{"variant_key":"b","variant_data":{"text":"Ho."}}`)
	call, err := w.calls.Arrive(w.t.Context(), control.Arrival{Carrier: "webrtc", Agent: desk.ID.String()})
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, serving, err := w.calls.Begin(w.t.Context(), call.ID.String(), func(string) {})
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.calls.Order(control.WithTenant(w.t.Context(), made.Tenant),
		control.Command{Call: call.ID, Kind: control.CommandSay, Words: "x"}, control.AnyRevision); err != nil {
		w.t.Fatal(err)
	}
	key := control.BlobKey(call)
	blob, err := w.blobs.Create(ctx, key)
	if err == nil {
		_, _ = blob.Write([]byte("RIFF0123456789"))
		err = blob.Close()
	}
	if err == nil {
		err = w.calls.Finish(ctx, serving, agent.Ending{Reason: "goodbye"}, key)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return chat["session_token"].(string)
}

// A row's values that a path could name.
type namedRow []string

// names lists, for each row of a tenant in the whole database, what a path
// could name it by: ids, and short words.
func (w *wired) names(tenant uuid.UUID) (rows []namedRow) {
	w.t.Helper()
	for _, table := range w.list(`SELECT c.table_name FROM information_schema.columns c
		WHERE c.table_schema = 'public' AND c.column_name = 'tenant_id' ORDER BY 1`) {
		r, err := w.super.Query(w.t.Context(), `SELECT to_jsonb(t) FROM `+table+` t WHERE tenant_id = $1 LIMIT 3`, tenant)
		if err != nil {
			w.t.Fatal(err)
		}
		found, err := pgx.CollectRows(r, pgx.RowTo[map[string]any])
		if err != nil {
			w.t.Fatal(err)
		}
		for _, m := range found {
			delete(m, "tenant_id")
			var row namedRow
			for column, v := range m {
				s, ok := v.(string)
				_, isID := uuid.Parse(s)
				named := slices.Contains([]string{"name", "key", "number", "version"}, column)
				if n, is := v.(float64); is && named {
					s, ok = fmt.Sprint(n), true
				}
				if ok && s != "" && (isID == nil || named && !strings.ContainsAny(s, "/? %")) && !slices.Contains(row, s) {
					row = append(row, s)
				}
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func (w *wired) list(sql string, args ...any) []string {
	w.t.Helper()
	r, err := w.super.Query(w.t.Context(), sql, args...)
	if err != nil {
		w.t.Fatal(err)
	}
	got, err := pgx.CollectRows(r, pgx.RowTo[string])
	if err != nil {
		w.t.Fatal(err)
	}
	return got
}

// paths fills a pattern with what a tenant's rows are named by: a pattern of one
// name with each of them, one of more with those that share a row.
func paths(pattern string, rows []namedRow, token string) []string {
	var out []string
	add := func(p string) {
		if strings.HasSuffix(p, "/diff") {
			p += "?from=1"
		}
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	if strings.Contains(pattern, "{token}") {
		return []string{strings.Replace(pattern, "{token}", token, 1)}
	}
	first, rest, _ := strings.Cut(pattern, "{")
	_, rest, _ = strings.Cut(rest, "}")
	for _, row := range rows {
		for _, name := range row {
			one := first + name + rest
			if !strings.Contains(rest, "{") {
				add(one)
				continue
			}
			before, after, _ := strings.Cut(one, "{")
			_, after, _ = strings.Cut(after, "}")
			for _, second := range append(slices.Clone(row), "1") {
				if second != name {
					add(before + second + after)
				}
			}
		}
	}
	return out
}

// asksFor are requests that reach an object if it is there, by the route: with
// bodies that its parser takes.
var bodiesOf = map[string]string{
	"/versions": `{"document":` + shortFlow + `}`, "/draft": `{"document":{}}`, "/state": `{"updates":{}}`, "/interact": `{"input":"1"}`,
	"/v1/users/{id}": `{"role":"viewer"}`, "/v1/secrets/{key}/test": `{"url":"https://api.example.com/v1"}`,
	"/v1/sessions/{id}/events": `{"event":"paid"}`, "/say": `{"text":"x"}`, "/whisper": `{"text":"x"}`, "/transfer": `{"to":"+15550009"}`, "/variants": `{"variant_key":"k","variant_data":{"text":"x"}}`,
}

func bodyOf(r api.Route) string {
	if r.Body <= 0 || strings.HasPrefix(r.Pattern, "/webrtc/") { // whose bodies are no JSON
		return ""
	}
	for suffix, b := range bodiesOf {
		if strings.HasSuffix(r.Pattern, suffix) {
			return b
		}
	}
	return `{}`
}

// rowsOf is all that a tenant has, but for what is counted as it is looked at.
func (w *wired) rowsOf(tenant uuid.UUID) string {
	w.t.Helper()
	var all strings.Builder
	for _, table := range w.list(`SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'tenant_id' ORDER BY 1`) {
		for _, row := range w.list(`SELECT (to_jsonb(t) - 'last_used_at' - 'leased_until' - 'lease')::text FROM `+table+` t WHERE tenant_id = $1 ORDER BY 1`, tenant) {
			all.WriteString(table + " " + row + "\n")
		}
	}
	return all.String()
}

// What belongs to one tenant is, to the owner of another, as if it were not: on
// every route that names an object, for every object that there is. Afterwards
// its own owner finds each of them, so that something was tried.
func TestCrossTenantWalk(t *testing.T) {
	w := newWired(t)
	mine, theirs := w.tenant("a@example.com"), w.tenant("b@example.com")
	token := w.belongings(mine)
	w.belongings(theirs)
	rows := w.names(mine.Tenant)
	before := w.rowsOf(mine.Tenant)
	cookie, tried := w.login("b@example.com"), 0
	var walked []api.Route
	for _, r := range w.api.Routes() {
		if !asksOfObject(r) {
			continue
		}
		walked = append(walked, r)
		w.forgive()
		shared := map[string]bool{} // names that the other tenant has too
		for _, row := range w.names(theirs.Tenant) {
			for _, name := range row {
				shared[name] = true
			}
		}
		byKey := w.ask(sending{method: r.Method, path: unknown(r.Pattern), bearer: theirs.APIKey, body: bodyOf(r)})
		byPerson := byKey
		if guarded(r) {
			byPerson = w.ask(sending{method: r.Method, path: unknown(r.Pattern), cookie: cookie, body: bodyOf(r)})
		}
		for _, path := range paths(r.Pattern, rows, token) {
			if named := strings.Split(path, "/"); slices.ContainsFunc(named, func(s string) bool { return shared[s] && s != "1" }) {
				continue
			}
			tried++
			s := sending{method: r.Method, path: path, bearer: theirs.APIKey, body: bodyOf(r)}
			missing := byKey
			if guarded(r) && tried%7 == 0 { // a person now and then
				s.bearer, s.cookie, missing = "", cookie, byPerson
			}
			if tried%50 == 0 {
				w.forgive()
			}
			got := w.ask(s)
			if got.status == 422 && strings.Contains(got.body, `"location":"path.`) {
				continue // a name of another form than the route's ids have
			}
			if got.status != missing.status || got.body != missing.body || got.status < 400 {
				t.Errorf("%s %s: %d %s; an id that nothing has: %d %s", r.Method, path, got.status, got.body, missing.status, missing.body)
			}
		}
	}
	if after := w.rowsOf(mine.Tenant); after != before {
		t.Errorf("the other tenant's rows changed:\n%s\nwere\n%s", after, before)
	}
	if tried < 10*len(walked) {
		t.Errorf("%d requests on %d routes: too few to prove anything", tried, len(walked))
	}
	w.foundByItsOwner(mine, walked, rows, token)
}

// foundByItsOwner asks as the owner, what deletes last: a route that nothing of
// the tenant answers was not tried by the walk.
func (w *wired) foundByItsOwner(made identity.DemoMade, routes []api.Route, rows []namedRow, token string) {
	w.t.Helper()
	order := func(r api.Route) int {
		return slices.Index([]string{"GET", "PUT", "PATCH", "POST", "DELETE"}, r.Method)*1000 - len(r.Pattern)
	}
	slices.SortFunc(routes, func(a, b api.Route) int { return cmp.Compare(order(a), order(b)) })
	for _, r := range routes {
		w.forgive()
		missing := w.ask(sending{method: r.Method, path: unknown(r.Pattern), bearer: made.APIKey, body: bodyOf(r)})
		found := slices.ContainsFunc(paths(r.Pattern, rows, token), func(path string) bool {
			bearer := made.APIKey
			if strings.HasPrefix(r.Pattern, "/chat/") {
				bearer = token
			}
			got := w.ask(sending{method: r.Method, path: path, bearer: bearer, body: bodyOf(r)})
			return got.status != missing.status && got.status != 429 || got.body != missing.body && got.status < 400
		})
		if !found && unseeded[r.Method+" "+r.Pattern] == "" {
			w.t.Errorf("%s %s: nothing of the tenant is found by it: give belongings an object of the kind", r.Method, r.Pattern)
		}
	}
}

// unseeded lists routes whose object the walk has none of, each with the reason.
var unseeded = map[string]string{
	"GET /v1/calls/{id}/messages/{message}": "the walk's call left no message",
	"POST /v1/calls/{id}/restore":           "the walk has deleted nothing yet",
	"POST /v1/sessions/{id}/restore":        "the same",
	"PUT /v1/agents/{agent}/draft":          "the walk's body is no settings: the owner is told so",
	"POST /v1/agents/{agent}/versions":      "the same",
	"POST /v1/agents/{agent}/rollback":      "of the walk's agent one version alone was live",
	"PATCH /v1/tenants/{id}":                "platform administrators look after all tenants",
	"POST /v1/tenants/{id}/suspend":         "the same",
	"POST /v1/tenants/{id}/resume":          "the same",
	"GET /v1/tenants/{id}/outbound":         "the same",
	"POST /v1/tenants/{id}/outbound/resume": "the same",
	"PATCH /webrtc/session/{id}":            "a browser's call in progress; signaling's tests hold its bearer",
	"DELETE /webrtc/session/{id}":           "the same",
}
