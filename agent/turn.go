package agent

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"
)

var errLate = errors.New("nothing to be heard in time")

// checkInterruption pauses the agent when the caller speaks over it, and gives
// the verdict once the evidence suffices.
func (c *conductor) checkInterruption(ctx context.Context, now time.Time) time.Time {
	r := c.cur
	if r == nil || r.firstAt.IsZero() || c.away || c.said.empty() {
		return time.Time{}
	}
	if c.paused {
		return c.decide(r, now)
	}
	if !c.endBy.IsZero() || !c.mayInterrupt(r, false) {
		return time.Time{} // what is said meanwhile is kept for the next question
	}
	if r.move != nil && c.player.Remaining() < c.spec.Interruption.Tail {
		return time.Time{} // as good as over: it is simply the next turn
	}
	if c.said.text() != "" && c.onset.Equal(c.judged) || c.said.text() != "" && !c.said.speaking {
		// Words behind a pause that was given up, or without one.
		if v, at := c.spec.Interruption.judge(c.evidence(r), now); v == yield {
			interruptions.WithLabelValues("yield").Inc()
			c.interrupt(now)
			return now
		} else if v == undecided {
			return at
		}
		return time.Time{}
	}
	if !c.said.speaking || c.onset.Equal(c.judged) {
		return time.Time{}
	}
	gate := c.spec.Interruption.Gate
	if c.echoes >= 2 {
		gate = max(gate, 300*time.Millisecond)
	}
	if at := c.onset.Add(gate); now.Before(at) {
		return at
	}
	c.heldAt, c.paused = c.player.Pause(), true
	c.setState("paused")
	return now
}

// mayInterrupt asks the policy of what is being said.
func (c *conductor) mayInterrupt(r *reply, byKey bool) bool {
	if c.spec.Interruption.Never {
		return false
	}
	heard := c.player.Heard()
	s := r.ledger.at(heard)
	if s == nil {
		return true
	}
	p := s.policy
	switch {
	case p.never:
		return false
	case p.digits:
		return byKey
	}
	return time.Since(r.firstAt) >= p.after
}

// evidence gathers what is known of the caller's words over the agent's.
func (c *conductor) evidence(r *reply) evidence {
	ev := evidence{onset: c.onset, text: c.said.text(), agent: r.ledger.generated(), flushed: c.said.flushed,
		late: !c.interims()}
	if !c.said.speaking {
		ev.ended = c.said.ended
	}
	if r.move != nil {
		ev.expect = r.move.expect
	}
	if s := r.ledger.at(c.heldAt); s != nil {
		ev.minWords = s.policy.minWords
	}
	return ev
}

func (c *conductor) interims() bool {
	return len(c.spec.Recognizers) > 0 && c.spec.Recognizers[0].Interims
}

// decide gives the verdict on a pause.
func (c *conductor) decide(r *reply, now time.Time) time.Time {
	v, at := c.spec.Interruption.judge(c.evidence(r), now)
	switch v {
	case undecided:
		return at
	case yield:
		interruptions.WithLabelValues("yield").Inc()
		c.interrupt(now)
		return now
	}
	interruptions.WithLabelValues("resume").Inc()
	if echoes(c.said.text(), r.ledger.generated()) {
		c.echoes++
	}
	c.judged, c.paused = c.onset, false
	c.player.Resume(r.ledger.wordStart(c.heldAt), resumeBack)
	c.setState("speaking")
	return now
}

// checkUtterance takes the caller's turn when it has ended.
func (c *conductor) checkUtterance(ctx context.Context, now time.Time) time.Time {
	if c.paused || !c.endBy.IsZero() {
		return time.Time{}
	}
	if c.goesOn() {
		c.takeBack()
	}
	expect := c.waiting.expect
	if r := c.cur; r != nil && r.move != nil {
		expect = r.move.expect
	}
	what, at := c.spec.Endpointing.judge(&c.said, expect, now)
	switch what {
	case pending:
		return at
	case noise:
		c.noise(ctx, now)
		return now
	}
	text := c.said.text()
	if c.cur != nil {
		if onlyBackchannels(text) && !c.cur.firstAt.IsZero() && c.mayInterrupt(c.cur, false) {
			c.callerSaid(text, "backchannel", now)
			c.flushCaller()
			c.said, c.saidIdx = utterance{}, -1
			return now
		}
		return time.Time{} // kept until the agent has finished
	}
	c.takeTurn(ctx, text, "speech", now)
	return now
}

// goesOn reports that the caller went on talking before the agent's answer
// could be heard.
func (c *conductor) goesOn() bool {
	return c.cur != nil && c.cur.firstAt.IsZero() && c.cur.in.kind == inputSaid && c.cur.in.mode == "speech" &&
		c.said.text() != "" && c.caller != nil
}

// takeBack gives up an answer of which nothing was heard: what the caller says
// now belongs to what was said before.
func (c *conductor) takeBack() {
	r := c.cur
	c.player.Drop()
	r.cancel()
	c.said.finals = append([]string{r.in.text}, c.said.finals...)
	c.saidIdx, c.caller = c.caller.Index, nil
	c.cur = nil
	c.ears.agentSpeaks.Store(false)
	done, mind, told := r.done, c.mind, c.before
	c.before = func() {
		told()
		<-done
		if !mind.retract() {
			mind.heard("", true)
		}
	}
	c.setState("listening")
}

