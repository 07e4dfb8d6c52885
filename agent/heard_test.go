package agent

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"parley/media"
)

// A said clause is one that flite said (voice slt): when each word is spoken
// and where it is quiet.
type saidClause struct {
	text   string
	length time.Duration
	words  []Word
	quiet  [][2]time.Duration
}

// saidClauses reads testdata/spoken.txt: text, length, words and pauses, in
// milliseconds.
func saidClauses(t testing.TB) (all []saidClause) {
	t.Helper()
	b, err := os.ReadFile("testdata/spoken.txt")
	if err != nil {
		t.Fatal(err)
	}
	for row := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSuffix(row, "\n"), "\t")
		spans := func(list string) (out [][2]time.Duration) {
			for s := range strings.FieldsSeq(list) {
				var from, to int
				if _, err := fmt.Sscanf(s, "%d-%d", &from, &to); err != nil {
					t.Fatalf("%q: %v", s, err)
				}
				out = append(out, [2]time.Duration{time.Duration(from) * time.Millisecond, time.Duration(to) * time.Millisecond})
			}
			return out
		}
		c := saidClause{text: f[0], quiet: spans(f[3])}
		for i, at := range spans(f[2]) {
			c.words = append(c.words, Word{strings.Fields(c.text)[i], at[0], at[1]})
		}
		var length int
		if _, err := fmt.Sscan(f[1], &length); err != nil {
			t.Fatal(err)
		}
		c.length = time.Duration(length) * time.Millisecond
		all = append(all, c)
	}
	return all
}

// pcm is a tone where the clause is not quiet.
func (c *saidClause) pcm(rate int) []int16 {
	pcm := make([]int16, media.Samples(c.length, rate))
	for i := range pcm {
		pcm[i] = int16(4000 - 8000*(i/20%2))
	}
	at := func(d time.Duration) int64 { return min(max(0, media.Samples(d, rate)), int64(len(pcm))) }
	for _, q := range c.quiet {
		clear(pcm[at(q[0]):max(at(q[0]), at(q[1]))])
	}
	return pcm
}

// spokenBy is how many words are complete at a time.
func (c *saidClause) spokenBy(at time.Duration) (n int) {
	for _, w := range c.words {
		if w.End <= at {
			n++
		}
	}
	return n
}

// part is the stretch of the clause whose words are those of text.
func (c *saidClause) part(text string) (part saidClause, ok bool) {
	want := normal(text)
	for a := range c.words {
		for b := a + 1; b <= len(c.words); b++ {
			var list []string
			for _, w := range c.words[a:b] {
				list = append(list, w.Text)
			}
			if normal(strings.Join(list, " ")) != want {
				continue
			}
			from, to := time.Duration(0), c.length
			if a > 0 {
				from = c.words[a].Start
			}
			if b < len(c.words) {
				to = c.words[b].Start
			}
			part = saidClause{text: text, length: to - from, words: shift(c.words[a:b], -from)}
			for _, q := range c.quiet {
				part.quiet = append(part.quiet, [2]time.Duration{q[0] - from, q[1] - from})
			}
			return part, true
		}
	}
	return part, false
}

// knownTTS says the clauses it knows, or parts of them, with or without
// alignment.
type knownTTS struct {
	toneTTS
	said    []saidClause
	aligned bool
}

func (k *knownTTS) Say(ctx context.Context, c Clause) iter.Seq2[Speech, error] {
	for i := range k.said {
		if part, ok := k.said[i].part(c.Text); ok {
			return k.say(ctx, part)
		}
	}
	return k.toneTTS.Say(ctx, c)
}

func (k *knownTTS) say(ctx context.Context, c saidClause) iter.Seq2[Speech, error] {
	return func(yield func(Speech, error) bool) {
		select {
		case <-time.After(k.delay):
		case <-ctx.Done():
		}
		pcm := c.pcm(16000)
		s := Speech{}
		if k.aligned {
			s.Words = c.words
		}
		for len(pcm) > 0 && ctx.Err() == nil {
			n := min(len(pcm), 3200)
			s.PCM, pcm = pcm[:n], pcm[n:]
			if !yield(s, nil) {
				return
			}
			s.Words = nil
		}
	}
}

