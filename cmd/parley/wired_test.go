package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/api"
	"parley/control/identity"
	"parley/store/postgres/postgrestest"
)

// A wired program is all of it, built as `parley serve` builds it, and asked
// without a network. Walks over its routes are made from its registry: a route
// that is added is walked too.
type wired struct {
	*gateway
	t     *testing.T
	db    postgrestest.Database
	redis *miniredis.Miniredis
	super *pgx.Conn
	ring  *control.Keyring
	said  *syncBuffer // the log
}

const wiredHost = "voice.example.com"

// newWired builds one, with settings changed if need be.
func newWired(t *testing.T, change ...func(*Settings)) *wired {
	t.Helper()
	w := &wired{t: t, db: databases.New(t), redis: miniredis.RunT(t), said: &syncBuffer{}}
	var err error
	if w.ring, err = control.NewKeyring([]byte(strings.Repeat("k", 32))); err != nil {
		t.Fatal(err)
	}
	s := Settings{KeyProvider: "local", Listen: "127.0.0.1:0", AdminListen: "127.0.0.1:0", PublicURL: "https://" + wiredHost,
		DatabaseURL: w.db.AppURL, RedisURL: "redis://" + w.redis.Addr(), Data: t.TempDir(),
		TwilioAccountSID: siteAccount, TwilioAuthToken: siteToken, PlainSecrets: "allow", SecondFactor: "enrolled", LogLevel: "debug"}
	for _, f := range change {
		f(&s)
	}
	log := slog.New(slog.NewJSONHandler(w.said, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if w.gateway, err = newGateway(t.Context(), s, w.ring, false, false, log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := w.webrtc.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		w.close()
	})
	if w.super, err = pgx.Connect(t.Context(), w.db.SuperURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.super.Close(context.Background()) })
	return w
}

// tenant makes a tenant with an owner, the demo's agents and a key of every scope.
func (w *wired) tenant(email string) identity.DemoMade {
	w.t.Helper()
	made, err := identity.EnsureDemo(w.t.Context(), identity.DemoServices{Users: w.people.users, Tenants: w.gateway.db, Keys: w.keys, Flows: w.flows, Agents: w.agents},
		identity.Demo{AdminEmail: email, AdminPassword: wiredPassword, Flow: []byte(shortFlow), Prompt: true}, false)
	if err != nil {
		w.t.Fatal(err)
	}
	return made
}

const wiredPassword = "wired horse battery staple"

// A sending is a request; zero fields are left out.
type sending struct {
	method, path string
	bearer       string
	cookie       string
	body         string
	header       http.Header // over what the others say
	address      string      // of the client
	internal     bool        // on the admin listener
	raw          []byte      // instead of body, of unknown length
	broken       bool        // raw ends in the middle of a chunk
}

// A told answer.
type told struct {
	status int
	header http.Header
	body   string
	code   string // of a problem
}

// firstByte ends a stream as soon as it begins.
type firstByte struct {
	*httptest.ResponseRecorder
	end context.CancelFunc
}

func (f *firstByte) Flush() {
	f.ResponseRecorder.Flush()
	f.end()
}

// ask sends a request through everything that a client's goes through but the
// network. Streams are left after their first bytes.
func (w *wired) ask(a sending) told {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	r := &http.Request{Method: a.method, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: wiredHost, RemoteAddr: "192.0.2.1:1234", Header: http.Header{}}
	if err := setTarget(r, a.path); err != nil {
		return told{}
	}
	if a.address != "" {
		r.RemoteAddr = a.address
	}
	if a.body != "" || a.raw != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Body, r.ContentLength = body(a)
	if a.bearer != "" {
		r.Header.Set("Authorization", "Bearer "+a.bearer)
	}
	if a.cookie != "" {
		r.Header.Set("Cookie", a.cookie)
		r.Header.Set("Sec-Fetch-Site", "same-origin")
		r.Header.Set("Origin", "https://"+wiredHost)
	}
	for name, v := range a.header {
		r.Header[name] = v
	}
	h := w.api.Handler()
	if a.internal {
		h = w.api.InternalHandler()
	}
	rec := &firstByte{httptest.NewRecorder(), cancel}
	h.ServeHTTP(rec, r.WithContext(ctx))
	out := told{status: rec.Code, header: rec.Header(), body: rec.Body.String()}
	if strings.HasPrefix(rec.Header().Get("Content-Type"), "application/problem+json") {
		var p struct{ Code string }
		if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Code == "" {
			w.t.Errorf("%s %s: a problem without a code: %s", a.method, a.path, out.body)
		}
		out.code = p.Code
	}
	return out
}

