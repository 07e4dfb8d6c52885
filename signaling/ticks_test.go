package signaling

import (
	"testing"
	"testing/synctest"
	"time"

	"parley/media"
)

// Frames and what is skipped make up all of the time, however late they are
// asked for.
func TestTicksAccountForAllTime(t *testing.T) {
	for name, c := range map[string]struct {
		stall   time.Duration // before the second frame
		skipped time.Duration
	}{
		"in time":          {0, 0},
		"a little late":    {150 * time.Millisecond, 0},
		"as late as it is": {220 * time.Millisecond, 0},
		"too late":         {221 * time.Millisecond, 200 * time.Millisecond},
		"away for long":    {3*time.Second + 11*time.Millisecond, 2980 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var of ticks
				begin := time.Now()
				var skipped time.Duration
				for n := range 500 {
					if n == 1 {
						time.Sleep(c.stall) // in the bubble's time
					}
					due, gap, ok := of.wait(nil)
					skipped += gap
					if want := begin.Add(time.Duration(n)*media.Ptime + skipped); !ok || !due.Equal(want) {
						t.Fatalf("frame %d is due %v after the first, want %v", n, due.Sub(begin), want.Sub(begin))
					}
				}
				if skipped != c.skipped {
					t.Errorf("skipped %v, want %v", skipped, c.skipped)
				}
				if got, want := time.Since(begin), 499*media.Ptime+skipped; got != want {
					t.Errorf("500 frames took %v, want %v", got, want)
				}
			})
		})
	}
	done := make(chan struct{})
	close(done)
	of := ticks{timer: time.NewTimer(time.Hour), due: time.Now().Add(time.Hour)}
	if _, _, ok := of.wait(done); ok {
		t.Error("a leg that has ended gives a frame")
	}
}
