package main

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/control"
	"parley/store/vault/vaulttest"
)

// What a call leaves is sealed by a key of Vault's Transit engine: the key is
// rotated and its old version retired without a call becoming unreadable; and
// while Vault is away, readers are told so, and what cannot be sealed is not
// written.
func TestSealedByTransit(t *testing.T) {
	v := vaulttest.Start(t)
	v.Write(t, "transit/keys/parley", nil)
	role, secret := v.AppRole(t, `path "transit/encrypt/parley" { capabilities = ["update"] }
		path "transit/decrypt/parley" { capabilities = ["update"] }`, "1h", "2h")
	w := newWired(t, func(s *Settings) {
		s.KeyProvider, s.VaultAddr, s.VaultRoleID, s.VaultSecretID = "vault-transit://transit/parley", v.URL, role, secret
	})
	work, end := context.WithCancel(t.Context())
	signing := make(chan error, 1)
	go func() { signing <- w.safe.vault.Run(work) }()
	t.Cleanup(func() { end(); <-signing })
	soon := func(what string, is func() bool) {
		t.Helper()
		deadline := time.Now().Add(30 * time.Second)
		for !is() {
			if time.Now().After(deadline) {
				t.Fatalf("waited for %s in vain", what)
			}
			<-time.After(20 * time.Millisecond)
		}
	}
	soon("Vault", func() bool { return w.safe.vault.Ready() == nil })
	made := w.tenant("owner@example.com")
	ctx := control.WithTenant(t.Context(), made.Tenant)
	ask := func(method, path, body string) told {
		w.forgive()
		return w.ask(sending{method: method, path: path, bearer: made.APIKey, body: body})
	}
	wrapped := func(version string) {
		t.Helper()
		list := w.list(`SELECT convert_from(wrapped, 'UTF8') FROM data_keys WHERE tenant_id = $1`, made.Tenant)
		if len(list) == 0 || slices.ContainsFunc(list, func(s string) bool { return !strings.HasPrefix(s, "vault:"+version+":") }) {
			t.Errorf("data keys are wrapped as %.20q, want by %s of Vault's key", list, version)
		}
	}
	call := w.callThatSays(made.Agents[0].ID)
	transcript, recording := "/v1/calls/"+call.ID.String()+"/transcript", "/v1/calls/"+call.ID.String()+"/recording"
	readable := func(when string) {
		t.Helper()
		w.keyring.Forget() // as another process, which has nothing in memory
		if got := ask("GET", transcript, ""); got.status != 200 || !strings.Contains(got.body, saidCanary) {
			t.Errorf("%s: the transcript: %d %s", when, got.status, got.body)
		}
		if got := ask("GET", recording, ""); got.status != 200 || len(got.body) < 100_000 {
			t.Errorf("%s: the recording: %d, %d bytes", when, got.status, len(got.body))
		}
	}
	if columns, files := w.holds(saidCanary); len(columns)+len(files) > 0 {
		t.Errorf("what was said stands in %v and in %v", columns, files)
	}
	wrapped("v1")
	readable("sealed")

	v.Write(t, "transit/keys/parley/rotate", nil)
	readable("rotated in Vault")
	if n, err := w.keyring.Rewrap(ctx); err != nil || n == 0 {
		t.Fatalf("rewrapped %d keys, %v", n, err)
	}
	wrapped("v2")
	v.Write(t, "transit/keys/parley/config", map[string]any{"min_decryption_version": 2}) // what old backups hold is lost
	readable("the old version retired")

	v.Cut()
	if got := ask("GET", transcript, ""); got.status != 200 {
		t.Errorf("Vault is away, the key in memory: %d %s", got.status, got.body)
	}
	w.keyring.Forget()
	for what, s := range map[string]sending{
		"the transcript": {method: "GET", path: transcript},
		"the recording":  {method: "GET", path: recording},
		"a chat":         {method: "POST", path: "/chat/start", body: `{"flow_id":"` + made.Agents[0].Settings.FlowID.String() + `"}`},
	} {
		if got := ask(s.method, s.path, s.body); got.status != http.StatusServiceUnavailable || strings.Contains(got.body, saidCanary) {
			t.Errorf("Vault is away: %s: %d %s", what, got.status, got.body)
		}
	}
	serving := &control.Serving{Call: call, Agent: made.Agents[0]}
	serving.Agent.Settings.Record = true
	if w.desk.record(ctx, serving, 8000, 0, w.log) != nil {
		t.Error("Vault is away, and a call is recorded")
	}
	if said := w.said.String(); !strings.Contains(said, "not recorded") || strings.Contains(said, "vault:v") {
		t.Errorf("the log does not say that a call is not recorded, or holds a wrapped key:\n%.2000s", said)
	}
	v.Restore()
	soon("the transcript", func() bool { return ask("GET", transcript, "").status == 200 })
	readable("Vault is back")
}
