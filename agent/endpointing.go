package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
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
	// recognizer's own end of utterance. Default 250 ms.
	Complete time.Duration

	// Undecided is the wait after a text that could go on or not. Default 600 ms.
	Undecided time.Duration

	// Patience is the wait after a text that will go on. Default 2.5 s.
	Patience time.Duration

	// FinalWait bounds the wait for the final transcript. Default 1.5 s.
	FinalWait time.Duration

	// MaxUtterance ends one that never pauses. Default 60 s.
	MaxUtterance time.Duration
}

func (e Endpointing) withDefaults() Endpointing {
	e.Silence = cmp.Or(e.Silence, 200*time.Millisecond)
	e.Complete = cmp.Or(e.Complete, 250*time.Millisecond)
	e.Undecided = cmp.Or(e.Undecided, 600*time.Millisecond)
	e.Patience = cmp.Or(e.Patience, 2500*time.Millisecond)
	e.FinalWait = cmp.Or(e.FinalWait, 1500*time.Millisecond)
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
	}
	return nil
}

// An utterance is what the caller says until the turn is taken as ended: one
// or more stretches of speech with pauses between.
type utterance struct {
	started  time.Time     // onset of the first stretch; zero: nothing was said
	ended    time.Time     // end of the last stretch
	speaking bool          // a stretch is going on
	unseen   bool          // words came, but no speech was detected
	spoken   time.Duration // speech in all
	finals   []string
	interim  string
	finalAt  time.Time // when the last final came
	eou      bool      // the recognizer heard the end
	flushed  bool      // nothing of before ended is outstanding
	conf     float64   // lowest confidence of the finals
}

// text is all that was recognized so far.
func (u *utterance) text() string {
	t := strings.Join(u.finals, " ")
	if u.interim != "" {
		t = strings.TrimSpace(t + " " + u.interim)
	}
	return t
}

func (u *utterance) empty() bool { return u.started.IsZero() && len(u.finals) == 0 && u.interim == "" }

// hear takes a transcript.
func (u *utterance) hear(t Transcript, now time.Time) {
	text := strings.TrimSpace(t.Text)
	if t.Final {
		if text != "" {
			u.finals = append(u.finals, text)
			u.finalAt = now
			if t.Confidence > 0 && (u.conf == 0 || t.Confidence < u.conf) {
				u.conf = t.Confidence
			}
		}
		u.interim = ""
	} else if text != "" {
		u.interim = text
	}
	if u.unseen && text != "" {
		u.ended = now
	}
	u.eou = u.eou || t.EOU
	u.flushed = u.flushed || t.Flushed && !u.speaking
}

// outcome is what has become of an utterance.
type outcome int

const (
	pending outcome = iota // wait
	over                   // the turn has ended
	noise                  // speech was heard, but no words
)

// judge says whether the caller's turn has ended, and if not, when to ask again
// at the latest (zero: when something happens).
func (e Endpointing) judge(u *utterance, exp Expectation, now time.Time) (outcome, time.Time) {
	if u.empty() {
		return pending, time.Time{}
	}
	if u.speaking {
		if end := u.started.Add(e.MaxUtterance); now.Before(end) {
			return pending, end
		}
		if u.text() == "" {
			return noise, time.Time{} // music, a motor
		}
		return over, time.Time{}
	}
	text := u.text()
	final := u.flushed || u.interim == "" && len(u.finals) > 0 && u.eou
	if bound := u.ended.Add(e.FinalWait); !final && now.Before(bound) {
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

// wait is how long the end of speech must lie back.
func (e Endpointing) wait(u *utterance, text string, exp Expectation) time.Duration {
	switch exp.Kind {
	case "yes_no", "choice":
		if slices.ContainsFunc(exp.Phrases, func(p string) bool { return normal(p) == normal(text) }) {
			return e.Silence
		}
	case "digits", "phone":
		if n := digitsIn(text); exp.Digits > 0 && n >= exp.Digits {
			return e.Silence
		}
		return e.Patience // people group digits
	case "email":
		if strings.Contains(text, "@") || strings.Contains(normal(text), " dot ") {
			return e.Undecided
		}
		return e.Patience
	}
	switch c := closureOf(text); {
	case c == open:
		return e.Patience
	case c == closed || u.eou:
		return e.Complete
	}
	return e.Undecided
}
