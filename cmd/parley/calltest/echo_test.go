package calltest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/signaling/signalingtest"
)

// loudspeaker is a plan in which the agent's own voice comes back from the
// caller's loudspeaker.
func loudspeaker(gainDB float64, delay time.Duration) plan {
	return plan{replies: []string{story}, align: true, up: line(50), down: line(50),
		greeting: "Hello there, and welcome to our office.",
		echo:     signalingtest.Echo{GainDB: gainDB, Delay: delay * time.Millisecond}, noise: signalingtest.Noise{DBFS: -60}}
}

// The agent's own voice, come back from the caller's loudspeaker, does not
// interrupt it, whether the recognizer makes words of it or not.
func TestEchoDoesNotEndAReply(t *testing.T) {
	for _, gain := range []float64{-6, -12, -18, -24, -30} {
		for _, delay := range []time.Duration{50, 150, 400, 600} {
			t.Run(fmt.Sprintf("%.0f dB after %d ms", gain, delay), func(t *testing.T) {
				t.Parallel()
				run(t, loudspeaker(gain, delay), func(c *call) {
					c.ask()
					c.untilQuiet(2*time.Second, 25*time.Second)
					c.hangUp()
					c.goesOn(story)
					c.pausesInVain(2)
				})
			})
		}
	}
}

// The recognizer makes words of the echo, also of what no detector takes for
// speech.
func TestEchoInWordsDoesNotEndAReply(t *testing.T) {
	for gain, delay := range map[float64]time.Duration{-6: 400, -18: 150, -40: 50} {
		t.Run(fmt.Sprintf("%.0f dB after %d ms", gain, delay), func(t *testing.T) {
			t.Parallel()
			run(t, loudspeaker(gain, delay), func(c *call) {
				c.ask()
				stop := c.recognizesEcho(story)
				c.untilQuiet(2*time.Second, 25*time.Second)
				stop()
				c.hangUp()
				c.goesOn(story)
				c.pausesInVain(2)
				if got := c.of("caller"); len(got) != 1 {
					t.Errorf("the agent's words are taken for the caller's; %s", c.said())
				}
			})
		})
	}
}

// … nor are those words a part of what the caller says behind them.
func TestCallerIsHeardBehindAnEchoInWords(t *testing.T) {
	for _, words := range []string{"Stop.", "And on Sundays?"} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			run(t, loudspeaker(-18, 150), func(c *call) {
				c.ask()
				stop := c.recognizesEcho(story)
				c.wait(3 * time.Second)
				c.say(says(t, words))
				c.untilQuiet(time.Second, 8*time.Second)
				stop()
				c.hangUp()
				if turn := c.reply(story); !turn.cut {
					t.Errorf("the reply was not cut; %s", c.said())
				}
				got := c.of("caller")
				if len(got) != 2 || !strings.HasSuffix(got[1].Heard, words) || len(got[1].Heard) > len(words)+20 {
					t.Errorf("the caller's turn is missing, or has the agent's words; %s", c.said())
				}
			})
		})
	}
}

// Over the same echo, who says something gets the floor.
func TestCallerIsHeardOverAnEcho(t *testing.T) {
	for _, words := range []string{"Stop.", "No.", "Excuse me.", "And on Sundays?", "Is there a parking place?"} {
		for _, gain := range []float64{-6, -12, -24} {
			for _, delay := range []time.Duration{50, 400} {
				if (gain == -12) != (delay == 50) && !*full {
					continue
				}
				t.Run(fmt.Sprintf("%s over %.0f dB after %d ms", words, gain, delay), func(t *testing.T) {
					t.Parallel()
					run(t, loudspeaker(gain, delay), func(c *call) {
						c.ask()
						c.wait(4 * time.Second)
						said := time.Now()
						s := says(t, words)
						c.begin(s)
						c.untilQuiet(300*time.Millisecond, 8*time.Second)
						quiet := time.Since(said) - 300*time.Millisecond
						c.untilQuiet(time.Second, 8*time.Second)
						c.hangUp()
						if turn := c.reply(story); !turn.cut {
							t.Errorf("the reply was not cut; %s", c.said())
						}
						if got := c.of("caller"); len(got) != 2 || got[1].Heard != words {
							t.Errorf("the caller's turn is missing; %s", c.said())
						}
						if most := s.words[0].End + 700*time.Millisecond; quiet > most {
							t.Errorf("the agent fell silent after %v, want %v", quiet, most)
						}
					})
				})
			}
		}
	}
}

// pausesInVain bounds how often the agent paused, in all of a call.
func (c *call) pausesInVain(most int) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	var at []time.Duration
	for _, e := range c.events {
		if e.Type == "state" && e.State == "paused" {
			at = append(at, e.At.Sub(c.began))
		}
	}
	if len(at) > most {
		c.t.Errorf("paused at %v, want %d times at most", at, most)
	}
}

// recognizesEcho has the recognizer hear the words of text as they come back,
// each since it truly sounded. A caller's words drown them.
func (c *call) recognizesEcho(text string) (stop func()) {
	const step = 250 * time.Millisecond
	done, over := make(chan struct{}), sync.WaitGroup{}
	over.Go(func() {
		known := 0
		for {
			select {
			case <-done:
				return
			case <-time.After(step):
			}
			h := c.truth(text)
			for ; known < len(h.Words) && h.Words[known].Heard; known++ {
				w := h.Words[known]
				if c.talks(w.At.Add(c.p.echo.Delay)) {
					continue
				}
				in := time.Until(w.At.Add(c.p.echo.Delay + c.p.up.Delay + c.p.up.Jitter))
				c.stt.expect(strings.ToLower(w.Text), max(0, in))
			}
		}
	})
	return func() { close(done); over.Wait() }
}

// talks reports that the caller speaks at a time, or has just done so.
func (c *call) talks(at time.Time) bool {
	const around = 300 * time.Millisecond
	c.mu.Lock()
	defer c.mu.Unlock()
	return at.After(c.talked[0].Add(-around)) && at.Before(c.talked[1].Add(around))
}
