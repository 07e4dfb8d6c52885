package main

import (
	"cmp"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"parley/control/api"
)

// noEntry lists routes of /v1 that change something, or look so, and leave no
// entry in the audit trail, each with the reason.
var noEntry = map[string]string{
	"POST /v1/flows/validate":                 "changes nothing",
	"POST /v1/flows/{flow}/validate":          "changes nothing",
	"POST /v1/flows/{flow}/simulate":          "changes nothing",
	"POST /v1/sessions/{id}/replay":           "changes nothing",
	"POST /v1/secrets/{key}/test":             "changes nothing",
	"POST /v1/auth/introspect":                "changes nothing",
	"PUT /v1/flows/{flow}/draft":              "a draft is nowhere in use; the version made of it is noted",
	"DELETE /v1/flows/{flow}/draft":           "the same",
	"POST /v1/sessions/{id}/end":              "the session's own history and events say so",
	"POST /v1/sessions/{id}/events":           "is an event of the session itself",
	"POST /v1/webhooks/{id}/test":             "the delivery is its record",
	"POST /v1/webhooks/{id}/replay":           "the deliveries are its record",
	"POST /v1/auth/mfa/begin":                 "asks a device; what comes of it is noted",
	"POST /v1/auth/passkey/begin":             "the same",
	"POST /v1/auth/step-up/begin":             "the same",
	"POST /v1/auth/refresh":                   "goes on with a grant that was noted; a token that was used before is noted",
	"POST /v1/auth/oidc/{provider}/link":      "sends the browser to the issuer; the identity that comes back is noted",
	"POST /v1/agents/{agent}/test-call":       "is a call, which is a record itself",
	"POST /v1/agents/{agent}/call-tokens":     "opens one call, within minutes, which is a record itself",
	"PUT /v1/agents/{agent}/draft":            "a draft is nowhere in use; the version made of it is noted",
	"DELETE /v1/agents/{agent}/draft":         "the same",
	"POST /v1/agents/{agent}/validate":        "changes nothing",
	"POST /v1/carrier-accounts/{id}/test":     "changes nothing",
	"POST /v1/auth/factors/passkey-challenge": "asks a device",
	"POST /v1/auth/factors/totp":              "begins; that it is confirmed is noted",
	"PATCH /v1/auth/factors/passkeys/{id}":    "a name",
}

// entryElsewhere lists routes that need a device or an issuer, or are asked
// without a tenant; the test named looks for entries of their kind.
var entryElsewhere = map[string]string{
	"POST /v1/auth/factors/totp/confirm":    "TestSignInWithAuthenticatorApp",
	"DELETE /v1/auth/factors/totp":          "TestSignInWithAuthenticatorApp",
	"POST /v1/auth/factors/recovery-codes":  "TestSignInWithAuthenticatorApp",
	"POST /v1/auth/step-up":                 "TestSignInWithAuthenticatorApp",
	"POST /v1/auth/mfa":                     "TestSignInWithAuthenticatorApp",
	"DELETE /v1/users/{id}/factors":         "TestSignInWithAuthenticatorApp",
	"POST /v1/auth/factors/passkeys":        "by the trigger of TestSignInWithAuthenticatorApp",
	"DELETE /v1/auth/factors/passkeys/{id}": "by the trigger of TestSignInWithAuthenticatorApp",
	"POST /v1/auth/passkey":                 "by the trigger of TestSignInWithAuthenticatorApp",
}

// A deed is a request that succeeds. Words in braces of its route are ids that
// earlier deeds kept, {id} that of the kind it names.
type deed struct {
	route, of, body string
	keep            string // name of the id in the answer
	as              string // key (of all scopes), person (the owner), nobody
}

