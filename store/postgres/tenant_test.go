package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
	"parley/control/identity"
	"parley/store/postgres"
	"parley/store/postgres/postgrestest"
)

// A tenancy is one tenant with a row in every table.
type tenancy struct {
	ctx                                  context.Context
	store                                *postgres.Store
	tenant, user, agent, flow, call, key uuid.UUID
	webhook                              uuid.UUID
}

func seed(t testing.TB, db postgrestest.Database, name string) tenancy {
	t.Helper()
	s, err := postgres.Open(t.Context(), db.AppURL, postgres.Options{MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	id := func() uuid.UUID { return uuid.Must(uuid.NewV7()) }
	v := tenancy{store: s, tenant: id(), user: id(), agent: id(), flow: id(), call: id(), key: id()}
	v.ctx = control.WithTenant(t.Context(), v.tenant)
	now := time.Now().UTC()
	version := control.Version{ID: id(), Of: v.flow, Number: 1, Document: []byte(`{"a":1}`), CreatedAt: now}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(s.InsertTenant(t.Context(), identity.Tenant{ID: v.tenant, Name: name},
		identity.User{ID: v.user, Email: name + "@example.com", PasswordHash: "x", Role: control.RoleOwner}))
	must(s.InsertKey(v.ctx, identity.Key{ID: v.key, Name: "k", Prefix: "prefix" + name, Hash: []byte{1}, Scopes: control.Scopes(), CreatedAt: now}))
	must(s.InsertBrowserSession(v.ctx, identity.BrowserSession{ID: id(), User: v.user, Hash: []byte(name), How: "password", CreatedAt: now, LastUsedAt: now, ExpiresAt: now}))
	must(s.InsertInvitation(v.ctx, identity.Invitation{ID: id(), Email: "new@example.com", Role: control.RoleViewer, Hash: []byte(name), CreatedAt: now, ExpiresAt: now.Add(time.Hour)}))
	must(s.PutPasswordReset(v.ctx, v.user, []byte(name), now, now.Add(time.Hour)))
	must(s.InsertGrant(v.ctx, identity.Grant{ID: id(), User: v.user, Hash: []byte{1}, CreatedAt: now, RefreshedAt: now, ExpiresAt: now}))
	must(s.InsertTemporary(v.ctx, identity.Temporary{ID: id(), Name: "t", Hash: []byte{1}, Maker: "key:" + v.key.String(), CreatedAt: now, ExpiresAt: now}))
	seedSignIn(t, v, name)
	must(s.InsertFlow(v.ctx, control.Flow{ID: v.flow, Name: "desk", CreatedAt: now}, version))
	must(s.Publish(v.ctx, control.SubjectFlow, control.Publication{ID: id(), Of: v.flow, Version: version.ID, Percent: 100, At: now}, 0))
	must(s.InsertAgent(v.ctx, control.Agent{ID: v.agent, Name: "desk", CreatedAt: now,
		Settings: control.AgentSettings{Kind: control.KindFlow, FlowID: v.flow}}))
	account := control.CarrierAccount{ID: id(), Name: "own", Kind: control.CarrierTwilio, AccountSID: "AC" + name, Token: "t", CreatedAt: now}
	must(s.InsertCarrierAccount(v.ctx, account))
	must(s.InsertNumber(v.ctx, control.Number{ID: id(), E164: fmt.Sprintf("+1555000%04d", int(name[0])), Agent: v.agent, Account: account.ID,
		Routes: []control.Route{{Agent: v.agent}}, CreatedAt: now}))
	_, err = s.InsertCall(v.ctx, control.Call{ID: v.call, Agent: v.agent, Carrier: "twilio", CarrierCallID: "CA" + name,
		Direction: "inbound", Status: control.CallArrived, StartedAt: now})
	must(err)
	must(second(sealing(t, s).Current(v.ctx)))
	s.SealWith(nil) // in clear, unless a test says otherwise
	must(s.PutCallEvent(v.ctx, control.CallEvent{Call: v.call, Event: "paid"}))
	must(second(s.PutCommand(v.ctx, control.Command{ID: id(), Call: v.call, Kind: control.CommandWhisper, Words: "hi", Status: control.CommandPending,
		CreatedAt: now, ExpiresAt: now.Add(time.Hour)}, control.AnyRevision)))
	must(s.WriteTurn(v.ctx, control.Hold{Call: v.call}, agent.Turn{Speaker: "caller", Heard: "hi",
		Uses: []agent.Use{{Kind: agent.UseHeard, Vendor: "deepgram", Model: "nova-3", Amount: 60_000}}}, now))
	must(s.InsertPrice(v.ctx, control.Price{ID: id(), Kind: agent.UseHeard, Vendor: "other", Currency: "USD", Per: 1, Increment: 1, ValidFrom: now}))
	must(second(dial(t, db.SuperURL).Exec(v.ctx, `INSERT INTO call_afterwork (tenant_id, call_id, status, at) VALUES ($1, $2, 'pending', now())`, v.tenant, v.call)))
	must(s.PutAfterwork(v.ctx, control.Afterwork{Call: v.call, Status: control.AfterworkDone, Summary: "hi", At: now}))
	must(s.WriteCommit(v.ctx, control.Hold{Call: v.call}, control.Conversation{ID: v.call, Call: v.call, FlowVersion: version.ID},
		control.Revision{Entry: control.Entry{Revision: 1, Status: "active", Hash: fmt.Sprintf("%044d", 0)}, State: []byte(`{}`)}))
	seedDial(t, v, now)
	must(second(s.InsertOrigin(v.ctx, control.Origin{ID: id(), Origin: "https://" + name + ".example"})))
	w, err := s.InsertWebhook(v.ctx, control.Webhook{ID: id(), Name: "w", URL: "https://a.example", Headers: []byte{1}, Secret: []byte{1},
		Timeout: time.Second, MaxAttempts: 1, Enabled: true})
	must(err)
	must(second(s.PublishEvents(v.ctx, 100)))
	must(second(s.ReadEvents(v.ctx, "r", 100, func(ctx context.Context, e []control.Event) error {
		return s.InsertDeliveries(ctx, []control.Delivery{{ID: id(), Webhook: w.ID, Event: e[0]}})
	})))
	must(second(s.ClaimRequest(v.ctx, control.NamedRequest{Key: make([]byte, 32), Fingerprint: make([]byte, 32), Claim: id()}, time.Hour, time.Minute)))
	v.webhook = w.ID
	must(second(s.SealAudit(v.ctx, 100, func(_ control.AuditSeal, e []control.AuditEntry) ([]control.AuditSeal, error) {
		return []control.AuditSeal{{Seq: e[0].Seq, MAC: make([]byte, 32)}}, nil
	})))
	must(second(s.PutEgressPolicy(v.ctx, control.EgressPolicy{Hosts: []string{"a.example"}}, 0)))
	must(second(s.PutStoredSecret(v.ctx, control.SecretEntry{Key: "crm" + name, Hosts: []string{"a.example"},
		Ref: control.SecretRef{Scheme: control.SchemeVault, Mount: "kv", Path: "tenants/" + v.tenant.String() + "/crm", Version: "1"}})))
	seedKeeping(t, v)
	return v
}

// seedKeeping is a row in each table of what is kept and forgotten.
func seedKeeping(t testing.TB, v tenancy) {
	t.Helper()
	now := time.Now().UTC()
	_, err := v.store.PutRetention(v.ctx, control.DefaultRetention(), 0)
	if err == nil {
		_, err = v.store.InsertErasure(v.ctx, control.Erasure{ID: control.NewID(), Caller: "+15559990001", Subject: []byte{1}, Status: control.ErasureRunning,
			RequestedBy: "system", RequestedAt: now})
	}
	if err == nil {
		_, err = v.store.PlaceHold(v.ctx, control.LegalHold{ID: control.NewID(), Caller: "+15559990002", Reason: "case 1", PlacedBy: "system"})
	}
	if err == nil {
		_, err = v.store.DeleteAged(v.ctx, control.Due{Class: control.KeepCredentials, Reason: control.ByPeriod, Before: now.Add(time.Hour)}, now, 1,
			func(string) []byte { return []byte{1} })
	}
	if err == nil { // what went must be there again
		err = v.store.InsertGrant(v.ctx, identity.Grant{ID: control.NewID(), User: v.user, Hash: []byte{1}, CreatedAt: now, RefreshedAt: now, ExpiresAt: now})
	}
	if err == nil {
		err = v.store.InsertTemporary(v.ctx, identity.Temporary{ID: control.NewID(), Name: "t", Hash: []byte{1}, Maker: "key:" + v.key.String(), CreatedAt: now, ExpiresAt: now})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// No row of one tenant reaches another, by reading or by writing.
func TestTenantsAreWalledOff(t *testing.T) {
	db := server.New(t)
	a, b := seed(t, db, "a"), seed(t, db, "b")
	s := a.store
	now := time.Now().UTC()
	for name, err := range map[string]error{
		"user":         second(s.User(a.ctx, b.user)),
		"key":          second(s.Key(a.ctx, b.key)),
		"agent":        second(s.Agent(a.ctx, b.agent)),
		"flow":         second(s.Flow(a.ctx, b.flow)),
		"call":         second(s.Call(a.ctx, b.call)),
		"conversation": second(s.Conversation(a.ctx, b.call)),
		"claim":        second(s.ClaimCall(a.ctx, b.call, uuid.New(), time.Minute)),
		"end":          second(s.EndCall(a.ctx, control.Hold{Call: b.call}, "operator", now)),
		"revoke":       s.RevokeKey(a.ctx, b.key, now),
		"publish":      s.Publish(a.ctx, control.SubjectFlow, control.Publication{ID: uuid.New(), Of: b.flow, Version: uuid.New(), Percent: 100}, 0),
		"password":     s.SetPassword(a.ctx, b.user, "mine"),
		"webhook":      second(s.Webhook(a.ctx, b.webhook)),
		"change":       second(s.UpdateWebhook(a.ctx, control.Webhook{ID: b.webhook, Timeout: 1, MaxAttempts: 1}, 0)),
		"delete":       s.DeleteWebhook(a.ctx, b.webhook, 0),
	} {
		if !errors.Is(err, control.ErrNotFound) {
			t.Errorf("%s of another tenant: %v, want ErrNotFound", name, err)
		}
	}
	if err := s.WriteTurn(a.ctx, control.Hold{Call: b.call}, agent.Turn{Index: 9, Speaker: "agent"}, now); err == nil {
		t.Error("a turn is written to another tenant's call")
	}
	if err := s.InsertNumber(a.ctx, control.Number{ID: uuid.New(), E164: "+15550009999", Agent: b.agent, CreatedAt: now}); err == nil {
		t.Error("a number is given to another tenant's agent")
	}
	if got, err := s.Calls(a.ctx, control.CallFilter{}); err != nil || len(got) != 1 || got[0].ID != a.call {
		t.Errorf("calls of a: %v, %v", got, err)
	}
	if turns, err := s.Turns(a.ctx, b.call, -1, 10); err != nil || len(turns) != 0 {
		t.Errorf("turns of b seen by a: %v, %v", turns, err)
	}
	if got, _, err := s.Events(a.ctx, control.EventFilter{}, 0, 100); err != nil || len(got) == 0 || got[0].Session != a.call {
		t.Errorf("events of a: %v, %v", got, err)
	}
	if got, _, err := s.Events(a.ctx, control.EventFilter{Session: b.call}, 0, 100); err != nil || len(got) != 0 {
		t.Errorf("events of b seen by a: %v, %v", got, err)
	}
	for name, n := range map[string]int{
		"claimed":  len(must2(s.ClaimDeliveries(a.ctx, b.webhook, 10, time.Second))),
		"listed":   len(must2(s.Deliveries(a.ctx, b.webhook, "", control.Page{}))),
		"replayed": must2(s.ReplayDeliveries(a.ctx, b.webhook, uuid.Nil)),
	} {
		if n != 0 {
			t.Errorf("%d deliveries of b are %s by a", n, name)
		}
	}
	if _, err := s.Call(t.Context(), a.call); err == nil {
		t.Error("a context without a tenant reads a call")
	}
}

func second[T any](_ T, err error) error { return err }

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestLocate(t *testing.T) {
	db := server.New(t)
	a := seed(t, db, "a")
	seed(t, db, "b")
	s, ctx := a.store, t.Context()
	for name, find := range map[string]func() (control.Located, error){
		"user":    func() (control.Located, error) { return first(s.LocateUser(ctx, "a@example.com")) },
		"invite":  func() (control.Located, error) { return s.LocateInvitation(ctx, []byte("a")) },
		"reset":   func() (control.Located, error) { return s.LocatePasswordReset(ctx, []byte("a")) },
		"key":     func() (control.Located, error) { return s.LocateKey(ctx, "prefixa") },
		"session": func() (control.Located, error) { return s.LocateBrowserSession(ctx, []byte("a")) },
		"agent":   func() (control.Located, error) { return s.LocateAgent(ctx, a.agent.String()) },
		"named":   func() (control.Located, error) { return s.LocateAgent(ctx, "desk") }, // the older of two
		"number":  func() (control.Located, error) { return s.LocateNumber(ctx, "+15550000097") },
		"call":    func() (control.Located, error) { return s.LocateCall(ctx, a.call) },
		"carrier": func() (control.Located, error) { return s.LocateCarrierCall(ctx, "twilio", "CAa") },
	} {
		at, err := find()
		if err != nil || at.Tenant != a.tenant || at.ID == uuid.Nil {
			t.Errorf("%s: %+v, %v, want tenant %s", name, at, err, a.tenant)
		}
	}
	if _, err := s.LocateKey(ctx, "nobody"); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("unknown key: %v, want ErrNotFound", err)
	}
}

func first(all []control.Located, err error) (control.Located, error) {
	return append(all, control.Located{})[0], err
}

// The tenant's round trip against the same query without its wall.
func BenchmarkTenantQuery(b *testing.B) {
	a := seed(b, server.New(b), "a")
	for b.Loop() {
		if _, err := a.store.Call(a.ctx, a.call); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPlainQuery(b *testing.B) {
	a := seed(b, server.New(b), "a")
	for b.Loop() {
		if _, err := a.store.LocateCall(b.Context(), a.call); err != nil {
			b.Fatal(err)
		}
	}
}