// unclear is how much speech without a recognized word is still a cough.
const unclear = 600 * time.Millisecond

// noise ends an utterance without words. A long one was an attempt to answer a
// question: the mind may ask again.
func (c *conductor) noise(ctx context.Context, now time.Time) {
	long := c.said.spoken >= unclear
	c.said, c.saidIdx, c.quiet = utterance{}, -1, now
	if long && c.cur == nil && c.waiting.expect.Kind != "" {
		c.answer(ctx, input{kind: inputSaid, mode: "speech"}, now)
	}
}

// takeTurn gives the floor to the agent, to answer what the caller said.
func (c *conductor) takeTurn(ctx context.Context, text, mode string, now time.Time) {
	conf := c.said.conf
	c.callerSaid(text, mode, now)
	c.answer(ctx, input{kind: inputSaid, text: text, mode: mode, confidence: conf}, now)
}

// callerSaid makes the caller's turn, which is recorded when the agent's answer
// can be heard: until then the caller may go on.
func (c *conductor) callerSaid(text, mode string, now time.Time) {
	start, end := cmp.Or(c.said.started, now), cmp.Or(c.said.ended, now)
	shown := text
	if c.waiting.sensitive {
		shown = "[not kept]"
	}
	c.flushCaller()
	c.caller = &Turn{Index: c.callerIndex(), Speaker: "caller", Heard: shown, Input: mode, Node: c.waiting.node,
		Confidence: c.said.conf, Start: start.Sub(c.began), End: end.Sub(c.began)}
	c.show(Event{Type: "transcript", Turn: c.caller.Index, Text: shown, Phase: "final"})
}

// flushCaller records the caller's turn.
func (c *conductor) flushCaller() {
	if c.caller != nil {
		c.journal(*c.caller)
		c.caller = nil
	}
}

func (c *conductor) journal(t Turn) {
	cut := "no"
	if t.Interrupted {
		cut = "yes"
	}
	turnsTotal.WithLabelValues(t.Speaker, cut).Inc()
	if gaps := c.player.Gaps(); gaps > c.gaps {
		speechGaps.Add(float64(gaps - c.gaps))
		c.gaps = gaps
	}
	c.spec.Journal.Turn(context.Background(), t)
}

// key takes a pressed key. It interrupts what may be interrupted.
func (c *conductor) key(digit byte, at time.Time) {
	if c.end != nil || !c.endBy.IsZero() {
		return
	}
	c.show(Event{Type: "digit", Digit: string(digit)})
	if r := c.cur; r != nil && !r.firstAt.IsZero() && c.mayInterrupt(r, true) {
		interruptions.WithLabelValues("key").Inc()
		c.interrupt(at)
	}
	c.keys, c.keyAt = append(c.keys, digit), at
}

// maxKeys bounds an answer by keys: a card number is 19 digits.
const maxKeys = 32

// checkKeys takes keys as an answer when they are complete.
func (c *conductor) checkKeys(ctx context.Context, now time.Time) time.Time {
	if len(c.keys) == 0 || c.cur != nil || !c.endBy.IsZero() {
		return time.Time{}
	}
	pad := c.waiting.digits
	finish := cmp.Or(pad.finish, '#')
	last := c.keys[len(c.keys)-1]
	done := pad.immediate || pad.max > 0 && len(c.keys) >= pad.max || len(c.keys) >= maxKeys
	keys := string(c.keys)
	if last == finish && len(c.keys) > 1 {
		keys, done = strings.TrimSuffix(keys, string(finish)), true
	}
	if at := c.keyAt.Add(cmp.Or(pad.interKey, 3*time.Second)); !done && now.Before(at) {
		return at
	}
	c.said = utterance{}
	c.takeTurn(ctx, keys, "dtmf", now)
	return now
}

// typed takes written text as a turn.
func (c *conductor) typed(ctx context.Context, text string) {
	text = strings.TrimSpace(text)
	if text == "" || c.end != nil || !c.endBy.IsZero() {
		return
	}
	now := time.Now()
	if r := c.cur; r != nil {
		if !r.firstAt.IsZero() && !c.mayInterrupt(r, false) {
			c.said.finals, c.said.flushed = append(c.said.finals, text), true
			c.said.started, c.said.ended = cmp.Or(c.said.started, now), now
			return
		}
		c.interrupt(now)
	}
	c.said, c.saidIdx = utterance{started: now, ended: now, finalAt: now}, -1
	c.takeTurn(ctx, text, "text", now)
}

// checkSilence tells the mind that nobody answers.
func (c *conductor) checkSilence(ctx context.Context, now time.Time) time.Time {
	if c.cur != nil || !c.said.empty() || len(c.keys) > 0 || c.away || !c.endBy.IsZero() {
		return time.Time{}
	}
	if at := c.quiet.Add(cmp.Or(c.waiting.silence, c.spec.Idle)); now.Before(at) {
		return at
	}
	c.answer(ctx, input{kind: inputSilence}, now)
	return now
}
