package agent

import (
	"testing"
	"time"
)

func TestPacing(t *testing.T) {
	ms := time.Millisecond
	clean := func(n int) func(*pacing) {
		return func(p *pacing) {
			for range n {
				p.ended()
			}
		}
	}
	tests := map[string]struct {
		heard               func(*pacing)
		undecided, complete time.Duration
	}{
		"unknown":           {func(*pacing) {}, 600 * ms, 250 * ms},
		"answers-in-one-go": {clean(3), 467 * ms, 250 * ms},
		"never-hastier":     {clean(50), 360 * ms, 250 * ms},
		"one-false-end":     {func(p *pacing) { p.wentOn(300*ms, true) }, 840 * ms, 350 * ms},
		"many-false-ends": {func(p *pacing) {
			for range 9 {
				p.wentOn(700*ms, true)
			}
		}, 1500 * ms, 600 * ms},
		"learns-back": {func(p *pacing) { p.wentOn(300*ms, true); clean(5)(p) }, 554 * ms, 250 * ms},
		"thinks-between-words": {func(p *pacing) {
			for range 5 {
				p.wentOn(800*ms, false)
			}
		}, 1000 * ms, 250 * ms},
		"short-pauses": {func(p *pacing) {
			for range 5 {
				p.wentOn(250*ms, false)
			}
		}, 600 * ms, 250 * ms},
		"one-of-many-is-long": {func(p *pacing) { p.wentOn(300*ms, false); p.wentOn(1500*ms, false) }, 825 * ms, 250 * ms},
		"a-phone-put-down":    {func(p *pacing) { p.wentOn(time.Minute, false); p.wentOn(-time.Second, true) }, 600 * ms, 250 * ms},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var p pacing
			tt.heard(&p)
			e := p.adapt(Endpointing{}.withDefaults())
			if e.Undecided.Round(ms) != tt.undecided || e.Complete.Round(ms) != tt.complete {
				t.Errorf("waits %v and %v, want %v and %v", e.Undecided, e.Complete, tt.undecided, tt.complete)
			}
			if err := e.Validate(); err != nil {
				t.Error(err)
			}
			if e := p.adapt(Endpointing{Steady: true}.withDefaults()); e.Undecided != 600*ms {
				t.Errorf("a steady one waits %v", e.Undecided)
			}
		})
	}
}
