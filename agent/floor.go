package agent

import (
	"cmp"
	"context"
	"strings"
	"time"

	"parley/media"
)

// Who has the floor: the agent's replies, the caller's interruptions and turns.

const (
	// replyLimit is how long a caller waits for the first sample of a reply
	// before the agent apologizes: never four seconds of silence, but time for a
	// second vendor when the first is found dead.
	replyLimit = 3500 * time.Millisecond
	// goodbyeSlack is how long a goodbye may take beyond its computed length.
	goodbyeSlack = 2 * time.Second
	// cutSilence is how long a caller who cut a message, but then says nothing,
	// is waited for before the agent goes on.
	cutSilence = 2 * time.Second
	// captionEvery is how often a screen is told what was heard.
	captionEvery = 200 * time.Millisecond
)

// answer has the mind answer in: the agent takes the floor.
func (c *conductor) answer(ctx context.Context, in input, now time.Time) {
	in.at = now
	r, early := c.adopt(in, now)
	if !early {
		c.dropGuess("dropped")
		c.replyID++
		r = &reply{id: c.replyID, index: -1, in: in, began: now, from: c.player.Tail(), ledger: ledger{rate: c.info.Rate, rhythm: c.rhythm}}
	}
	r.guesses = c.said.guesses
	if in.kind == inputSaid {
		r.lastSpeak = c.said.ended
		r.latency.EndOfTurn = since(now, c.said.ended)
		r.latency.FinalTranscript = since(c.said.finalAt, c.said.ended)
	}
	c.said, c.saidIdx = utterance{}, -1
	if early {
		c.cur = r
	} else {
		c.start(ctx, r)
	}
	c.setState("thinking")
}

// start gives a reply the floor and runs its goroutine.
func (c *conductor) start(ctx context.Context, r *reply) {
	c.cur = r
	c.launch(ctx, r)
}

// launch runs a reply's goroutine.
func (c *conductor) launch(ctx context.Context, r *reply) {
	before := c.before
	if prev := r.done; prev != nil {
		told := before
		before = func() { <-prev; told() }
	}
	c.before = func() {}
	if r.cancel != nil {
		r.cancel() // of the part before
	}
	ctx, r.cancel = context.WithCancel(ctx)
	r.done, r.move, r.complete = make(chan struct{}), nil, false
	job := job{id: r.id, in: r.in, script: r.script, scriptMove: r.scriptMove, guess: r.guess, done: r.done}
	if r.guess != nil {
		job.in.commit = r.guess.commit
	}
	c.replies.Go(func() { c.speak(ctx, job, before) })
}

// replyEvent takes what a reply's goroutine tells.
func (c *conductor) replyEvent(ctx context.Context, ev event) {
	r, now := c.cur, time.Now()
	if r == nil {
		r = c.guess // there is one or the other
	}
	of := func(id uint64) bool { return r != nil && r.id == id }
	switch ev := ev.(type) {
	case replyToken:
		if of(ev.id) && r.latency.FirstToken == 0 {
			r.latency.FirstToken = now.Sub(r.began)
		}
	case replyFirm:
		if of(ev.id) {
			r.firm, r.quiet, r.yields = true, ev.quiet, ev.yields
		}
	case replyClause:
		if of(ev.id) && r.latency.FirstClause == 0 {
			r.latency.FirstClause = now.Sub(r.began)
		}
	case replySpeech:
		if of(ev.id) && r.latency.FirstSpeech == 0 {
			r.latency.FirstSpeech = ev.at.Sub(r.began)
		}
	case replySpan:
		if !of(ev.id) {
			return
		}
		if ev.grow && len(r.ledger.spans) > 0 {
			last := &r.ledger.spans[len(r.ledger.spans)-1]
			last.to, last.whole, last.words = ev.span.to, ev.span.whole, append(last.words, ev.span.words...)
			last.pauses = append(last.pauses, ev.span.pauses...)
		} else {
			r.ledger.add(ev.span)
		}
		if last := &r.ledger.spans[len(r.ledger.spans)-1]; last.whole {
			c.rhythm.learn(last, c.info.Rate)
		}
	case replyThought:
		if of(ev.id) {
			r.made.WriteString(ev.made)
			r.move = &ev.move
			if r.quiet {
				r.silent = time.Time{} // its silence was meant until now
			}
			c.thought(r)
		}
	case replyDone:
		switch {
		case !of(ev.id):
		case r == c.guess:
			c.guessDone(ev.err)
		case ev.unsure && len(r.ledger.spans) == 0:
			c.again(ctx, r, ev.err)
		case ev.err == nil:
			r.complete = true
			if r.final() {
				c.closing(now)
			}
		case !isCancel(ev.err):
			c.fail(ctx, ev.err)
		}
	}
}

