package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
)

// slots is a server that a flow calls; it keeps what it was sent.
func slots(t *testing.T) (address, host string, got func() (*http.Request, string)) {
	t.Helper()
	var req *http.Request
	var body string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		req, body = r, string(b)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"total": 2, "echo": %q}`, r.Header.Get("Authorization"))
	}))
	t.Cleanup(s.Close)
	return s.URL, s.Listener.Addr().String(), func() (*http.Request, string) { return req, body }
}

const caller = `{"nodes": [
	{"id": "call", "type": "webhook", "content": {"url": "%s/slots", "method": "POST", "body": {"days": ["monday"]},
		"headers": {"Authorization": "Bearer {secret:slots_token}"}, "response_mapping": {"n": "$.total", "echo": "$.echo"}},
		"connections": {"success": "yes", "error": "no"}},
	{"id": "yes", "type": "message", "content": {"text": "We have {n} slots. {echo}"}},
	{"id": "no", "type": "message", "content": {"text": "Please call back."}}]}`

func TestFlowRunCallsOut(t *testing.T) {
	address, host, got := slots(t)
	t.Setenv("PARLEY_SECRET_SLOTS_TOKEN", "t0p-secret")
	doc := file(t, fmt.Sprintf(caller, address))

	_, out, errs := parley(t, "", "flow", "run", "--allow-http", "--egress-allow", host, doc)
	if !strings.Contains(out, "We have 2 slots.") {
		t.Errorf("%s%s", out, errs)
	}
	if strings.Contains(out+errs, "t0p-secret") {
		t.Errorf("the secret came back: %s%s", out, errs)
	}
	r, body := got()
	if r == nil || r.Header.Get("Authorization") != "Bearer t0p-secret" || body != `{"days":["monday"]}` || !strings.HasPrefix(r.Header.Get("Idempotency-Key"), "terminal:call:") {
		t.Errorf("the server saw %+v %s", r, body)
	}
	for _, args := range [][]string{{"flow", "run", doc}, {"flow", "run", "--allow-http", doc}} { // no leave; a loopback address
		if _, out, _ := parley(t, "", args...); !strings.Contains(out, "Please call back.") {
			t.Errorf("%v: %s", args, out)
		}
	}
	inside := file(t, fmt.Sprintf(caller, ""))
	if _, out, _ := parley(t, "", "flow", "run", "--allow-http", "--internal", address, inside); !strings.Contains(out, "We have 2 slots.") {
		t.Errorf("internal API: %s", out)
	}
}

// A call's flow reaches the world by the tenant's secrets and the allowlist.
func TestOutsideOfACall(t *testing.T) {
	address, host, got := slots(t)
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "key"), []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	tenant := uuid.New()
	for _, host := range []string{"http://" + host} {
		status, _, errs := parley(t, "t0p-secret\n", "flow", "secret", "set", "slots_token", "--host", host, "--data", data, "--tenant", tenant.String())
		if status != 0 {
			t.Fatal(errs)
		}
	}
	ring, err := readKeyring(filepath.Join(data, "key"))
	if err != nil {
		t.Fatal(err)
	}
	secrets, err := openSecrets(data, ring)
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	var trail trail
	o, err := newOutside(reach{allow: []string{host}}, secrets, &trail, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	if err != nil {
		t.Fatal(err)
	}
	f, err := flow.Parse(fmt.Appendf(nil, caller, address))
	if err != nil {
		t.Fatal(err)
	}
	_, effects := flow.Step(f, flow.New(f, flow.Init{ID: "c"}), flow.Start{At: flow.At{At: time.Unix(1e9, 0)}})
	call := effects[0].(flow.Call)
	if r := o.performer(tenant, o.log)(t.Context(), call); r.Outcome != "success" || strings.Contains(string(r.Data), "t0p") {
		t.Errorf("%+v %s", r, r.Data)
	}
	if r, _ := got(); r.Header.Get("Authorization") != "Bearer t0p-secret" {
		t.Error("the secret did not arrive")
	}
	if r := o.performer(uuid.New(), o.log)(t.Context(), call); r.Outcome != "error" || !strings.Contains(r.Error, "slots_token") {
		t.Errorf("another tenant: %+v", r)
	}
	call.URL, call.Headers = []flow.Part{{Text: "http://169.254.169.254/latest"}}, nil
	if r := o.performer(tenant, o.log)(t.Context(), call); r.Outcome != "error" || !strings.Contains(log.String(), "outbound request refused") {
		t.Errorf("%+v; log: %s", r, log.String())
	}
	if got := trail.of(tenant); got != "egress.refuse host:169.254.169.254:80" {
		t.Errorf("audited: %q", got)
	}
	if strings.Contains(log.String(), "t0p") {
		t.Errorf("the log holds the secret: %s", log.String())
	}
}

func TestFlowSecret(t *testing.T) {
	data := t.TempDir()
	if status, _, errs := parley(t, "v", "flow", "secret", "set", "k", "--host", "a.example", "--data", data); status != 2 || !strings.Contains(errs, "key") {
		t.Errorf("without a key file: %d %s", status, errs)
	}
	if err := os.WriteFile(filepath.Join(data, "key"), []byte(strings.Repeat("k", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		in     string
		args   []string
		status int
		out    string
	}{
		{"v4lue\n", []string{"set", "k", "--host", "a.example", "--host", "http://10.0.0.7:9"}, 0, ""},
		{"v4lue\n", []string{"set", "k", "--host", "a/b"}, 2, ""},
		{"", []string{"set", "k", "--host", "a.example"}, 2, ""},
		{"", []string{"list"}, 0, "a.example, http://10.0.0.7:9"},
		{"", []string{"list", "--json"}, 0, `"key":"k"`},
		{"", []string{"delete", "k"}, 0, ""},
		{"", []string{"delete", "k"}, 1, ""},
	}
	for _, s := range steps {
		status, out, errs := parley(t, s.in, append(append([]string{"flow", "secret"}, s.args...), "--data", data)...)
		if status != s.status || !strings.Contains(out, s.out) || strings.Contains(out+errs, "v4lue") {
			t.Errorf("%v: status %d, want %d: %s%s", s.args, status, s.status, out, errs)
		}
	}
}
