package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/agent/flow"
	"parley/agent/providertest"
)

const frontDesk = "../../examples/front-desk/flow.json"

// parley runs a command line and returns what it wrote.
func parley(t *testing.T, in string, args ...string) (status int, out, errs string) {
	t.Helper()
	var o, e strings.Builder
	status = run(t.Context(), args, stdio{strings.NewReader(in), &o, &e})
	return status, o.String(), e.String()
}

func file(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "f.json")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestFlowTestOfTheExample(t *testing.T) {
	status, out, errs := parley(t, "", "flow", "test", frontDesk)
	if status != 0 || !strings.HasSuffix(out, " passed, 0 failed\n") || strings.HasPrefix(out, "0 passed") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	status, out, _ = parley(t, "", "flow", "test", "--run", "^silence", "--json", frontDesk)
	var line struct {
		Name string
		OK   bool
	}
	if err := json.Unmarshal([]byte(out), &line); err != nil || status != 0 || !line.OK || line.Name != "silence-escalates" {
		t.Errorf("status %d, %v: %s", status, err, out)
	}
}

func TestFlowTestStatus(t *testing.T) {
	one := func(expect string) string {
		return `{"format": "flow-cases/1", "cases": [{"name": "hi", "flow": {"nodes": [{"id": "a", "type": "message", "content": {"text": "hi"}}]},
			"steps": [{"input": null, ` + expect + `}]}]}`
	}
	tests := []struct {
		name, text string
		status     int
		last       string
	}{
		{"holds", one(`"expect_messages": ["hi"]`), 0, "1 passed, 0 failed"},
		{"fails", one(`"expect_messages": ["ho"]`), 1, "0 passed, 1 failed"},
		{"unknown-field", one(`"expect_mesages": ["hi"]`), 2, ""},
		{"no-json", "hello", 2, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, out, errs := parley(t, "", "flow", "test", file(t, tt.text))
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if status != tt.status || lines[len(lines)-1] != tt.last {
				t.Errorf("status %d, want %d\n%s%s", status, tt.status, out, errs)
			}
			if tt.name == "unknown-field" && !strings.Contains(errs, "expect_mesages") {
				t.Errorf("the error does not name the field: %s", errs)
			}
		})
	}
	if status, _, _ := parley(t, "", "flow", "test", filepath.Join(t.TempDir(), "none.json")); status != 2 {
		t.Errorf("a missing file: status %d, want 2", status)
	}
}

func TestFlowLint(t *testing.T) {
	if status, out, _ := parley(t, "", "flow", "lint", frontDesk); status != 0 {
		t.Errorf("status %d\n%s", status, out)
	}
	bad := file(t, `{"nodes": [{"id": "a", "type": "message", "content": {"text": "x"}, "connections": {"default": "nowhere"}}]}`)
	status, out, _ := parley(t, "", "flow", "lint", "--json", bad)
	var p struct {
		File string
		flow.Problem
	}
	if err := json.Unmarshal([]byte(strings.SplitN(out, "\n", 2)[0]), &p); err != nil || status != 1 {
		t.Fatalf("status %d, %v: %s", status, err, out)
	}
	if p.Pointer != "/nodes/0/connections/default" || p.Fix == "" || p.File != bad {
		t.Errorf("%+v", p)
	}
	if status, out, _ := parley(t, "", "flow", "lint", file(t, `{"nodes": 3}`)); status != 1 || !strings.Contains(out, "/nodes") {
		t.Errorf("status %d: %s", status, out)
	}
}

func TestFlowRun(t *testing.T) {
	status, out, errs := parley(t, "hours please\n/silence\nno\n", "flow", "run", frontDesk)
	for _, want := range []string{"Would you like the opening hours", "On Monday we are closed", "Would you like anything else?", "(completed)"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s%s", want, out, errs)
		}
	}
	if status != 0 {
		t.Errorf("status %d", status)
	}
	if status, out, _ := parley(t, "", "flow", "run", "--json", frontDesk); status != 0 || !strings.Contains(out, `{"status":"abandoned"}`) {
		t.Errorf("status %d: %s", status, out)
	}
}

func TestFlowExport(t *testing.T) {
	in := `{"x": [1.50, {"b": 1, "a": 2}], "nodes": [{"type": "message", "id": "a", "position": {"y": 1, "x": 2}}]}`
	want := `{"nodes":[{"id":"a","position":{"x":2,"y":1},"type":"message"}],"x":[1.50,{"a":2,"b":1}]}` + "\n"
	status, out, errs := parley(t, in, "flow", "export", "-")
	if status != 0 || out != want {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	if _, again, _ := parley(t, out, "flow", "export", "-"); again != out {
		t.Errorf("exported again: %s", again)
	}
}

// A flow in the terminal asks a model where it may, and does without where it
// may not.
func TestFlowRunAsksAModel(t *testing.T) {
	llm := providertest.NewOpenAI(providertest.OpenAIScript{Key: providertest.Canary, Replies: []providertest.Reply{{Text: "We open at nine."}}})
	t.Cleanup(llm.Close)
	t.Setenv("OPENAI_API_KEY", providertest.Canary)
	t.Setenv("OPENAI_BASE_URL", llm.URL)
	doc := file(t, `{"nodes":[{"id":"a","type":"agent","content":{"prompt":"Be brief.","greeting":"Hello.","exits":["done"]},"connections":{"error":"sorry"}},
		{"id":"sorry","type":"message","content":{"text":"Sorry."}}]}`)
	for _, tt := range []struct{ flag, want string }{{"--allow-model", "Hello.\nWe open at nine.\n(abandoned)\n"}, {"--json=false", "Hello.\nSorry.\n(completed)\n"}} {
		if status, out, errs := parley(t, "when?\n", "flow", "run", tt.flag, doc); status != 0 || out != tt.want || strings.Contains(out+errs, providertest.Canary) {
			t.Errorf("%s: status %d, says %q, want %q; %s", tt.flag, status, out, tt.want, errs)
		}
	}
}
