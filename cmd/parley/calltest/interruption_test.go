package calltest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/signaling/signalingtest"
)

const story = "Our office is open from nine in the morning until six in the evening on weekdays. " +
	"On Saturdays we close at noon, and on Sundays nobody is here at all. " +
	"You can reach us by telephone or by letter, whichever suits you best."

// ask has the caller hear the greeting and ask; it returns when the answer begins
// to be heard.
func (c *call) ask() {
	c.t.Helper()
	c.untilSound(5 * time.Second)
	c.untilQuiet(600*time.Millisecond, 5*time.Second)
	c.say(says(c.t, "When are you open?"))
	if !c.untilSound(5 * time.Second) {
		c.t.Fatalf("no answer; %s", c.said())
	}
}

// reply is the agent's turn that says text; none if it was taken back.
func (c *call) reply(text string) (turn agentTurn) {
	for _, n := range c.of("agent") {
		if strings.HasPrefix(text, n.Generated) || strings.HasPrefix(n.Generated, text) {
			return agentTurn{n.Heard, n.Generated, n.Interrupted}
		}
	}
	return turn // it was taken back: nothing of it was heard
}

type agentTurn struct {
	heard, generated string
	cut              bool
}

// An offBy is how far a turn's heard text is from the truth.
type offBy struct {
	words int           // too many, or less than none
	over  time.Duration // of speech that was counted, though it did not sound
}

// compare sets a turn beside what the caller heard.
func compare(heard string, h signalingtest.Hearing) offBy {
	claimed := len(strings.Fields(heard))
	o := offBy{words: claimed - len(strings.Fields(h.Text()))}
	if claimed > 0 && claimed <= len(h.Words) {
		o.over = max(0, h.Words[claimed-1].End-h.To)
	}
	return o
}

// The caller interrupts a reply at 20 points, on lines of all kinds: what the
// session takes for heard is what was heard. In full, each point on each line.
func TestHeardTextIsTheTruth(t *testing.T) {
	phone := func(p *plan) {}
	browser := func(p *plan) { p.browser = true }
	for name, by := range map[string]func(*plan){"phone": phone, "browser": browser} {
		for _, align := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s aligned=%t", name, align), func(t *testing.T) {
				var mu sync.Mutex
				var off []offBy
				t.Run("lines", func(t *testing.T) {
					for i, delay := range []time.Duration{20, 50, 100, 150} {
						t.Run(fmt.Sprintf("%dms", delay), func(t *testing.T) {
							t.Parallel()
							for point := range 20 {
								if point%4 != i && !*full {
									continue
								}
								line := signalingtest.Line{Delay: delay * time.Millisecond, Jitter: 30 * time.Millisecond, Seed: uint64(point + 1)}
								p := plan{replies: []string{story}, align: align, up: line, down: line}
								by(&p)
								o := interruptAt(t, p, point)
								mu.Lock()
								off = append(off, o)
								mu.Unlock()
							}
						})
					}
				})
				judge(t, off, align)
			})
		}
	}
}

// interruptAt has a caller say stop at a twentieth of the story.
func interruptAt(t *testing.T, p plan, point int) (o offBy) {
	run(t, p, func(c *call) {
		c.ask()
		c.wait(time.Duration(point) * 11 * time.Second / 20)
		c.say(says(t, "Stop, please."))
		c.untilQuiet(time.Second, 15*time.Second)
		c.hangUp()
		turn, h := c.reply(story), c.truth(story)
		if o = compare(turn.heard, h); o.words < -1 || o.words > 1 || o.over > 100*time.Millisecond {
			t.Logf("line %v, point %d, %+v: %q, truly %q to %v", p.up.Delay, point, o, turn.heard, h.Text(), h.To)
		}
	})
	return o
}

// judge holds the distribution against the goals.
func judge(t *testing.T, off []offBy, align bool) {
	within := map[int]int{}
	var over []time.Duration
	for _, o := range off {
		within[max(o.words, -o.words)]++
		over = append(over, o.over)
	}
	slices.Sort(over)
	t.Logf("%d runs: words off %v; counted too much: median %v, p90 %v, worst %v",
		len(off), within, over[len(over)/2], over[len(over)*9/10], over[len(over)-1])
	one, two := within[0]+within[1], within[0]+within[1]+within[2]
	if align && one*100 < 99*len(off) || one*100 < 90*len(off) || two*100 < 99*len(off) {
		t.Errorf("within one word %d of %d, within two %d", one, len(off), two)
	}
	limit := 100 * time.Millisecond
	if !align {
		limit = 200 * time.Millisecond // words are taken as evenly spread
	}
	if worst := over[len(over)-1]; worst > limit {
		t.Errorf("counted %v of speech too much", worst)
	}
}

// The network holds everything while the caller interrupts: what did not sound
// is hardly counted, though no mark tells of it in time.
func TestHeardThroughAStall(t *testing.T) {
	for _, stall := range []time.Duration{200, 400, 700} {
		for _, before := range []time.Duration{50, 250, 600} {
			t.Run(fmt.Sprintf("%d ms, %d ms before", stall, before), func(t *testing.T) {
				t.Parallel()
				run(t, plan{replies: []string{story}, align: true, up: line(50), down: line(50)}, func(c *call) {
					c.ask()
					c.wait(4*time.Second - before*time.Millisecond)
					c.carrier.StallDown(stall * time.Millisecond)
					c.wait(before * time.Millisecond)
					c.say(says(t, "Stop, please."))
					c.untilQuiet(time.Second, 15*time.Second)
					c.hangUp()
					turn, h := c.reply(story), c.truth(story)
					o := compare(turn.heard, h)
					if o.over > 200*time.Millisecond || o.words < -2 {
						t.Errorf("%+v: %q, truly %q to %v", o, turn.heard, h.Text(), h.To)
					}
				})
			})
		}
	}
}