// Without alignment, words are laid over a clause's audio by letters and
// pauses: while it is made by the voice's pace, learned from clauses before.
func TestWordsWithoutAlignment(t *testing.T) {
	said := saidClauses(t)
	for _, whole := range []bool{true, false} {
		t.Run(fmt.Sprintf("whole-%v", whole), func(t *testing.T) {
			var off tally
			var rhythm rhythm
			for i, c := range slices.Concat(said, said) { // twice: the pace is known then
				find := pauseFinder{rate: 8000}
				s := span{text: c.text, to: media.Samples(c.length, 8000), whole: true}
				s.pauses = find.feed(nil, c.pcm(8000), true)
				learned := s
				s.whole = whole
				for at := time.Duration(0); i >= len(said) && at < c.length; at += 11 * time.Millisecond {
					off = append(off, len(strings.Fields(s.cut(media.Samples(at, 8000), 8000, rhythm)))-c.spokenBy(at))
				}
				rhythm.learn(&learned, 8000)
			}
			t.Logf("%v", off)
			two := .99
			if !whole {
				two = .97 // the clause is still being made, and nobody knows its length
			}
			if off.within(1) < .9 || off.within(2) < two {
				t.Errorf("%v, want 90 %% within one word and %v within two", off, two)
			}
		})
	}
}

// A tally counts words: those thought to be heard over those that were.
type tally []int

func (o tally) within(n int) float64 {
	in := 0
	for _, d := range o {
		if -n <= d && d <= n {
			in++
		}
	}
	return float64(in) / float64(len(o))
}

func (o tally) String() string {
	return fmt.Sprintf("%d: exact %.1f %%, within one %.1f %%, within two %.1f %%, over %d under %d",
		len(o), 100*o.within(0), 100*o.within(1), 100*o.within(2), max(0, slices.Max(o)), -min(0, slices.Min(o)))
}

// The reply is interrupted at 20 points, on lines of 20 to 150 ms each way with
// 30 ms of jitter: what is kept as heard is what the caller heard.
func TestHeardText(t *testing.T) {
	said := saidClauses(t)
	for _, aligned := range []bool{true, false} {
		t.Run(fmt.Sprintf("aligned-%v", aligned), func(t *testing.T) {
			var off tally
			for i := range 20 {
				for seed, delay := range []time.Duration{20 * time.Millisecond, 75 * time.Millisecond, 150 * time.Millisecond} {
					rnd := rand.New(rand.NewPCG(uint64(i), uint64(seed)))
					first := rnd.IntN(len(said) - 2)
					off = append(off, interruptedReply(t, said[first:first+3], aligned, delay, rnd,
						600*time.Millisecond+time.Duration(i)*300*time.Millisecond))
				}
			}
			t.Logf("%v", off)
			one, two := .99, 1.0
			if !aligned {
				one, two = .90, .99
			}
			if off.within(1) < one || off.within(2) < two {
				t.Errorf("%v, want %v within one word, %v within two", off, one, two)
			}
		})
	}
}

// interruptedReply has the agent say clauses, the caller stop it after a time,
// and returns how many words too many the agent thinks were heard.
func interruptedReply(t *testing.T, clauses []saidClause, aligned bool, delay time.Duration, rnd *rand.Rand, after time.Duration) (off int) {
	play(t, func(s *scene) {
		s.line.delay, s.line.jitter, s.line.rnd = delay, 30*time.Millisecond, rnd
		s.spec.Prompt.Greeting = "Good morning to you."
		s.results = []string{"Tell me more.", "Stop."}
		var texts []string
		for _, c := range clauses {
			texts = append(texts, c.text)
		}
		s.llm.answers = append(s.llm.answers, text(strings.Join(texts, " ")), text("Alright."))
		voice := &knownTTS{toneTTS: *s.tts, said: clauses, aligned: aligned}
		s.spec.Synthesizers = []Synthesizer{{Vendor: "test", Voice: "test", Dial: func(context.Context, Delivery) (TTS, error) { return voice, nil }}}
	}, func(s *scene) {
		s.wait(3 * time.Second)
		s.line.say(time.Second)
		s.line.mu.Lock()
		before := len(s.line.heard)
		s.line.mu.Unlock()
		s.wait(700*time.Millisecond + after)
		s.line.say(700 * time.Millisecond)
		s.line.mu.Lock()
		var samples int64
		for _, h := range s.line.heard[before:] {
			samples += int64(h.n)
		}
		s.line.mu.Unlock()
		s.wait(3 * time.Second)
		s.hangUp()
		truth, at := 0, media.Duration(samples, 8000)
		for _, c := range clauses {
			truth += c.spokenBy(at)
			at -= c.length
		}
		turns := s.turns("agent")
		if len(turns) < 2 || !turns[1].Interrupted {
			t.Fatalf("no reply was cut:\n%s", s.journal.said())
		}
		off = len(strings.Fields(turns[1].Heard)) - truth
	})
	return off
}
