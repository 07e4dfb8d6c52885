package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/control"
	"parley/control/identity"
	"parley/control/ingress"
	"parley/control/outbound"
)

// lineDeeds are those of who runs a line: agents, numbers, calls, what is kept.
// They follow each other, by the key of all scopes.
func lineDeeds() []deed {
	deeds := []deed{
		{"POST /v1/agents", "", `{"name":"till","settings":{"kind":"prompt","prompt":"one"}}`, "agent", "key"},
		{"PATCH /v1/agents/{agent}", "", `{"settings":{"kind":"prompt","prompt":"two"}}`, "", "key"},
		{"POST /v1/agents/{agent}/versions", "", `{"settings":{"kind":"prompt","prompt":"three"}}`, "", "key"},
		{"POST /v1/agents/{agent}/publish", "", `{"number":3}`, "", "key"},
		{"POST /v1/agents/{agent}/rollback", "", `{}`, "", "key"},
		{"PUT /v1/secrets/{key}", "", `{"value":"long enough to be one","hosts":["api.twilio.com"]}`, "", "key"},
		{"POST /v1/carrier-accounts", "", `{"name":"ours","account_sid":"AC00000000000000000000000000000001","token_secret":"crm"}`, "account", "key"},
		{"PATCH /v1/carrier-accounts/{id}", "account", `{"name":"still-ours"}`, "", "key"},
		{"POST /v1/numbers", "", `{"number":"+15557770001","agent_id":"{agent}"}`, "number", "key"},
		{"PATCH /v1/numbers/{id}", "number", `{"display_name":"till"}`, "", "key"},
		{"PUT /v1/outbound-policy", "", `{"quiet_hours":{"from":"21:00","until":"08:00","time_zone":"UTC"},"concurrency":5,"number_concurrency":2,"per_minute":30,"daily_spend":10,"prefixes":["+1"],"consent_required":true}`, "", "key"},
		{"POST /v1/calls", "", `{"agent_id":"{agent}","to":"+12025550123","from":"+15557770001","at":"{tomorrow}","consent":{"given":true,"source":"form","at":"2026-01-02T03:04:05Z"}}`, "dial", "key"},
		{"POST /v1/dials/{id}/cancel", "dial", "", "", "key"},
		{"POST /v1/calls/{id}/say", "said", `{"text":"One moment."}`, "", "key"},
		{"POST /v1/calls/{id}/whisper", "told", `{"text":"Offer tea."}`, "", "key"},
		{"POST /v1/calls/{id}/transfer", "moved", `{"to":"+12025550124"}`, "", "key"},
		{"POST /v1/calls/{id}/hangup", "ended", `{}`, "", "key"},
		{"POST /v1/calls/{id}/after-call", "over", "", "", "key"},
		{"DELETE /v1/calls/{id}/recording", "over", "", "", "key"},
		{"POST /v1/calls/{id}/recording/restore", "over", "", "", "key"},
		{"DELETE /v1/calls/{id}", "over", "", "", "key"},
		{"POST /v1/calls/{id}/restore", "over", "", "", "key"},
		{"POST /v1/sessions/{id}/restore", "session", "", "", "key"},
		{"POST /v1/holds", "", `{"caller":"+15550007777","reason":"case 2"}`, "hold", "key"},
		{"DELETE /v1/holds/{id}", "hold", "", "", "key"},
		{"POST /v1/erasures", "", `{"caller":"+15550006666"}`, "", "key"},
		{"PUT /v1/retention", "", `{"recordings_days":30,"messages_days":30,"transcripts_days":90,"calls_days":365,"events_days":30,"usage_days":400,"restore_days":7}`, "", "key"},
		{"POST /v1/prices", "", `{"kind":"stt_ms","vendor":"deepgram","currency":"USD","micros":4300,"per":60000}`, "", "key"},
		{"DELETE /v1/numbers/{id}", "number", "", "", "key"},
		{"DELETE /v1/carrier-accounts/{id}", "account", "", "", "key"},
		{"POST /v1/agents", "", `{"name":"idle","settings":{"kind":"prompt","prompt":"one"}}`, "agent", "key"},
		{"PATCH /v1/agents/{agent}", "", `{"name":"idler"}`, "", "key"},
		{"DELETE /v1/agents/{agent}", "", "", "", "key"},
	}
	return deeds
}

// calling gives the deeds of a line what they are done to: calls, in progress
// and over, and outbound calls that are stopped.
func (w *wired) calling(made identity.DemoMade, ids map[string]string) {
	w.t.Helper()
	ids["tomorrow"] = time.Now().Add(30 * time.Hour).UTC().Format(time.RFC3339)
	if _, err := w.gateway.db.PutOutboundStop(control.WithTenant(w.t.Context(), made.Tenant), outbound.Stop{Signal: outbound.NumberRange, At: time.Now()}); err != nil {
		w.t.Fatal(err)
	}
	ids["over"] = w.list(`SELECT id::text FROM calls WHERE tenant_id = $1 AND ended_at IS NOT NULL LIMIT 1`, made.Tenant)[0]
	w.list(`INSERT INTO call_afterwork (tenant_id, call_id, status, failure, at) VALUES ($1, $2, 'failed', 'no model answered', now()) RETURNING 'ok'`,
		made.Tenant, ids["over"])
	for _, name := range []string{"said", "told", "moved", "ended"} {
		call, err := w.calls.Arrive(w.t.Context(), control.Arrival{Carrier: "twilio", CarrierCallID: "CA" + name, Agent: made.Agents[1].ID.String()}) // it has a model, that is told
		if err == nil {
			_, _, err = w.calls.Begin(w.t.Context(), call.ID.String(), func(string) {})
		}
		if err != nil {
			w.t.Fatal(err)
		}
		ids[name] = call.ID.String()
	}
}

