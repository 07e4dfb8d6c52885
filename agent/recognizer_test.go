package agent

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"parley/media"
)

// In these tests a word is wordLength of a level of its own, so that who hears
// the audio can tell the words in it, and how much of each.
const (
	wordRate   = 8000
	wordLength = 400 * time.Millisecond
)

func wordAt(at int64, words int) int16 {
	n := at / media.Samples(wordLength, wordRate)
	if n >= int64(words) {
		return 0
	}
	return int16(2000 * (n + 1))
}

// A wordSTT recognizes such words. It gives interims, and a final transcript for
// every finals words and at every pause.
type wordSTT struct {
	ctx    context.Context
	finals int
	dies   int64 // sample at which it breaks; 0: never
	mute   bool  // takes all and says nothing

	mu     sync.Mutex
	out    chan Transcript
	broken chan struct{}
	heard  int64
	counts map[int]int64 // samples of each word not told yet
	writes []wordWrite
}

type wordWrite struct {
	at time.Time
	n  int
}

func newWordSTT(ctx context.Context) *wordSTT {
	return &wordSTT{ctx: ctx, finals: 100, out: make(chan Transcript, 100), broken: make(chan struct{}), counts: map[int]int64{}}
}

func (s *wordSTT) Expect(Expectation) {}
func (s *wordSTT) Close() error       { return nil }

func (s *wordSTT) WriteFrame(f media.Frame) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes = append(s.writes, wordWrite{time.Now(), len(f.PCM)})
	for _, v := range f.PCM {
		s.heard++
		if word := int(v+1000) / 2000; word > 0 {
			s.counts[word]++
		}
	}
	if !s.mute && s.heard%wordRate < int64(len(f.PCM)) {
		s.out <- Transcript{} // it hears
	}
	if s.dies > 0 && s.heard >= s.dies {
		select {
		case <-s.broken:
		default:
			close(s.broken)
		}
		return nil
	}
	if full := s.words(wordLength * 9 / 10); len(full) >= s.finals {
		s.tell(full, Transcript{Final: true})
	}
	return nil
}

// words are those heard for at least d and not told yet.
func (s *wordSTT) words(d time.Duration) []int {
	var out []int
	for w, n := range s.counts {
		if n >= media.Samples(d, wordRate) {
			out = append(out, w)
		}
	}
	slices.Sort(out)
	return out
}

func (s *wordSTT) tell(words []int, t Transcript) {
	var text []string
	for _, w := range words {
		text = append(text, fmt.Sprint(w))
		delete(s.counts, w)
	}
	t.Text, t.End = strings.Join(text, " "), media.Duration(s.heard, wordRate)
	t.Start = t.End - time.Duration(len(words))*wordLength
	if !s.mute {
		s.out <- t
	}
}

func (s *wordSTT) Speech(on bool) error {
	if on {
		return nil
	}
	time.AfterFunc(100*time.Millisecond, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		select {
		case <-s.broken:
		default:
			s.tell(s.words(wordLength*6/10), Transcript{Final: true, Flushed: true})
		}
	})
	return nil
}

func (s *wordSTT) Recv() (Transcript, error) {
	select {
	case t := <-s.out:
		return t, nil
	default:
	}
	select {
	case t := <-s.out:
		return t, nil
	case <-s.broken:
		return Transcript{}, fmt.Errorf("read: %w: %w", ErrUnavailable, io.ErrUnexpectedEOF)
	case <-s.ctx.Done():
		return Transcript{}, s.ctx.Err()
	}
}

// A dictation has a caller say words to a recognizer in virtual time.
type dictation struct {
	t       *testing.T
	rec     *recognizer
	streams []*wordSTT
	mu      sync.Mutex
	got     []Transcript
	last    time.Time // when the last words came
	spoke   time.Time // when the caller's last word was over
	gone    time.Time // when none was left
	failed  chan error
}

