package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/control/identity"
)

// The first tenant is made at the machine; its owner joins by the link.
func TestTenantCommand(t *testing.T) {
	w := newWired(t)
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DATABASE_URL", w.db.AppURL)
	t.Setenv("PARLEY_KEY_FILE", key)
	var out, errs bytes.Buffer
	do := func(want int, args ...string) string {
		t.Helper()
		out.Reset()
		errs.Reset()
		if got := run(t.Context(), append([]string{"tenant"}, args...), stdio{strings.NewReader(""), &out, &errs}); got != want {
			t.Fatalf("parley tenant %s: exit %d, want %d: %s", args[0], got, want, errs.String())
		}
		return out.String()
	}
	var made tenantMade
	if err := json.Unmarshal([]byte(do(0, "create", "Acme", "--owner", "Boss@acme.example", "--platform", "--json", "--public-url", "https://voice.example.com/")), &made); err != nil {
		t.Fatal(err)
	}
	if made.Link != "https://voice.example.com/join#"+made.Token {
		t.Errorf("link %s", made.Link)
	}
	if _, err := w.people.invitations.Accept(t.Context(), made.Token, wiredPassword, "Boss", identity.Client{}); err != nil {
		t.Fatal(err)
	}
	cookie := w.login("boss@acme.example")
	if got := w.ask(sending{method: "GET", path: "/v1/tenants", cookie: cookie}); got.status != 200 || !strings.Contains(got.body, made.ID.String()) {
		t.Errorf("the owner lists tenants: %d %s", got.status, got.body)
	}
	if said := do(0, "list"); !strings.Contains(said, "Acme") {
		t.Errorf("list: %s", said)
	}
	if said := do(0, "create", "Other", "--owner", "x@other.example"); !strings.Contains(said, "parley_invite_") {
		t.Errorf("create: %s", said)
	}
	do(1, "create", "Other", "--owner", "nobody")
	do(2, "create", "Other")
	secret := "postgres://parley_app:zq81canary@127.0.0.1:1/parley"
	do(2, "list", "--database-url", secret)
	if strings.Contains(errs.String(), "zq81canary") || !strings.Contains(errs.String(), "DATABASE_URL") {
		t.Errorf("a password in the arguments: %s", errs.String())
	}
}

// The page of links is there, and lets scripts of its own alone run.
func TestJoinPage(t *testing.T) {
	w := newWired(t)
	page := w.ask(sending{method: "GET", path: "/join"})
	if page.status != 200 || !strings.Contains(page.body, "/join/join.js") || !strings.Contains(page.header.Get("Content-Security-Policy"), "script-src 'self'") ||
		strings.Contains(page.header.Get("Content-Security-Policy"), "unsafe") {
		t.Errorf("page: %d %v", page.status, page.header)
	}
	script := w.ask(sending{method: "GET", path: "/join/join.js"})
	if script.status != 200 || !strings.HasPrefix(script.header.Get("Content-Type"), "text/javascript") || !strings.Contains(script.body, "accept-invitation") {
		t.Errorf("script: %d %v", script.status, script.header)
	}
}
