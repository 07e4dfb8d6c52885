package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestQuickstart does what docs/quickstart.md says, every command of it in one
// shell, against a parley dev that has just begun. A command that fails ends it.
func TestQuickstart(t *testing.T) {
	page, err := os.ReadFile("../../docs/quickstart.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := shellBlocks(string(page))
	if n := strings.Count(commands, "api "); n < 10 {
		t.Fatalf("only %d requests are on the page", n)
	}
	g := startGateway(t, "--log-level", "warn")
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, work := t.TempDir(), t.TempDir()
	wrapper := "#!/bin/sh\nexport " + asProgram + "=1\nexec '" + program + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(bin, "parley"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", commands)
	shell.Dir = work
	shell.Env = append(os.Environ(), "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "PARLEY_DATA="+g.data)
	shell.WaitDelay = 5 * time.Second
	out, err := shell.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, want := range []string{
		`agent: We are open from seven to six. Goodbye.`, // the transcript
		`"end_reason":"goodbye"`,
		`"message":"We are closed today."`,                                     // where the number leads on a holiday
		`event: snapshot`,                                                      // the call in progress
		`{"status":"ended","end_reason":"operator"}`,                           // hung up
		`{"status":"ended","end_reason":"transfer","transfer_to":"+15550123"}`, // sent elsewhere
		`"calls":5,"contained":3,"transfers":1,"outcomes":{"abandoned":1,"completed":3,"transferred":1}`, // the figures
		`"calls_listed": 5`, // and a count of the calls themselves
		`{"status":"completed","outcome":"answered","attempts":[{"answered_by":"human","cost":0.02}]}`,
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("the commands did not show %q:\n%s", want, out)
		}
	}
	if wav, err := os.ReadFile(filepath.Join(work, "call.wav")); err != nil || len(wav) < 60_000 || string(wav[:4]) != "RIFF" {
		t.Errorf("the recording that was fetched is %d bytes, %v", len(wav), err)
	}
}

// shellBlocks returns what a page says between ```sh and ```.
func shellBlocks(page string) string {
	var b strings.Builder
	in := false
	for line := range strings.Lines(page) {
		switch strings.TrimRight(line, "\r\n") {
		case "```sh":
			in = true
		case "```":
			in = false
		default:
			if in {
				b.WriteString(line)
			}
		}
	}
	return b.String()
}
