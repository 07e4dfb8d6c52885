package examples

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/agent/flow"
	"parley/agent/flow/flowtest"
)

// Every example can be published as it stands, without so much as a warning.
func TestExamplesAreSound(t *testing.T) {
	for _, name := range files(t, "*/*.json", 4) {
		for _, p := range flow.Lint(read(t, name)) {
			if p.Severity != flow.SeverityInfo {
				t.Errorf("%s: %s", name, p)
			}
		}
	}
}

// The examples' own tests, as `parley flow test` runs them.
func TestExamplesPassTheirTests(t *testing.T) {
	run := func(name string) (cases int) {
		list, err := flowtest.Parse(read(t, name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, c := range list {
			err := c.Load(func(flow string) ([]byte, error) { return os.ReadFile(filepath.Join(filepath.Dir(name), flow)) })
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if r := flowtest.Run(c); !r.OK {
				t.Errorf("%s: %s, step %d: want %s, got %s", name, r.Name, r.Step, r.Want, r.Got)
			}
		}
		return len(list)
	}
	for _, name := range files(t, "*/flow.json", 2) {
		tests, err := filepath.Glob(filepath.Join(filepath.Dir(name), "tests", "*.json"))
		if err != nil {
			t.Fatal(err)
		}
		cases := run(name)
		for _, file := range tests {
			cases += run(file)
		}
		if cases < 5 {
			t.Errorf("%s has %d tests", name, cases)
		}
	}
}

func files(t *testing.T, pattern string, least int) []string {
	t.Helper()
	list, err := filepath.Glob(pattern)
	if err != nil || len(list) < least {
		t.Fatalf("%s: %s, %v", pattern, strings.Join(list, " "), err)
	}
	return list
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
