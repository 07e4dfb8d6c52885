package calltest

import (
	"testing"
	"time"
)

// A backchannel of two words, which a recognizer gives word by word, is none less.
func TestTwoWordBackchannelDoesNotEndAReply(t *testing.T) {
	for _, w := range []string{"Uh huh.", "I see."} {
		t.Run(w, func(t *testing.T) {
			run(t, plan{replies: []string{story}, align: true, up: line(50), down: line(50)}, func(c *call) {
				c.ask()
				c.wait(4 * time.Second)
				c.say(says(t, w))
				c.untilQuiet(2*time.Second, 20*time.Second)
				c.hangUp()
				c.goesOn(story)
			})
		})
	}
}
