package agent

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Endpointing tunes when a caller's turn is taken to have ended. The zero
// value is a good start for a telephone call. Every time counts from the end
// of speech, not from when it was noticed.
type Endpointing struct {
	// Silence makes an end of turn a candidate after this much quiet.
	// Shorter answers sooner and interrupts more. Default 200 ms; 100 ms to 3 s.
	Silence time.Duration

	// Complete is the wait after a text that sounds complete, or after the
	// recognizer's own end of turn. Default 250 ms. Defaults keep the order
	// Silence, Complete, Undecided, Patience with what is set.
	Complete time.Duration

	// Undecided is the wait after a text that could go on or not. Default
	// 600 ms. It adapts to the caller's own pauses,
	// from 0.6 to 2.5 times of it.
	Undecided time.Duration

	// Patience is the wait after a text that will go on. Default 2.5 s.
	Patience time.Duration

	// FinalWait bounds the wait for the final transcript, from when the
	// recognizer was told of the pause; then the interim one is taken. Default:
	// what the vendor was measured to need, see [Lag]. 100 ms to 5 s.
	FinalWait time.Duration

	// MaxUtterance ends one that never pauses. Default 60 s; 5 s to 5 min.
	MaxUtterance time.Duration

	// Steady keeps the waits as they are, whatever the caller's pauses.
	Steady bool
}

func (e Endpointing) withDefaults() Endpointing {
	// What is not set keeps out of the way of what is.
	const forever = time.Hour
	most := cmp.Or(e.Patience, forever)
	e.Silence = cmp.Or(e.Silence, 200*time.Millisecond)
	e.Complete = cmp.Or(e.Complete, min(max(250*time.Millisecond, e.Silence), cmp.Or(e.Undecided, most)))
	e.Undecided = cmp.Or(e.Undecided, min(max(600*time.Millisecond, e.Complete), most))
	e.Patience = cmp.Or(e.Patience, max(2500*time.Millisecond, e.Undecided))
	e.MaxUtterance = cmp.Or(e.MaxUtterance, time.Minute)
	return e
}

// Validate reports the first field out of its range.
func (e Endpointing) Validate() error {
	d := e.withDefaults()
	switch {
	case d.Silence < 100*time.Millisecond || d.Silence > 3*time.Second:
		return fmt.Errorf("silence %v is outside 100ms to 3s", d.Silence)
	case d.Complete < d.Silence || d.Complete > 5*time.Second:
		return fmt.Errorf("complete %v is outside silence (%v) to 5s", d.Complete, d.Silence)
	case d.Undecided < d.Complete || d.Undecided > 5*time.Second:
		return fmt.Errorf("undecided %v is outside complete (%v) to 5s", d.Undecided, d.Complete)
	case d.Patience < d.Undecided || d.Patience > 10*time.Second:
		return fmt.Errorf("patience %v is outside undecided (%v) to 10s", d.Patience, d.Undecided)
	case d.FinalWait != 0 && (d.FinalWait < 100*time.Millisecond || d.FinalWait > 5*time.Second):
		return fmt.Errorf("final wait %v is outside 100ms to 5s", d.FinalWait)
	case d.MaxUtterance < 5*time.Second || d.MaxUtterance > 5*time.Minute:
		return fmt.Errorf("longest utterance %v is outside 5s to 5m", d.MaxUtterance)
	}
	return nil
}

// outcome is what has become of an utterance.
type outcome int

const (
	pending outcome = iota // wait
	over                   // the turn has ended
	noise                  // speech was heard, but no words
)

// judge says whether the caller's turn has ended, and if not, when to ask again
// at the latest (zero: when something happens). FinalWait is set.
func (e Endpointing) judge(u *utterance, exp Expectation, now time.Time) (outcome, time.Time) {
	if u.empty() {
		return pending, time.Time{}
	}
	if u.speaking {
		return e.judgeSpeaking(u, now)
	}
	text, final := u.text(), u.final()
	if bound := u.bound(e.FinalWait); !final && now.Before(bound) {
		return pending, bound
	}
	if text == "" {
		return noise, time.Time{}
	}
	if at := u.ended.Add(e.wait(u, text, exp)); now.Before(at) {
		return pending, at
	}
	return over, time.Time{}
}

// judgeSpeaking judges an utterance that the detector still hears. A noise
// behind the caller must not hold the turn for ever: the recognizer tells words
// from it.
func (e Endpointing) judgeSpeaking(u *utterance, now time.Time) (outcome, time.Time) {
	end := u.started.Add(e.MaxUtterance)
	if at := u.changed.Add(e.Patience); u.eou && u.interim == "" && len(u.finals) > 0 && at.Before(end) {
		end = at
	}
	switch {
	case now.Before(end):
		return pending, end
	case u.text() == "":
		return noise, time.Time{} // music, a motor
	}
	return over, time.Time{}
}

// wait is how long the end of speech must lie back.
func (e Endpointing) wait(u *utterance, text string, exp Expectation) time.Duration {
	if d, ok := e.answerWait(u.final(), text, exp); ok {
		return d
	}
	if u.eou && u.judged {
		return e.Complete
	}
	switch c := closureOf(text); {
	case c == open:
		return e.Patience
	case c == closed || u.eou:
		return e.Complete
	}
	return e.Undecided
}

// answerWait is the wait that the waiting question knows of. A matched answer
// counts only when it is final: "no" may become "no, I mean yes".
func (e Endpointing) answerWait(final bool, text string, exp Expectation) (time.Duration, bool) {
	switch exp.Kind {
	case "yes_no", "choice":
		matched := slices.ContainsFunc(exp.Phrases, func(p string) bool { return normal(p) == normal(text) })
		return e.Silence, final && matched
	case "digits", "phone":
		return e.digitsWait(digitsIn(text), exp)
	case "date":
		return e.between(), halfDate(text)
	case "email":
		switch begun, whole := addressed(text); {
		case whole:
			return e.Undecided, true
		case begun:
			return e.Patience, true
		}
		// A name alone may be the first part of the address.
		return e.Patience, closureOf(text) != closed
	}
	return 0, false
}

// digitsWait knows that people say digits in groups. Without any, it was no
// answer, and the sentence counts.
func (e Endpointing) digitsWait(n int, exp Expectation) (time.Duration, bool) {
	switch {
	case n == 0:
		return 0, false
	case exp.Digits > 0 && n >= exp.Digits:
		return e.Silence, true
	case exp.Digits > 0:
		return e.Patience, true
	case exp.Kind == "phone" && n >= 10:
		return e.Complete, true
	case exp.Kind == "phone" && n < 7:
		return e.Patience, true
	}
	return e.between(), true
}

// between is the wait after what is likely to go on.
func (e Endpointing) between() time.Duration { return max(e.Undecided, e.Patience/2) }