func deeds() []deed {
	return []deed{
		{"POST /v1/auth/login", "", `{"email":"owner@example.com","password":"` + wiredPassword + `"}`, "", "nobody"},
		{"POST /v1/flows", "", `{"name":"f","document":` + shortFlow + `}`, "flow", "key"},
		{"PATCH /v1/flows/{flow}", "", `{"name":"g"}`, "", "key"},
		{"POST /v1/flows/{flow}/publish", "", `{}`, "", "key"},
		{"POST /v1/flows/{flow}/versions", "", `{"document":` + strings.Replace(shortFlow, "1.0.0", "1.1.0", 1) + `}`, "", "key"},
		{"POST /v1/flows/{flow}/publish", "", `{}`, "", "key"},
		{"POST /v1/flows/{flow}/rollback", "", `{}`, "", "key"},
		{"POST /v1/content", "", `{"type":"joke","content":{"text":"Ha."}}`, "content", "key"},
		{"PATCH /v1/content/{content}", "", `{"tags":["a"]}`, "", "key"},
		{"POST /v1/content/{content}/variants", "", `{"variant_key":"b","variant_data":{"text":"Ho."}}`, "variant", "key"},
		{"PATCH /v1/content/{content}/variants/{variant}", "", `{"weight":5}`, "", "key"},
		{"DELETE /v1/content/{content}/variants/{variant}", "", "", "", "key"},
		{"POST /v1/content/{content}/archive", "", "", "", "key"},
		{"POST /v1/webhooks", "", `{"name":"w","url":"https://hooks.example"}`, "webhook", "key"},
		{"PATCH /v1/webhooks/{id}", "webhook", `{"name":"x"}`, "", "key"},
		{"POST /v1/webhooks/{id}/rotate", "webhook", `{}`, "", "key"},
		{"DELETE /v1/webhooks/{id}", "webhook", "", "", "key"},
		{"PUT /v1/secrets/{key}", "", `{"value":"long enough to be one","hosts":["api.example.com"]}`, "", "key"},
		{"DELETE /v1/secrets/{key}", "", "", "", "key"},
		{"PUT /v1/egress", "", `{"hosts":["api.example.com"]}`, "", "key"},
		{"POST /v1/origins", "", `{"origin":"https://other.example"}`, "origin", "key"},
		{"DELETE /v1/origins/{id}", "origin", "", "", "key"},
		{"POST /v1/auth/providers", "", `{"name":"corp2","settings":{"kind":"generic","issuer":"https://login2.example","client_id":"c"}}`, "provider", "key"},
		{"PATCH /v1/auth/providers/{id}", "provider", `{"enabled":false}`, "", "key"},
		{"DELETE /v1/auth/providers/{id}", "provider", "", "", "key"},
		{"POST /v1/auth/issuers", "", `{"issuer":"https://login2.example","settings":{"scopes":{"read":["calls.read"]}}}`, "issuer", "key"},
		{"PATCH /v1/auth/issuers/{id}", "issuer", `{"enabled":false}`, "", "key"},
		{"DELETE /v1/auth/issuers/{id}", "issuer", "", "", "key"},
		{"POST /v1/keys", "", `{"name":"k","scopes":["calls.read"]}`, "apikey", "key"},
		{"PATCH /v1/keys/{id}", "apikey", `{"name":"l"}`, "", "key"},
		{"POST /v1/keys/{id}/rotate", "apikey", `{}`, "", "key"},
		{"DELETE /v1/keys/{id}/previous", "apikey", "", "", "key"},
		{"DELETE /v1/keys/{id}", "apikey", "", "", "key"},
		{"POST /v1/tokens", "", `{"name":"t","scopes":["calls.read"]}`, "token", "key"},
		{"DELETE /v1/tokens/{id}", "token", "", "", "key"},
		{"POST /v1/invitations", "", `{"email":"eve@example.com","role":"viewer"}`, "invitation", "person"},
		{"POST /v1/invitations/{id}/resend", "invitation", "", "invited", "person"},
		{"POST /v1/auth/accept-invitation", "", `{"token":"{invited}","password":"seven amber gulls wade","name":"Eve"}`, "", "nobody"},
		{"POST /v1/invitations", "", `{"email":"adam@example.com","role":"viewer"}`, "invitation", "person"},
		{"DELETE /v1/invitations/{id}", "invitation", "", "", "person"},
		{"PATCH /v1/users/{id}", "colleague", `{"role":"viewer"}`, "", "person"},
		{"POST /v1/users/{id}/reset-password", "colleague", "", "reset", "person"},
		{"POST /v1/auth/reset-password", "", `{"token":"{reset}","password":"eight amber gulls wade"}`, "", "nobody"},
		{"DELETE /v1/users/{id}", "colleague", "", "", "person"},
		{"PATCH /v1/tenants/{id}", "tenant", `{"name":"Renamed"}`, "", "person"},
		{"POST /v1/tenants", "", `{"name":"Other","owner_email":"other@example.com"}`, "other", "person"},
		{"POST /v1/tenants/{id}/suspend", "other", "", "", "person"},
		{"POST /v1/tenants/{id}/resume", "other", "", "", "person"},
		{"POST /v1/security/blocks", "", `{"network":"198.51.100.0/24","seconds":300,"reason":"test"}`, "", "person"},
		{"POST /v1/security/blocks/lift", "", `{"network":"198.51.100.0/24"}`, "", "person"},
		{"POST /v1/tenants/{id}/outbound/resume", "tenant", "", "", "person"},
		{"DELETE /v1/sessions/{id}", "session", "", "", "key"},
		{"POST /v1/auth/token", "", `{"grant_type":"password","email":"owner@example.com","password":"` + wiredPassword + `"}`, "refresh", "nobody"},
		{"POST /v1/auth/revoke", "", `{"token":"{refresh}"}`, "", "nobody"},
		{"DELETE /v1/auth/sessions/{id}", "browser", "", "", "person"},
		{"POST /v1/auth/login", "", `{"email":"owner@example.com","password":"` + wiredPassword + `"}`, "", "nobody"},
		{"DELETE /v1/auth/sessions", "", "", "", "person"},
		{"POST /v1/auth/switch", "", `{"tenant_id":"{tenant}"}`, "", "person"},
		{"POST /v1/auth/password", "", `{"old_password":"` + wiredPassword + `","password":"nine amber gulls wade"}`, "", "person"},
		{"POST /v1/auth/logout", "", "", "", "person"},
	}
}

