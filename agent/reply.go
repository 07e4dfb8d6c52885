package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"parley/media"
)

// A reply is one turn of the agent: what its mind said, and how far it got.
// Its goroutine makes it; the conductor owns the fields.
type reply struct {
	id     uint64
	index  int // of the turn in the call
	cancel context.CancelFunc
	done   chan struct{} // closed when its goroutine is gone

	in        input
	ledger    ledger
	made      strings.Builder // text of the mind, spoken or not
	move      *move           // what comes after it; nil while the mind is at it
	complete  bool            // all of it is queued as audio
	firm      bool            // it is not taken back, though the caller goes on
	quiet     bool            // it says nothing for now, and need not
	yields    bool            // it is firm but for a caller who speaks
	begun     bool            // a word of it was heard
	began     time.Time       // when it was asked for
	lastSpeak time.Time       // end of the caller's speech before it
	firstAt   time.Time       // first audible sample on the wire
	silent    time.Time       // since when nothing of it is to be heard
	latency   Latency
	from      int64 // the player's offset where it begins
	heardTo   int64 // offset, the furthest so far
	heard     string
	pauses    []string // verdicts: see Turn.Pauses

	guess   *guess // it was begun before the caller's turn had ended
	guesses int    // of its turn

	script     *line // said instead of asking the mind
	scriptMove move
	aside      bool         // its words are no answer of the mind's
	told       func(string) // once they were heard, or were not; may be nil
}

// settle tells who wanted an aside what became of it.
func (r *reply) settle() {
	switch {
	case r.told == nil:
	case r.heard == "":
		r.told("the caller heard nothing of it")
	default:
		r.told("")
	}
	r.told = nil
}

// What a reply's goroutine tells the conductor.
type (
	replyToken struct{ id uint64 } // the mind's first word
	replyFirm  struct {            // something outside is being done
		id            uint64
		quiet, yields bool
	}
	replyClause struct{ id uint64 } // the first clause is ready
	replySpeech struct {            // the first byte of speech
		id uint64
		at time.Time
	}
	replySpan struct { // audio was queued
		id   uint64
		span span
		grow bool // it belongs to the last span
	}
	replyThought struct { // the mind is done
		id   uint64
		move move
		made string
	}
	replyDone struct { // all was queued, or could not be
		id     uint64
		err    error
		unsure bool // it failed before the mind went by it: it may be asked again
	}
)

// A job is what a reply's goroutine is to do. The reply itself is the
// conductor's.
type job struct {
	id         uint64
	in         input
	script     *line
	scriptMove move
	guess      *guess // nil: nothing is to be waited for
	done       chan<- struct{}
}

// speak has the mind answer and its words spoken. It runs as its own goroutine
// and ends with ctx.
func (c *conductor) speak(ctx context.Context, r job, before func()) {
	defer close(r.done)
	before()
	spent, clauses := c.mind.spent(), 0
	g, ctx := errgroup.WithContext(ctx)
	lines := make(chan clause, 8) // the mind may be this far ahead of the voice
	g.Go(func() error {
		defer close(lines)
		var made strings.Builder
		mv, err := c.think(ctx, r, lines, &made)
		if err == nil {
			c.postAlways(replyThought{id: r.id, move: mv, made: made.String()})
		}
		return err
	})
	g.Go(func() error { return c.utter(ctx, r, lines, &clauses) })
	err := g.Wait()
	unsure := err != nil && r.guess != nil && (errors.Is(err, errMisfit) || !r.guess.sure.Load())
	if unsure {
		wasted.WithLabelValues("tokens").Add(float64(c.mind.spent() - spent))
		wasted.WithLabelValues("clauses").Add(float64(clauses))
	}
	c.postAlways(replyDone{id: r.id, err: err, unsure: unsure})
}

// A clause is a line's next piece to be synthesized.
type clause struct {
	line
	spoken string // speakable form of text
}

