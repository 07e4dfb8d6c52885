package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"time"

	"parley/agent/flow"
	"parley/media"
)

// A conductor owns a session's state: goroutine two. Everything else sends it
// events. What it does follows from its state, the event and the time; step
// asks every rule in turn, and each says when it wants to be asked again.
type conductor struct {
	spec    Spec
	leg     media.Leg
	info    media.LegInfo
	player  *media.Player
	mind    mind // of the reply's goroutine
	voice   *voice
	rec     *recognizer
	ears    *ears
	log     *slog.Logger
	lexicon *lexicon

	inbox    chan event
	happened chan flow.Happened // from outside, for the mind
	gone     chan struct{}      // closed when run has ended: events go nowhere
	replies  sync.WaitGroup

	began     time.Time
	state     string
	turns     int    // the next turn's index
	replyID   uint64 // the last reply's
	cur       *reply // the agent has the floor: thinking or speaking
	before    func() // what the mind must be told before the next reply
	waiting   move   // what the agent waits for while the caller has the floor
	quiet     time.Time
	said      utterance
	saidIdx   int // the utterance's turn index, -1 before it has one
	onset     time.Time
	judged    time.Time // the onset of the stretch that a verdict was given on
	paused    bool      // for a verdict
	pausedFor time.Time // the onset that it paused for
	loud      loudness  // of what the caller says
	away      bool      // the line is interrupted
	heldAt    int64     // offset to go on from after either
	echoes    int       // pauses in vain, less what the caller interrupted by words
	caller    *Turn     // to be recorded once the agent's answer is heard
	keys      []byte
	keyAt     time.Time
	keyed     time.Time // when an answer by keys was taken
	unclosed  byte      // the finish key that this answer did not need; 0: it came
	typed     []string  // written by the caller, not taken yet
	taken     taken     // the turn whose last words may still come
	meter     *meter
	lag       *Lag       // of the recognizer in use
	asked     time.Time  // when it was told of a pause that it has not answered
	pace      pacing     // of this caller
	guess     *reply     // begun before the end of the caller's turn
	message   *voicemail // that the caller is leaving
	cutTo     *move      // its prompt was cut: it begins at once
	left      *voicemail // that the caller had left when the call ended
	endBy     time.Time  // a goodbye is over by then
	fault     error      // for which the call ends
	shown     string     // last caption of the reply
	gaps      uint64     // of the player, counted so far
	end       *Ending
	held      *hold     // the caller waits for somebody: nobody answers
	sayings   []Command // that wait for the floor
	hello     *hello    // nil: it is over, or nobody waits for it

	rhythm   rhythm    // of the voice
	lastText string    // what the agent said before
	lastEnd  time.Time // … until then
	greet    sync.Once
	greeted  chan struct{} // closed when the first word is on the wire
}

const (
	// limitSlack is what a call may last beyond its limit, to say goodbye.
	limitSlack = 15 * time.Second
	// greetFirst is when the apology is made though no greeting was heard.
	greetFirst = 2 * time.Second
	// maxHappened bounds events from outside that the mind has not taken.
	maxHappened = 20
	// maxTyped bounds what is written while the agent cannot take it.
	maxTyped = 32
)

// An event is what reaches the conductor from the session's other goroutines.
type event any

type (
	speechStarted struct {
		at       time.Time // onset
		loudness loudness
	}
	speechStopped struct{ at time.Time } // end of the last speech frame
	recognized    struct {
		Transcript
		at   time.Time
		from *Recognizer
	}
	keyPressed struct {
		digit byte
		at    time.Time
	}
	deaf struct{ err error } // no recognizer is left
)

func newConductor(leg media.Leg, player *media.Player, m mind, spec Spec) *conductor {
	info := leg.Info()
	lag := &Lag{}
	if len(spec.Recognizers) > 0 {
		lag = spec.Recognizers[0].Lag
	}
	return &conductor{
		lag:  lag,
		spec: spec, leg: leg, info: info, player: player, mind: m, log: spec.Log,
		voice: newVoice(spec.Synthesizers, info.Rate, spec.Cache, spec.Log),
		inbox: make(chan event, 64), gone: make(chan struct{}), happened: make(chan flow.Happened, maxHappened),
		greeted: make(chan struct{}),
		lexicon: lexiconOf(spec.Language), turns: spec.Turns, saidIdx: -1, began: time.Now().Add(-spec.Elapsed), before: func() {},
	}
}

// post returns how the session's other goroutines send events: they wait for
// the conductor, which never waits for them.
func (c *conductor) post(ctx context.Context) func(event) {
	return func(ev event) {
		select {
		case c.inbox <- ev:
		case <-c.gone:
		case <-ctx.Done():
		}
	}
}

// postAlways is post for a reply, whose events count even as it is given up.
func (c *conductor) postAlways(ev event) {
	select {
	case c.inbox <- ev:
	case <-c.gone:
	}
}