// elsewhereNoted are actions that neither a deed nor otherwise leaves, each with
// the test that finds it in the trail.
var elsewhereNoted = map[string]string{
	"call.listen": "TestOperatorsOfAnotherNode", "call.warm_transfer": "TestOperatorsOfAnotherNode", "egress.refuse": "TestRefusalsAreAudited", "erasure.finish": "TestErasureLeavesNoTrace",
	"factor.add": "TestSignInWithAuthenticatorApp", "factor.change": "TestPasskey", "factor.codes": "TestSignInWithAuthenticatorApp",
	"factor.copied": "TestPasskey", "factor.recover": "TestSignInWithAuthenticatorApp", "factor.remove": "TestSignInWithAuthenticatorApp",
	"identity.add": "TestOIDC", "identity.remove": "TestOIDC", "issuer.use": "TestTrustedIssuer",
	"session.quarantine": "TestQuarantine", "token.reuse": "TestAccessAndRefresh", "user.step_up": "TestStepUp",
}

// otherwise does what leaves entries and is no route that changes something:
// what is read, refused, done by a command or in the database, or is a signal.
func (w *wired) otherwise(made identity.DemoMade) {
	w.t.Helper()
	ctx := control.WithTenant(w.t.Context(), made.Tenant)
	old := "sk_live_0123456789abcdef0123456789"
	sum := sha256.Sum256([]byte(old))
	over := w.list(`SELECT id::text FROM calls WHERE tenant_id = $1 AND ended_at IS NOT NULL LIMIT 1`, made.Tenant)[0]
	for _, a := range []sending{
		{method: "GET", path: "/v1/audit/export", bearer: made.APIKey},
		{method: "GET", path: "/v1/calls/" + over + "/recording", bearer: made.APIKey},
		{method: "POST", path: "/v1/keys", bearer: made.APIKey, body: `{"name":"old","scopes":["agents.read"],"sha256":"` + hex.EncodeToString(sum[:]) + `"}`},
		{method: "GET", path: "/v1/agents", bearer: old},
		{method: "GET", path: "/v1/agents?key=" + w.keyOf(made.Tenant, control.AgentsRead)},
		{method: "POST", path: "/v1/auth/login", body: `{"email":"owner@example.com","password":"not that one at all"}`},
	} {
		w.forgive()
		w.ask(a)
	}
	alert := w.alert([]byte("key"), ingress.NewMetrics(prometheus.NewRegistry()))
	for _, signal := range []ingress.Signal{ingress.StuffingFrom, ingress.StuffingOf, ingress.KeyMoved, ingress.Enumeration} {
		alert(ctx, ingress.Alert{Signal: signal, Tenant: made.Tenant.String(), Object: "key:x", From: netip.MustParseAddr("192.0.2.1"), Count: 9})
	}
	_, err := w.keyring.Rotate(ctx)
	for _, do := range []func() error{
		func() error { _, err := w.keyring.Rewrap(ctx); return err },
		func() error { _, err := w.keyring.Shred(ctx, w.blobs); return err },
		func() error {
			_, err := w.super.Exec(ctx, `SELECT set_config('app.tenant', $1, false)`, made.Tenant.String())
			return err
		},
		func() error { _, err := w.super.Exec(ctx, `UPDATE users SET platform = NOT platform`); return err },
		func() error { _, err := w.super.Exec(ctx, `UPDATE users SET platform = NOT platform`); return err },
	} {
		err = errors.Join(err, do())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// catalogued: whatever the catalogue lists is left by something, here or in the
// test that is named.
func (w *wired) catalogued() {
	w.t.Helper()
	left := map[string]bool{}
	for _, a := range w.list(`SELECT DISTINCT action FROM audit`) {
		left[a] = true
	}
	listed, tests := listedActions(w.t), testNames(w.t)
	for a := range listed {
		if !left[a] && elsewhereNoted[a] == "" {
			w.t.Errorf("docs/audit.md lists %s, which nothing has left", a)
		}
	}
	for a := range left {
		if !listed[a] {
			w.t.Errorf("%s was left, and is not in docs/audit.md", a)
		}
	}
	for a, test := range elsewhereNoted {
		if !listed[a] || !tests[test] {
			w.t.Errorf("%s by %s: there is no such action, or no such test", a, test)
		}
	}
	for what, test := range entryElsewhere {
		if test = strings.TrimPrefix(test, "by the trigger of "); !tests[test] {
			w.t.Errorf("%s: there is no %s", what, test)
		}
	}
}