// thought prepares for what comes after a reply, while it is still spoken.
func (c *conductor) thought(r *reply) {
	c.ears.record.paused.Store(r.move.sensitive)
	switch {
	case r.move.kind == moveListen:
		c.expect(*r.move) // it may be answered while it is asked
	case r.final() && c.paused:
		c.resume(r) // a goodbye is heard out
	}
}

// closing bounds a goodbye: it is heard, or its length and some have passed.
func (c *conductor) closing(now time.Time) {
	c.endBy = now.Add(c.player.Remaining() + goodbyeSlack)
	c.setState("closing")
}

// checkReply notices that the agent began to be heard, is late, or is done.
func (c *conductor) checkReply(ctx context.Context, now time.Time) time.Time {
	r := c.cur
	if r == nil {
		return time.Time{}
	}
	if !c.endBy.IsZero() && !now.Before(c.endBy) {
		if r.move == nil {
			r.move = &r.scriptMove // a goodbye that could not be made
		}
		c.proceed(ctx, r, now)
		return now
	}
	if c.paused || c.away {
		return c.endBy
	}
	soon := time.Time{}
	if r.firstAt.IsZero() && len(r.ledger.spans) > 0 {
		if at := c.player.SentAt(r.ledger.spans[0].from); !at.IsZero() {
			c.firstAudio(r, at)
		} else {
			soon = now.Add(media.Ptime / 2) // it is on its way to the wire
		}
	}
	if !r.begun && !r.firstAt.IsZero() && r.ledger.textAt(c.heardOf(r)) != "" {
		r.begun = true
		c.flushCaller()
		if r.in.mode == "speech" {
			c.pace.ended()
		}
	}
	left := c.player.Remaining()
	if left > 0 {
		r.silent = time.Time{}
	} else if r.silent.IsZero() {
		r.silent = now
	}
	if !r.complete && left == 0 && r.quiet && r.move == nil {
		return time.Time{}
	}
	if !r.complete && left == 0 {
		if at := r.silent.Add(replyLimit); now.Before(at) {
			return at
		}
		c.fail(ctx, wrapVendor(errLate))
		return now
	}
	if r.complete && left == 0 {
		c.proceed(ctx, r, now)
		return now
	}
	c.caption(r, "speaking")
	if !soon.IsZero() {
		return soon
	}
	next := now.Add(captionEvery)
	if r.complete {
		next = now.Add(min(left, captionEvery))
	}
	return next
}

// proceed goes on after a reply was heard to its end, or its time is up.
func (c *conductor) proceed(ctx context.Context, r *reply, now time.Time) {
	mv := *r.move
	if mv.kind == movePlayed {
		// The same turn goes on: a flow's next message.
		r.in = input{kind: inputPlayed, at: now, heard: r.ledger.textAt(c.heardOf(r))}
		r.guess = nil // what goes on is certain
		r.began = now
		c.start(ctx, r)
		return
	}
	heard := c.player.Tail()
	if c.player.Remaining() > 0 {
		heard = c.heardOf(r)
	}
	c.close(r, heard, heard < r.ledger.end(), now)
	switch mv.kind {
	case moveEnd:
		c.finish(Ending{Reason: mv.reason})
	case moveTransfer:
		c.finish(Ending{Reason: "transfer", Transfer: mv.target})
	case moveRecord:
		c.takeMessage(ctx, mv, false, now)
	default:
		c.listen(mv, now)
	}
}

