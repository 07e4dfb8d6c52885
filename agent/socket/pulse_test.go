package socket

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestPulse(t *testing.T) {
	for name, tt := range map[string]struct{ fails, want int }{
		"until its end":  {fails: 0, want: 3},
		"until it fails": {fails: 2, want: 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var p pulse
				var beats int
				p.begin(func() bool { beats++; return beats != tt.fails })
				time.Sleep(3*pingEvery + time.Millisecond)
				p.end()
				time.Sleep(3 * pingEvery)
				if beats != tt.want {
					t.Errorf("%d beats, want %d", beats, tt.want)
				}
			})
		})
	}
}
