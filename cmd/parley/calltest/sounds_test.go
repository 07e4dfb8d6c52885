package calltest

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"parley/agent"
	"parley/signaling/signalingtest"
)

// Sounds that are no wish to speak: the reply goes on, and is heard to its end.
func TestNoiseDoesNotEndAReply(t *testing.T) {
	sounds := map[string]func(testing.TB) sound{
		"cough": func(testing.TB) sound { return cough() },
		"door":  func(testing.TB) sound { return door() },
	}
	for _, w := range []string{"Okay.", "Right.", "Great."} {
		sounds[w] = func(t testing.TB) sound { return says(t, w) }
	}
	for name, make := range sounds {
		for _, at := range []time.Duration{500 * time.Millisecond, 4 * time.Second, 8 * time.Second} {
			t.Run(fmt.Sprintf("%s at %v", name, at), func(t *testing.T) {
				t.Parallel()
				// In the middle of a reply by browser, else by telephone.
				p := plan{replies: []string{story}, align: true, up: line(50), down: line(50), browser: at == 4*time.Second}
				run(t, p, func(c *call) {
					c.ask()
					c.wait(at)
					c.say(make(t))
					c.untilQuiet(2*time.Second, 20*time.Second)
					c.hangUp()
					c.goesOn(story)
				})
			})
		}
	}
}

// line is a network of a delay, with 30 ms of jitter.
func line(ms time.Duration) signalingtest.Line {
	return signalingtest.Line{Delay: ms * time.Millisecond, Jitter: 30 * time.Millisecond, Seed: uint64(ms) + 1}
}

// goesOn checks that a reply was heard to its end, nothing left out, and at most
// a word or 300 ms of it twice.
func (c *call) goesOn(text string) {
	c.t.Helper()
	turn, h := c.reply(text), c.truth(text)
	if turn.cut || !strings.HasPrefix(turn.heard, "Our office") {
		c.t.Errorf("the reply was cut: %+v; %s", turn, c.said())
	}
	if got := len(strings.Fields(h.Text())); got != len(h.Words) {
		c.t.Errorf("the caller heard %d of %d words, to %v: %q", got, len(h.Words), h.To, h.Text())
	}
	if h.Repeated > 700*time.Millisecond {
		c.t.Errorf("%v of speech was repeated", h.Repeated)
	}
}

// Whoever says one of these wants the agent to be quiet.
func TestEveryStopWordEndsAReply(t *testing.T) {
	for _, w := range []string{"Stop.", "Wait.", "No.", "Nope.", "Hold on.", "Hang on.", "Excuse me.", "Sorry.", "Actually.", "Pardon.",
		"Hello?", "One moment.", "One second.", "Cancel.", "Quiet.", "Enough.", "Repeat.", "What?", "Halt."} {
		t.Run(w, func(t *testing.T) {
			t.Parallel()
			run(t, plan{replies: []string{story}, align: true, up: line(50), down: line(50)}, func(c *call) {
				c.ask()
				c.wait(3 * time.Second)
				c.say(says(t, w))
				c.untilQuiet(time.Second, 15*time.Second)
				c.hangUp()
				if turn := c.reply(story); !turn.cut {
					t.Errorf("%q did not end the reply; %s", w, c.said())
				}
				if got := c.of("caller"); len(got) != 2 || got[1].Heard != w {
					t.Errorf("the caller's turn is missing; %s", c.said())
				}
			})
		})
	}
}

// A caller may answer with a word that the agent has just said.
func TestAgentsOwnWordIsAnAnswer(t *testing.T) {
	const question = "Would you like the red one, or would you rather have the blue one?"
	for _, at := range []time.Duration{2500 * time.Millisecond, 5 * time.Second} { // over it, and after it
		t.Run(at.String(), func(t *testing.T) {
			run(t, plan{replies: []string{question}, align: true, up: line(50), down: line(50)}, func(c *call) {
				c.ask()
				c.wait(at)
				c.say(says(t, "Red."))
				c.untilQuiet(time.Second, 15*time.Second)
				c.hangUp()
				if got := c.of("caller"); len(got) != 2 || got[1].Heard != "Red." {
					t.Errorf("the answer is missing; %s", c.said())
				}
			})
		})
	}
}

