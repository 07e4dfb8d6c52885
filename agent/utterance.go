package agent

import (
	"strings"
	"time"
)

// An utterance is what the caller says until the turn is taken as ended: one
// or more stretches of speech with pauses between.
type utterance struct {
	started  time.Time     // onset of the first stretch; zero: nothing was said
	onset    time.Time     // of the last stretch
	ended    time.Time     // end of the last stretch
	told     time.Time     // when the recognizer was told of that end
	speaking bool          // a stretch is going on
	unseen   bool          // words came, but no speech was detected
	spoken   time.Duration // speech in all
	finals   []string
	interim  string
	own      int       // its first words that are the agent's voice come back
	changed  time.Time // when the text changed last
	finalAt  time.Time // when the last final came
	eou      bool      // the recognizer heard the end
	judged   bool      // … by the words, not by silence alone
	eager    bool      // the recognizer thinks that the turn may be over
	flushed  bool      // nothing of before ended is outstanding
	conf     float64   // lowest confidence of the finals
	guesses  int       // answers begun before the end of the turn
}

// text is all that was recognized so far.
func (u *utterance) text() string {
	t := strings.Join(u.finals, " ")
	if u.interim != "" {
		t = strings.TrimSpace(t + " " + u.interim)
	}
	return t
}

// callers is what of the text is not known to be the agent's voice.
func (u *utterance) callers() string { return without(u.text(), u.own) }

func (u *utterance) empty() bool { return u.started.IsZero() && len(u.finals) == 0 && u.interim == "" }

// final reports that the recognizer owes nothing of what was said.
func (u *utterance) final() bool {
	return u.flushed || u.interim == "" && len(u.finals) > 0 && u.eou
}

// bound is when the wait for the final transcript is given up.
func (u *utterance) bound(wait time.Duration) time.Time {
	if u.told.Before(u.ended) {
		return u.ended.Add(wait) // nobody was told
	}
	return u.told.Add(wait)
}

// begin takes the onset of a stretch of speech. pause is how long the caller
// had been quiet between words, 0 if this is the first stretch.
func (u *utterance) begin(onset time.Time) (pause time.Duration) {
	if u.empty() {
		*u = utterance{started: onset}
	} else if !u.speaking && u.text() != "" {
		pause = since(onset, u.ended)
	}
	u.onset, u.speaking, u.unseen = onset, true, false
	u.flushed, u.eou, u.judged, u.eager = false, false, false, false
	return pause
}

// pause takes the end of a stretch, of which the recognizer was told just now.
func (u *utterance) pause(end, now time.Time) {
	if u.speaking {
		u.speaking, u.ended, u.told = false, end, now
		u.spoken += max(0, end.Sub(u.onset))
	}
}

// hear takes a transcript. byWords says that the recognizer ends turns by what
// is said, see [Recognizer.EndsTurns].
func (u *utterance) hear(t Transcript, byWords bool, now time.Time) {
	before := u.text()
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
	if u.text() != before {
		u.changed = now
	}
	u.eager = t.Eager
	u.eou = u.eou || t.EOU
	u.judged = u.judged || t.EOU && byWords
	u.flushed = u.flushed || t.Flushed && !u.speaking
}
