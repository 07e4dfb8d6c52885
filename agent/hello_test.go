package agent

import (
	"testing"
	"time"
)

func TestGreetingWaitsForTheCalleesHello(t *testing.T) {
	tests := []struct {
		name           string
		begins, speaks time.Duration
		least, most    time.Duration // until the greeting is heard
		said           string
	}{
		{"silent", 0, 0, 2 * time.Second, 2500 * time.Millisecond, "agent: Hello there."},
		{"hello", 300 * time.Millisecond, 600 * time.Millisecond, 1300 * time.Millisecond, 1900 * time.Millisecond, "caller: Hello?\nagent: Hello there."},
		{"talks-long", 1200 * time.Millisecond, 1500 * time.Millisecond, 3100 * time.Millisecond, 3700 * time.Millisecond, "caller: Hello?\nagent: Hello there."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			play(t, func(s *scene) {
				s.spec.AwaitHello = 2 * time.Second
				s.results = []string{"Hello?"}
			}, func(s *scene) {
				began := time.Now()
				s.wait(tt.begins)
				if tt.speaks > 0 {
					go s.line.say(tt.speaks)
				}
				s.wait(6 * time.Second)
				s.hangUp()
				if got := firstHeard(s, began); got < tt.least || got > tt.most {
					t.Errorf("the greeting is heard %v after the answer, want %v to %v", got, tt.least, tt.most)
				}
				s.want(tt.said)
			})
		})
	}
}
