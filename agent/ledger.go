package agent

import (
	"strings"
	"time"
	"unicode"

	"parley/media"
)

// A ledger keeps what one turn of the agent is made of, so that a play-out
// position can be turned into the text that was heard. It is pure; positions
// are the offsets of a [media.Player].
type ledger struct {
	rate   int // samples per second of the offsets
	spans  []span
	rhythm rhythm // of the voice, where it gives no alignment
}

// A span is one clause and the audio it became.
type span struct {
	text     string
	from, to int64
	whole    bool   // all of text is spoken by to; else the voice is at it, or broke off
	words    []Word // the vendor's alignment, if any
	pauses   []pause
	node     string
	policy   policy
}

// policy is how a stretch of speech may be interrupted.
type policy struct {
	never    bool
	digits   bool // by a key only
	after    time.Duration
	minWords int
}

// add notes that text became the audio between two offsets.
func (l *ledger) add(s span) { l.spans = append(l.spans, s) }

// generated is all text of the turn.
func (l *ledger) generated() string { return l.upTo(1<<62, false) }

// textAt returns what lies before an offset, rounded down to whole words.
func (l *ledger) textAt(offset int64) string { return l.upTo(offset, true) }

func (l *ledger) upTo(offset int64, cut bool) string {
	var b strings.Builder
	for i := range l.spans {
		s := &l.spans[i]
		if cut && offset <= s.from {
			break
		}
		text := s.text
		if cut && (offset < s.to || !s.whole) {
			text = s.cut(offset, l.rate, l.rhythm)
		}
		if text == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(text)
	}
	return b.String()
}

// cut returns the words of s that were complete at offset: by the vendor's
// alignment, else by its pace.
func (s *span) cut(offset int64, rate int, p rhythm) string {
	at := min(offset, s.to) - s.from
	ends := wordEnds(s.text)
	done := 0
	if len(s.words) > 0 {
		for _, w := range s.words {
			if w.End <= media.Duration(at, rate) {
				done++
			}
		}
		// The vendor's words and ours may be counted otherwise ("$5" is two
		// words of speech): go by the share of words.
		all := len(s.words)
		if !s.whole {
			all = max(all, len(ends)) // more are to come
		}
		done = done * len(ends) / all
	} else {
		done = s.wordsBy(at, rate, p)
	}
	if done == 0 {
		return ""
	}
	return s.text[:ends[min(done, len(ends))-1]]
}

// wordEnds returns the byte index behind each word of text.
func wordEnds(text string) []int {
	var ends []int
	inWord := false
	for i, r := range text {
		if unicode.IsSpace(r) {
			if inWord {
				ends = append(ends, i)
			}
			inWord = false
		} else {
			inWord = true
		}
	}
	if inWord {
		ends = append(ends, len(text))
	}
	return ends
}

// at returns the span that is heard at an offset: the last that begins before it.
func (l *ledger) at(offset int64) *span {
	for i := len(l.spans) - 1; i >= 0; i-- {
		if l.spans[i].from <= offset {
			return &l.spans[i]
		}
	}
	if len(l.spans) > 0 {
		return &l.spans[0]
	}
	return nil
}

const (
	// resumeBack is how far before the point of interruption a reply may go on.
	resumeBack = 300 * time.Millisecond
	// positionSlack is how much further than it was a position may be thought to
	// be, on a line with a delay.
	positionSlack = 60 * time.Millisecond
	// alignSlack is how early a word may begin before its vendor says so.
	alignSlack = 40 * time.Millisecond
	// betweenWords is how long after a word its repetition is no longer needed to
	// follow the sentence.
	betweenWords = 150 * time.Millisecond
)

// resumeFrom returns where a reply goes on that was paused at offset, and how
// far back of that a quiet point may be looked for: at the start of the last
// word that had begun, so that nothing is skipped and at most that word is said
// again; in a pause, or without alignment, up to resumeBack before offset.
// Nothing before first is repeated. A delayed line leaves the position in doubt.
func (l *ledger) resumeFrom(offset, first int64, delayed bool) (at int64, back time.Duration) {
	slack := time.Duration(0)
	if delayed {
		slack = positionSlack
	}
	at, back = max(first, offset-media.Samples(slack, l.rate)), resumeBack-slack
	if s := l.at(at); s != nil && at >= s.from {
		pos := media.Duration(at-s.from, l.rate)
		last := -1
		for i, w := range s.words {
			if w.Start <= pos {
				last = i
			}
		}
		if last >= 0 {
			w := s.words[last]
			if gap := pos - w.End; gap < betweenWords {
				at, back = s.from+media.Samples(w.Start, l.rate), alignSlack
			} else {
				back = min(back, gap)
			}
		}
	}
	at = max(first, at)
	return at, min(back, media.Duration(at-first, l.rate))
}

// end is the offset behind the last span.
func (l *ledger) end() int64 {
	if len(l.spans) == 0 {
		return 0
	}
	return l.spans[len(l.spans)-1].to
}
