package agent

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"parley/agent/flow"
)

// A Command is a wish of an operator, or of the program, for a running session.
type Command struct {
	// Do is one of the Do words.
	Do     string
	Target string // transfer
	// Text is what is said: the goodbye of a hangup, the announcement of a
	// transfer, the words of a hold, the sentence of a say; or what a note notes;
	// or the outcome of a colleague who does not take the caller ("busy",
	// "no_answer", "failed", "declined").
	Text  string
	Event string // event: its name
	Data  json.RawMessage
	// Settle is told once, by the conductor, that the command was carried out (""),
	// or why not; not by what ends the session. It must not block. Nil: nobody is.
	Settle func(reason string)
}

// What a session may be asked to do.
const (
	DoHangup   = "hangup"   // with Text after a goodbye, else at once
	DoTransfer = "transfer" // to Target, with Text after an announcement
	DoDrain    = "drain"    // a polite end, since the process stops
	DoDrop     = "drop"     // the call goes on in another session: end at once, as if the line were lost
	DoEvent    = "event"    // something that a flow may wait for has happened
	DoNote     = "note"     // the mind is told Text, the caller is not
	DoSay      = "say"      // the caller is told Text, as soon as nobody speaks
	DoHold     = "hold"     // the caller waits for somebody, and hears Text again and again
	DoReturn   = "return"   // the hold is over: nobody comes
)

func (c Command) settle(reason string) {
	if c.Settle != nil {
		c.Settle(reason)
	}
}

const (
	// holdAgain is how long a caller who holds hears nothing.
	holdAgain = 10 * time.Second
	// maxSayings bounds sentences that wait for their turn.
	maxSayings = 8
	// The caller's side of a hold, where the operator says nothing.
	holdWords = "Please stay on the line, I am calling a colleague for you."
	// excuse comes before what a flow asked, when nobody took the caller.
	excuse = "I'm sorry, nobody is available to take your call right now."
)

// command obeys an operator.
func (c *conductor) command(ctx context.Context, cmd Command) {
	switch cmd.Do {
	case DoHangup:
		c.part(ctx, cmd.Text, move{kind: moveEnd, reason: "operator"})
	case DoTransfer:
		c.part(ctx, cmd.Text, move{kind: moveTransfer, target: cmd.Target})
	case DoDrain:
		c.farewell(ctx, drainNotice, "drain")
	case DoDrop:
		c.finish(Ending{Reason: "network"})
	case DoEvent:
		c.happen(flow.Happened{Event: cmd.Event, Data: cmd.Data})
	case DoNote:
		cmd.settle(c.note(cmd.Text))
	case DoSay, DoHold:
		c.wish(ctx, cmd)
	case DoReturn:
		c.release(ctx, cmd.Text)
	}
}

// happen has the mind told of something outside.
func (c *conductor) happen(ev flow.Happened) bool {
	ev.At = flow.At{At: time.Now()}
	select {
	case c.happened <- ev:
		return true
	default:
		c.log.Warn("an event is dropped: too many wait", "event", ev.Event)
		return false
	}
}

// part ends the conversation as an operator wants: at once, or behind a last
// sentence, which takes the floor from whoever has it.
func (c *conductor) part(ctx context.Context, text string, mv move) {
	c.held = nil
	if strings.TrimSpace(text) != "" && !c.away {
		c.sayLast(ctx, text, mv)
		return
	}
	if mv.kind == moveTransfer {
		c.finish(Ending{Reason: "transfer", Transfer: mv.target})
		return
	}
	c.finish(Ending{Reason: mv.reason})
}

// note tells the mind something before its next reply. It returns why it does
// not, "" if it does.
func (c *conductor) note(text string) (reason string) {
	if c.spec.Flow == nil {
		told, mind := c.before, c.mind
		c.before = func() { told(); mind.note(text) }
		return ""
	}
	if !c.spec.Flow.Flow.TakesNotes() {
		return "the flow has no node whose model talks to the caller, and none that waits for operator_note"
	}
	data, _ := json.Marshal(map[string]string{"text": text}) // strings always encode
	if !c.happen(flow.Happened{Event: flow.NoteEvent, Data: data, Operator: true}) {
		return "too many notes and events wait: try again"
	}
	return ""
}

// wish takes what needs the floor, if the call has time for it.
func (c *conductor) wish(ctx context.Context, cmd Command) {
	switch {
	case !c.endBy.IsZero() || c.cur != nil && c.cur.final():
		cmd.settle("the call is ending")
	case c.leavesMessage():
		cmd.settle("the caller is leaving a message")
	case cmd.Do == DoSay && len(c.sayings) >= maxSayings:
		cmd.settle("too many sentences wait")
	case cmd.Do == DoSay:
		c.sayings = append(c.sayings, cmd)
	default:
		c.hold(ctx, cmd.Text)
	}
}

// A hold is a caller waiting for somebody.
type hold struct{ words string }

// hold takes the floor, and lets nobody answer until somebody comes. Another hold
// changes its words.
func (c *conductor) hold(ctx context.Context, words string) {
	if words == "" {
		words = holdWords
	}
	now := time.Now()
	if c.cur != nil {
		c.interrupt(now)
	}
	c.dropGuess("dropped")
	c.held = &hold{words}
	c.aside(ctx, words, nil, now)
	c.setState("holding")
}

// release ends a hold, since nobody comes: the agent says so.
func (c *conductor) release(ctx context.Context, outcome string) {
	if c.held == nil || !c.endBy.IsZero() {
		return
	}
	c.held = nil
	now := time.Now()
	if c.cur != nil {
		c.interrupt(now)
	}
	c.keys = nil
	c.answer(ctx, input{kind: inputReturned, text: outcome}, now)
}

// aside says a sentence that is not the mind's. Then the caller has the floor, as
// before.
func (c *conductor) aside(ctx context.Context, text string, told func(string), now time.Time) {
	mv := c.waiting
	mv.kind = moveListen
	r := c.scripted(now)
	r.aside, r.told = true, told
	r.script, r.scriptMove = &line{text: text, fixed: true, policy: policy{never: c.held != nil}}, mv
	c.start(ctx, r)
}

// checkSayings says what operators want said, as soon as nobody speaks.
func (c *conductor) checkSayings(ctx context.Context, now time.Time) time.Time {
	if len(c.sayings) == 0 || c.cur != nil || !c.said.empty() || c.paused || c.away || c.held != nil ||
		!c.endBy.IsZero() || c.leavesMessage() || len(c.keys) > 0 {
		return time.Time{}
	}
	cmd := c.sayings[0]
	c.sayings = c.sayings[1:]
	c.aside(ctx, cmd.Text, cmd.Settle, now)
	return now
}

// checkHold keeps a caller who holds company. What they say is kept, and
// answered by nobody.
func (c *conductor) checkHold(ctx context.Context, now time.Time) time.Time {
	if c.held == nil || c.cur != nil || c.away {
		return time.Time{}
	}
	what, at := c.endpointing().judge(&c.said, c.waiting.expect, now)
	if what == pending && !c.said.empty() {
		return at
	}
	if text := c.callers(); text != "" && what != noise {
		c.callerSaid(text, "speech", now)
		c.flushCaller()
	}
	c.said, c.saidIdx = utterance{}, -1
	c.setState("holding")
	if at = c.quiet.Add(holdAgain); now.Before(at) {
		return at
	}
	c.aside(ctx, c.held.words, nil, now)
	return now
}
