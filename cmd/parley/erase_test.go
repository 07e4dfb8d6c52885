package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
	"parley/control/identity"
)

// Who is to be forgotten, and by which words nobody may find them any more.
const (
	forgottenNumber = "+15557654321"
	forgottenUser   = "forgotten-user-93b1"
)

// A remembered person is one of whom a tenant has something everywhere.
type remembered struct {
	*wired
	made  identity.DemoMade
	calls []control.Call
	chat  string // its session
}

func (m *remembered) want(status int, method, path, body string, header ...string) map[string]any {
	m.t.Helper()
	m.forgive()
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	got := m.ask(sending{method: method, path: path, bearer: m.made.APIKey, body: body, header: h})
	if got.status != status {
		m.t.Fatalf("%s %s: %d %s, want %d", method, path, got.status, got.body, status)
	}
	var v map[string]any
	_ = json.Unmarshal([]byte(got.body), &v)
	return v
}

// remember leaves a trace of the person in every place that there is.
func remember(t *testing.T) *remembered {
	t.Helper()
	w := newWired(t)
	m := &remembered{wired: w, made: w.tenant("owner@example.com")}
	flow := m.made.Agents[0].Settings.FlowID.String()
	m.want(201, "POST", "/v1/flows/"+flow+"/versions", `{"document":`+echoFlow+`}`)
	m.want(200, "POST", "/v1/flows/"+flow+"/publish", `{"number":2}`)
	m.want(201, "POST", "/v1/webhooks", `{"name":"w","url":"https://hooks.example"}`)
	chat := m.want(201, "POST", "/chat/start", `{"flow_id":"`+flow+`","user_id":"`+forgottenUser+`"}`)
	m.chat = chat["session_id"].(string)
	m.want(200, "POST", "/chat/sessions/"+chat["session_token"].(string)+"/interact", `{"input":"`+saidCanary+`"}`)
	for n := range 2 {
		m.calls = append(m.calls, m.callFrom(n))
	}
	// A hold that was lifted names them too, and so does its kept answer.
	hold := m.want(201, "POST", "/v1/holds", `{"caller":"`+forgottenNumber+`","reason":"Mr `+saidCanary+`"}`, "Idempotency-Key", "once")
	m.refused()
	m.want(200, "DELETE", "/v1/holds/"+hold["id"].(string), "")
	ctx := control.WithTenant(t.Context(), m.made.Tenant)
	for _, do := range []func() error{
		func() error { _, err := w.gateway.db.PublishEvents(ctx, 100); return err },
		func() error { return m.deliver() },
		func() error { return m.spoolOf(m.calls[0]) },
		func() error { return w.redis.Set("limit:dial:"+forgottenNumber, "1") },
		func() error { return w.redis.Set("cell:answer:abc", `{"d":"`+saidCanary+`"}`) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// refused holds that a hold wins over everything.
func (m *remembered) refused() {
	m.t.Helper()
	for method, path := range map[string]string{"POST": "/v1/erasures", "DELETE": "/v1/calls/" + m.calls[0].ID.String()} {
		body := ""
		if method == "POST" {
			body = `{"caller":"` + forgottenNumber + `"}`
		}
		if p := m.want(409, method, path, body); !strings.Contains(fmt.Sprint(p["detail"]), "legal hold") {
			m.t.Errorf("%s %s: %v", method, path, p)
		}
	}
}

// deliver orders deliveries of all events.
func (m *remembered) deliver() error {
	_, err := m.super.Exec(m.t.Context(), `INSERT INTO webhook_deliveries (id, tenant_id, webhook_id, event_id, session_id, seq)
		SELECT gen_random_uuid(), e.tenant_id, w.id, e.id, e.session_id, e.seq FROM events e JOIN webhooks w USING (tenant_id) ON CONFLICT DO NOTHING`)
	return err
}

// callFrom serves a call of the person: said, recorded, with a message; of the
// second the recording is never finished.
func (m *remembered) callFrom(n int) control.Call {
	m.t.Helper()
	call, err := m.gateway.calls.Arrive(m.t.Context(), control.Arrival{Carrier: "twilio", CarrierCallID: fmt.Sprint("CA", n), From: forgottenNumber, Agent: m.made.Agents[0].ID.String()})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, v, err := m.gateway.calls.Begin(m.t.Context(), call.ID.String(), func(string) {})
	if err != nil {
		m.t.Fatal(err)
	}
	v.Agent.Settings.Record = true
	v.Journal.Turn(ctx, agent.Turn{Index: 0, Speaker: "caller", Heard: saidCanary, Input: "speech"})
	v.Journal.Commit(ctx, agent.Commit{Revision: 1, Node: "say", Status: "completed", State: []byte(`{"variables":{"said":"` + saidCanary + `"},"user":{"phone":"` + forgottenNumber + `"}}`)})
	if err := m.gateway.db.PutCallEvent(control.WithTenant(ctx, call.Tenant), control.CallEvent{Call: call.ID, Event: "paid", Data: []byte(`"` + saidCanary + `"`)}); err != nil {
		m.t.Fatal(err)
	}
	box, err := messageBox{blobs: m.recordings, call: v.Call, log: m.log}.Take(ctx, "message", 8000)
	if err == nil {
		_, _, err = box.Keep()
	}
	rec := m.desk.record(ctx, v, 8000, 0, m.log)
	if err != nil || rec == nil {
		m.t.Fatal("no message, or no recording: ", err)
	}
	key := ""
	if n == 0 {
		key = rec.close(m.log)
	} else {
		m.t.Cleanup(func() { rec.close(m.log) }) // after the test: its process has died
	}
	if err := m.gateway.calls.Finish(ctx, v, agent.Ending{Reason: "goodbye"}, key); err != nil {
		m.t.Fatal(err)
	}
	return v.Call
}

// spoolOf leaves a record that could not be written before.
func (m *remembered) spoolOf(c control.Call) error {
	line := fmt.Sprintf(`{"tenant":%q,"hold":{"call":%q,"generation":1},"turn":{"Index":7,"Speaker":"caller","Heard":%q}}`, c.Tenant, c.ID, saidCanary)
	return os.WriteFile(m.gateway.calls.Spool, []byte(line+"\n"), 0o600)
}

// traces lists where the person can still be found.
func (m *remembered) traces() (found []string) {
	m.t.Helper()
	whole := dump(m.t, m.db) + m.redis.Dump()
	for _, word := range []string{forgottenNumber, forgottenUser, saidCanary} {
		for form, text := range forms(word) {
			if strings.Contains(whole, text) {
				found = append(found, word+" as "+form)
			}
		}
		columns, files := m.holds(word)
		found = append(found, append(columns, files...)...)
	}
	err := m.gateway.blobs.Blobs(m.t.Context(), m.made.Tenant, func(b control.Blob) error {
		found = append(found, "file "+b.Key)
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// Once a caller and a user are erased, nobody finds them: in no table, file, or
// shared memory, by their number, name or words. What is left are proofs.
func TestErasureLeavesNoTrace(t *testing.T) {
	m := remember(t)
	if got := m.traces(); len(got) < 8 {
		t.Fatalf("only %v is there to be found: nothing is tested", got)
	}
	keys, _ := m.redis.Get("limit:dial:" + forgottenNumber)
	if keys == "" {
		t.Fatal("shared memory is empty: nothing is tested")
	}
	var asked []string
	ctx := control.WithTenant(t.Context(), m.made.Tenant)
	for _, who := range [][2]string{{forgottenNumber, ""}, {"", forgottenUser}} {
		e, err := m.keeper.RequestErasure(ctx, who[0], who[1])
		if err != nil {
			t.Fatal(err)
		}
		asked = append(asked, e.ID.String())
	}
	m.keeper.Now = func() time.Time { return time.Now().Add(time.Hour) } // the calls are long over
	if err := m.keeper.EraseNow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.gateway.calls.Recover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := m.traces(); got != nil {
		t.Errorf("erased, and still found: %v", got)
	}
	for i, id := range asked {
		e := m.want(200, "GET", "/v1/erasures/"+id, "")
		if e["answers"] != float64(1-i) || e["cached"] == 0.0 && i == 0 {
			t.Errorf("kept answers and shared memory of erasure %d: %v", i, e)
		}
		if e["status"] != "done" || e["sessions"] != float64(2-i) || e["files"] != float64(4-4*i) {
			t.Errorf("erasure: %v", e)
		}
		proofs := m.want(200, "GET", "/v1/deletions?erasure_id="+id, "")["items"].([]any)
		if len(proofs) != 1 || len(proofs[0].(map[string]any)["hash"].(string)) != 64 {
			t.Errorf("proofs: %v", proofs)
		}
	}
	m.want(404, "GET", "/v1/calls/"+m.calls[0].ID.String(), "")
	m.want(404, "GET", "/v1/sessions/"+m.chat, "")
	// The same request again takes no effect, and its answer no longer says of whom.
	if got := m.want(200, "GET", "/v1/holds", "")["items"].([]any); len(got) != 1 || got[0].(map[string]any)["reason"] != "[erased]" {
		t.Errorf("holds: %v", got)
	}
	trail := fmt.Sprint(m.want(200, "GET", "/v1/audit?action=erasure", "")["items"])
	if strings.Count(trail, "erasure.finish") != 2 {
		t.Errorf("audit: %s", trail)
	}
}

// The command does the same, without a server, and says what is in its way.
func TestEraseCommand(t *testing.T) {
	w := newWired(t)
	made := w.tenant("owner@example.com")
	t.Setenv("DATABASE_URL", w.db.AppURL)
	t.Setenv("PARLEY_KEY_FILE", file(t, strings.Repeat("k", 32)))
	t.Setenv("PARLEY_DATA", w.settings.Data)
	erase := func(want int, args ...string) (out, said string) {
		t.Helper()
		var stdout, stderr syncBuffer
		got := run(t.Context(), append([]string{"erase", "--tenant", made.Tenant.String(), "--yes"}, args...), stdio{strings.NewReader(""), &stdout, &stderr})
		if got != want {
			t.Errorf("parley erase %v: exit status %d, want %d: %s", args, got, want, stderr.String())
		}
		return stdout.String(), stderr.String()
	}
	if out, _ := erase(exitOK, "--caller", forgottenNumber, "--json"); !strings.Contains(out, `"status":"done"`) && !strings.Contains(out, `"status": "done"`) {
		t.Errorf("of nobody: %s", out)
	}
	erase(exitUsage)
	erase(exitUsage, "--caller", forgottenNumber, "--user-id", forgottenUser)
	ctx := control.WithTenant(t.Context(), made.Tenant)
	if _, err := w.gateway.db.PlaceHold(ctx, control.LegalHold{ID: uuid.New(), Caller: forgottenNumber, Reason: "case 9", PlacedBy: "system"}); err != nil {
		t.Fatal(err)
	}
	if _, said := erase(exitFailed, "--caller", forgottenNumber); !strings.Contains(said, "legal hold") || strings.Contains(said, forgottenNumber) {
		t.Errorf("of who is held: %s", said)
	}
}
