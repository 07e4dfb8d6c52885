package stt

import (
	"strings"
	"testing"

	"parley/media"
)

func TestParseSphinx(t *testing.T) {
	tests := []struct{ name, out, want string }{
		{"nothing", "", ""},
		{"words", "four people\n<s> 0.00 0.20 1.000000\nfour(2) 0.21 0.50 0.93\npeople 0.51 0.90 0.80\n</s> 0.91 1.00 1.0\n", "four people"},
		{"noise", "[NOISE] 0.00 0.20 0.9\n+NSN+ 0.2 0.3 0.9\n", ""},
		{"null", "(NULL) 0.00 0.00 1.0\nyes 0.1 0.4 1.0\n", "yes"},
		{"letters", "j. 0.1 0.2 1\no. 0.2 0.3 1\nsmith 0.3 0.9 1\n", "jo smith"},
		{"torn", "yes 0.1 0.4\nno 0.1 0.4 x\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := parseSphinx(tt.out); got != tt.want {
				t.Errorf("parseSphinx = %q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzParseSphinx(f *testing.F) {
	f.Add("yes\n<s> 0 0.1 1\nyes(2) 0.1 0.4 0.9\n")
	f.Add("(NULL) 0 0 1\n. 0 0 1\n")
	f.Add("j. 0 0 NaN\r\n")
	f.Fuzz(func(t *testing.T, out string) {
		if got := parseSphinx(out); strings.ContainsAny(got, "<>[]+(\n") {
			t.Errorf("parseSphinx(%q) = %q, which holds markup", out, got)
		}
	})
}

func TestWriteFrameAllocatesNothing(t *testing.T) {
	r := newRing(16000)
	f := media.Frame{Rate: 16000, PCM: make([]int16, 320)}
	if n := testing.AllocsPerRun(500, func() { _ = r.write(f) }); n != 0 {
		t.Errorf("a frame allocates %v times, want 0", n)
	}
}
