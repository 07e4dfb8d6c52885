package agent

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"parley/media"
)

// A ledger keeps what one turn of the agent is made of, so that a play-out
// position can be turned into the text that was heard. It is pure; positions
// are the offsets of a [media.Player].
type ledger struct {
	rate  int // samples per second of the offsets
	spans []span
}

// A span is one clause and the audio it became.
type span struct {
	text     string
	from, to int64
	whole    bool   // all of text is spoken by to; else the voice is at it, or broke off
	words    []Word // the vendor's alignment, if any
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
			text = s.cut(offset, l.rate)
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

// slowSpeech is a character's time in slow speech: 12 a second. What is not
// whole yet is taken to become at least so long, so that too little is counted
// as heard rather than too much.
const slowSpeech = 80 * time.Millisecond

// cut returns the words of s that were complete at offset: by the vendor's
// alignment, else by the share of the audio, taking speech as even.
func (s *span) cut(offset int64, rate int) string {
	at := media.Duration(min(offset, s.to)-s.from, rate)
	ends := wordEnds(s.text)
	done := 0
	if len(s.words) > 0 {
		for _, w := range s.words {
			if w.End <= at {
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
		chars := time.Duration(utf8.RuneCountInString(s.text))
		length := media.Duration(s.to-s.from, rate)
		if !s.whole {
			length = max(length, chars*slowSpeech)
		}
		for _, e := range ends {
			if time.Duration(utf8.RuneCountInString(s.text[:e]))*length <= at*chars {
				done++
			}
		}
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

// wordStart returns where the word begins that is being said at offset, or
// offset itself where no alignment tells.
func (l *ledger) wordStart(offset int64) int64 {
	s := l.at(offset)
	if s == nil {
		return offset
	}
	at := media.Duration(offset-s.from, l.rate)
	best := offset
	for _, w := range s.words {
		if w.Start <= at {
			best = s.from + media.Samples(w.Start, l.rate)
		}
	}
	return best
}

// end is the offset behind the last span.
func (l *ledger) end() int64 {
	if len(l.spans) == 0 {
		return 0
	}
	return l.spans[len(l.spans)-1].to
}