// The last words are heard to the last one, also on a long line and though the
// caller speaks over them.
func TestGoodbyeIsHeardToItsEnd(t *testing.T) {
	const goodbye = "Thank you for calling, and have a very pleasant evening. Goodbye."
	for _, delay := range []time.Duration{0, 50, 150, 400} {
		for name, over := range map[string]string{"in silence": "", "over thanks": "Thank you, bye."} {
			t.Run(fmt.Sprintf("%d ms %s", delay, name), func(t *testing.T) {
				t.Parallel()
				var end agent.Ending
				run(t, plan{replies: []string{goodbye + "END"}, up: line(delay), down: line(delay)}, func(c *call) {
					c.ask()
					c.wait(2 * time.Second)
					if over != "" {
						c.say(says(t, over))
					}
					end = c.ended(20 * time.Second)
					if end.Reason != "goodbye" {
						t.Errorf("ended by %q", end.Reason)
					}
					if h := c.truth(goodbye); h.Text() != goodbye {
						t.Errorf("the caller heard %q", h.Text())
					}
				})
			})
		}
	}
}

func TestKeysOverSpeech(t *testing.T) {
	run(t, plan{replies: []string{story}, align: true, up: line(50), down: line(50)}, func(c *call) {
		c.ask()
		c.wait(3 * time.Second)
		c.begin(says(t, "Um."))
		c.wait(400 * time.Millisecond)
		c.carrier.Digits("42#")
		c.untilQuiet(time.Second, 15*time.Second)
		c.hangUp()
		if turn := c.reply(story); !turn.cut {
			t.Errorf("the keys did not interrupt; %s", c.said())
		}
		got := c.of("caller")
		if len(got) != 2 || got[1].Heard != "42" || got[1].Input != "dtmf" {
			t.Errorf("the keys are missing; %s", c.said())
		}
	})
}

func TestHangUpDuringAVerdict(t *testing.T) {
	for _, after := range []time.Duration{150, 250, 350, 500, 700} {
		t.Run(fmt.Sprintf("%d ms", after), func(t *testing.T) {
			t.Parallel()
			run(t, plan{replies: []string{story}, align: true, up: line(50), down: line(50)}, func(c *call) {
				c.ask()
				c.wait(3 * time.Second)
				c.begin(cough())
				c.wait(after * time.Millisecond)
				start := time.Now()
				end := c.hangUp()
				if took := time.Since(start); end.Reason != "caller" || took > 2*time.Second {
					t.Errorf("ended by %q after %v", end.Reason, took)
				}
				if o := compare(c.reply(story).heard, c.truth(story)); o.words < -1 || o.words > 1 {
					t.Errorf("heard %+v off", o)
				}
			})
		})
	}
}

func TestTwoInterruptionsWithinASecond(t *testing.T) {
	run(t, plan{replies: []string{story, "Very well, as you like it."}, align: true, up: line(50), down: line(50)}, func(c *call) {
		c.ask()
		c.wait(3 * time.Second)
		c.begin(cough())
		c.wait(900 * time.Millisecond)
		c.say(says(t, "Stop, please."))
		c.untilQuiet(time.Second, 15*time.Second)
		c.hangUp()
		turn, h := c.reply(story), c.truth(story)
		if !turn.cut {
			t.Errorf("the second did not end the reply; %s", c.said())
		}
		if o := compare(turn.heard, h); o.words < -1 || o.words > 1 {
			t.Errorf("%q is %+v off: truly %q", turn.heard, o, h.Text())
		}
		if !strings.HasSuffix(strings.TrimSpace(c.said()), "agent: Very well, as you like it.") {
			t.Errorf("said:\n%s", c.said())
		}
	})
}

// The first and the last moment of a reply: neither is lost, nor hangs.
func TestInterruptionAtTheEdges(t *testing.T) {
	const reply = "The doors are open until six in the evening."
	length := time.Duration(len(spoken.say(t, "slt", reply).narrow)) * time.Second / 8000
	for name, at := range map[string]time.Duration{"first": 50 * time.Millisecond, "last": length - 80*time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			run(t, plan{replies: []string{reply, "Very well."}, align: true, up: line(50), down: line(50)}, func(c *call) {
				c.ask()
				c.wait(at)
				c.say(says(t, "And on Sundays?"))
				c.untilQuiet(time.Second, 15*time.Second)
				c.hangUp()
				if !strings.HasSuffix(strings.TrimSpace(c.said()), "agent: Very well.") {
					t.Errorf("said:\n%s", c.said())
				}
				if o := compare(c.reply(reply).heard, c.truth(reply)); o.words < -1 || o.words > 1 {
					t.Errorf("%+v off; %s", o, c.said())
				}
			})
		})
	}
}