// forgive forgets all limits, so that a walk may go on.
func (w *wired) forgive() { w.redis.FlushAll() }

// login signs a person in and returns the cookie header.
func (w *wired) login(email string) string {
	w.t.Helper()
	got := w.ask(sending{method: "POST", path: "/v1/auth/login", body: fmt.Sprintf(`{"email":%q,"password":%q}`, email, wiredPassword)})
	for _, c := range (&http.Response{Header: got.header}).Cookies() {
		if c.Name == "parley_session" || c.Name == "__Host-parley_session" {
			return c.Name + "=" + c.Value
		}
	}
	w.t.Fatalf("sign in as %s: %d %s", email, got.status, got.body)
	return ""
}

// colleague makes a person with a role in a tenant, with the password of its
// owner, and returns the address.
func (w *wired) colleague(tenant uuid.UUID, role control.Role) string {
	w.t.Helper()
	user, email := uuid.Must(uuid.NewV7()), fmt.Sprintf("%s.%s@example.com", role, tenant)
	for _, q := range []string{
		`INSERT INTO users SELECT (jsonb_populate_record(u, jsonb_build_object('id', $2::uuid, 'email', $3::text, 'platform', false))).*
		 FROM users u JOIN memberships m ON m.user_id = u.id WHERE m.tenant_id = $1 AND m.role = 'owner' AND $4 <> '' ORDER BY u.id LIMIT 1`,
		`INSERT INTO memberships SELECT (jsonb_populate_record(m, jsonb_build_object('user_id', $2::uuid, 'role', $4::text))).*
		 FROM memberships m WHERE m.tenant_id = $1 AND m.role = 'owner' AND $3 <> '' ORDER BY m.user_id LIMIT 1`,
	} {
		if tag, err := w.super.Exec(w.t.Context(), q, tenant, user, email, string(role)); err != nil || tag.RowsAffected() != 1 {
			w.t.Fatalf("add a %s: %v, %v", role, tag, err)
		}
	}
	return email
}

// keyOf makes a key of one scope, as the program itself.
func (w *wired) keyOf(tenant uuid.UUID, scopes ...control.Permission) string {
	w.t.Helper()
	_, secret, err := w.keys.Create(control.WithTenant(w.t.Context(), tenant), identity.Key{Name: "one", Scopes: scopes})
	if err != nil {
		w.t.Fatal(err)
	}
	return secret
}

// unknown fills a pattern with ids that nothing has.
func unknown(pattern string) string {
	parts := strings.Split(pattern, "/")
	for i, p := range parts {
		if p == "{number}" {
			parts[i] = "1"
		} else if strings.HasPrefix(p, "{") {
			parts[i] = uuid.NewString()
		}
	}
	path := strings.Join(parts, "/")
	if strings.HasSuffix(path, "/diff") {
		path += "?from=1"
	}
	return path
}

// guarded reports whether a route asks for a principal of a tenant.
func guarded(r api.Route) bool { return r.Class == api.Tenanted || r.Class == api.Admin }

// least is the smallest body that a route's parser takes.
func least(r api.Route) string {
	if r.Body > 0 {
		return "{}"
	}
	return ""
}
