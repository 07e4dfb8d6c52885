package signalingtest_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parley/media"
	"parley/signaling/signalingtest"
)

// A flood is warned once, and closed with 1008; a call whose line stalls for
// 3 s, whose audio then comes at once, is neither.
func TestFloodedSocket(t *testing.T) {
	const digit = `{"event":"dtmf","dtmf":{"digit":"1"}}`
	speech := `{"event":"media","media":{"payload":"` + strings.Repeat("////", 2600) + `"}}` // 0.975 s
	tests := []struct {
		name   string
		do     func(*signalingtest.CarrierCall)
		reason string
	}{
		{"messages", func(c *signalingtest.CarrierCall) { repeat(c, digit, 1500) }, "too many messages"},
		{"bytes", func(c *signalingtest.CarrierCall) { repeat(c, strings.Repeat(" ", 60<<10)+digit, 20) }, "too many messages"},
		{"audio", func(c *signalingtest.CarrierCall) { repeat(c, speech, 12) }, "too many messages"},
		{"stalls", func(c *signalingtest.CarrierCall) {
			for range 3 {
				c.Stall(3 * time.Second)
				time.Sleep(10 * time.Second)
			}
			_ = c.HangUp()
		}, "caller"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var reason string
				d := &desk{serve: func(_ context.Context, leg media.Leg) error {
					for e := range leg.Events() {
						reason = e.Reason
					}
					return leg.Close("done")
				}}
				c, err := signalingtest.Call(t.Context(), gateway(t, d))
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
				tt.do(c)
				_ = c.Wait()
				synctest.Wait()
				if reason != tt.reason {
					t.Errorf("ended by %q, want %q", reason, tt.reason)
				}
				flooded := tt.reason != "caller"
				warned := slices.ContainsFunc(c.Events(), func(e signalingtest.CarrierEvent) bool {
					return e.Kind == "mark" && e.Text == "warning: too many messages"
				})
				closed := slices.ContainsFunc(c.Events(), func(e signalingtest.CarrierEvent) bool {
					return e.Kind == "error" && strings.HasSuffix(e.Text, "1008")
				})
				if warned != flooded || closed != flooded {
					t.Errorf("warned %t, closed by 1008 %t; want both %t: %v", warned, closed, flooded, c.Events())
				}
			})
		})
	}
}

func repeat(c *signalingtest.CarrierCall, msg string, n int) {
	for range n {
		c.Raw([]byte(msg))
	}
}