// think runs the mind and cuts its words into clauses.
func (c *conductor) think(ctx context.Context, r job, out chan<- clause, made *strings.Builder) (move, error) {
	var split ClauseSplitter
	first := true
	send := func(l line) error {
		cl := clause{line: l, spoken: Speakable(l.text)}
		if !l.sounds() && cl.spoken == "" {
			return nil
		}
		if first {
			first = false
			c.postAlways(replyClause{id: r.id})
		}
		select {
		case out <- cl:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var from line // that the words in split are of
	flush := func() error {
		for _, t := range split.Flush() {
			from.text = t
			if err := send(from); err != nil {
				return err
			}
		}
		return nil
	}
	token := false
	say := func(l line) error {
		if l.firm {
			c.postAlways(replyFirm{id: r.id, quiet: l.quiet, yields: l.yields})
			return ctx.Err()
		}
		if l.cut {
			split = ClauseSplitter{}
			return ctx.Err()
		}
		if l.ends {
			return flush()
		}
		if l.digits != "" {
			if _, err := keyTones(l.digits, 8000); err != nil {
				return err
			}
		}
		if !token {
			token = true
			c.postAlways(replyToken{id: r.id})
		}
		made.WriteString(l.text)
		if !l.sounds() && !l.fixed && l.ssml == "" {
			from = l
			for _, t := range split.Push(l.text) {
				from.text = t
				if err := send(from); err != nil {
					return err
				}
			}
			return nil
		}
		if err := flush(); err != nil {
			return err
		}
		return send(l)
	}
	if r.script != nil {
		return r.scriptMove, say(*r.script)
	}
	mv, err := c.mind.reply(ctx, r.in, say)
	if err != nil {
		return move{}, err
	}
	return mv, flush()
}

// utter synthesizes clauses and queues their audio. Of a guess, the first
// speech waits for its adoption.
func (c *conductor) utter(ctx context.Context, r job, in <-chan clause, clauses *int) error {
	first, queue := true, clauseQueue{in: in}
	for {
		cl, ok := queue.next(c.voice.thrifty, c.player.Remaining)
		if !ok {
			c.player.Seal()
			return nil
		}
		*clauses++
		s := span{text: strings.TrimSpace(cl.text), node: cl.node, policy: cl.policy}
		grow, quiet := false, pauseFinder{rate: c.info.Rate}
		emit := func(a spoken) error {
			if first && len(a.pcm) > 0 {
				first = false
				c.postAlways(replySpeech{id: r.id, at: time.Now()})
			}
			if err := r.mayBeHeard(ctx, cl.fits); err != nil {
				return err
			}
			from, to, err := c.player.Append(ctx, a.pcm)
			if err != nil {
				return err
			}
			s.from, s.to, s.words, s.whole = from, to, a.words, a.whole
			s.pauses = quiet.feed(nil, a.pcm, a.whole)
			c.postAlways(replySpan{id: r.id, span: s, grow: grow})
			grow = true
			return nil
		}
		pcm, play, err := c.sound(ctx, cl.line)
		switch {
		case err != nil:
		case play:
			err = emitAll(pcm, c.info.Rate, emit)
		default:
			err = c.voice.say(ctx, Clause{Text: cl.spoken, SSML: cl.ssml, Turn: r.id}, cl.how, cl.fixed, emit)
		}
		if err != nil {
			return err
		}
	}
}

// mayBeHeard waits until the reply is no guess any more, and checks that a
// line said ahead of the mind's decision fits what was decided.
func (r job) mayBeHeard(ctx context.Context, fits func(input) bool) error {
	if r.guess == nil {
		return nil
	}
	in, err := r.guess.confirm(ctx)
	if err == nil && fits != nil && !fits(in) {
		return errMisfit
	}
	return err
}

// apologize says that nothing works any more, from speech made beforehand, and
// ends the call. It reports whether there was something to say.
func (c *conductor) apologize(r *reply) bool {
	s, ok := c.voice.prepared(c.spec.Apology)
	if !ok {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	from, to, err := c.player.Append(ctx, s.pcm)
	if err != nil {
		return false
	}
	c.player.Seal()
	r.ledger.add(span{text: c.spec.Apology, from: from, to: to, words: s.words, whole: true})
	r.made.WriteString(c.spec.Apology)
	return true
}

// final reports that the call ends or is transferred after r: it is heard out.
func (r *reply) final() bool {
	return r.move != nil && (r.move.kind == moveEnd || r.move.kind == moveTransfer)
}

// isCancel reports that err only says that a turn was given up.
func isCancel(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, media.ErrClosed)
}

func wrapVendor(err error) error { return fmt.Errorf("reply: %w", err) }
