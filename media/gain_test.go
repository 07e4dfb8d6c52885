package media

import (
	"fmt"
	"slices"
	"testing"
)

func TestFade(t *testing.T) {
	for _, tt := range []struct {
		n    int
		in   bool
		want []int16
	}{
		{4, true, []int16{0, 250, 500, 750, 1000, 1000}},
		{4, false, []int16{1000, 1000, 750, 500, 250, 0}},
		{100, true, []int16{0, 166, 333, 500, 666, 833}},
		{0, true, []int16{1000, 1000, 1000, 1000, 1000, 1000}},
		{-1, false, []int16{1000, 1000, 1000, 1000, 1000, 1000}},
	} {
		pcm := []int16{1000, 1000, 1000, 1000, 1000, 1000}
		if Fade(pcm, tt.n, tt.in); !slices.Equal(pcm, tt.want) {
			t.Errorf("Fade %d in=%v: got %v, want %v", tt.n, tt.in, pcm, tt.want)
		}
	}
	Fade(nil, 40, true)
}

// clause returns silence (with dither) and then a tone, at 8 kHz.
func clause(silence, tone int) []int16 {
	pcm := make([]int16, silence)
	for i := range pcm {
		pcm[i] = int16(i%7 - 3)
	}
	loud := sine(8000, 500, 0.3, tone+1)[1:]
	return append(pcm, loud...)
}

func TestLeadTrimmerAgreesWithTrimLead(t *testing.T) {
	for _, silence := range []int{0, 1, 239, 240, 241, 500, 4000} {
		pcm := clause(silence, 800)
		if got, want := TrimLead(pcm, 8000), max(0, silence-240); got != want {
			t.Errorf("TrimLead after %d samples of silence: got %d, want %d", silence, got, want)
		}
		for _, chunk := range []int{1, 7, 160, 241, 5000} {
			t.Run(fmt.Sprintf("%d-by-%d", silence, chunk), func(t *testing.T) {
				trimmer := NewLeadTrimmer(8000)
				for range 2 {
					var got []int16
					for part := range slices.Chunk(pcm, chunk) {
						got = trimmer.Trim(got, part)
					}
					if want := pcm[max(0, silence-240):]; !slices.Equal(got, want) {
						t.Fatalf("got %d samples, want the last %d", len(got), len(want))
					}
					trimmer.Reset()
				}
			})
		}
	}
}

func TestLeadOfSilenceAlone(t *testing.T) {
	pcm := clause(1000, 0)
	if got := TrimLead(pcm, 8000); got != 1000 {
		t.Errorf("TrimLead: got %d, want 1000", got)
	}
	if got := NewLeadTrimmer(8000).Trim(nil, pcm); len(got) != 0 {
		t.Errorf("Trim: %d samples left of silence", len(got))
	}
}
