package agent

import (
	"cmp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"parley/media"
)

// Where a voice gives no alignment, the words of a clause are laid over its
// audio: by their letters over what is not quiet, phrase by phrase where the
// pauses are where the punctuation is.

// A pause is a quiet stretch of a clause, in samples from its first.
type pause struct{ from, to int64 }

const (
	pauseStep  = 10 * time.Millisecond
	pauseLeast = 40 * time.Millisecond // shorter ones are consonants
	pauseLevel = 150                   // root mean square, -47 dBFS: voices breathe louder
	// phrasePause is the least between two phrases.
	phrasePause = 70 * time.Millisecond
	// phraseSkew is how unlike its share of letters a phrase's share of the
	// audio may be before its pauses are taken to be somewhere else.
	phraseSkew = 1.6
)

// A pauseFinder finds the pauses of a clause, whose audio comes in pieces.
type pauseFinder struct {
	rate  int
	n     int64 // samples so far, of whole steps
	quiet int64 // since when, if it is
	power int64 // of the step that is not whole yet …
	part  int64 // … which has so many samples
}

// feed takes the next piece and adds the pauses that end in it to found; last
// ends one that goes on.
func (f *pauseFinder) feed(found []pause, pcm []int16, last bool) []pause {
	step := media.Samples(pauseStep, f.rate)
	for _, v := range pcm {
		f.power += int64(v) * int64(v)
		if f.part++; f.part == step {
			if f.power > pauseLevel*pauseLevel*step {
				found = f.end(found)
				f.quiet = f.n + step
			}
			f.n += step
			f.power, f.part = 0, 0
		}
	}
	if last {
		found = f.end(found)
	}
	return found
}

func (f *pauseFinder) end(found []pause) []pause {
	if f.n-f.quiet >= media.Samples(pauseLeast, f.rate) {
		found = append(found, pause{f.quiet, f.n})
	}
	return found
}

// A rhythm is how fast a voice speaks, as learned over the call: the latest
// clauses count most, since another voice may have taken over.
type rhythm struct {
	voiced time.Duration
	chars  float64
}

// paceKeep is the weight of what was known before a clause.
const paceKeep = 0.7

// slowSpeech is a character's time in slow speech: 12 a second. Until a voice
// is known, too little is counted as heard rather than too much.
const slowSpeech = 80 * time.Millisecond

// learn takes a whole clause.
func (p *rhythm) learn(s *span, rate int) {
	if chars := utf8.RuneCountInString(s.text); chars > 0 && s.to > s.from {
		p.voiced = time.Duration(paceKeep*float64(p.voiced)) + media.Duration(s.voiced(0, s.to-s.from), rate)
		p.chars = paceKeep*p.chars + float64(chars)
	}
}

// of returns how long text takes to say.
func (p rhythm) of(text string) time.Duration {
	chars := utf8.RuneCountInString(text)
	if p.chars == 0 {
		return time.Duration(chars) * slowSpeech
	}
	return time.Duration(float64(p.voiced) / p.chars * float64(chars))
}

// voiced is how much of the clause's samples [from, to) is no pause.
func (s *span) voiced(from, to int64) int64 {
	n := to - from
	for _, p := range s.pauses {
		n -= max(0, min(p.to, to)-max(p.from, from))
	}
	return max(0, n)
}

// A phrase is a stretch of a clause's text and its place in the audio.
type phrase struct {
	text     string
	from, to int64
}

// phrases splits a whole clause at its punctuation, if its longest pauses fit.
func (s *span) phrases(rate int) []phrase {
	length := s.to - s.from
	all := []phrase{{s.text, 0, length}}
	texts := splitPhrases(s.text)
	var inner []pause
	for _, p := range s.pauses {
		if p.from > 0 && p.to < length && p.to-p.from >= media.Samples(phrasePause, rate) {
			inner = append(inner, p)
		}
	}
	if len(texts) < 2 || len(inner) < len(texts)-1 {
		return all
	}
	slices.SortFunc(inner, func(a, b pause) int { return cmp.Compare(b.to-b.from, a.to-a.from) })
	inner = inner[:len(texts)-1]
	slices.SortFunc(inner, func(a, b pause) int { return cmp.Compare(a.from, b.from) })
	var out []phrase
	from := int64(0)
	for i, t := range texts {
		to := length
		if i < len(inner) {
			to = inner[i].from
		}
		share := float64(s.voiced(from, to)) / float64(max(1, s.voiced(0, length)))
		letters := float64(utf8.RuneCountInString(t)) / float64(utf8.RuneCountInString(s.text))
		if share > phraseSkew*letters || letters > phraseSkew*share {
			return all
		}
		out = append(out, phrase{t, from, to})
		if i < len(inner) {
			from = inner[i].to
		}
	}
	return out
}

// splitPhrases cuts text behind words that end in punctuation.
func splitPhrases(text string) (out []string) {
	from := 0
	for _, end := range wordEnds(text) {
		if end < len(text) && strings.ContainsRune(",;:.!?", rune(text[end-1])) {
			out = append(out, text[from:end])
			from = end
		}
	}
	return append(out, text[from:])
}

// wordsBy returns how many words of s are complete at a sample of its audio.
func (s *span) wordsBy(at int64, rate int, p rhythm) (done int) {
	if !s.whole {
		return wordsOf(s.text, s.voiced(0, at), max(s.voiced(0, s.to-s.from), media.Samples(p.of(s.text), rate)))
	}
	for _, ph := range s.phrases(rate) {
		if at <= ph.from {
			break
		}
		done += wordsOf(ph.text, s.voiced(ph.from, min(at, ph.to)), s.voiced(ph.from, ph.to))
	}
	return done
}

// wordsOf returns how many words of text are complete after spoken of its
// length, by their letters.
func wordsOf(text string, spoken, length int64) (done int) {
	chars := int64(utf8.RuneCountInString(text))
	n, last := int64(0), 0
	for _, e := range wordEnds(text) {
		n += int64(utf8.RuneCountInString(text[last:e]))
		last = e
		if n*length > spoken*chars {
			break
		}
		done++
	}
	return done
}
