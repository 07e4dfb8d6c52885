package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"parley/agent/flow"
	"parley/media"
)

// A Mailbox keeps messages that callers leave.
type Mailbox interface {
	// Take opens a message of mono audio at rate. effect names it: the same
	// effect's message takes the place of an earlier one.
	Take(ctx context.Context, effect string, rate int) (Memo, error)
}

// A Memo is one message on its way. Exactly one of Keep and Drop ends it.
type Memo interface {
	// Write takes samples in order; it keeps none.
	Write(pcm []int16) error
	// Keep puts the message in place and returns its name and where it is read.
	Keep() (id, url string, err error)
	// Drop leaves nothing of it.
	Drop()
}

const (
	// leastMessage is less speech than a message has.
	leastMessage = 300 * time.Millisecond
	// firstPatience is how long a caller may think before the first word.
	firstPatience = 5 * time.Second
)

// A voicemail is a message being recorded. The conductor begins and ends it; the
// ears write it.
type voicemail struct {
	effect flow.Record
	began  time.Time
	rate   int
	node   string

	mu      sync.Mutex
	memo    Memo // nil once it has ended
	samples int64
	err     error

	// Once it has ended:
	done       Memo
	transcript string
	spoken     bool // somebody said something
}

// write takes what the caller says.
func (t *voicemail) write(pcm []int16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.memo == nil || t.err != nil {
		return
	}
	if t.err = t.memo.Write(pcm); t.err == nil {
		t.samples += int64(len(pcm))
	}
}

// end stops writing.
func (t *voicemail) end(transcript string, spoken bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.done, t.memo = t.memo, nil
	t.transcript, t.spoken = transcript, spoken
}

// A message's Result data.
type recordedData struct {
	ID         string  `json:"id"`
	URL        string  `json:"url"`
	Seconds    float64 `json:"seconds"`
	Transcript string  `json:"transcript,omitempty"`
}

// result keeps or drops the message, and says what came of it.
func (t *voicemail) result(at time.Time) flow.Result {
	r := flow.Result{At: flow.At{At: at}, ID: t.effect.ID, Outcome: "empty"}
	if t.done == nil {
		return r
	}
	if !t.spoken || t.err != nil {
		t.done.Drop()
		if t.err != nil {
			r.Error = "the message could not be written"
		}
		return r
	}
	id, url, err := t.done.Keep()
	if err != nil {
		r.Error = "the message could not be kept"
		return r
	}
	d := recordedData{ID: id, URL: url, Seconds: media.Duration(t.samples, t.rate).Round(10 * time.Millisecond).Seconds()}
	if t.effect.Transcribe {
		d.Transcript = t.transcript
	}
	r.Outcome, r.Data = "recorded", mustJSON(d)
	return r
}

var errNoMailbox = errors.New("this host keeps no messages")

// takeMessage gives the caller the floor to leave a message.
// With begun, what the caller has begun to say belongs to it.
func (c *conductor) takeMessage(ctx context.Context, mv move, begun bool, now time.Time) {
	t := &voicemail{effect: mv.record, began: now, rate: c.info.Rate, node: mv.node}
	var err error = errNoMailbox
	if c.spec.Mailbox != nil {
		t.memo, err = c.spec.Mailbox.Take(ctx, mv.record.ID, c.info.Rate)
	}
	if err != nil {
		c.log.Error("a message cannot be taken", "err", err)
		t.memo = nil
		c.answer(ctx, input{kind: inputRecorded, recorded: t}, now)
		return
	}
	if !begun && !c.said.speaking {
		c.said, c.saidIdx = utterance{}, -1
	}
	c.waiting, c.keys, c.message = mv, nil, t
	c.ears.message.Store(t)
	c.rec.expects(Expectation{Kind: "text"})
	c.setState("recording")
}

// checkMessage ends a message at its finish key, after silence, or at its most.
func (c *conductor) checkMessage(ctx context.Context, now time.Time) time.Time {
	if mv := c.cutTo; mv != nil && c.cur == nil {
		c.cutTo = nil
		c.takeMessage(ctx, *mv, true, now)
		return now
	}
	t := c.message
	if t == nil || c.cur != nil {
		return time.Time{}
	}
	at := t.began.Add(t.effect.Max)
	switch {
	case c.messageKey(), !now.Before(at):
	case c.said.speaking:
		return at
	default:
		quiet := t.began.Add(max(t.effect.Silence, firstPatience))
		if !c.said.empty() {
			quiet = c.said.ended.Add(t.effect.Silence)
		}
		if now.Before(quiet) {
			return soonest(at, quiet)
		}
	}
	c.endMessage(now)
	c.answer(ctx, input{kind: inputRecorded, recorded: t}, now)
	return now
}

func soonest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// messageKey tells whether a key that ends the message was pressed. Others are
// for nobody.
func (c *conductor) messageKey() bool {
	keys, finish := c.keys, c.message.effect.FinishKey
	c.keys = nil
	for _, k := range keys {
		if finish == "any" || finish == string(k) {
			return true
		}
	}
	return false
}

// leavesMessage reports that what the caller says and presses is a message.
func (c *conductor) leavesMessage() bool { return c.message != nil || c.cutTo != nil }

// endMessage stops recording. What was recognized becomes the caller's turn.
func (c *conductor) endMessage(now time.Time) {
	t := c.message
	if t == nil {
		return
	}
	c.message = nil
	c.ears.message.Store(nil)
	spoken := c.said.spoken
	if c.said.speaking {
		spoken += since(now, c.said.onset)
	}
	text := c.said.text()
	t.end(text, spoken >= leastMessage || text != "")
	if t.spoken {
		shown := "[message]"
		if t.effect.Transcribe && text != "" {
			shown = text
		}
		c.callerSaid(shown, "speech", now)
	}
	c.rec.settle()
	if !c.said.flushed {
		c.taken = taken{until: now.Add(lateWords)} // its last words are no turn
	}
	c.said, c.saidIdx = utterance{}, -1
}