// Whatever changes by the API is in the audit trail, under the request's own id,
// or stands on a list with the reason; and nobody edits what somebody else has
// edited meanwhile, without seeing it.
func TestRoutesLeaveEntries(t *testing.T) {
	w := newWired(t)
	made := w.tenant("owner@example.com")
	if _, err := w.super.Exec(t.Context(), `UPDATE users SET platform = true WHERE email = 'owner@example.com'`); err != nil {
		t.Fatal(err)
	}
	w.belongings(made)
	ids := map[string]string{"tenant": made.Tenant.String(), "key": "crm"}
	ids["colleague"] = w.list(`SELECT id::text FROM users WHERE email = $1`, w.colleague(made.Tenant, "editor"))[0]
	ids["session"] = w.list(`SELECT id::text FROM conversations WHERE tenant_id = $1 AND channel = 'chat' LIMIT 1`, made.Tenant)[0]
	cookie := w.login("owner@example.com")
	w.login("owner@example.com")
	ids["browser"] = w.list(`SELECT id::text FROM browser_sessions ORDER BY created_at DESC LIMIT 1`)[0]
	w.calling(made, ids)
	done, edits := map[string]bool{}, w.editor(made.APIKey)
	for _, a := range drafts() {
		if got := edits.do(a, ids, made.APIKey, &cookie); got.status >= 300 {
			t.Errorf("%s: %d %s", a.route, got.status, got.body)
		}
	}
	for _, a := range append(deeds(), lineDeeds()...) {
		done[a.route] = true
		w.forgive()
		got := edits.do(a, ids, made.APIKey, &cookie)
		if got.status >= 300 {
			t.Errorf("%s: %d %s", a.route, got.status, got.body)
			continue
		}
		if n := w.list(`SELECT action FROM audit WHERE request_id = $1`, got.header.Get("X-Request-Id")); len(n) == 0 {
			t.Errorf("%s leaves no entry", a.route)
		}
	}
	edits.finish(t)
	for _, r := range w.api.Routes() {
		what := r.Method + " " + r.Pattern
		if !changes(r) || done[what] || noEntry[what] != "" || entryElsewhere[what] != "" {
			continue
		}
		t.Errorf("%s: show that it leaves an entry, by a deed, or say why it leaves none", what)
	}
	for _, list := range []map[string]string{noEntry, entryElsewhere} {
		for what := range list {
			if !slices.ContainsFunc(w.api.Routes(), func(r api.Route) bool { return r.Method+" "+r.Pattern == what }) {
				t.Errorf("%s is on a list and is no route", what)
			}
		}
	}
	w.otherwise(made)
	w.catalogued()
}

func changes(r api.Route) bool {
	return strings.HasPrefix(r.Pattern, "/v1/") && slices.Contains([]string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete}, r.Method)
}

