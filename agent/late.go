package agent

import (
	"slices"
	"strings"
	"time"
)

// A taken is a turn that was taken before the recognizer had said its last
// word of it.
type taken struct {
	until  time.Time // words that come before are of this turn
	finals []string  // what was certain of it
	text   string    // all of it, as it was taken; empty: an answer by keys
}

// lateWords is how late a recognizer may be with words of a turn that was
// taken without them.
const lateWords = 3 * time.Second

// corrects returns what the turn should have been, given the late final words,
// or nothing if it was taken right.
func (t taken) corrects(final string) []string {
	final = strings.TrimSpace(final)
	if final == "" || t.text == "" {
		return nil
	}
	all := append(slices.Clone(t.finals), final)
	if normal(strings.Join(all, " ")) == normal(t.text) {
		return nil
	}
	return all
}

// late takes a transcript of a turn that was taken already. While nothing of
// the answer was heard, it is answered again as it was said; then it is too
// late, and the words are dropped.
func (c *conductor) late(ev recognized) {
	t, r := c.taken, c.cur
	if ev.Flushed || ev.Final && t.text != "" {
		c.taken = taken{}
	}
	all := t.corrects(ev.Text)
	if !ev.Final || all == nil {
		return
	}
	if r == nil || r.begun || r.firm || r.in.kind != inputSaid || r.final() && r.complete {
		lateTurns.WithLabelValues("dropped").Inc()
		return
	}
	lateTurns.WithLabelValues("corrected").Inc()
	u := utterance{ended: r.lastSpeak, told: r.lastSpeak, finals: all, finalAt: ev.at, changed: ev.at,
		conf: ev.Confidence, flushed: true, guesses: r.guesses}
	c.takeBack(r, ev.at)
	u.started = c.said.started
	c.said = u
}

// measure learns how late the recognizer's last words come.
func (c *conductor) measure(ev recognized) {
	if ev.from == nil || ev.from.Lag == nil {
		return
	}
	c.lag = ev.from.Lag
	if ev.Flushed && !c.asked.IsZero() {
		c.lag.Note(ev.at.Sub(c.asked))
		c.asked = time.Time{}
	}
}

// endpointing is how this caller's turns end, on this recognizer.
func (c *conductor) endpointing() Endpointing {
	e := c.pace.adapt(c.spec.Endpointing)
	if e.FinalWait == 0 {
		e.FinalWait = c.lag.Bound()
	}
	return e
}
