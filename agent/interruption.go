package agent

import (
	"cmp"
	"slices"
	"time"
)

// Interruption tunes what happens when the caller speaks over the agent: it
// pauses at once, then yields or goes on by what the caller says. The zero
// value is a good start. Times count from the onset or the end of speech.
type Interruption struct {
	// Never has the agent finish what it says; what the caller says meanwhile
	// is answered afterwards.
	Never bool

	// Gate is how long the caller speaks before the agent pauses. Default
	// 120 ms (six of seven frames); 300 ms with a recognizer that gives no
	// interim transcripts, where length alone decides.
	Gate time.Duration

	// Yield ends the reply after this much unbroken speech without words.
	// Default 1 s.
	Yield time.Duration

	// Resume goes on with the reply after this much quiet behind speech
	// without words. Default 400 ms.
	Resume time.Duration

	// Latest is when a verdict is due at the latest. Default 1.2 s.
	Latest time.Duration

	// Tail is how much of the reply must be unheard for a pause: with less,
	// what the caller says is simply the next turn. Default 500 ms.
	Tail time.Duration
}

func (i Interruption) withDefaults(interims bool) Interruption {
	gate := 120 * time.Millisecond
	if !interims {
		gate = 300 * time.Millisecond
	}
	i.Gate = cmp.Or(i.Gate, gate)
	i.Yield = cmp.Or(i.Yield, time.Second)
	i.Resume = cmp.Or(i.Resume, 400*time.Millisecond)
	i.Latest = cmp.Or(i.Latest, 1200*time.Millisecond)
	i.Tail = cmp.Or(i.Tail, 500*time.Millisecond)
	return i
}

// evidence is what is known of an interruption.
type evidence struct {
	onset    time.Time // of the caller's speech
	ended    time.Time // of it; zero while it goes on
	text     string    // recognized so far, interims included
	agent    string    // what the agent said lately
	expect   Expectation
	minWords int  // of the flow's node
	flushed  bool // the recognizer holds no more
	late     bool // the recognizer has no interims: its word comes after the speech
}

// verdict on an interruption.
type verdict int

const (
	undecided verdict = iota
	goOn              // resume the reply
	yield             // the caller has the floor
)

// judge weighs the evidence, and says when to ask again at the latest if it
// does not suffice.
func (i Interruption) judge(ev evidence, now time.Time) (verdict, time.Time) {
	if n := len(words(ev.text)); n > 0 {
		switch {
		case hasStopWord(ev.text), accepts(ev.expect, ev.text):
			return yield, time.Time{}
		case onlyBackchannels(ev.text), echoes(ev.text, ev.agent):
			if !ev.ended.IsZero() {
				return goOn, time.Time{}
			}
			// More may follow: "okay, but …". Go on once it stays at that.
		case n >= max(1, ev.minWords):
			return yield, time.Time{}
		}
	}
	if !ev.ended.IsZero() {
		if ev.flushed {
			return goOn, time.Time{} // a cough: it was speech, but no words
		}
		at := ev.ended.Add(i.Resume)
		if latest := ev.onset.Add(i.Latest); ev.late && at.Before(latest) {
			at = latest
		}
		if now.Before(at) {
			return undecided, at
		}
		return goOn, time.Time{}
	}
	if at := ev.onset.Add(i.Yield); now.Before(at) {
		return undecided, at
	}
	if onlyBackchannels(ev.text) || echoes(ev.text, ev.agent) {
		if at := ev.onset.Add(i.Latest); now.Before(at) {
			return undecided, at
		}
		return goOn, time.Time{}
	}
	return yield, time.Time{}
}

// accepts reports whether the waiting question takes text as an answer, and it
// is no mere sign of listening.
func accepts(exp Expectation, text string) bool {
	return matches(exp, text) && !backchannels[normal(text)]
}

// matches reports whether text is one of the answers that exp names.
func matches(exp Expectation, text string) bool {
	if exp.Kind != "yes_no" && exp.Kind != "choice" {
		return false
	}
	t := normal(text)
	return slices.ContainsFunc(exp.Phrases, func(p string) bool { return normal(p) == t })
}
