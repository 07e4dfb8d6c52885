package signalingtest_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"parley/media"
)

// Each row writes audio (ms) after waiting (ms), and what the carrier sees.
func TestPlayStats(t *testing.T) {
	type write struct{ wait, audio int }
	tests := []struct {
		name      string
		writes    []write
		clear     bool // before the last write
		lead      int
		late      int
		underruns int
		silence   int
	}{
		{"ahead", []write{{0, 200}, {100, 200}, {200, 200}}, false, 300, 0, 0, 0},
		{"behind", []write{{0, 100}, {200, 100}, {100, 100}}, false, 100, 100, 1, 100},
		{"an end is no underrun", []write{{0, 100}, {900, 100}}, false, 100, 0, 0, 0},
		{"what was cleared did not run dry", []write{{0, 100}, {300, 100}}, true, 100, 0, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := &desk{serve: func(_ context.Context, leg media.Leg) error {
					defer leg.Close("done")
					go drain(leg)
					time.Sleep(5 * time.Millisecond) // off the carrier's ticks
					for i, w := range tt.writes {
						time.Sleep(time.Duration(w.wait) * time.Millisecond)
						if tt.clear && i == len(tt.writes)-1 {
							_ = leg.Flush()
						}
						_ = leg.Write(make([]byte, w.audio*8))
					}
					time.Sleep(time.Second)
					return nil
				}}
				c := place(t, gateway(t, d))
				ms := func(d time.Duration) int { return int(d / time.Millisecond) }
				s := c.Stats()
				if ms(s.Lead) < tt.lead-20 || ms(s.Lead) > tt.lead+20 || ms(s.Late) != tt.late ||
					s.Underruns != tt.underruns || ms(s.Silence) < tt.silence-20 || ms(s.Silence) > tt.silence {
					t.Errorf("%+v; want a lead of %d ms, %d ms late, %d underruns of %d ms", s, tt.lead, tt.late, tt.underruns, tt.silence)
				}
			})
		})
	}
}