// listen gives the caller the floor.
func (c *conductor) listen(mv move, now time.Time) {
	c.waiting, c.quiet = mv, now
	c.expect(mv)
	c.setState("listening")
}

// expect tells the ears what is waited for.
func (c *conductor) expect(mv move) {
	c.rec.expects(mv.expect)
	h := mv.hearing.in(c.spec.Language)
	c.rec.retune(h)
	c.lexicon = lexiconOf(h.Language)
	c.ears.record.paused.Store(mv.sensitive)
	c.ears.setSilence(cmp.Or(mv.endSilence, c.spec.Endpointing.Silence))
}

// awaited is what the agent waits for, or asks at this moment.
func (c *conductor) awaited() move {
	if r := c.cur; r != nil && r.move != nil && r.move.kind == moveListen {
		return *r.move
	}
	return c.waiting
}

// firstAudio notes that the reply is on the wire.
func (c *conductor) firstAudio(r *reply, now time.Time) {
	r.firstAt = now
	c.greet.Do(func() { close(c.greeted) })
	c.setState("speaking")
	if !r.lastSpeak.IsZero() {
		r.latency.FirstAudio = now.Sub(r.lastSpeak)
		responseSeconds.WithLabelValues(c.info.Carrier).Observe(r.latency.FirstAudio.Seconds())
		c.show(Event{Type: "latency", Turn: c.index(r), LatencyMS: r.latency.FirstAudio.Milliseconds()})
	}
}

func (c *conductor) index(r *reply) int {
	if r.index < 0 {
		r.index = c.takeIndex()
	}
	return r.index
}

// close records a reply: the agent no longer has the floor.
func (c *conductor) close(r *reply, heard int64, cut bool, now time.Time) {
	r.cancel()
	c.flushCaller()
	r.heard = r.ledger.textAt(heard)
	r.latency.MarkRoundTrip = c.player.RoundTrip()
	// Cut early, a reply has been spoken in part before all of it is known.
	made := r.ledger.generated()
	if all := strings.TrimSpace(r.made.String()); len(all) > len(made) && (cut || made == "") {
		made = all
	}
	if r.firstAt.IsZero() {
		r.firstAt = now
	}
	if len(r.ledger.spans) > 0 {
		t := Turn{
			Index: c.index(r), Speaker: "agent", Generated: made, Sent: r.ledger.textAt(c.player.Sent()), Heard: r.heard,
			Interrupted: cut, Pauses: r.pauses, Node: r.ledger.spans[len(r.ledger.spans)-1].node,
			Start: r.firstAt.Sub(c.began), End: now.Sub(c.began), Latency: r.latency,
		}
		c.journal(t)
		phase := "heard"
		if cut {
			phase = "cut"
		}
		c.caption(r, phase)
		observeSteps(r.latency)
	}
	c.cur, c.paused, c.shown = nil, false, ""
	c.lastText, c.lastEnd = r.ledger.textAt(c.player.Sent()), now
	done, text, mind, told := r.done, r.heard, c.mind, c.before
	if r.aside {
		c.before = func() { told(); <-done; mind.aside(text) }
		r.settle()
		return
	}
	c.before = func() { told(); <-done; mind.heard(text, cut) }
}

// caption shows the reply's text and how far it was heard.
func (c *conductor) caption(r *reply, phase string) {
	if c.spec.Observe == nil && !c.info.Screen || len(r.ledger.spans) == 0 {
		return
	}
	heard := r.heard
	if phase == "speaking" {
		heard = r.ledger.textAt(c.heardOf(r))
	}
	text := r.ledger.generated()
	if key := phase + "\x00" + text + "\x00" + heard; key != c.shown {
		c.shown = key
		c.show(Event{Type: "agent", Turn: c.index(r), Text: text, Heard: heard, Phase: phase})
	}
}

// heardOf is how far r was heard: a reply that was resumed a little earlier than
// it was paused was heard to the pause.
func (c *conductor) heardOf(r *reply) int64 { return max(r.heardTo, c.player.Heard()) }