// run conducts until the session has ended.
func (c *conductor) run(ctx context.Context) Ending {
	stop := c.prepare(ctx)
	defer stop()
	c.ears.setSilence(c.spec.Endpointing.Silence)
	first := input{kind: inputStart}
	if c.spec.Returned != "" {
		first = input{kind: inputReturned, text: c.spec.Returned}
	}
	c.open(ctx, first)

	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	commands := c.spec.Commands
	for {
		at := c.step(ctx, time.Now())
		if c.end != nil {
			break
		}
		timer.Reset(time.Until(at))
		select {
		case ev := <-c.inbox:
			c.take(ctx, ev)
		case ev, ok := <-c.leg.Events():
			if !ok {
				ev = media.LegEvent{Kind: media.HungUp, Reason: "network"}
			}
			c.legEvent(ctx, ev)
		case cmd, ok := <-commands:
			if !ok {
				commands = nil
				continue
			}
			c.command(ctx, cmd)
		case <-timer.C:
		case <-ctx.Done():
			c.lineFailed(context.Cause(ctx))
		}
	}
	c.leave(time.Now())
	close(c.gone)
	c.replies.Wait()
	return *c.end
}

// lineFailed ends the session of a line that neither hears nor speaks. What the
// leg itself says of it counts more.
func (c *conductor) lineFailed(err error) {
	for {
		select {
		case ev, ok := <-c.leg.Events():
			if ok && ev.Kind != media.HungUp {
				continue
			}
			if ok {
				c.finish(Ending{Reason: ev.Reason})
			}
		default:
		}
		c.finish(Ending{Reason: "network", Err: err})
		return
	}
}

// prepare makes the apology beforehand, but not before the greeting, which must
// not wait for it. It returns how to stop doing so.
func (c *conductor) prepare(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ready := make(chan struct{})
	go func() {
		defer close(ready)
		// Its own voice: the session's speaks the greeting meanwhile.
		v := newVoice(c.voice.vendors, c.voice.rate, c.voice.cache, c.log)
		v.meter = c.meter
		defer v.close()
		if _, ok := v.prepared(c.spec.Apology); ok {
			return
		}
		select {
		case <-c.greeted:
		case <-time.After(greetFirst):
		case <-ctx.Done():
			return
		}
		if err := v.warm(ctx, c.spec.Apology); err != nil && ctx.Err() == nil {
			c.log.Warn("no apology is prepared", "err", err)
		}
	}()
	return func() { cancel(); <-ready }
}

// step asks every rule what is due, and returns when to ask again.
func (c *conductor) step(ctx context.Context, now time.Time) time.Time {
	next := now.Add(time.Minute)
	if c.cur != nil {
		c.hello = nil // somebody had it speak at once
	}
	if c.hello != nil {
		return c.checkHello(ctx, now)
	}
	for _, rule := range []func(context.Context, time.Time) time.Time{
		c.checkLimits, c.checkReply, c.checkMessage, c.checkHold, c.checkSayings, c.checkMore, c.checkInterruption, c.checkKeys, c.checkTyped,
		c.checkUtterance, c.checkGuess, c.checkSilence,
	} {
		if at := rule(ctx, now); !at.IsZero() && at.Before(next) {
			next = at
		}
		if c.end != nil {
			break
		}
	}
	return next
}

// take handles an event of another goroutine of the session.
func (c *conductor) take(ctx context.Context, ev event) {
	switch ev := ev.(type) {
	case speechStarted:
		if ev.at.Before(c.keyed) {
			c.taken = taken{until: time.Now().Add(lateWords)} // said with the keys
			return
		}
		c.onset, c.taken, c.asked = ev.at, taken{}, time.Time{}
		if c.said.empty() {
			c.loud = faint
		}
		// What was heard before somebody spoke up may have been an echo.
		own, _ := ownVoice(c.said.callers(), c.agentSaid(), c.loud)
		c.said.own += own
		c.loud = min(c.loud, c.loudest(ev.loudness, ev.at))
		c.pace.wentOn(c.said.begin(ev.at), false)
	case speechStopped:
		c.asked = time.Now()
		c.said.pause(ev.at, c.asked)
	case recognized:
		c.recognized(ev)
	case keyPressed:
		c.key(ev.digit, ev.at)
	case deaf:
		c.fail(ctx, ev.err)
	default:
		c.replyEvent(ctx, ev)
	}
}

