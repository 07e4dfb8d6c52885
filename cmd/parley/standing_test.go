package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"parley/control"
	"parley/signaling"
)

// The numbers of a suspended tenant are nobody's, until it goes on; a call that
// had begun goes on.
func TestSuspendedNumbersDoNotRing(t *testing.T) {
	w := newWired(t)
	made := w.tenant("owner@example.com")
	got := w.ask(sending{method: "POST", path: "/v1/numbers", bearer: made.APIKey, body: `{"number":"+15550001234","agent_id":"` + made.Agents[0].ID.String() + `"}`})
	if got.status != 201 {
		t.Fatalf("%d %s", got.status, got.body)
	}
	ring := func(call string) error {
		_, err := w.desk.Arrive(t.Context(), signaling.Arrival{Carrier: "twilio", CarrierCallID: call, From: "+15550009999", To: "+15550001234"})
		return err
	}
	if err := ring("CA1"); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		suspended bool
		call      string
		want      error
	}{{true, "CA2", signaling.ErrNoAgent}, {true, "CA1", nil}, {false, "CA3", nil}} {
		if _, err := w.people.tenants.Suspend(t.Context(), made.Tenant, step.suspended); err != nil {
			t.Fatal(err)
		}
		if err := ring(step.call); !errors.Is(err, step.want) {
			t.Errorf("suspended: %v, call %s: %v, want %v", step.suspended, step.call, err, step.want)
		}
	}
	if _, err := w.calls.Arrive(t.Context(), control.Arrival{Carrier: "webrtc", Agent: made.Agents[0].ID.String()}); err != nil {
		t.Errorf("a browser's call after it was resumed: %v", err)
	}
}

// Who was let in by one tenant's own issuer sees and ends the sessions of that
// tenant, and no others of the same person.
func TestBoundSessionsReachTheirTenant(t *testing.T) {
	w := newWired(t)
	mine := w.tenant("ann@example.com")
	other := w.tenant("bob@example.com")
	if _, err := w.super.Exec(t.Context(), `INSERT INTO memberships SELECT (jsonb_populate_record(m, jsonb_build_object('user_id', u.id))).*
		FROM memberships m, users u WHERE m.tenant_id = $1 AND m.role = 'owner' AND u.email = 'ann@example.com'`, other.Tenant); err != nil {
		t.Fatal(err)
	}
	here := w.login("ann@example.com")
	got := w.ask(sending{method: "POST", path: "/v1/auth/login", body: `{"email":"ann@example.com","password":"` + wiredPassword + `","tenant_id":"` + other.Tenant.String() + `"}`})
	there := (&http.Response{Header: got.header}).Cookies()[0]
	if _, err := w.super.Exec(t.Context(), `UPDATE browser_sessions SET bound = true WHERE tenant_id = $1`, other.Tenant); err != nil {
		t.Fatal(err)
	}
	bound := there.Name + "=" + there.Value
	listed := w.ask(sending{method: "GET", path: "/v1/auth/sessions", cookie: bound})
	var page struct {
		Items []struct {
			Tenant uuid.UUID `json:"tenant_id"`
		}
	}
	if err := json.Unmarshal([]byte(listed.body), &page); err != nil || len(page.Items) != 1 || page.Items[0].Tenant != other.Tenant {
		t.Errorf("a bound session lists %s", listed.body)
	}
	id := w.list(`SELECT id::text FROM browser_sessions WHERE tenant_id = $1`, mine.Tenant)[0]
	if got := w.ask(sending{method: "DELETE", path: "/v1/auth/sessions/" + id, cookie: bound}); got.status != 404 {
		t.Errorf("a bound session ends another tenant's: %d", got.status)
	}
	if got := w.ask(sending{method: "DELETE", path: "/v1/auth/sessions", cookie: bound}); got.status != 204 {
		t.Errorf("end the others: %d %s", got.status, got.body)
	}
	if got := w.ask(sending{method: "GET", path: "/v1/auth/me", cookie: here}); got.status != 200 {
		t.Errorf("the session in the other tenant is gone: %d", got.status)
	}
}

// A network is kept out by a platform administrator, is told so by a code of its
// own, and comes in again once the block is lifted. Nobody else may.
func TestBlocksOverHTTP(t *testing.T) {
	w := newWired(t)
	made := w.tenant("owner@example.com")
	if _, err := w.super.Exec(t.Context(), `UPDATE users SET platform = true WHERE email = 'owner@example.com'`); err != nil {
		t.Fatal(err)
	}
	cookie := w.login("owner@example.com")
	from := func() told {
		return w.ask(sending{method: "GET", path: "/v1/agents", bearer: made.APIKey, address: "198.51.100.7:4000"})
	}
	const block = `{"network":"198.51.100.0/24","seconds":300,"reason":"guesses"}`
	if got := w.ask(sending{method: "POST", path: "/v1/security/blocks", bearer: made.APIKey, body: block}); got.status != 403 {
		t.Errorf("a tenant's key blocks: %d", got.status)
	}
	if got := from(); got.status != 200 {
		t.Fatalf("before: %d %s", got.status, got.body)
	}
	if got := w.ask(sending{method: "POST", path: "/v1/security/blocks", cookie: cookie, body: block}); got.status >= 300 {
		t.Fatalf("block: %d %s", got.status, got.body)
	}
	if got := from(); got.status != 403 || got.code != "blocked" {
		t.Errorf("blocked: %d %s, want 403 blocked", got.status, got.code)
	}
	if got := w.ask(sending{method: "GET", path: "/v1/agents", bearer: made.APIKey}); got.status != 200 {
		t.Errorf("another network: %d", got.status)
	}
	if got := w.ask(sending{method: "GET", path: "/v1/security/blocks", cookie: cookie}); got.status != 200 || !strings.Contains(got.body, "198.51.100.0/24") {
		t.Errorf("listed: %d %s", got.status, got.body)
	}
	if got := w.ask(sending{method: "POST", path: "/v1/security/blocks/lift", cookie: cookie, body: `{"network":"198.51.100.0/24"}`}); got.status != 204 {
		t.Errorf("lift: %d %s", got.status, got.body)
	}
	if got := from(); got.status != 200 {
		t.Errorf("after: %d %s", got.status, got.body)
	}
}
