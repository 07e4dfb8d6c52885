package main

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/api"
)

var update = flag.Bool("update", false, "write generated pages instead of comparing them")

// mayRole is what the policy says of a person in a role and a route.
func mayRole(r api.Route, role control.Role) bool {
	p := control.Principal{Kind: control.PrincipalUser, Tenant: uuid.Max, Role: role}
	if r.Class == api.Admin && role != control.RoleOwner && role != control.RoleAdmin {
		return false
	}
	return control.Allow(p, r.Permission, control.Object{}) == nil
}

// mayScope is what the policy says of a key with one scope and a route.
func mayScope(r api.Route, scope control.Permission) bool {
	p := control.Principal{Kind: control.PrincipalKey, Tenant: uuid.Max, Scopes: []control.Permission{scope}}
	return control.Allow(p, r.Permission, control.Object{}) == nil
}

// The server answers each role, and a key of each single scope, as the policy's
// table says, on every route.
func TestPermissionMatrix(t *testing.T) {
	w := newWired(t)
	made := w.tenant("owner@example.com")
	asked, let, cookies := 0, 0, map[string]string{}
	// hold asks a route, and compares whether it is forbidden. What is let in
	// meets an id that nothing has, or an empty body.
	hold := func(who, email string, r api.Route, s sending, may bool) {
		t.Helper()
		s.cookie = cookies[email]
		s.method, s.path, s.body = r.Method, unknown(r.Pattern), least(r)
		got := w.ask(s)
		if email != "" && got.code == "unauthenticated" { // the last one signed them out
			w.forgive()
			cookies[email] = w.login(email)
			s.cookie = cookies[email]
			got = w.ask(s)
		}
		asked++
		if may {
			let++
		}
		// Another 403 than "forbidden" comes after the policy: a second factor, say.
		if forbidden := got.status == 403 && got.code == "forbidden"; forbidden == may || got.code == "unauthenticated" || got.status == 429 || got.status >= 500 {
			t.Errorf("%s asks %s %s: %d %s; the policy lets in: %v", who, r.Method, r.Pattern, got.status, got.code, may)
		}
	}
	for _, role := range control.Roles() {
		email := w.colleague(made.Tenant, role)
		for _, r := range w.api.Routes() {
			if guarded(r) {
				w.forgive()
				hold(string(role), email, r, sending{}, mayRole(r, role))
			}
		}
	}
	for _, scope := range control.Scopes() {
		key := w.keyOf(made.Tenant, scope)
		for _, r := range w.api.Routes() {
			if guarded(r) {
				hold("a key with "+string(scope), "", r, sending{bearer: key}, mayScope(r, scope))
			}
		}
		w.forgive()
	}
	if routes := len(w.api.Routes()); asked < 20*routes || let < routes {
		t.Errorf("%d asked, %d of them let in: too few to prove anything", asked, let)
	}
}

// docs/permissions.md is what the policy and the registry say. Write it anew by
// go test ./cmd/parley -run TestPermissionsPage -update.
func TestPermissionsPage(t *testing.T) {
	w := newWired(t)
	var b strings.Builder
	b.WriteString("# Who may do what\n\nWritten by a test from the policy's table (`control/policy.go`) and the registry of routes; another test\n" +
		"holds the running program to it, each role and each scope on each route. Nobody may do what is not listed.\n\n" +
		"Permissions are the scopes of keys and tokens, too. A key may not be given more than its maker has.\n\n| permission |")
	for _, role := range control.Roles() {
		fmt.Fprintf(&b, " %s |", role)
	}
	b.WriteString("\n|---|" + strings.Repeat(":-:|", len(control.Roles())) + "\n")
	for _, p := range control.Scopes() {
		fmt.Fprintf(&b, "| `%s` |", p)
		for _, role := range control.Roles() {
			b.WriteString(map[bool]string{true: " yes |", false: "  |"}[role.May(p)])
		}
		b.WriteString("\n")
	}
	b.WriteString("\n## Routes\n\n`anyone` needs no credentials here; class `session` has tokens of its own, and class `webhook` a signature\n" +
		"(named after it). `signed_in` is any principal of a tenant; `platform` a platform administrator. Class `admin` is for\n" +
		"owners and admins, and for keys with the permission. Class `internal` is on the admin listener alone.\n\n" +
		"| route | class | permission | limit | body | roles |\n|---|---|---|---|---|---|\n")
	for _, r := range w.api.Routes() {
		var roles []string
		for _, role := range control.Roles() {
			if guarded(r) && mayRole(r, role) {
				roles = append(roles, string(role))
			}
		}
		class, body, who := string(r.Class), "none", strings.Join(roles, ", ")
		if r.Verifier != "" {
			class += " (" + r.Verifier + ")"
		}
		if r.Body > 0 {
			body = fmt.Sprintf("%d KiB", r.Body>>10)
		}
		if len(roles) == len(control.Roles()) {
			who = "all"
		}
		fmt.Fprintf(&b, "| `%s %s` | %s | `%s` | %d in %s | %s | %s |\n", r.Method, r.Pattern, class, r.Permission, r.Limit.N, r.Limit.Per, body, who)
	}
	const page = "../../docs/permissions.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	have, err := os.ReadFile(page)
	if err != nil || string(have) != b.String() {
		stale := slices.DeleteFunc(strings.Split(b.String(), "\n"), func(line string) bool { return strings.Contains(string(have), line) })
		t.Errorf("docs/permissions.md is not what the program does (%v); lines that it lacks:\n%s", err, strings.Join(stale, "\n"))
	}
}
