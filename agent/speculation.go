package agent

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Speculation tunes answers that are begun before the caller's turn has ended
// for certain: the mind thinks and the first clause is made while the wait of
// [Endpointing] runs, so that they can be heard as soon as it is over. Nothing
// of such an answer is heard, kept or done outside before it is adopted, which
// it is only if the turn turns out to be what it answers. The zero value is a
// good start.
type Speculation struct {
	Off bool

	// Tries is how often it may be begun in one turn. Default 3; 1 to 10.
	Tries int

	// MaxSpeech is the longest utterance it is begun on: who speaks longer is
	// likely to go on, and costs more to be answered twice. Default 10 s.
	MaxSpeech time.Duration
}

func (s Speculation) withDefaults() Speculation {
	s.Tries = cmp.Or(s.Tries, 3)
	s.MaxSpeech = cmp.Or(s.MaxSpeech, 10*time.Second)
	return s
}

// begins reports whether u is worth answering before its end is certain: it is
// a candidate, and does not sound as if it went on. wait is what its end would
// be waited for.
func (s Speculation) begins(u *utterance, e Endpointing, exp Expectation, now time.Time) bool {
	text := u.text()
	switch {
	case s.Off, text == "", u.spoken > s.MaxSpeech, u.guesses >= s.Tries:
		return false
	case u.speaking && !u.eager, !u.eager && now.Before(u.ended.Add(e.Silence)):
		return false // no candidate
	case u.eager && u.judged:
		return true
	}
	return e.wait(u, text, exp) < e.Patience
}

// keeps reports whether an answer to text, begun on u, is still worth making.
func (s Speculation) keeps(u *utterance, text string) bool {
	return (!u.speaking || u.eager) && normal(u.text()) == normal(text)
}

// A guess is what a reply that was begun early waits for.
type guess struct {
	adopted chan struct{} // closed when it is certain
	in      input         // what it answers for certain, once adopted
	sure    atomic.Bool   // the mind goes by it
}

// errMisfit says that a guess does not answer what was said after all.
var errMisfit = errors.New("the reply does not fit what was said")

// confirm waits until the guess is adopted, and returns what it answers.
func (g *guess) confirm(ctx context.Context) (input, error) {
	select {
	case <-g.adopted:
	case <-ctx.Done():
		select {
		case <-g.adopted: // what is adopted counts, even if it is cut at once
		default:
			return input{}, ctx.Err()
		}
	}
	return g.in, nil
}

// commit is confirm for the mind, which goes by the answer from there on.
func (g *guess) commit(ctx context.Context) (input, error) {
	in, err := g.confirm(ctx)
	if err == nil {
		g.sure.Store(true)
	}
	return in, err
}

// checkGuess begins an answer on a candidate for the end of the turn, and drops
// one that the caller has talked past.
func (c *conductor) checkGuess(ctx context.Context, now time.Time) time.Time {
	s := c.spec.Speculation
	if c.guess != nil && (c.busy() || !s.keeps(&c.said, c.guess.in.text)) {
		c.dropGuess("dropped")
	}
	if c.guess != nil || c.busy() || c.awaited().patient {
		return time.Time{}
	}
	e := c.endpointing()
	if s.begins(&c.said, e, c.waiting.expect, now) && c.callers() == c.said.text() {
		c.beginGuess(ctx, now)
		return time.Time{}
	}
	if at := c.said.ended.Add(e.Silence); c.said.unseen && now.Before(at) {
		return at
	}
	return time.Time{}
}

// busy reports that something else than listening to the caller goes on.
func (c *conductor) busy() bool {
	return c.cur != nil || c.held != nil || c.leavesMessage() || c.paused || !c.endBy.IsZero() || len(c.keys) > 0 || len(c.typed) > 0 || c.end != nil
}

func (c *conductor) beginGuess(ctx context.Context, now time.Time) {
	c.said.guesses++
	c.replyID++
	in := input{kind: inputSaid, at: now, text: c.said.text(), mode: "speech", confidence: c.said.conf}
	c.guess = &reply{id: c.replyID, index: -1, in: in, began: now, ledger: ledger{rate: c.info.Rate},
		guess: &guess{adopted: make(chan struct{})}}
	c.launch(ctx, c.guess)
}

// adopt makes the guess the reply to in, if it answers that. It reports whether
// it does.
func (c *conductor) adopt(in input, now time.Time) (*reply, bool) {
	r := c.guess
	if r == nil || in.kind != inputSaid || in.mode != "speech" || normal(in.text) != normal(r.in.text) {
		return nil, false
	}
	c.guess = nil
	r.in, r.from = in, c.player.Tail()
	// The split of the latency counts from the end of the turn: what came
	// before it is less than nothing.
	for _, d := range []*time.Duration{&r.latency.FirstToken, &r.latency.FirstClause, &r.latency.FirstSpeech} {
		if *d != 0 {
			*d -= now.Sub(r.began)
		}
	}
	r.began = now
	r.guess.in = in
	close(r.guess.adopted)
	speculations.WithLabelValues("adopted").Inc()
	return r, true
}

// dropGuess gives up the guess: it was not, and its request ends at once.
func (c *conductor) dropGuess(why string) {
	r := c.guess
	if r == nil {
		return
	}
	c.guess = nil
	r.cancel()
	speculations.WithLabelValues(why).Inc()
	done, mind, told := r.done, c.mind, c.before
	c.before = func() { told(); <-done; mind.retract() }
}

// guessDone takes the end of a guess that is not adopted: it failed, since a
// good one waits. The turn is answered again when it has ended.
func (c *conductor) guessDone(err error) {
	c.log.Info("an early answer failed", "err", err)
	c.said.guesses = c.spec.Speculation.Tries
	c.dropGuess("failed")
}

// again asks the mind anew for an adopted reply that came to nothing.
func (c *conductor) again(ctx context.Context, r *reply, err error) {
	c.log.Info("an early answer failed", "err", err)
	speculations.WithLabelValues("failed").Inc()
	r.guess, r.latency.FirstToken, r.latency.FirstClause, r.latency.FirstSpeech = nil, 0, 0, 0
	r.began = time.Now()
	c.start(ctx, r)
}
