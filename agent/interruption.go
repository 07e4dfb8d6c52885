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

func (i Interruption) withDefaults() Interruption {
	i.Yield = cmp.Or(i.Yield, time.Second)
	i.Resume = cmp.Or(i.Resume, 400*time.Millisecond)
	i.Latest = cmp.Or(i.Latest, 1200*time.Millisecond)
	i.Tail = cmp.Or(i.Tail, 500*time.Millisecond)
	return i
}

const (
	shortGate = 120 * time.Millisecond
	longGate  = 300 * time.Millisecond
	// manyEchoes is how many pauses in vain, for the agent's own voice or for
	// nothing, raise the gate. After tooManyEchoes only words count.
	manyEchoes    = 2
	tooManyEchoes = 4
	// moreWords is how long a sign of listening that has begun is waited for.
	moreWords = 250 * time.Millisecond
)

// gate is how long the caller speaks before the agent pauses, with a recognizer
// that has interim transcripts or has none, after so many pauses in vain.
func (i Interruption) gate(interims bool, echoes int) time.Duration {
	g := shortGate
	if !interims {
		g = longGate
	}
	g = cmp.Or(i.Gate, g)
	if echoes >= manyEchoes {
		g = max(g, longGate)
	}
	return g
}

// evidence is what is known of an interruption.
type evidence struct {
	onset    time.Time // of the speech that the agent paused for, or might
	stretch  time.Time // onset of the stretch of speech that goes on, or was the last
	ended    time.Time // of it; zero while it goes on
	text     string    // recognized so far, interims included
	changed  time.Time // when text did last
	agent    string    // what the agent said lately
	loud     loudness
	expect   Expectation
	asked    bool // the waiting question has been heard, or is being heard
	minWords int  // of the flow's node
	flushed  bool // the recognizer holds no more
	late     bool // the recognizer has no interims: its word comes after the speech
	lexicon  *lexicon
}

// verdict on an interruption.
type verdict int

const (
	undecided verdict = iota
	goOn              // resume the reply
	yield             // the caller has the floor
)

// meaning is what the caller's words say about the floor.
type meaning int

const (
	nothing   meaning = iota // no words, or few that may be the agent's
	few                      // too few words to tell, or "uh"
	begun                    // what may become a sign of listening
	listening                // signs of listening
	echo                     // the agent's own voice
	taking                   // the caller wants the floor
)

// meaning weighs the words. A stop word or an answer counts before anything
// else, but for what is the agent's own voice by its words and its level.
func (ev *evidence) meaning() meaning {
	own, doubtful := ownVoice(ev.text, ev.agent, ev.loud)
	text := without(ev.text, own)
	n := len(words(text))
	listens := ev.lexicon.listens(text)
	switch {
	case n == 0 && own > 0:
		return echo
	case n == 0 || doubtful:
		return nothing
	case ev.lexicon.stops(text):
		return taking
	case matches(ev.expect, text) && (!listens || ev.asked):
		return taking
	case own > 0 && n < echoWords:
		return echo
	case listens:
		return listening
	case n < max(1, ev.minWords) || hesitates(text):
		return few
	case ev.lexicon.mayListen(text):
		return begun
	}
	return taking
}

// judge weighs the evidence, and says when to ask again at the latest if it
// does not suffice.
func (i Interruption) judge(ev evidence, now time.Time) (verdict, time.Time) {
	what := ev.meaning()
	latest := ev.onset.Add(i.Latest)
	speaks := ev.ended.IsZero()
	unbroken := earlier(ev.stretch.Add(i.Yield), latest)
	var at time.Time
	v := goOn
	switch {
	case what == taking:
		return yield, time.Time{}
	case what == begun:
		at, v = later(ev.changed, ev.ended).Add(moreWords), yield
		if speaks {
			at = later(at, unbroken)
		}
	case (what == listening || what == echo) && !speaks:
		return goOn, time.Time{}
	case what == listening || what == echo:
		at = latest // more may follow: "okay, but …"
	case !speaks:
		at = earlier(ev.ended.Add(i.Resume), latest)
		if ev.late && !ev.flushed {
			at = latest
		}
	case ev.loud == faint:
		at, v = latest, yield // the echo of what was said before the pause lasts long
	default:
		at, v = unbroken, yield
	}
	if now.Before(at) {
		return undecided, at
	}
	return v, time.Time{}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// matches reports whether text is one of the answers that exp names.
func matches(exp Expectation, text string) bool {
	if exp.Kind != "yes_no" && exp.Kind != "choice" {
		return false
	}
	t := normal(text)
	return slices.ContainsFunc(exp.Phrases, func(p string) bool { return normal(p) == t })
}
