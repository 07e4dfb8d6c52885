package control

import (
	"testing"
	"time"
)

func TestPause(t *testing.T) {
	s := &Deliveries{}
	for _, tt := range []struct {
		attempt        int
		asked          time.Duration
		least, longest time.Duration
	}{
		{1, 0, 2500 * time.Millisecond, 5 * time.Second},
		{2, 0, 5 * time.Second, 10 * time.Second},
		{4, 0, 20 * time.Second, 40 * time.Second},
		{12, 0, 30 * time.Minute, time.Hour},
		{1000, 0, 30 * time.Minute, time.Hour},
		{1, time.Minute, time.Minute, time.Minute},
		{12, time.Second, 30 * time.Minute, time.Hour},
		{1, 1000 * time.Hour, deliveryAsked, deliveryAsked},
	} {
		seen := map[time.Duration]bool{}
		for range 200 {
			d := s.pause(tt.attempt, tt.asked)
			seen[d] = true
			if d < tt.least || d > tt.longest {
				t.Errorf("after attempt %d, asked for %v: %v, want %v to %v", tt.attempt, tt.asked, d, tt.least, tt.longest)
			}
		}
		if jitter := len(seen) > 1; jitter != (tt.least != tt.longest) {
			t.Errorf("after attempt %d: %d different pauses", tt.attempt, len(seen))
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, " 5 ": 5 * time.Second, "-5": 0, "soon": 0, "9999999": deliveryAsked,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:00:00 GMT": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("Retry-After %q is %v, want %v", value, got, want)
		}
	}
}
