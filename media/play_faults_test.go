package media

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// enqueue appends of speech and seals it.
func enqueue(t *testing.T, p *Player, d time.Duration) (from, to int64) {
	t.Helper()
	from, to, err := p.Append(t.Context(), speech(d, p.info.Rate))
	if err != nil {
		t.Fatal(err)
	}
	p.Seal()
	return from, to
}

// written is how many samples the far end was given since message n.
func (f *farEnd) written(since int) (n int) {
	synctest.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, w := range f.writes[since:] {
		n += w.n
	}
	return n
}

func TestPlayerNeverPlaysWhatWasDropped(t *testing.T) {
	for name, pauseAfter := range map[string]time.Duration{
		"nothing-new-yet":         0,
		"new-speech-is-not-heard": 10 * time.Millisecond,
		"new-speech-is-heard":     300 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			f := phone(40 * time.Millisecond)
			play(t, f, func(t *testing.T, p *Player) {
				enqueue(t, p, 5*time.Second)
				time.Sleep(time.Second)
				p.Drop()
				time.Sleep(30 * time.Millisecond)
				var held int64
				if pauseAfter == 0 {
					held = p.Pause()
					enqueue(t, p, time.Second)
				} else {
					enqueue(t, p, time.Second)
					time.Sleep(pauseAfter)
					held = p.Pause()
				}
				time.Sleep(time.Second)
				synctest.Wait()
				n := len(f.writes)
				p.Resume(held, 300*time.Millisecond)
				time.Sleep(4 * time.Second)
				synctest.Wait()
				if got := f.written(n); got > 8000 {
					t.Errorf("%d samples are played after a drop, of 8000 that are new", got)
				}
			})
		})
	}
}

func TestPlayerTellsSentFromDropped(t *testing.T) {
	f := phone(40 * time.Millisecond)
	play(t, f, func(t *testing.T, p *Player) {
		_, to := enqueue(t, p, 5*time.Second)
		time.Sleep(time.Second)
		sent := p.Sent()
		p.Drop()
		if got := p.Sent(); got != sent || got >= to {
			t.Errorf("sent %d of %d after a drop, want %d as before", got, to, sent)
		}
	})
}

func TestPlayerCountsOnlyTrueGaps(t *testing.T) {
	f := phone(40 * time.Millisecond)
	play(t, f, func(t *testing.T, p *Player) {
		for range 3 { // short replies whose end is known late
			if _, _, err := p.Append(t.Context(), speech(200*time.Millisecond, 8000)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
			p.Seal()
			time.Sleep(time.Second)
		}
		enqueue(t, p, time.Second)
		time.Sleep(500 * time.Millisecond)
		p.Drop()
		time.Sleep(time.Second)
		enqueue(t, p, time.Second)
		time.Sleep(2 * time.Second)
		if got := p.Gaps(); got != 0 {
			t.Errorf("%d gaps, where speech came in time", got)
		}
		for range 2 { // a voice slower than speech
			if _, _, err := p.Append(t.Context(), speech(200*time.Millisecond, 8000)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		p.Seal()
		if got := p.Gaps(); got != 1 {
			t.Errorf("%d gaps, want 1", got)
		}
	})
}

// A far side that keeps its marks must not hold the floor for ever.
func TestPlayerOutlivesLostMarks(t *testing.T) {
	f := phone(40 * time.Millisecond)
	lost := &markless{f}
	synctest.Test(t, func(t *testing.T) {
		p := NewPlayer(lost)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		for range 2 {
			start := time.Now()
			enqueue(t, p, 3*time.Second)
			for p.Playing() {
				time.Sleep(20 * time.Millisecond)
				if d := time.Since(start); d > 6*time.Second {
					t.Fatalf("3 s of speech still plays after %v", d)
				}
			}
			if d := time.Since(start); d < 3*time.Second {
				t.Errorf("3 s of speech were over after %v", d)
			}
		}
		cancel()
		<-done
	})
}

type markless struct{ *farEnd }

func (markless) Mark(uint64) error { return nil }

func TestPlayerTellsWhenSpeechWasSent(t *testing.T) {
	f := phone(40 * time.Millisecond)
	play(t, f, func(t *testing.T, p *Player) {
		start := time.Now()
		from, to := enqueue(t, p, time.Second)
		if at := p.SentAt(to - 1); !at.IsZero() {
			t.Errorf("the end was sent at %v, before it was", at)
		}
		time.Sleep(2 * time.Second)
		if at := p.SentAt(from); !at.Equal(start) {
			t.Errorf("speech was sent %v after it was there", at.Sub(start))
		}
		if at := p.SentAt(to); !at.IsZero() {
			t.Errorf("what does not exist was sent at %v", at)
		}
	})
}

func TestPlayerForgetsWithoutARecorder(t *testing.T) {
	f := phone(0)
	play(t, f, func(t *testing.T, p *Player) {
		frame := make([]int16, 160)
		for i := range 60 {
			enqueue(t, p, time.Second)
			time.Sleep(500 * time.Millisecond)
			if i < 2 {
				p.Recorded(frame) // then the recording stops
			}
			time.Sleep(500 * time.Millisecond)
		}
		if got := len(p.buf); got > 8000*8 {
			t.Errorf("%d bytes are kept of a minute's speech", got)
		}
	})
}
