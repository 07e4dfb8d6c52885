package stt

import (
	"testing"
	"time"
)

func TestFinalizes(t *testing.T) {
	const sent, answer, late = 's', 'a', 'l'
	type step struct {
		do   rune
		at   float64 // seconds
		want bool    // it flushes; late: something was owed
	}
	tests := map[string][]step{
		"one":                    {{sent, 1, false}, {answer, 1, true}},
		"the-place-is-off":       {{sent, 3, false}, {answer, 1, true}}, // audio was dropped on the way
		"unasked":                {{answer, 1, false}},
		"of-the-pause-before":    {{sent, 1, false}, {sent, 2, false}, {answer, 1, false}, {answer, 2, true}},
		"one-for-both":           {{sent, 1, false}, {sent, 2, false}, {answer, 2, true}},
		"given-up-then-answered": {{sent, 1, false}, {late, 0, true}, {answer, 1, false}},
		"given-up-then-another":  {{sent, 1, false}, {late, 0, true}, {sent, 2, false}, {answer, 1.05, false}, {answer, 2, true}},
		"never-answered":         {{sent, 1, false}, {late, 0, true}, {sent, 2, false}, {answer, 2, true}, {late, 0, false}},
		"late-twice":             {{sent, 1, false}, {late, 0, true}, {late, 0, false}},
	}
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			var f finalizes
			for i, s := range steps {
				at, got := time.Duration(s.at*float64(time.Second)), false
				switch s.do {
				case sent:
					f.sent(at)
					got = !f.waiting()
				case answer:
					got = f.answered(at)
				case late:
					_, got = f.late()
				}
				if got != s.want {
					t.Errorf("step %d: %v", i, got)
				}
			}
		})
	}
}
