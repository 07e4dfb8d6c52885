package agent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"parley/media"
)

// A scriptedTTS speaks 50 ms a character, and is told how it goes wrong.
type scriptedTTS struct {
	breaks  time.Duration // after so much speech; 0: never
	err     error         // how it breaks; nil: it falls silent
	aligned bool
	speed   float64 // times real time; 0: at once
	asked   []string
	dials   int
}

const scriptedChar = 50 * time.Millisecond

func (s *scriptedTTS) Rate() int    { return 8000 }
func (s *scriptedTTS) Close() error { return nil }

func (s *scriptedTTS) Say(ctx context.Context, c Clause) iter.Seq2[Speech, error] {
	return func(yield func(Speech, error) bool) {
		s.asked = append(s.asked, c.Text)
		words := []Word(nil)
		if s.aligned {
			begin := 0
			for _, e := range wordEnds(c.Text) {
				words = append(words, Word{Text: strings.TrimSpace(c.Text[begin:e]), Start: time.Duration(begin) * scriptedChar, End: time.Duration(e) * scriptedChar})
				begin = e
			}
		}
		length := time.Duration(len(c.Text)) * scriptedChar
		pcm := make([]int16, media.Samples(100*time.Millisecond, 8000))
		for i := range pcm {
			pcm[i] = 5000
		}
		for at := time.Duration(0); at < length; at += 100 * time.Millisecond {
			if s.breaks > 0 && at+time.Millisecond >= s.breaks {
				if s.err == nil {
					<-ctx.Done()
					yield(Speech{}, ctx.Err())
				} else {
					yield(Speech{}, s.err)
				}
				return
			}
			if s.speed > 0 {
				time.Sleep(time.Duration(float64(100*time.Millisecond) / s.speed))
			}
			if !yield(Speech{PCM: pcm, Words: words}, nil) {
				return
			}
			words = nil
		}
	}
}

// voiceOf makes a voice of scripted vendors, named "0", "1" …
func voiceOf(vendors ...*scriptedTTS) *voice {
	var list []Synthesizer
	for i, v := range vendors {
		list = append(list, Synthesizer{Vendor: fmt.Sprint(i), Voice: fmt.Sprint(i), Dial: func(context.Context, Delivery) (TTS, error) {
			v.dials++
			return v, nil
		}})
	}
	return newVoice(list, 8000, &SpeechCache{}, slog.New(slog.DiscardHandler))
}

const tale = "Once upon a time there was a king who lived by the sea."

func TestVoiceBrokenOffInAClause(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first, second scriptedTTS
		rest          string // what the second is asked for
	}{
		// "Once upon a time" is 16 characters: 800 ms.
		{"aligned", scriptedTTS{breaks: 900 * time.Millisecond, err: ErrUnavailable, aligned: true}, scriptedTTS{aligned: true}, " there was a king who lived by the sea."},
		{"aligned to not", scriptedTTS{breaks: 900 * time.Millisecond, err: ErrProtocol, aligned: true}, scriptedTTS{}, " there was a king who lived by the sea."},
		{"not aligned, taken for slower than it is", scriptedTTS{breaks: 900 * time.Millisecond, err: ErrUnavailable}, scriptedTTS{aligned: true}, " time there was a king who lived by the sea."},
		{"within the first word", scriptedTTS{breaks: 100 * time.Millisecond, err: ErrUnavailable, aligned: true}, scriptedTTS{}, tale},
		{"before anything", scriptedTTS{err: ErrUnavailable, breaks: 1}, scriptedTTS{}, tale},
		{"falls silent", scriptedTTS{breaks: 900 * time.Millisecond, aligned: true}, scriptedTTS{aligned: true}, " there was a king who lived by the sea."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				first, second := tt.first, tt.second
				v := voiceOf(&first, &second)
				defer v.close()
				l := ledger{rate: 8000}
				l.add(span{text: tale})
				s := &l.spans[0]
				err := v.say(t.Context(), Clause{Text: tale, Last: true}, Delivery{}, true, func(p spoken) error {
					s.to += int64(len(p.pcm))
					s.words, s.whole = append(s.words, p.words...), p.whole
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if got := strings.Join(second.asked, "|"); got != tt.rest {
					t.Errorf("the second was asked for %q, want %q", got, tt.rest)
				}
				if got := l.textAt(s.to); got != tale || !s.whole {
					t.Errorf("at the end %q was heard, whole %v", got, s.whole)
				}
				// The middle of the second's speech is the middle of what it said.
				from := media.Samples(tt.first.breaks.Truncate(100*time.Millisecond), 8000)
				half := len(strings.Fields(tale)) - len(strings.Fields(tt.rest))/2
				if got := len(strings.Fields(l.textAt((from + s.to) / 2))); got < half-2 || got > half+2 {
					t.Errorf("half way of the rest %d words were heard, want about %d", got, half)
				}
				if _, ok := v.prepared(tale); ok != (from == 0) {
					t.Errorf("speech of two voices was kept: %v", ok)
				}
				// It stays with the voice that works.
				if err := v.say(t.Context(), Clause{Text: "More."}, Delivery{}, false, func(spoken) error { return nil }); err != nil || len(first.asked) != 1 {
					t.Errorf("the broken voice was asked again: %q, %v", first.asked, err)
				}
			})
		})
	}
}

