package calltest

import (
	"fmt"
	"testing"
	"time"

	"parley/signaling/signalingtest"
)

// The agent's own voice, come back from the caller's loudspeaker, does not
// interrupt it, whether the recognizer makes words of it or not.
func TestEchoDoesNotEndAReply(t *testing.T) {
	for _, gain := range []float64{-12, -18, -24, -30} {
		for _, delay := range []time.Duration{50, 150, 400} {
			t.Run(fmt.Sprintf("%.0f dB after %d ms", gain, delay), func(t *testing.T) {
				t.Parallel()
				p := plan{replies: []string{story}, align: true, up: line(50), down: line(50), greeting: "Hello there, and welcome to our office.",
					echo: signalingtest.Echo{GainDB: gain, Delay: delay * time.Millisecond}, noise: signalingtest.Noise{DBFS: -60}}
				run(t, p, func(c *call) {
					c.ask()
					c.untilQuiet(2*time.Second, 25*time.Second)
					c.hangUp()
					c.goesOn(story)
				})
			})
		}
	}
}
