package agent

import (
	"testing"
	"time"
)

func TestLag(t *testing.T) {
	ms := time.Millisecond
	tests := map[string]struct {
		declared time.Duration
		seen     func(i int) time.Duration
		n        int
		want     time.Duration
	}{
		"nothing-known":            {n: 0, want: 800 * ms},
		"declared":                 {declared: 500 * ms, n: 0, want: 500 * ms},
		"few-do-not-lower-it":      {seen: func(int) time.Duration { return 100 * ms }, n: 10, want: 800 * ms},
		"few-may-raise-it":         {seen: func(int) time.Duration { return time.Second }, n: 10, want: 1100 * ms},
		"a-fast-vendor":            {seen: func(int) time.Duration { return 300 * ms }, n: 60, want: 330 * ms},
		"never-under-the-floor":    {seen: func(int) time.Duration { return 10 * ms }, n: 60, want: 250 * ms},
		"never-over-the-ceiling":   {seen: func(int) time.Duration { return time.Minute }, n: 60, want: 2 * time.Second},
		"one-in-a-hundred-is-left": {seen: func(i int) time.Duration { return []time.Duration{200 * ms, 2 * time.Second}[b2i(i%128 == 5)] }, n: 256, want: 220 * ms},
		"one-in-fifty-is-not":      {seen: func(i int) time.Duration { return []time.Duration{200 * ms, time.Second}[b2i(i%50 == 5)] }, n: 256, want: 1100 * ms},
		"what-is-old-is-forgotten": {seen: func(i int) time.Duration { return []time.Duration{200 * ms, time.Second}[b2i(i < 100)] }, n: 400, want: 250 * ms},
		"nonsense":                 {seen: func(int) time.Duration { return -time.Second }, n: 60, want: 800 * ms},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := Lag{Declared: tt.declared}
			for i := range tt.n {
				l.Note(tt.seen(i))
			}
			if got := l.Bound(); got != max(tt.want, lagFloor) {
				t.Errorf("bound %v, want %v", got, tt.want)
			}
		})
	}
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}
