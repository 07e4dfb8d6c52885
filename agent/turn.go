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
	if r == nil || r.firstAt.IsZero() || c.away {
		return time.Time{}
	}
	if c.paused {
		return c.decide(r, now)
	}
	if c.said.empty() || !c.mayInterrupt(r, false) {
		return time.Time{} // what is said meanwhile is kept for the next question
	}
	if r.complete && c.player.Remaining() < c.spec.Interruption.Tail {
		return time.Time{} // as good as over: it is simply the next turn
	}
	if c.onset.Equal(c.judged) || !c.said.speaking || c.background(r) || c.echoes >= tooManyEchoes {
		return c.wordsOnly(r, now)
	}
	if at := c.onset.Add(c.spec.Interruption.gate(c.rec.interims(), c.echoes)); now.Before(at) {
		return at
	}
	c.heldAt, c.paused, c.pausedFor = c.player.Pause(), true, c.onset
	c.setState("paused")
	return now
}

// wordsOnly has the agent yield to words behind a pause that was given up, or
// without one.
func (c *conductor) wordsOnly(r *reply, now time.Time) time.Time {
	if c.said.text() == "" {
		return time.Time{}
	}
	v, at := c.spec.Interruption.judge(c.evidence(r), now)
	if v != yield {
		return at
	}
	c.yield(now)
	return now
}

// yield gives the floor to the caller. One who uses words is none that the
// agent paused for in vain.
func (c *conductor) yield(now time.Time) {
	interruptions.WithLabelValues("yield").Inc()
	cause := "sound/yield"
	if c.said.text() != "" {
		c.echoes = max(0, c.echoes-1)
		cause = "words/yield"
	}
	c.cur.note(cause)
	c.interrupt(now)
}

// maxPauses bounds the verdicts that are kept of one reply: a noisy line makes
// many.
const maxPauses = 32

// note keeps a verdict on an interruption.
func (r *reply) note(verdict string) {
	if r != nil && len(r.pauses) < maxPauses {
		r.pauses = append(r.pauses, verdict)
	}
}

// resumed is the verdict on a pause that was none of the caller's wish.
func (what meaning) resumed() string {
	switch what {
	case nothing:
		return "sound/resume"
	case listening:
		return "listening/resume"
	case echo:
		return "echo/resume"
	}
	return "words/resume"
}

const (
	// lineOpens is how soon after the line opened a noise of it is noticed.
	lineOpens = 300 * time.Millisecond
	// lineSettles is when the detector knows the noise of the line at the latest.
	lineSettles = 1500 * time.Millisecond
)

// background reports that what is taken for speech is a noise, for which no
// agent stops: it has gone on for long before the reply without a word (without
// interims nobody knows), or it was there when the line opened. Words still
// count.
func (c *conductor) background(r *reply) bool {
	return c.onset.Sub(c.began) < lineOpens ||
		c.rec.interims() && r.firstAt.Sub(c.onset) > c.spec.Interruption.Yield
}

// settling reports that what was said was there when the line opened, and over
// before its noise was known, while the agent spoke. A recognizer without interims
// is mostly one that makes words of noise; nobody answers a greeting that soon.
func (c *conductor) settling() bool {
	return c.cur != nil && !c.rec.interims() && !c.said.speaking &&
		c.onset.Sub(c.began) < lineOpens && c.said.ended.Sub(c.began) < lineSettles
}

// mayInterrupt asks the policy of what is being said.
func (c *conductor) mayInterrupt(r *reply, byKey bool) bool {
	if c.spec.Interruption.Never || !c.endBy.IsZero() || r.final() {
		return false
	}
	if r.firm && !r.yields && !r.complete && r.move == nil {
		return false // what is done outside must be told
	}
	s := r.ledger.at(c.heardOf(r))
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
	ev := evidence{onset: c.onset, stretch: c.onset, text: c.said.callers(), changed: c.said.changed, agent: c.agentSaid(), loud: c.loud,
		flushed: c.said.flushed, late: !c.rec.interims(), lexicon: c.lexicon}
	if c.paused {
		ev.onset = c.pausedFor
	}
	if !c.said.speaking {
		ev.ended = c.said.ended
	}
	s := r.ledger.at(c.heardOf(r))
	if s != nil {
		ev.minWords = s.policy.minWords
	}
	if r.move != nil {
		ev.expect = r.move.expect
		ev.asked = r.complete && s == &r.ledger.spans[len(r.ledger.spans)-1]
	}
	return ev
}

// agentSaid is what the agent's voice may be heard to say when it comes back:
// the text that went to the wire.
func (c *conductor) agentSaid() string {
	if r := c.cur; r != nil && !r.firstAt.IsZero() {
		return c.lastText + " " + r.ledger.textAt(c.player.Sent())
	}
	return c.lastText
}