func TestVoiceSlowerThanLife(t *testing.T) {
	for _, tt := range []struct {
		speed   float64
		second  bool // it is left for the second
		vendors int
	}{{0.8, true, 2}, {1.2, false, 2}, {0, false, 2}, {0.8, false, 1}} {
		synctest.Test(t, func(t *testing.T) {
			vendors := []*scriptedTTS{{speed: tt.speed}, {}}[:tt.vendors]
			v := voiceOf(vendors...)
			defer v.close()
			var heard int
			for range 2 {
				if err := v.say(t.Context(), Clause{Text: tale}, Delivery{}, false, func(p spoken) error {
					heard += len(p.pcm)
					time.Sleep(time.Second) // the listener's own time is not the vendor's
					return nil
				}); err != nil {
					t.Fatal(err)
				}
			}
			if got := len(vendors[0].asked) == 1; got != tt.second {
				t.Errorf("at %v times real time with %d vendors: left for the next %v, want %v", tt.speed, tt.vendors, got, tt.second)
			}
			if want := 2 * len(tale) * 400; heard < want-1600 || heard > want+1600 {
				t.Errorf("%d samples, want %d: each clause once", heard, want)
			}
		})
	}
}

func TestVoiceIsConnectedBeforeItIsNeeded(t *testing.T) {
	first := &scriptedTTS{}
	v := voiceOf(first, &scriptedTTS{})
	defer v.close()
	v.ready(t.Context())
	if first.dials != 1 {
		t.Fatalf("%d dials before the first clause, want 1", first.dials)
	}
	if err := v.say(t.Context(), Clause{Text: "Hello."}, Delivery{}, false, func(spoken) error { return nil }); err != nil || first.dials != 1 {
		t.Errorf("%d dials with the first clause, want 1 (%v)", first.dials, err)
	}
}

func TestVoicesThatAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, refused := &scriptedTTS{breaks: 1, err: ErrUnavailable}, &scriptedTTS{breaks: 1, err: ErrCredentials}
		v := voiceOf(bad, refused)
		defer v.close()
		for range 2 {
			if err := v.say(t.Context(), Clause{Text: tale}, Delivery{}, false, func(spoken) error { return nil }); !errors.Is(err, ErrUnavailable) {
				t.Errorf("say = %v, want unavailable", err)
			}
		}
		if len(bad.asked) != 4 || len(refused.asked) != 1 {
			t.Errorf("asked %d and %d times, want 4, and a refused key once", len(bad.asked), len(refused.asked))
		}
	})
}
