package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestPitfallsAreHeld holds docs/pitfalls.md to the tests that there are.
func TestPitfallsAreHeld(t *testing.T) {
	var tests strings.Builder
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		tests.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../../docs/pitfalls.md")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile("`(Test\\w+)(?:/(\\w+))?`").FindAllStringSubmatch(string(page), -1)
	if len(named) < 80 {
		t.Fatalf("%d tests are named, want 80 or more", len(named))
	}
	for _, n := range named {
		if !strings.Contains(tests.String(), "func "+n[1]+"(") {
			t.Errorf("there is no %s", n[1])
		}
		if n[2] != "" && !strings.Contains(tests.String(), `"`+n[2]+`"`) {
			t.Errorf("there is no %s/%s", n[1], n[2])
		}
	}
	if rows := regexp.MustCompile(`(?m)^\| \d+ \|`).FindAllString(string(page), -1); len(rows) != 40 {
		t.Errorf("%d pitfalls, want 40", len(rows))
	}
}

// testNames is the name of every test, fuzz target and benchmark of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	err := filepath.WalkDir("../..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range declared.FindAllStringSubmatch(string(b), -1) {
			names[m[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestPagesNameTests holds the pages that name tests as proof to those there are.
func TestPagesNameTests(t *testing.T) {
	have := testNames(t)
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)\\w+)`")
	for page, least := range map[string]int{"requirements.md": 150, "threat-model.md": 40} {
		b, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		found := named.FindAllStringSubmatch(string(b), -1)
		if len(found) < least {
			t.Errorf("docs/%s names %d tests, want %d or more", page, len(found), least)
		}
		for _, m := range found {
			if !have[m[1]] {
				t.Errorf("docs/%s: there is no %s", page, m[1])
			}
		}
	}
}

// How many rows each of the five lists of requirements has, numbered from 1.
var requirementRows = []int{32, 25, 57, 98, 33}

// TestRequirementsAreAllThere holds docs/requirements.md complete: every row
// once, with a state that there is, and a test where something stands.
func TestRequirementsAreAllThere(t *testing.T) {
	b, err := os.ReadFile("../../docs/requirements.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, m := range regexp.MustCompile(`(?m)^\| (\d{3}-\d{2}) \| ([^|]*) \| ([^|]*) \| ?([^|]*) \|$`).FindAllStringSubmatch(string(b), -1) {
		if rows[m[1]] != nil {
			t.Errorf("%s stands there twice", m[1])
		}
		rows[m[1]] = m[2:]
	}
	for list, n := range requirementRows {
		for i := range n {
			id := fmt.Sprintf("%03d-%02d", list, i+1)
			row := rows[id]
			delete(rows, id)
			switch {
			case row == nil:
				t.Errorf("%s is missing", id)
			case !slices.Contains([]string{"done", "partly", "not yet", "later"}, row[0]):
				t.Errorf("%s: %q is no state", id, row[0])
			case strings.TrimSpace(row[1]) == "":
				t.Errorf("%s does not say what stands", id)
			case row[0] == "done" && !strings.Contains(row[2], "`"):
				t.Errorf("%s is done, and no test shows it", id)
			}
		}
	}
	for id := range rows {
		t.Errorf("nobody asked for %s", id)
	}
}