// decide gives the verdict on a pause.
func (c *conductor) decide(r *reply, now time.Time) time.Time {
	ev := c.evidence(r)
	v, at := c.spec.Interruption.judge(ev, now)
	switch v {
	case undecided:
		return at
	case yield:
		c.yield(now)
		return now
	}
	interruptions.WithLabelValues("resume").Inc()
	what := ev.meaning()
	r.note(what.resumed())
	if what == echo || what == nothing {
		c.echoes++
		c.ears.nobody.Store(true)
	}
	c.resume(r)
	return now
}

// checkUtterance takes the caller's turn when it has ended.
func (c *conductor) checkUtterance(ctx context.Context, now time.Time) time.Time {
	if c.paused || !c.endBy.IsZero() || len(c.keys) > 0 || c.leavesMessage() || c.held != nil {
		return time.Time{} // keys come first
	}
	expect := c.awaited().expect
	what, at := c.endpointing().judge(&c.said, expect, now)
	if what == pending && !c.said.flushed {
		return at
	}
	text := c.callers()
	switch own := text == "" && c.said.text() != ""; {
	case own:
		c.said, c.saidIdx = utterance{}, -1
		return time.Time{}
	case what == pending:
		return at
	case what == noise:
		c.noise(ctx, now)
		return now
	}
	switch r := c.cur; {
	case r == nil:
		c.takeTurn(ctx, text, "speech", now)
		return now
	case r.yields && r.move == nil && c.player.Remaining() == 0:
		c.interrupt(now) // what is done outside is given up
		c.takeTurn(ctx, text, "speech", now)
		return now
	case c.lexicon.listens(text) && !matches(expect, text) && !r.firstAt.IsZero() && c.mayInterrupt(r, false):
		c.callerSaid(text, "backchannel", now)
		c.flushCaller()
		c.said, c.saidIdx = utterance{}, -1
		return now
	}
	return time.Time{} // kept until the agent has finished
}

// echoDelay is how late the agent's voice may come back.
const echoDelay = 500 * time.Millisecond

// loudest is the loudness of what was heard from a time on: an echo needs the
// agent's voice.
func (c *conductor) loudest(l loudness, at time.Time) loudness {
	if c.cur != nil && !c.cur.firstAt.IsZero() || at.Before(c.lastEnd.Add(echoDelay)) {
		return l
	}
	return aloud
}

// callers returns what of the utterance is the caller's, and not the agent's own
// speech come back.
func (c *conductor) callers() string {
	text, expect := c.said.callers(), c.awaited().expect
	own, _ := ownVoice(text, c.agentSaid(), c.loud)
	if own == 0 || matches(expect, text) {
		return text
	}
	rest := without(text, own)
	if len(words(rest)) < echoWords && !c.lexicon.stops(rest) && !matches(expect, rest) {
		return "" // misheard
	}
	return rest
}

// checkMore notices that the caller goes on talking before a word of the
// agent's answer was heard, or begins to when the agent was about to ask
// whether anybody is there. The agent gives up what it was about to say.
func (c *conductor) checkMore(_ context.Context, now time.Time) time.Time {
	r, text := c.cur, c.said.text()
	if r == nil || r.begun || r.firm || r.script != nil || text == "" || r.final() && r.complete ||
		!r.firstAt.IsZero() && (c.lexicon.listens(text) || c.lexicon.mayListen(text)) {
		return time.Time{}
	}
	if r.in.kind == inputSilence || r.in.kind == inputSaid && r.in.mode == "speech" {
		c.takeBack(r, now)
		return now
	}
	return time.Time{}
}

// takeBack gives up an answer of which nothing was heard: what the caller says
// now belongs to what was said before.
func (c *conductor) takeBack(r *reply, now time.Time) {
	r.cancel()
	c.drop()
	c.said.guesses += r.guesses
	if c.caller != nil && r.in.text != "" {
		c.pace.wentOn(since(c.onset, r.lastSpeak), true)
		c.said.finals = append([]string{r.in.text}, c.said.finals...)
		c.said.started = c.began.Add(c.caller.Start)
		c.saidIdx = c.caller.Index
	}
	if r.index >= 0 { // it is on the screen
		c.show(Event{Type: "agent", Turn: r.index, Text: r.ledger.generated(), Phase: "cut"})
	}
	c.cur, c.caller, c.paused, c.quiet, c.shown = nil, nil, false, now, ""
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
	// Cut for its length, it is not merged with what follows: the agent must
	// get to speak at last.
	firm := c.said.speaking
	if !firm {
		c.rec.settle()
	}
	if c.said.interim != "" && !firm {
		c.taken = taken{until: now.Add(lateWords), finals: c.said.finals, text: text} // its final form is no new turn
	}
	c.callerSaid(text, mode, now)
	c.answer(ctx, input{kind: inputSaid, text: text, mode: mode, confidence: conf}, now)
	c.cur.firm = firm
}

