package control_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

func keyring(t testing.TB, fill string) *control.Keyring {
	t.Helper()
	ring, err := control.NewKeyring([]byte(strings.Repeat(fill, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// The seal of an entry is known: another program can make it, and a change of
// the canonical form would break every chain there is.
func TestAuditChainVector(t *testing.T) {
	chain := control.NewAuditChain(keyring(t, "k"))
	tenant := uuid.MustParse("0192f0c1-2345-7000-8000-000000000001")
	e := control.AuditEntry{Seq: 1, At: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), Actor: "system", Action: "flow.create",
		Object: "flow:1", Detail: json.RawMessage(`{"name": "é<\"", "n": 1.50, "a": [true, null]}`), Request: "r"}
	mac, err := chain.Next(chain.Origin(tenant), tenant, e)
	if err != nil {
		t.Fatal(err)
	}
	// By Python: hmac.new(hkdf("parley/audit-chain"), origin + canonical, "sha256").
	const want = "c11051ad19a7dd070f3295c2a19dd577e16805b1cbedf2d4e86bf72f8c83e5fb"
	if got := fmt.Sprintf("%x", mac); got != want {
		t.Errorf("seal %s, want %s", got, want)
	}
	e.Detail = json.RawMessage(`{"a":[true,null],"n":1.50,"name":"é\u003c\""}`)
	if again, _ := chain.Next(chain.Origin(tenant), tenant, e); string(again) != string(mac) {
		t.Error("the same detail, otherwise written, has another seal")
	}
}

// An archive is a database with two tenants whose trails are sealed, and the
// anchors that were taken.
type archive struct {
	t      *testing.T
	store  *postgres.Store
	super  *pgx.Conn
	ring   *control.Keyring
	a, b   uuid.UUID
	lines  [][]byte
	sealer *control.AuditSealer
}

// newArchive has n entries a tenant, sealed and anchored.
func newArchive(t *testing.T, db postgrestest.Database, n int) *archive {
	t.Helper()
	s, err := postgres.Open(t.Context(), db.AppURL, postgres.Options{MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	super, err := pgx.Connect(t.Context(), db.SuperURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = super.Close(context.Background()) })
	w := &archive{t: t, store: s, super: super, ring: keyring(t, "k")}
	w.a, w.b = w.tenant("a"), w.tenant("b")
	for _, tenant := range []uuid.UUID{w.a, w.b} {
		for w.head(tenant) < int64(n) {
			w.note(tenant)
		}
	}
	w.sealer = w.process(w.ring)
	w.pass()
	return w
}

func (w *archive) process(ring *control.Keyring) *control.AuditSealer {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	return &control.AuditSealer{Store: w.store, Chain: control.NewAuditChain(ring), Log: log,
		Anchor: &control.AuditAnchor{Ring: ring, Log: log, Put: func(_ context.Context, line []byte) error {
			w.lines = append(w.lines, slices.Clone(line))
			return nil
		}}}
}

func (w *archive) tenant(name string) uuid.UUID {
	w.t.Helper()
	tenant := identity.Tenant{ID: uuid.New(), Name: name}
	err := w.store.InsertTenant(w.t.Context(), tenant, identity.User{ID: uuid.New(), Email: name + "@example.com", PasswordHash: "x", Role: control.RoleOwner})
	if err != nil {
		w.t.Fatal(err)
	}
	return tenant.ID
}

func (w *archive) note(tenant uuid.UUID) {
	w.t.Helper()
	err := w.store.Note(control.WithTenant(w.t.Context(), tenant), control.AuditEntry{Action: "flow.publish", Object: "flow:1", Detail: []byte(`{"number":1}`)})
	if err != nil {
		w.t.Fatal(err)
	}
}

// pass seals and anchors.
func (w *archive) pass() {
	w.t.Helper()
	if err := w.sealer.Pass(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	if err := w.sealer.AnchorNow(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *archive) exec(q string, args ...any) {
	w.t.Helper()
	if _, err := w.super.Exec(w.t.Context(), q, args...); err != nil {
		w.t.Fatal(err)
	}
}

// head is the newest seq of a tenant.
func (w *archive) head(tenant uuid.UUID) (seq int64) {
	w.t.Helper()
	if err := w.super.QueryRow(w.t.Context(), `SELECT coalesce(max(seq), 0) FROM audit WHERE tenant_id = $1`, tenant).Scan(&seq); err != nil {
		w.t.Fatal(err)
	}
	return seq
}

// verify returns what is found, as "kind first-last".
func (w *archive) verify(rings ...*control.Keyring) []string {
	w.t.Helper()
	v := &control.AuditVerifier{Store: w.store, Anchors: &control.Anchored{}}
	for _, r := range rings {
		v.Chains = append(v.Chains, control.NewAuditChain(r))
	}
	for _, line := range w.lines {
		v.Anchors.ReadAnchor(line, rings...)
	}
	v.Anchors.Finish()
	report, err := v.Verify(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	var found []string
	for _, f := range report.Findings {
		who := map[uuid.UUID]string{w.a: "a ", w.b: "b "}[f.Tenant]
		found = append(found, fmt.Sprintf("%s%s %d-%d", who, f.Kind, f.Seq, f.Last))
	}
	slices.Sort(found)
	return found
}

// Whatever a superuser of the database does to what was sealed and anchored is
// found, and where.
func TestAuditTampering(t *testing.T) {
	const edit = `UPDATE audit SET detail = '{"number": 2}' WHERE tenant_id = $1 AND seq = 5`
	drop := func(w *archive, table string, cond string) {
		w.exec(`DELETE FROM `+table+` WHERE tenant_id = $1 AND `+cond, w.a)
	}
	tests := map[string]struct {
		tamper func(w *archive)
		want   []string
	}{
		"nothing": {func(*archive) {}, nil},
		"goes-on": {func(w *archive) { w.note(w.a); w.pass(); w.note(w.b) }, nil},
		"detail":  {func(w *archive) { w.exec(edit, w.a) }, []string{"a edited 5-5"}},
		"actor":   {func(w *archive) { w.exec(`UPDATE audit SET actor = 'user:x' WHERE tenant_id = $1 AND seq = 5`, w.a) }, []string{"a edited 5-5"}},
		"time": {func(w *archive) {
			w.exec(`UPDATE audit SET at = at + interval '1 us' WHERE tenant_id = $1 AND seq = 5`, w.a)
		}, []string{"a edited 5-5"}},
		"last": {func(w *archive) {
			w.exec(`UPDATE audit SET actor = 'user:x' WHERE tenant_id = $1 AND seq = $2`, w.a, w.head(w.a))
		}, []string{"a edited 12-12"}},
		"seal": {func(w *archive) {
			w.exec(`UPDATE audit_seals SET mac = sha256('') WHERE tenant_id = $1 AND seq = 5`, w.a)
		}, []string{"a edited 5-5", "a edited 6-6"}},
		"removed":   {func(w *archive) { drop(w, "audit", "seq = 5") }, []string{"a removed 5-5"}},
		"with-seal": {func(w *archive) { drop(w, "audit", "seq IN (5, 6)"); drop(w, "audit_seals", "seq IN (5, 6)") }, []string{"a removed 5-6"}},
		"seal-only": {func(w *archive) { drop(w, "audit_seals", "seq = 5") }, []string{"a unsealed 5-5"}},
		"first":     {func(w *archive) { drop(w, "audit", "seq = 1"); drop(w, "audit_seals", "seq = 1") }, []string{"a removed 1-1"}},
		"tail":      {func(w *archive) { drop(w, "audit", "seq > 9"); drop(w, "audit_seals", "seq > 9") }, []string{"a cut 10-12"}},
		"all":       {func(w *archive) { drop(w, "audit", "true"); drop(w, "audit_seals", "true") }, []string{"a cut 1-12"}},
		"tenant":    {func(w *archive) { w.exec(`DELETE FROM tenants WHERE id = $1`, w.a) }, []string{"a cut 1-12"}},
		"tail-grown-again": {func(w *archive) {
			drop(w, "audit", "seq > 11")
			drop(w, "audit_seals", "seq > 11")
			w.note(w.a)
			w.pass()
		}, []string{"a forked 12-12"}},
		"reordered": {func(w *archive) {
			w.exec(`UPDATE audit SET seq = -5 WHERE tenant_id = $1 AND seq = 5`, w.a)
			w.exec(`UPDATE audit SET seq = 5 WHERE tenant_id = $1 AND seq = 8`, w.a)
			w.exec(`UPDATE audit SET seq = 8 WHERE tenant_id = $1 AND seq = -5`, w.a)
		}, []string{"a moved 5-5", "a moved 8-8"}},
		"from-another-tenant": {func(w *archive) {
			w.exec(`UPDATE audit a SET actor = b.actor, action = b.action, object = b.object, at = b.at, detail = b.detail, request_id = b.request_id
				FROM audit b WHERE a.tenant_id = $1 AND b.tenant_id = $2 AND a.seq = 5 AND b.seq = 5`, w.a, w.b)
		}, []string{"a edited 5-5"}},
		"another-key": {func(w *archive) {
			w.exec(edit, w.a)
			drop(w, "audit_seals", "true")
			w.lines, w.sealer = w.lines[:len(w.lines):len(w.lines)], w.process(keyring(t, "x"))
			lines := w.lines
			w.pass()
			w.lines = lines // the thief has no way to the anchors
		}, []string{"a forked 12-12", "a resealed 1-12"}},
		"anchor-edited": {func(w *archive) {
			w.lines[0] = []byte(strings.Replace(string(w.lines[0]), `"seq":12`, `"seq":11`, 1))
		}, []string{"anchors 0-0", "anchors 0-0"}},
		"anchor-missing": {func(w *archive) {
			for range 2 {
				w.note(w.a)
				w.pass()
			}
			w.lines = slices.Delete(w.lines, 1, 2)
		}, []string{"anchors 0-0"}},
		"anchors-cut": {func(w *archive) { w.lines = nil }, []string{"anchors 0-0"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newArchive(t, server.New(t), 12)
			tt.tamper(w)
			if got := w.verify(w.ring); !slices.Equal(got, tt.want) {
				t.Errorf("found %q, want %q", got, tt.want)
			}
		})
	}
}

// A new key file goes on with the chain; the old one is needed to verify it.
func TestAuditKeyIsRotated(t *testing.T) {
	w := newArchive(t, server.New(t), 5)
	old := w.ring
	w.ring = keyring(t, "n")
	w.sealer = w.process(w.ring)
	for range 5 {
		w.note(w.a)
	}
	w.pass()
	if got := w.verify(old, w.ring); len(got) != 0 {
		t.Errorf("under both keys: %q", got)
	}
	if got := w.verify(w.ring); len(got) == 0 {
		t.Error("without the old key all is well")
	}
}

// People stand in entries by their ids: erasing one leaves the chain as it was,
// and what names a person all the same is masked before it is written.
func TestAuditHoldsNoPerson(t *testing.T) {
	w := newArchive(t, server.New(t), 3)
	user := uuid.New()
	w.exec(`INSERT INTO users (id, email, password_hash) VALUES ($1, 'ann@example.com', 'x')`, user)
	ctx := control.WithPrincipal(t.Context(), control.Principal{Kind: control.PrincipalUser, Tenant: w.a, User: user})
	err := w.store.Note(ctx, control.AuditEntry{Action: "flow.create", Object: "flow:1",
		Detail: []byte(`{"name":"for ann.b+c@mail.example.com or +15550001234","version":"1.2+3"}`)})
	if err != nil {
		t.Fatal(err)
	}
	w.pass()
	trail, err := w.store.AuditTrail(ctx, control.AuditFilter{Limit: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(trail[0].Detail), `{"name": "for [personal] or [personal]", "version": "1.2+3"}`; got != want {
		t.Errorf("detail %s, want %s", got, want)
	}
	w.exec(`DELETE FROM users WHERE id = $1`, user)
	if got := w.verify(w.ring); len(got) != 0 || trail[0].Actor != "user:"+user.String() {
		t.Errorf("after the person was erased: %q, actor %s", got, trail[0].Actor)
	}
}

// The application can neither change nor remove entries and seals.
func TestAuditIsAppendOnly(t *testing.T) {
	db := server.New(t)
	w := newArchive(t, db, 3)
	app, err := pgx.Connect(t.Context(), db.AppURL)
	if err != nil {
		t.Fatal(err)
	}
	defer app.Close(t.Context())
	if _, err := app.Exec(t.Context(), `SELECT set_config('app.tenant', $1, false)`, w.a.String()); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"audit", "audit_seals"} {
		for _, q := range []string{"UPDATE " + table + " SET seq = 9 WHERE seq = 1", "DELETE FROM " + table, "TRUNCATE " + table} {
			if _, err := app.Exec(t.Context(), q); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("%s: %v, want permission denied", q, err)
			}
		}
	}
}

// Many processes seal at once: each entry has one seal, and the chain holds.
func TestAuditSealersTogether(t *testing.T) {
	w := newArchive(t, server.New(t), 3)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan error)
	for range 3 {
		s := w.process(w.ring)
		s.Anchor, s.Every = nil, time.Millisecond
		go func() { done <- s.Run(ctx) }()
	}
	for range 30 {
		w.note(w.a)
		w.note(w.b)
	}
	cancel()
	for range 3 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := w.verify(w.ring); len(got) != 0 {
		t.Errorf("found %q", got)
	}
	if list, err := w.store.LocateUnsealed(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("unsealed after the end: %v, %v", list, err)
	}
}
