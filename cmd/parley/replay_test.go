package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The command asks the gateway, prints what differs, and exits by the verdict.
func TestReplayCommand(t *testing.T) {
	var asked, answer string
	status := 200
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		asked = r.Method + " " + r.URL.Path + " " + string(b)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	defer s.Close()
	document := file(t, `{"nodes":[]}`)
	const turn = `{"revision":1,"event":"input","input":"two","equal":false,
		"stored":{"messages":[{"type":"text","text":"Fine."},{"type":"text","text":"We have 2."}],"current_node":"offer","status":"active"},
		"replayed":{"messages":[{"type":"text","text":"Fine."},{"type":"text","text":"We have 3."}],"current_node":"","status":"completed"},
		"state":[{"op":"replace","path":"/variables/count","from":2,"to":3}],"notes":["call at x: not there"]}`
	tests := []struct {
		against, asked, answer string
		http, status           int
		out                    string
	}{
		{"", `{}`, `{"verdict":"equal","turns":[{"revision":1,"event":"start","equal":true}]}`, 200, 0, "equal: 1 turns\n"},
		{"4", `{"number":4}`, `{"verdict":"different","reason":"different from turn 1 on","turns":[` + turn + `]}`, 200, 1,
			"turn 1, revision 1: input \"two\"\n    Fine.\n  - We have 2.\n  - (waits at offer)\n  + We have 3.\n  + (completed)\n    variables.count: 2 → 3\n  ! call at x: not there\n0 of 1 turns are equal; different from turn 1 on\n"},
		{"^1.4", `{"version":"^1.4"}`, `{"verdict":"impossible","reason":"it is gone","turns":[]}`, 200, 2, "it is gone"},
		{"latest", `{"latest":true}`, `{"code":"not_found"}`, 404, 2, "the gateway answers 404"},
		{document, `{"document":{"nodes":[]}}`, `{"verdict":"equal","turns":[]}`, 200, 0, "equal"},
		{"no-such-file.json", "", "", 200, 2, "neither a version nor a file"},
	}
	for _, tt := range tests {
		asked, answer, status = "", tt.answer, tt.http
		got, out, errs := parley(t, "", "replay", "some-id", "--against", tt.against, "--url", s.URL, "--api-key", "k", "--data", t.TempDir())
		want := ""
		if tt.asked != "" {
			want = "POST /v1/sessions/some-id/replay " + tt.asked
		}
		if got != tt.status || asked != want || !strings.Contains(out+errs, tt.out) {
			t.Errorf("--against %q: status %d, asked %q, printed %s%s", tt.against, got, asked, out, errs)
		}
	}
	answer, status = `{"verdict":"equal","turns":[]}`, 200
	if _, out, _ := parley(t, "", "replay", "some-id", "--json", "--url", s.URL, "--api-key", "k", "--data", t.TempDir()); !json.Valid([]byte(out)) {
		t.Errorf("--json prints %s", out)
	}
	if got, _, _ := parley(t, "", "replay", "some-id", "--url", s.URL, "--data", t.TempDir()); got != 2 {
		t.Errorf("without a key: status %d, want 2", got)
	}
}
