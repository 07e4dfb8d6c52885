package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
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