// recognized takes a transcript into the utterance and shows it.
func (c *conductor) recognized(ev recognized) {
	c.measure(ev)
	if ev.at.Before(c.taken.until) {
		c.late(ev)
		return
	}
	if c.said.empty() {
		if ev.Text == "" {
			return
		}
		// Words without speech before: the detector missed it, the vendor did not.
		c.said = utterance{started: ev.at, ended: ev.at, unseen: true}
		c.onset, c.loud = ev.at, c.loudest(faint, ev.at)
	}
	if c.settling() {
		ev.Text = ""
	}
	before := c.said.text()
	c.said.hear(ev.Transcript, ev.from != nil && ev.from.EndsTurns, ev.at)
	if text := c.said.text(); text != before && text != "" {
		c.show(Event{Type: "transcript", Turn: c.callerIndex(), Text: c.kept(text), Phase: "interim"})
	}
}

// kept is what of the caller's words may be shown and recorded.
func (c *conductor) kept(text string) string {
	if c.private() {
		return "[not kept]"
	}
	return text
}

// private reports that what the caller says or presses now is for nobody to see:
// the answer to a sensitive question, or to the message before one.
func (c *conductor) private() bool {
	r := c.cur
	return c.waiting.sensitive || c.awaited().sensitive || r != nil && r.move != nil && r.move.sensitive
}

// callerIndex gives the utterance its place among the turns.
func (c *conductor) callerIndex() int {
	if c.saidIdx < 0 {
		c.saidIdx = c.takeIndex()
	}
	return c.saidIdx
}

func (c *conductor) takeIndex() int {
	c.turns++
	return c.turns - 1
}

// legEvent handles what the party does besides speaking.
func (c *conductor) legEvent(ctx context.Context, ev media.LegEvent) {
	switch ev.Kind {
	case media.Marked, media.Played, media.Delayed:
		c.player.Observe(ev)
	case media.Digit:
		c.key(ev.Digit, ev.At)
	case media.Typed:
		if text := strings.TrimSpace(ev.Text); text != "" && len(c.typed) < maxTyped {
			c.typed = append(c.typed, text)
		}
	case media.Away:
		c.away, c.heldAt = true, c.player.Pause()
	case media.Back:
		if !c.away {
			return
		}
		c.away, c.quiet = false, time.Now()
		if !c.paused {
			c.resume(c.cur)
		}
	case media.HungUp:
		c.finish(Ending{Reason: ev.Reason})
	}
}

// checkLimits ends a call that has lasted too long.
func (c *conductor) checkLimits(ctx context.Context, now time.Time) time.Time {
	at := c.began.Add(c.spec.MaxDuration)
	if now.Before(at) {
		return at
	}
	c.farewell(ctx, limitNotice, "limit")
	if at = at.Add(limitSlack); !now.Before(at) {
		c.finish(Ending{Reason: "limit"})
	}
	return at
}

// finish ends the session. The first reason stands.
func (c *conductor) finish(e Ending) {
	if c.end == nil {
		if e.Err == nil {
			e.Err = c.fault
		}
		c.end = &e
	}
}

// leave gives up the reply under way and records what was said last.
func (c *conductor) leave(now time.Time) {
	c.dropGuess("dropped")
	if c.message != nil {
		c.left = c.message
		c.endMessage(now)
	}
	if c.cur != nil {
		heard := c.heardOf(c.cur)
		c.close(c.cur, heard, heard < c.cur.ledger.end(), now)
	}
	if text := c.callers(); text != "" {
		c.callerSaid(text, "speech", now)
	}
	c.flushCaller()
	c.show(Event{Type: "ended", Reason: c.end.Reason})
}

// settle gives the mind its last word, without audio: a flow's on_hangup path.
// A caller whose line broke may come back, and finds the conversation as it was.
func (c *conductor) settle(e Ending) {
	ctx, cancel := context.WithTimeout(context.Background(), teardown/2)
	defer cancel()
	c.before()
	last := input{kind: inputHangup, at: time.Now(), text: e.Reason, recorded: c.left}
	switch {
	case e.Reason == "network" && c.left != nil:
		last.kind = inputRecorded // who comes back goes on behind it
	case e.Reason == "transfer", e.Reason == "goodbye", e.Reason == "network":
		return
	}
	if _, err := c.mind.reply(ctx, last, func(line) error { return nil }); err != nil {
		c.log.Warn("the hang-up path was not finished", "err", err)
	}
}

// setState tells where the conversation stands.
func (c *conductor) setState(s string) {
	if c.state != s {
		c.state = s
		c.show(Event{Type: "state", State: s, Node: c.node()})
	}
}

// node is the flow's node that speaks or asks.
func (c *conductor) node() string {
	if r := c.cur; r != nil && len(r.ledger.spans) > 0 {
		return r.ledger.spans[len(r.ledger.spans)-1].node
	}
	return c.waiting.node
}

// show tells screens and onlookers.
func (c *conductor) show(e Event) {
	e.At = time.Now()
	if c.spec.Observe != nil {
		c.spec.Observe(e)
	}
	if c.info.Screen {
		if b, err := json.Marshal(e); err == nil {
			c.leg.Notify(b)
		}
	}
}