// fail ends the call for want of a vendor, with an apology if one is ready.
func (c *conductor) fail(ctx context.Context, err error) {
	c.log.Error("session failed", "err", err)
	if !c.endBy.IsZero() {
		c.finish(Ending{Reason: "vendor", Err: err}) // even the goodbye failed
		return
	}
	c.fault = err
	now := time.Now()
	if c.cur != nil {
		c.interrupt(now)
	}
	if r := c.scripted(now); c.apologize(r) {
		r.move, r.complete = &move{kind: moveEnd, reason: "vendor"}, true
		c.closing(now)
		return
	}
	// It was not made yet, as at the very beginning of a call.
	c.cur = nil
	c.farewell(ctx, c.spec.Apology, "vendor")
}

// farewell says a fixed sentence instead of anything else, and ends the call.
func (c *conductor) farewell(ctx context.Context, text, reason string) {
	c.held = nil
	c.sayLast(ctx, text, move{kind: moveEnd, reason: reason})
}

// sayLast says a fixed sentence instead of anything else, and then does mv.
func (c *conductor) sayLast(ctx context.Context, text string, mv move) {
	if !c.endBy.IsZero() {
		return // another goodbye is being said
	}
	now := time.Now()
	if c.cur != nil {
		c.interrupt(now)
	}
	r := c.scripted(now)
	r.script = &line{text: text, fixed: true, policy: policy{never: true}}
	r.scriptMove = mv
	c.start(ctx, r)
	c.endBy = now.Add(10 * time.Second) // until it is made; then its length
}

// scripted makes an empty reply that has the floor.
func (c *conductor) scripted(now time.Time) *reply {
	c.dropGuess("dropped")
	c.replyID++
	done := make(chan struct{})
	close(done)
	c.cur = &reply{id: c.replyID, index: -1, began: now, from: c.player.Tail(), done: done,
		cancel: func() {}, ledger: ledger{rate: c.info.Rate, rhythm: c.rhythm}}
	return c.cur
}

// interrupt takes the floor from the agent. What it did not say is dropped.
func (c *conductor) interrupt(now time.Time) {
	r := c.cur
	r.cancel() // first: what it appends behind the drop would be played
	heard := max(c.heardOf(r), c.drop())
	mv := r.move
	c.endBy = time.Time{}
	c.close(r, heard, heard < r.ledger.end() || !r.complete, now)
	switch {
	case mv == nil:
	case mv.kind == moveListen:
		c.listen(*mv, now) // the question stands, though it was cut
		return
	case mv.kind == moveRecord:
		c.cutTo = mv // once whoever cut it is done
	case mv.kind == movePlayed:
		c.waiting = move{kind: moveListen, silence: cutSilence, sensitive: mv.sensitive}
	}
	c.quiet = now
	c.setState("listening")
}

// drop forgets what the player has not played.
func (c *conductor) drop() (heard int64) {
	heard = c.player.Drop()
	if c.away {
		c.heldAt = c.player.Pause() // until the party is back
	}
	return heard
}

// resume goes on with a reply that was paused.
func (c *conductor) resume(r *reply) {
	c.judged, c.paused = c.onset, false
	// By now the line has told more of what was heard than it had at the pause.
	at, back := min(c.heldAt, c.player.Heard()), resumeBack
	if r != nil {
		r.heardTo = c.heardOf(r)
		at, back = r.ledger.resumeFrom(at, r.from, c.player.RoundTrip() > 0)
	}
	if c.away {
		c.heldAt = at
		return
	}
	if r != nil {
		c.setState("speaking")
	}
	c.player.Resume(at, back)
}

func since(at, from time.Time) time.Duration {
	if at.IsZero() || from.IsZero() || at.Before(from) {
		return 0
	}
	return at.Sub(from)
}

func observeSteps(l Latency) {
	for step, d := range map[string]time.Duration{
		"end_of_turn": l.EndOfTurn, "final_transcript": l.FinalTranscript, "first_token": l.FirstToken,
		"first_clause": l.FirstClause, "first_speech": l.FirstSpeech, "mark_round_trip": l.MarkRoundTrip,
	} {
		if d != 0 { // what an early answer had done by the end of the turn took no time
			stepSeconds.WithLabelValues(step).Observe(max(0, d.Seconds()))
		}
	}
}
