package flowtest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const retries3 = `{"format": "flow-cases/1", "cases": [{
    "name": "retries-then-succeeds",
    "flow": {"entry": "call", "nodes": [
      {"id": "call", "type": "webhook",
       "content": {"url": "https://api.example.com/slots", "method": "POST", "body": {"day": "{day}"},
                   "headers": {"Authorization": "Bearer {secret:slots_token}"},
                   "response_mapping": {"count": "$.data.total"}, "timeout": 5000, "retry": {"attempts": 3, "delay": 1000}},
       "connections": {"success": "tell", "error": "sorry"}},
      {"id": "tell", "type": "message", "content": {"messages": [{"type": "text", "content": "We have {count} slots."}]}},
      {"id": "sorry", "type": "message", "content": {"messages": [{"type": "text", "content": "Please call back later."}]}}]},
    "initial_state": {"variables": {"day": "monday"}},
    "secrets": {"slots_token": "t0p"},
    "http": [{"url": "https://api.example.com/slots", "method": "POST", "responses": [{"status": 503}, RESPONSE]}],
    "steps": [{"input": null, "expect_messages": ["MESSAGE"], "expect_node": null, "expect_status": "completed",
               "expect_http": [{"url": "https://api.example.com/slots", "headers": {"Authorization": "Bearer t0p"}, "json": {"day": "monday"}}],
               "expect_http_count": {"url": "https://api.example.com/slots", "min": 2, "max": 3}, "expect_no_leak": ["t0p"]}]}]}`

func run(t *testing.T, file string) []Report {
	t.Helper()
	cases, err := Parse([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	var out []Report
	for _, c := range cases {
		out = append(out, Run(c))
	}
	return out
}

func TestRun(t *testing.T) {
	tests := []struct {
		name, response, message string
		want                    bool
	}{
		{"succeeds", `{"status": 200, "json": {"data": {"total": 2}}}`, "We have 2 slots.", true},
		{"fails", `{"timeout": true}`, "Please call back later.", true},
		{"refused", `{"refuse": true}`, "Please call back later.", true},
		{"other-message", `{"status": 200, "json": {"data": {"total": 2}}}`, "We have 3 slots.", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := run(t, strings.NewReplacer("RESPONSE", tt.response, "MESSAGE", tt.message).Replace(retries3))[0]
			if r.OK != tt.want {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestFrontDesk(t *testing.T) {
	doc, err := os.ReadFile("../../../examples/front-desk/flow.json")
	if err != nil {
		t.Fatal(err)
	}
	reports := run(t, string(doc))
	if len(reports) < 5 {
		t.Errorf("%d cases, want all of the example's", len(reports))
	}
	for _, r := range reports {
		if !r.OK {
			t.Errorf("%+v", r)
		}
	}
}

func TestParseNamesUnknownFields(t *testing.T) {
	_, err := Parse([]byte(`{"format": "flow-cases/1", "cases": [{"name": "x", "flow": {}, "expct": 1}]}`))
	if err == nil || !strings.Contains(err.Error(), "expct") {
		t.Errorf("error %v, want the field's name", err)
	}
}

func TestPublishError(t *testing.T) {
	r := run(t, `{"format": "flow-cases/1", "cases": [
		{"name": "must", "flow": {"nodes": [{"id": "a", "type": "message", "connections": {"default": "b"}}]}, "expect_publish_error": true},
		{"name": "may", "flow": {"nodes": [{"id": "a", "type": "message", "connections": {"default": "b"}}]}, "allow_publish_error": true},
		{"name": "runs", "flow": {"nodes": [{"id": "a", "type": "message", "connections": {"default": "b"}}]}, "steps": [{"input": null, "expect_status": "failed"}]},
		{"name": "sound", "flow": {"nodes": [{"id": "a", "type": "message"}]}, "expect_publish_error": true}]}`)
	for i, want := range []bool{true, true, true, false} {
		if r[i].OK != want {
			t.Errorf("%+v, want %v", r[i], want)
		}
	}
}

// TestCases runs the files of cases: every operator, the seed nodes joined into
// flows, calls that fail in every way, and voice.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) < 4 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range run(t, string(b)) {
			if !r.OK {
				t.Errorf("%s: %s, step %d: want %s, got %s", name, r.Name, r.Step, r.Want, r.Got)
			}
		}
	}
}

// A server that never answers holds the caller up for its tries and no longer:
// then comes what the flow keeps for that case.
func TestFallbackComesInTime(t *testing.T) {
	cases, err := Parse([]byte(`{"format": "flow-cases/1", "cases": [{"name": "silent", "flow": {"nodes": [
		{"id": "call", "type": "webhook", "content": {"url": "https://x.example/", "timeout": 1500, "retry": {"attempts": 3, "delay": 0},
		 "response_mapping": {"tip": "$.tip"}, "fallback_response": {"tip": "Read Heidi."}}, "connections": {"fallback": "tell"}},
		{"id": "tell", "type": "message", "content": {"text": "{tip}"}}]},
		"http": [{"url": "*", "responses": [{"timeout": true}]}], "steps": [{"input": null, "expect_messages": ["Read Heidi."]}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	r := newRunner(cases[0])
	began := r.now
	if _, err := r.load(); err != nil {
		t.Fatal(err)
	}
	if err := r.step(cases[0].Steps[0]); err != nil {
		t.Fatal(err)
	}
	if want, got, ok := r.check(cases[0].Steps[0]); !ok {
		t.Errorf("want %s, got %s", want, got)
	}
	if took := r.now.Sub(began); took < 4500*time.Millisecond || took > 4600*time.Millisecond {
		t.Errorf("took %v, want three times 1.5 s", took)
	}
}
