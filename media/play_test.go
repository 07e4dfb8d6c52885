package media

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// farEnd is a leg that plays what it is given like a carrier: after delay, in
// order, in real time, and sends marks back when they are reached.
type farEnd struct {
	info   LegInfo
	delay  time.Duration
	player *Player

	mu     sync.Mutex
	writes []farWrite
	free   time.Time // when all that arrived will have been played
	epoch  int
	clears int
}

type farWrite struct {
	at time.Time
	n  int
}

func (f *farEnd) Info() LegInfo             { return f.info }
func (f *farEnd) ReadFrame() (Frame, error) { select {} }
func (f *farEnd) Events() <-chan LegEvent   { return nil }
func (f *farEnd) Notify([]byte)             {}
func (f *farEnd) Close(string) error        { return nil }

func (f *farEnd) Write(audio []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := len(audio) / f.info.Encoding.BytesPerSample()
	f.writes = append(f.writes, farWrite{time.Now(), n})
	arrive := time.Now().Add(f.delay)
	if f.free.Before(arrive) {
		f.free = arrive
	}
	f.free = f.free.Add(Duration(int64(n), f.info.Rate))
	return nil
}

func (f *farEnd) Mark(id uint64) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	back := time.Now().Add(f.delay)
	if f.free.After(back) {
		back = f.free
	}
	epoch := f.epoch
	time.AfterFunc(time.Until(back)+f.delay, func() {
		f.mu.Lock()
		stale := epoch != f.epoch
		f.mu.Unlock()
		if !stale {
			f.player.Observe(LegEvent{Kind: Marked, Mark: id, At: time.Now()})
		}
	})
	return nil
}

// Flush drops what would be heard after the clear arrives.
func (f *farEnd) Flush() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clears++
	f.epoch++
	f.free = time.Now().Add(f.delay)
	return nil
}

func phone(delay time.Duration) *farEnd {
	return &farEnd{info: LegInfo{Rate: 8000, Encoding: PCMU, Lead: 300 * time.Millisecond, Marks: true}, delay: delay}
}

func browser(delay time.Duration) *farEnd {
	return &farEnd{info: LegInfo{Rate: 16000, Encoding: L16}, delay: delay}
}

// play runs a player for f in virtual time.
func play(t *testing.T, f *farEnd, test func(t *testing.T, p *Player)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := NewPlayer(f)
		f.player = p
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		test(t, p)
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("Run returned %v", err)
		}
		time.Sleep(time.Second) // virtual: let stale mark timers run out
	})
}

func speech(d time.Duration, rate int) []int16 {
	pcm := make([]int16, Samples(d, rate))
	for i := range pcm {
		pcm[i] = int16(i%200 - 100)
	}
	return pcm
}

func TestPlayerKeepsALeadAndNoGap(t *testing.T) {
	f := phone(40 * time.Millisecond)
	play(t, f, func(t *testing.T, p *Player) {
		start := time.Now()
		if _, _, err := p.Append(t.Context(), speech(3*time.Second, 8000)); err != nil {
			t.Fatal(err)
		}
		p.Seal()
		time.Sleep(4 * time.Second)
		synctest.Wait()
		var sent time.Duration
		for i, w := range f.writes {
			ahead := sent - w.at.Sub(start)
			if ahead < 0 || ahead > 300*time.Millisecond {
				t.Errorf("message %d is sent %v ahead of real time", i, ahead)
			}
			if want := 160; i == 0 && w.n != want {
				t.Errorf("first message has %d samples, want %d", w.n, want)
			}
			sent += Duration(int64(w.n), 8000)
		}
		if sent != 3*time.Second {
			t.Errorf("sent %v, want 3s", sent)
		}
		if n := len(f.writes); n > 32 {
			t.Errorf("%d messages for 3 s, want about 30", n)
		}
		if got := p.Heard(); got != 24000 {
			t.Errorf("heard %d samples, want 24000", got)
		}
		if p.Playing() || p.Gaps() != 0 {
			t.Errorf("playing %v, gaps %d", p.Playing(), p.Gaps())
		}
	})
}

func TestPlayerPacesWithoutDrift(t *testing.T) {
	f := browser(30 * time.Millisecond)
	play(t, f, func(t *testing.T, p *Player) {
		start := time.Now()
		for range 360 { // an hour
			if _, _, err := p.Append(t.Context(), speech(10*time.Second, 16000)); err != nil {
				t.Fatal(err)
			}
		}
		p.Seal()
		for p.Playing() {
			time.Sleep(time.Second)
		}
		synctest.Wait()
		last := f.writes[len(f.writes)-1].at.Sub(start)
		if want := time.Hour - Ptime; last != want {
			t.Errorf("last frame of an hour went at %v, want %v", last, want)
		}
		if len(f.writes) != 180000 {
			t.Errorf("%d frames, want 180000", len(f.writes))
		}
	})
}

