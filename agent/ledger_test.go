package agent

import (
	"testing"
	"time"

	"parley/media"
)

func TestResumeFrom(t *testing.T) {
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	at := func(d time.Duration) int64 { return media.Samples(d, 8000) }
	words := []Word{{"one", ms(0), ms(300)}, {"two", ms(320), ms(800)}, {"three", ms(1500), ms(1900)}}
	tests := map[string]struct {
		words   []Word
		offset  time.Duration // in the span, which begins 1 s into the player
		first   time.Duration
		delayed bool
		at      time.Duration
		back    time.Duration
	}{
		"in-a-word":                 {words: words, offset: ms(600), at: ms(320), back: ms(40)},
		"at-a-words-start":          {words: words, offset: ms(320), at: ms(320), back: ms(40)},
		"at-a-words-start-in-doubt": {words: words, offset: ms(330), delayed: true, at: 0},
		"just-after-a-word":         {words: words, offset: ms(900), at: ms(320), back: ms(40)},
		"in-a-pause":                {words: words, offset: ms(1100), at: ms(1100), back: ms(300)},
		"early-in-a-pause":          {words: words, offset: ms(1000), at: ms(1000), back: ms(200)},
		"in-a-pause-in-doubt":       {words: words, offset: ms(1300), delayed: true, at: ms(1240), back: ms(240)},
		"in-the-first-word":         {words: words, offset: ms(100), at: 0},
		"without-alignment":         {offset: ms(900), at: ms(900), back: ms(300)},
		"without-it-in-doubt":       {offset: ms(900), delayed: true, at: ms(840), back: ms(240)},
		"without-it-at-the-start":   {offset: ms(100), at: ms(100), back: ms(100)},
		"nothing-heard":             {words: words, delayed: true},
		"second-part-of-a-turn":     {words: words, offset: ms(600), first: ms(500), at: ms(500)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			const from = 8000
			l := ledger{rate: 8000}
			l.add(span{text: "one two three", from: from, to: from + at(2*time.Second), words: tt.words, whole: true})
			got, back := l.resumeFrom(from+at(tt.offset), from+at(tt.first), tt.delayed)
			if got != from+at(tt.at) || back != tt.back {
				t.Errorf("goes on at %v, up to %v back, want %v, %v", media.Duration(got-from, 8000), back, tt.at, tt.back)
			}
		})
	}
}

// A cut is a prefix of whole words, grows with the position, and never fails,
// whatever a vendor says of its words.
func FuzzLedger(f *testing.F) {
	f.Add("one two  three", int64(4000), int64(100), int64(900), true, int64(2500))
	f.Add("$5 – naïve\u00a0café", int64(8000), int64(-50), int64(1<<40), false, int64(8000))
	f.Add("", int64(0), int64(0), int64(0), true, int64(0))
	f.Fuzz(func(t *testing.T, text string, length, start, end int64, whole bool, offset int64) {
		length, offset = length&0xfffff, offset&0x1fffff
		for _, words := range [][]Word{nil, {{"x", time.Duration(start), time.Duration(end)}, {"y", time.Duration(end), time.Duration(start)}}} {
			l := ledger{rate: 8000}
			l.add(span{text: text, from: 100, to: 100 + length, words: words, whole: whole})
			got, all := l.textAt(offset), l.generated()
			if len(got) > len(all) || all[:len(got)] != got {
				t.Fatalf("%q is no prefix of %q", got, all)
			}
			if rest := all[len(got):]; got != "" && rest != "" && !isSpaceAt(rest, 0) {
				t.Errorf("%q cuts a word of %q", got, all)
			}
			if earlier := l.textAt(offset / 2); len(earlier) > len(got) {
				t.Errorf("%q is heard before %q", earlier, got)
			}
			if whole && l.textAt(100+length) != "" && l.textAt(100+length) != all {
				t.Errorf("%q of %q is heard at the end", l.textAt(100+length), all)
			}
			at, back := l.resumeFrom(offset, 50, true)
			if at < 50 || back < 0 || media.Samples(back, 8000) > at-50 {
				t.Errorf("goes on at %d, %v back", at, back)
			}
		}
	})
}