// dictate has the caller be silent for a second, say words, and be silent.
// prepare shapes the n-th stream, and may refuse it.
func dictate(t *testing.T, vendors []Recognizer, words int, prepare func(n int, s *wordSTT) error, check func(d *dictation)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		d := &dictation{t: t, failed: make(chan error, 1)}
		for i := range vendors {
			vendors[i].Rates = []int{wordRate}
			vendors[i].Dial = func(ctx context.Context, _ Hearing) (STT, error) {
				s := newWordSTT(ctx)
				time.Sleep(150 * time.Millisecond)
				err := prepare(len(d.streams), s)
				d.streams = append(d.streams, s)
				if err != nil {
					return nil, err
				}
				return s, nil
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		d.rec = newRecognizer(vendors, wordRate, func(ev event) {
			d.mu.Lock()
			defer d.mu.Unlock()
			tr := ev.(recognized).Transcript
			if d.got = append(d.got, tr); tr.Text != "" {
				d.last = time.Now()
			}
		}, slog.New(slog.NewTextHandler(t.Output(), nil)))
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := d.rec.run(ctx); err != nil {
				d.gone = time.Now()
				d.failed <- err
			}
		}()
		d.talk(words)
		check(d)
		cancel()
		<-done
		time.Sleep(5 * time.Second) // stale timers of the streams
	})
}

const quietBefore = time.Second

func (d *dictation) talk(words int) {
	frame := make([]int16, wordRate/50)
	length := quietBefore + time.Duration(words)*wordLength
	for at := time.Duration(0); at < length+6*time.Second; at += media.Ptime {
		time.Sleep(media.Ptime)
		for i := range frame {
			frame[i] = 0
			if k := media.Samples(at-quietBefore, wordRate) + int64(i); at >= quietBefore {
				frame[i] = wordAt(k, words)
			}
		}
		if at == quietBefore+7*media.Ptime {
			d.rec.speech(true)
		}
		d.rec.write(media.Frame{Rate: wordRate, PCM: frame})
		if at == length {
			d.spoke = time.Now()
		}
		if at == length+200*time.Millisecond {
			d.rec.speech(false)
		}
	}
}

func (d *dictation) finals() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var text []string
	for _, t := range d.got {
		if t.Final && t.Text != "" {
			text = append(text, t.Text)
		}
	}
	return strings.Join(text, " ")
}

const eightWords = "1 2 3 4 5 6 7 8"

func TestRecognizerKilledInMidWord(t *testing.T) {
	for _, finals := range []int{100, 2, 3} { // words to a final transcript
		for ms := 100; ms < 3500; ms += 340 {
			t.Run(fmt.Sprintf("%d words %d ms", finals, ms), func(t *testing.T) {
				dictate(t, []Recognizer{{Vendor: "a", Interims: true}, {Vendor: "b", Interims: true}}, 8, func(n int, s *wordSTT) error {
					s.finals = finals
					if n == 0 { // it lives from 300 ms before its dial was over
						s.dies = media.Samples(quietBefore+time.Duration(ms)*time.Millisecond+150*time.Millisecond, wordRate)
					}
					return nil
				}, func(d *dictation) {
					if got := d.finals(); got != eightWords {
						t.Errorf("understood %q, want each word once", got)
					}
					d.onTime()
					d.paced(1.25)
				})
			})
		}
	}
}

// onTime checks that every final transcript's times are the session's.
func (d *dictation) onTime() {
	d.t.Helper()
	for _, tr := range d.got {
		words := strings.Fields(tr.Text)
		if !tr.Final || len(words) == 0 {
			continue
		}
		var first int
		fmt.Sscan(words[0], &first)
		end := quietBefore + time.Duration(first-1+len(words))*wordLength
		if tr.End < end-100*time.Millisecond || tr.End > end+400*time.Millisecond {
			d.t.Errorf("%q ends at %v, want about %v", tr.Text, tr.End, end)
		}
	}
}

// paced checks that no stream got more than its pace, nor a gap.
func (d *dictation) paced(limit float64) {
	d.t.Helper()
	for n, s := range d.streams {
		if len(s.writes) == 0 {
			continue
		}
		var got time.Duration
		began := s.writes[0].at
		for _, w := range s.writes {
			got += media.Duration(int64(w.n), wordRate)
			if may := time.Duration(float64(w.at.Sub(began))*limit) + 2*media.Ptime; got > may {
				d.t.Errorf("stream %d got %v in %v", n, got, w.at.Sub(began))
				return
			}
		}
		if n < len(d.streams)-1 {
			continue
		}
		d.rec.mu.Lock()
		if l := d.rec.link; l == nil {
			d.t.Error("no stream is open at the end")
		} else if want := l.next - l.base; s.heard != want || !l.live {
			d.t.Errorf("the last stream heard %d samples of %d, live %v", s.heard, want, l.live)
		}
		d.rec.mu.Unlock()
	}
}