// do sends a deed, based on an ETag if there is one, and keeps what it asks to
// keep.
func (w *wired) do(a deed, ids map[string]string, key string, cookie *string, match ...string) told {
	w.t.Helper()
	ids["id"] = ids[a.of]
	method, path, _ := strings.Cut(a.route, " ")
	fill := func(text string) string {
		for name, id := range ids {
			text = strings.ReplaceAll(text, "{"+name+"}", id)
		}
		return text
	}
	s := sending{method: method, path: fill(path), body: fill(a.body)}
	if len(match) > 0 {
		s.header = http.Header{"If-Match": match}
	}
	switch a.as {
	case "key":
		s.bearer = key
	case "person":
		s.cookie = *cookie
	}
	got := w.ask(s)
	for _, c := range (&http.Response{Header: got.header}).Cookies() {
		if strings.HasSuffix(c.Name, "parley_session") && c.Value != "" && a.as == "person" {
			*cookie = c.Name + "=" + c.Value
		}
	}
	var m map[string]any
	if a.keep == "" || json.Unmarshal([]byte(got.body), &m) != nil {
		return got
	}
	field := map[string]string{"invited": "token", "reset": "token", "refresh": "refresh_token"}[a.keep]
	ids[a.keep], _ = m[cmp.Or(field, "id")].(string)
	return got
}

// listedActions are those of docs/audit.md.
func listedActions(t *testing.T) map[string]bool {
	t.Helper()
	page, err := os.ReadFile("../../docs/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	_, catalogue, _ := strings.Cut(string(page), "## The actions")
	listed := map[string]bool{}
	for _, m := range onThePage.FindAllStringSubmatch(catalogue, -1) {
		listed[m[1]] = true
	}
	return listed
}

// The page lists each action that the code and the database note, and no other.
func TestAuditActionsPage(t *testing.T) {
	listed, noted := listedActions(t), notedActions(t)
	for _, a := range slices.Sorted(maps.Keys(noted)) {
		if !listed[a] {
			t.Errorf("docs/audit.md does not list %s (%s)", a, noted[a])
		}
	}
	for _, a := range slices.Sorted(maps.Keys(listed)) {
		if noted[a] == "" {
			t.Errorf("docs/audit.md lists %s, which nothing notes", a)
		}
	}
}

// madeActions are those whose names are put together, by what puts them together.
var madeActions = map[string][]string{
	"audit_signin":   {"factor.add", "factor.change", "factor.remove", "provider.add", "provider.change", "provider.remove", "identity.add", "identity.remove", "issuer.add", "issuer.change", "issuer.remove"},
	"audit_row":      {"content.create", "content.change", "content_variant.create", "content_variant.change", "content_variant.delete", "webhook.create", "webhook.change", "webhook.delete"},
	"audit_released": {"flow.change", "agent.create", "agent.change", "agent.delete", "agent.version", "agent.publish", "agent.rollback"},
	"audit_command":  {"call.hangup", "call.say", "call.transfer", "call.warm_transfer", "call.whisper"},
	"audit_line":     {"number.create", "number.change", "number.delete", "carrier_account.create", "carrier_account.change", "carrier_account.delete"},
	"threatActions":  {"threat.stuffing_from", "threat.stuffing_of", "threat.key_moved", "threat.enumeration"},
}

var (
	inGo       = regexp.MustCompile(`(?:Action: |noteBlock\(ctx, |\.note\([^"\n]*|note_audit\(current_tenant\(\), )["']([a-z_]+\.[a-z_]+)["']`)
	auditing   = regexp.MustCompile(`(?s)FUNCTION audit_\w+\(\) RETURNS trigger.*?END \$\$`)
	wordInSQL  = regexp.MustCompile(`'([a-z_]+\.[a-z_]+)'`)
	onThePage  = regexp.MustCompile("`([a-z_]+\\.[a-z_]+)`")
	migrations = "../../store/postgres/migrations"
)

// notedActions finds them in Go and SQL, with where each is from.
func notedActions(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for by, list := range madeActions {
		for _, a := range list {
			out[a] = by
		}
	}
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		isSQL := strings.HasPrefix(path, migrations) && strings.HasSuffix(path, ".sql")
		if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") || !isSQL && !strings.HasSuffix(path, ".go") {
			return err
		}
		b, err := os.ReadFile(path)
		text, find := string(b), inGo
		if isSQL {
			text, find = strings.Join(auditing.FindAllString(text, -1), "\n"), wordInSQL
		}
		for _, m := range find.FindAllStringSubmatch(text, -1) {
			out[m[1]] = filepath.Base(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
