package calltest

import (
	"strings"
	"testing"
	"time"

	"parley/agent"
	"parley/media"
	"parley/signaling/signalingtest"
)

// onsets notes where sound begins behind at least 700 ms of quiet.
type onsets struct {
	now   int64 // samples
	sound int64 // where it was last loud
	at    []time.Duration
}

func (o *onsets) take(pcm []int16) {
	const gap = 8000 * 7 / 10
	for i, s := range pcm {
		if s > 300 || s < -300 {
			if at := o.now + int64(i); len(o.at) == 0 || at-o.sound > gap {
				o.at = append(o.at, media.Duration(at, 8000))
			}
			o.sound = o.now + int64(i)
		}
	}
	o.now += int64(len(pcm))
}

// A tapeRecorder is a recording of which the onsets of both sides are kept.
type tapeRecorder struct{ caller, agent onsets }

// Write implements [agent.Recording].
func (r *tapeRecorder) Write(caller, agent []int16) error {
	r.caller.take(caller)
	r.agent.take(agent)
	return nil
}

// A long call keeps in step: what is recorded stands where it was said and
// heard, no speech runs dry, no more waits than at the beginning, and each reply
// is known to have been heard. Ten minutes; in full, an hour.
func TestLongCallDoesNotDrift(t *testing.T) {
	length := 10 * time.Minute
	if *full {
		length = time.Hour
	}
	record := &tapeRecorder{}
	var asked []time.Duration
	var heard onsets
	replies := make([]string, 1000)
	for i := range replies {
		replies[i] = story
	}
	p := plan{replies: replies, align: true, up: line(50), down: line(50), spec: func(s *agent.Spec) {
		s.MaxDuration, s.Recording = 2*time.Hour, record
		s.Prompt.CallTokens = 1 << 40
	}}
	var stats signalingtest.PlayStats
	c := run(t, p, func(c *call) {
		c.listener = func(at time.Time, pcm []int16) {
			heard.now = media.Samples(at.Sub(c.began), 8000)
			heard.take(pcm)
		}
		c.untilSound(5 * time.Second)
		for time.Since(c.began) < length {
			c.untilQuiet(1500*time.Millisecond, 30*time.Second)
			asked = append(asked, time.Since(c.began))
			c.say(says(t, "When are you open?"))
			if !c.untilSound(5 * time.Second) {
				said := c.said()
				t.Fatalf("no answer after %v, behind …%s", time.Since(c.began), said[max(0, len(said)-600):])
			}
		}
		c.untilQuiet(1500*time.Millisecond, 30*time.Second)
		stats = c.carrier.Stats()
		c.hangUp()
	})
	for _, turn := range c.of("agent")[1:] {
		if turn.Interrupted || turn.Heard != story {
			t.Fatalf("at %v heard %q", turn.Start, turn.Heard)
		}
	}
	t.Logf("%d questions in %v; %+v", len(asked), length, stats)
	if stats.Underruns != 0 || stats.Late > 100*time.Millisecond || stats.Lead > 500*time.Millisecond {
		t.Errorf("the agent's audio came as %+v", stats)
	}
	inStep(t, "caller", record.caller.at, asked)
	inStep(t, "agent", record.agent.at, heard.at)
	if strings.Count(c.said(), "\n") != 2*len(asked)+1 {
		t.Errorf("%d turns, want %d", strings.Count(c.said(), "\n"), 2*len(asked)+1)
	}
}

// inStep checks that what is recorded stays where it was, beside the truth.
func inStep(t *testing.T, who string, recorded, truth []time.Duration) {
	t.Helper()
	if len(recorded) != len(truth) || len(truth) < 5 {
		t.Fatalf("%s: recorded %d stretches, want %d", who, len(recorded), len(truth))
	}
	least, most := recorded[0]-truth[0], recorded[0]-truth[0]
	for i := range truth {
		least, most = min(least, recorded[i]-truth[i]), max(most, recorded[i]-truth[i])
	}
	t.Logf("%s: recorded %v to %v behind the truth", who, least, most)
	first, last := recorded[0]-truth[0], recorded[len(truth)-1]-truth[len(truth)-1]
	if most-least > 100*time.Millisecond || (last-first).Abs() > 60*time.Millisecond {
		t.Errorf("%s: from %v at first to %v at last, between %v and %v", who, first, last, least, most)
	}
}