func TestPlayerKnowsWhatWasHeard(t *testing.T) {
	for _, delay := range []time.Duration{0, 20 * time.Millisecond, 75 * time.Millisecond, 150 * time.Millisecond} {
		for _, at := range []time.Duration{300 * time.Millisecond, 777 * time.Millisecond, 1900 * time.Millisecond} {
			f := phone(delay)
			play(t, f, func(t *testing.T, p *Player) {
				start := time.Now()
				if _, _, err := p.Append(t.Context(), speech(3*time.Second, 8000)); err != nil {
					t.Fatal(err)
				}
				p.Seal()
				time.Sleep(at)
				got := Duration(p.Pause(), 8000)
				// The far end began at start+delay, and the clear arrives after delay.
				want := time.Since(start) - delay + delay
				if d := got - want; d < -100*time.Millisecond || d > 100*time.Millisecond {
					t.Errorf("delay %v, paused at %v: heard %v, want %v", delay, at, got, want)
				}
			})
		}
	}
}

func TestPlayerPauseResumeDrop(t *testing.T) {
	f := phone(20 * time.Millisecond)
	play(t, f, func(t *testing.T, p *Player) {
		if _, _, err := p.Append(t.Context(), speech(2*time.Second, 8000)); err != nil {
			t.Fatal(err)
		}
		p.Seal()
		time.Sleep(500 * time.Millisecond)
		held := p.Pause()
		time.Sleep(time.Second)
		if got := p.Heard(); got < held || got > held+80*8 {
			t.Errorf("heard moved from %d to %d in a pause", held, got)
		}
		synctest.Wait()
		before := len(f.writes)
		p.Resume(held, 50*time.Millisecond)
		time.Sleep(3 * time.Second)
		synctest.Wait()
		var samples int
		for _, w := range f.writes[before:] {
			samples += w.n
		}
		want := 16000 - int(held)
		if samples < want || samples > want+50*8+160 {
			t.Errorf("resumed %d samples, want %d and at most 50 ms more", samples, want)
		}
		if got := p.Heard(); got != 16000 {
			t.Errorf("heard %d in the end, want 16000", got)
		}

		from, _, err := p.Append(t.Context(), speech(2*time.Second, 8000))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(300 * time.Millisecond)
		dropped := p.Drop()
		if dropped < from || dropped > from+8*400 {
			t.Errorf("dropped at %d, which is not within 400 ms of %d", dropped, from)
		}
		synctest.Wait()
		n := len(f.writes)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(f.writes) != n {
			t.Errorf("%d messages of the dropped speech were sent after it", len(f.writes)-n)
		}
		if got := p.Heard(); got < dropped || got > dropped+8*80 {
			t.Errorf("heard %d after the drop, want about %d", got, dropped)
		}
		if f.clears != 2 {
			t.Errorf("%d clears, want 2", f.clears)
		}
	})
}

func TestPlayerRecordsWhatWasHeardWhenItWasHeard(t *testing.T) {
	f := phone(30 * time.Millisecond)
	play(t, f, func(t *testing.T, p *Player) {
		start := time.Now()
		var first, last time.Duration
		var samples int
		stop := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			frame := make([]int16, 160)
			for range 200 {
				select {
				case <-stop:
					return
				case <-time.After(Ptime):
				}
				if p.Recorded(frame) {
					if first == 0 {
						first = time.Since(start)
					}
					last = time.Since(start)
					samples += 160
				}
			}
		}()
		time.Sleep(500 * time.Millisecond)
		if _, _, err := p.Append(t.Context(), speech(time.Second, 8000)); err != nil {
			t.Fatal(err)
		}
		p.Seal()
		time.Sleep(3 * time.Second)
		close(stop)
		<-done
		if first < 500*time.Millisecond || first > 620*time.Millisecond {
			t.Errorf("the recording's speech begins at %v, want 530 ms", first)
		}
		if last < 1500*time.Millisecond || last > 1640*time.Millisecond {
			t.Errorf("the recording's speech ends at %v, want 1530 ms", last)
		}
		if samples < 8000 || samples > 8000+640 {
			t.Errorf("%d samples recorded, want 8000", samples)
		}
	})
}

func TestPlayerBlocksWhenFull(t *testing.T) {
	f := phone(0)
	play(t, f, func(t *testing.T, p *Player) {
		start := time.Now()
		for range 20 {
			if _, _, err := p.Append(t.Context(), speech(time.Second, 8000)); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(start); d < 3500*time.Millisecond || d > 4500*time.Millisecond {
			t.Errorf("20 s of speech were taken in %v, want about 3.7 s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, _, err := p.Append(ctx, speech(time.Second, 8000)); err != context.DeadlineExceeded {
			t.Errorf("a full queue's Append returned %v", err)
		}
		p.Drop()
	})
}

func TestPlayerDoesNotAllocate(t *testing.T) {
	f := &nullLeg{phone(0)}
	p := NewPlayer(f)
	now := time.Now()
	p.now = func() time.Time { return now }
	if _, _, err := p.Append(t.Context(), speech(15*time.Second, 8000)); err != nil {
		t.Fatal(err)
	}
	var m message
	frame := make([]int16, 160)
	p.segs = make([]segment, 0, 1000)
	p.clock.pending = make([]pendingMark, 0, 1000)
	for range 10 {
		now = now.Add(100 * time.Millisecond)
		p.step(&m)
	}
	if n := testing.AllocsPerRun(100, func() {
		now = now.Add(100 * time.Millisecond)
		p.step(&m)
		p.Recorded(frame)
	}); n != 0 {
		t.Errorf("a message allocates %v times, want 0", n)
	}
}

type nullLeg struct{ *farEnd }

func (nullLeg) Write([]byte) error { return nil }
func (nullLeg) Mark(uint64) error  { return nil }
func (nullLeg) Flush() error       { return nil }