func TestRecognizerReplaysFiveSecondsAtMost(t *testing.T) {
	dictate(t, []Recognizer{{Vendor: "a", Interims: true}, {Vendor: "b", Interims: true}}, 15, func(n int, s *wordSTT) error {
		if n == 0 {
			s.dies = media.Samples(quietBefore+15*wordLength, wordRate)
			s.mute = true
			time.AfterFunc(5*time.Second, func() { s.out <- Transcript{} }) // not deaf
			time.AfterFunc(2500*time.Millisecond, func() { s.out <- Transcript{} })
		}
		return nil
	}, func(d *dictation) {
		words := strings.Fields(d.finals())
		if len(words) < 11 || len(words) > 12 || words[len(words)-1] != "15" {
			t.Errorf("understood %q, want the words of the last 5 s", words)
		}
		d.paced(1.25)
	})
}

func TestDeafRecognizer(t *testing.T) {
	for _, tt := range []struct {
		name     string
		words    int
		interims bool
		within   time.Duration // of the end of speech, until the words are known
	}{
		{"one word", 1, true, 2700 * time.Millisecond},
		{"short", 3, true, 3300 * time.Millisecond},
		{"while the caller still speaks", 12, true, 3300 * time.Millisecond},
		{"without interims", 2, false, 4 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dictate(t, []Recognizer{{Vendor: "a", Interims: tt.interims}, {Vendor: "b", Interims: tt.interims}}, tt.words, func(n int, s *wordSTT) error {
				s.mute = n == 0
				return nil
			}, func(d *dictation) {
				if got, want := d.finals(), strings.Join(strings.Fields("1 2 3 4 5 6 7 8 9 10 11 12")[:tt.words], " "); got != want {
					t.Errorf("understood %q, want %q", got, want)
				}
				if late := d.last.Sub(d.spoke); late > tt.within {
					t.Errorf("understood %v after the end of speech, want %v", late, tt.within)
				}
			})
		})
	}
}

// A caller whom nobody hears is told so before four seconds of silence are over.
func TestDeafRecognizersAreGivenUpInTime(t *testing.T) {
	for _, vendors := range []int{1, 2} {
		for _, words := range []int{1, 3, 8} {
			t.Run(fmt.Sprintf("%d vendors, %d words", vendors, words), func(t *testing.T) {
				list := []Recognizer{{Vendor: "a", Interims: true}, {Vendor: "b", Interims: true}}[:vendors]
				dictate(t, list, words, func(n int, s *wordSTT) error { s.mute = true; return nil }, func(d *dictation) {
					select {
					case <-d.failed:
						if late := d.gone.Sub(d.spoke); late > 3900*time.Millisecond {
							t.Errorf("given up %v after the end of speech", late)
						}
					default:
						t.Error("not given up")
					}
				})
			})
		}
	}
}

func TestRecognizersThatAreGone(t *testing.T) {
	for _, tt := range []struct {
		name  string
		err   error
		dials int
	}{
		{"refused keys are not tried again", ErrCredentials, 2},
		{"others are, while a caller waits", ErrUnavailable, 7},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dictate(t, []Recognizer{{Vendor: "a"}, {Vendor: "b"}}, 1, func(int, *wordSTT) error { return tt.err }, func(d *dictation) {
				select {
				case err := <-d.failed:
					if !strings.Contains(err.Error(), "no vendor of stt is left") {
						t.Errorf("failed by %v", err)
					}
				default:
					t.Error("the session does not know that it is deaf")
				}
				if len(d.streams) != tt.dials {
					t.Errorf("%d dials, want %d", len(d.streams), tt.dials)
				}
			})
		})
	}
}

func TestRecognizerFramesAllocateNothing(t *testing.T) {
	r := newRecognizer([]Recognizer{{Vendor: "a"}}, wordRate, func(event) {}, slog.New(slog.DiscardHandler))
	frame := media.Frame{Rate: wordRate, PCM: make([]int16, wordRate/50)}
	r.speech(true)
	for range 600 { // grown to its longest
		r.write(frame)
	}
	if n := testing.AllocsPerRun(1000, func() { r.write(frame) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	if most := int(media.Samples(replayLimit+2*preRoll, wordRate)); r.memory.n > most {
		t.Errorf("%d samples are held, want at most %d", r.memory.n, most)
	}
}
