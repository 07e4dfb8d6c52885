package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"parley/control/console/consoletest"
	"parley/media"
)

// spoken makes a voice that says text, at the page's rate.
func spoken(t *testing.T, text string) []int16 {
	t.Helper()
	file := filepath.Join(t.TempDir(), "speech.wav")
	if out, err := exec.Command("flite", "-voice", "slt", "-t", text, "-o", file).CombinedOutput(); err != nil {
		t.Fatalf("flite: %v\n%s\ninstall it: apt-get install flite", err, out)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rate, channels, pcm, err := media.ReadWAV(f)
	if err != nil || rate != consoletest.RecordRate || channels != 1 {
		t.Fatalf("flite: %d Hz, %d channels, %v", rate, channels, err)
	}
	return pcm
}

// heardInPage checks by a recognizer, which knows a few sentences only, that
// the recording says want.
func heardInPage(t *testing.T, pcm []int16, want string) {
	t.Helper()
	dir := t.TempDir()
	wav, grammar := filepath.Join(dir, "heard.wav"), filepath.Join(dir, "heard.gram")
	text := "#JSGF V1.0;\ngrammar heard;\npublic <heard> = " + strings.Join([]string{want,
		"for how many people", "is that right", "would you like the opening hours",
		"shall i connect you to a person now", "your table is booked", "thank you for calling goodbye"}, " | ") + ";\n"
	if err := os.WriteFile(wav, consoletest.WAV(t, consoletest.RecordRate, pcm), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(grammar, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("pocketsphinx_continuous", "-infile", wav, "-jsgf", grammar, "-logfn", os.DevNull).Output()
	if err != nil {
		t.Fatalf("pocketsphinx_continuous: %v; install it: apt-get install pocketsphinx pocketsphinx-en-us", err)
	}
	if !strings.Contains(strings.Join(strings.Fields(string(out)), " "), want) {
		t.Errorf("recorded in the page: %q, want %q", out, want)
	}
}

// said joins what was heard of a speaker.
func said(turns []storedTurn, speaker string) string {
	var b strings.Builder
	for _, turn := range turns {
		if turn.Speaker == speaker {
			b.WriteString(turn.Heard + " ")
		}
	}
	return b.String()
}

// lastCall returns the newest call.
func (s *browserSite) lastCall(t *testing.T) storedCall {
	t.Helper()
	var calls struct{ Items []storedCall }
	s.request(t, "GET", "/v1/calls?limit=1", nil, &calls)
	if len(calls.Items) != 1 {
		t.Fatalf("got %d calls, want one", len(calls.Items))
	}
	return calls.Items[0]
}

// endedCall returns the newest call once it has ended.
func (s *browserSite) endedCall(t *testing.T, p *consoletest.Page) (c storedCall) {
	t.Helper()
	p.Wait("the call's records", pageSoon, func() bool { c = s.lastCall(t); return c.Status == "ended" })
	return c
}

func (s *browserSite) turns(t *testing.T, call string) []storedTurn {
	t.Helper()
	var turns struct{ Items []storedTurn }
	s.request(t, "GET", "/v1/calls/"+call+"/turns", nil, &turns)
	return turns.Items
}