// callerSaid makes the caller's turn, which is recorded when the agent's answer
// can be heard: until then the caller may go on.
func (c *conductor) callerSaid(text, mode string, now time.Time) {
	start, end := cmp.Or(c.said.started, now), cmp.Or(c.said.ended, now)
	shown := c.kept(text)
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
	c.rec.spent()
	if t.Speaker == "caller" {
		t.Uses = c.meter.take(UseHeard)
	} else {
		t.Uses = c.meter.take()
	}
	c.spec.Journal.Turn(context.Background(), t)
}

// key takes a pressed key.
func (c *conductor) key(digit byte, at time.Time) {
	if !c.endBy.IsZero() || len(c.keys) >= maxKeys {
		return
	}
	if digit == c.unclosed && len(c.keys) == 0 && at.Sub(c.keyed) < closingTime {
		c.unclosed = 0 // it belongs to the answer before, and neither cuts nor answers what follows
		return
	}
	shown := string(digit)
	if c.private() {
		shown = "•"
	}
	c.show(Event{Type: "digit", Digit: shown})
	c.keys, c.keyAt = append(c.keys, digit), at
}

// closingTime is how long after an answer that was complete already its finish
// key may come: callers press it behind every answer.
const closingTime = 2 * time.Second

// maxKeys bounds an answer by keys: a card number is 19 digits.
const maxKeys = 32

// checkKeys takes keys as an answer when they are complete. They interrupt what
// may be interrupted, also what began after them: who knows the menu dials
// through it.
func (c *conductor) checkKeys(ctx context.Context, now time.Time) time.Time {
	if len(c.keys) == 0 || !c.endBy.IsZero() || c.leavesMessage() {
		return time.Time{}
	}
	if r := c.cur; r != nil {
		if r.firstAt.IsZero() || !c.mayInterrupt(r, true) {
			return time.Time{}
		}
		interruptions.WithLabelValues("key").Inc()
		r.note("key/yield")
		c.interrupt(now)
		if c.leavesMessage() {
			return now
		}
	}
	pad := c.waiting.digits
	finish := cmp.Or(pad.finish, '#')
	last := c.keys[len(c.keys)-1]
	done := pad.immediate || pad.max > 0 && len(c.keys) >= pad.max || len(c.keys) >= maxKeys
	keys, unclosed := string(c.keys), finish
	if last == finish && len(c.keys) > 1 {
		keys, done, unclosed = strings.TrimSuffix(keys, string(finish)), true, 0
	}
	if at := c.keyAt.Add(cmp.Or(pad.interKey, 3*time.Second)); !done && now.Before(at) {
		return at
	}
	unheard := !c.said.empty() && !c.said.flushed
	c.said, c.keys, c.keyed, c.unclosed = utterance{}, nil, now, unclosed
	c.takeTurn(ctx, keys, "dtmf", now)
	if unheard {
		c.taken = taken{until: now.Add(lateWords)} // words said with the keys are no new turn
	}
	return now
}

// checkTyped takes written text as a turn, once the agent may be interrupted.
func (c *conductor) checkTyped(ctx context.Context, now time.Time) time.Time {
	if len(c.typed) == 0 || !c.endBy.IsZero() || c.leavesMessage() || c.held != nil {
		return time.Time{}
	}
	if r := c.cur; r != nil {
		if !c.mayInterrupt(r, false) {
			return time.Time{}
		}
		c.interrupt(now)
		if c.leavesMessage() {
			return now
		}
	}
	text := strings.Join(c.typed, "\n")
	c.said, c.saidIdx, c.typed = utterance{started: now, ended: now, finalAt: now}, -1, nil
	c.takeTurn(ctx, text, "text", now)
	return now
}

// checkSilence tells the mind that nobody answers.
func (c *conductor) checkSilence(ctx context.Context, now time.Time) time.Time {
	if c.cur != nil || !c.said.empty() || len(c.keys) > 0 || c.away || !c.endBy.IsZero() || c.leavesMessage() || c.held != nil {
		return time.Time{}
	}
	if at := c.quiet.Add(cmp.Or(c.waiting.silence, c.spec.Idle)); now.Before(at) {
		return at
	}
	c.answer(ctx, input{kind: inputSilence}, now)
	return now
}
