package main

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
	"parley/store/postgres"
)

// The command says by its status whether the trail holds, and by its output
// what does not.
func TestAuditCommand(t *testing.T) {
	db, dir := databases.New(t), t.TempDir()
	key, anchors := filepath.Join(dir, "key"), filepath.Join(dir, "anchors")
	if err := ensureKey(key); err != nil {
		t.Fatal(err)
	}
	ring, err := readKeyring(key)
	if err != nil {
		t.Fatal(err)
	}
	store, err := postgres.Open(t.Context(), db.AppURL, postgres.Options{MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	log := slog.New(slog.DiscardHandler)
	put, err := openAnchor(anchors, nil, store, &gateway{log: log})
	if err != nil {
		t.Fatal(err)
	}
	sealer := &control.AuditSealer{Store: store, Chain: control.NewAuditChain(ring), Log: log, Anchor: &control.AuditAnchor{Put: put, Log: log, Ring: ring}}
	tenant := uuid.New()
	ctx := control.WithTenant(t.Context(), tenant)
	if err := store.InsertTenant(ctx, identity.Tenant{ID: tenant, Name: "a"}, identity.User{ID: uuid.New(), Email: "a@example.com", PasswordHash: "x", Role: control.RoleOwner}); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := store.Note(ctx, control.AuditEntry{Action: "flow.create", Object: "flow:1"}); err != nil {
			t.Fatal(err)
		}
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := sealer.Run(ended); err != nil { // which seals and anchors once
		t.Fatal(err)
	}
	verifyBy := func(key string, want int, args ...string) (v verdict) {
		t.Helper()
		var out, errs bytes.Buffer
		args = append([]string{"audit", "verify", "--json", "--database-url", db.AppURL, "--key-file", key, "--data", dir}, args...)
		if got := run(t.Context(), args, stdio{nil, &out, &errs}); got != want {
			t.Errorf("%q: status %d, want %d: %s%s", args, got, want, &out, &errs)
		}
		_ = json.Unmarshal(out.Bytes(), &v)
		return v
	}
	verify := func(want int, args ...string) verdict { t.Helper(); return verifyBy(key, want, args...) }
	if v := verify(0, "--anchor", anchors); !v.Holds || v.Entries < 5 || v.Anchors != 1 || v.Tenants != 1 {
		t.Errorf("verdict %+v", v)
	}
	verify(2) // no anchors where they are looked for
	verify(2, "--anchor", filepath.Join(dir, "nowhere"))
	if v := verify(0, "--no-anchor"); v.Anchored != nil {
		t.Errorf("verdict %+v", v)
	}
	other := filepath.Join(dir, "other")
	if err := os.WriteFile(other, bytes.Repeat([]byte{7}, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	if v := verifyBy(other, 1, "--no-anchor"); len(v.Findings) != 1 || v.Findings[0].Kind != control.AuditResealed {
		t.Errorf("by another key: %+v", v)
	}
	verifyBy(filepath.Join(dir, "nowhere"), 2, "--no-anchor")
	var out bytes.Buffer
	status := run(t.Context(), []string{"audit", "export", "--tenant", tenant.String(), "--database-url", db.AppURL, "--key-file", key}, stdio{nil, &out, &out})
	if lines := strings.Count(out.String(), "\n"); status != 0 || lines < 6 || !strings.Contains(out.String(), `"audit.export"`) {
		t.Errorf("export: status %d, %s", status, &out)
	}
	status = run(t.Context(), []string{"audit", "export", "--tenant", uuid.NewString(), "--database-url", db.AppURL, "--key-file", key}, stdio{nil, &out, &out})
	if status != 2 {
		t.Errorf("export of nobody: status %d", status)
	}
	super, err := pgx.Connect(t.Context(), db.SuperURL)
	if err != nil {
		t.Fatal(err)
	}
	defer super.Close(t.Context())
	if _, err := super.Exec(t.Context(), `UPDATE audit SET object = 'flow:2' WHERE tenant_id = $1 AND seq = 2`, tenant); err != nil {
		t.Fatal(err)
	}
	v := verify(1, "--anchor", anchors)
	if v.Holds || len(v.Findings) != 1 || v.Findings[0].Seq != 2 || v.Findings[0].Tenant != tenant || v.Findings[0].Kind != control.AuditEdited {
		t.Errorf("an edited entry: %+v", v)
	}
	out.Reset()
	run(t.Context(), []string{"audit", "verify", "--database-url", db.AppURL, "--key-file", key, "--anchor", anchors}, stdio{nil, &out, &out})
	if got := out.String(); !strings.Contains(got, tenant.String()+", entry "+strconv.Itoa(2)) {
		t.Errorf("for people: %s", got)
	}
}
