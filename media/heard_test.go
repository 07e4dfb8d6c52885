package media

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A wire is a leg in virtual time over a network that delays, jitters and
// stalls, each way in order. Its far end plays what arrives like a carrier, or
// frame by frame like a browser, and knows what was heard and when.
type wire struct {
	info     LegInfo
	down, up hop
	player   *Player
	reports  time.Duration // how often the page tells what it plays; 0: never
	rtcp     time.Duration // how often a round trip is measured; 0: never
	hold     time.Duration // a browser's jitter buffer
	known    bool          // something was said before, which measured the line

	mu      sync.Mutex
	written int64
	played  []playedRun // of stream positions, in order of time
	free    time.Time   // when all that has arrived will have been played
	marks   []wireMark  // not returned yet
	gone    bool
}

// A hop is one direction of the network.
type hop struct {
	delay, jitter time.Duration
	rnd           *rand.Rand
	last          time.Time // messages keep their order
	until         time.Time // it stalls until then
}

// deliver runs f when a message sent now arrives.
func (h *hop) deliver(f func()) {
	at := time.Now().Add(h.delay)
	if h.jitter > 0 {
		at = at.Add(time.Duration(h.rnd.Int64N(int64(h.jitter))))
	}
	if at.Before(h.until) {
		at = h.until
	}
	if !at.After(h.last) {
		at = h.last.Add(time.Nanosecond) // timers of one instant have no order
	}
	h.last = at
	time.AfterFunc(time.Until(at), f)
}

type playedRun struct {
	at  time.Time
	pos int64
	n   int64
}

type wireMark struct {
	id   uint64
	at   time.Time // when it is reached
	back bool
}

func (w *wire) Info() LegInfo             { return w.info }
func (w *wire) ReadFrame() (Frame, error) { select {} }
func (w *wire) Events() <-chan LegEvent   { return nil }
func (w *wire) Notify([]byte)             {}
func (w *wire) Close(string) error        { return nil }

func (w *wire) Write(audio []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := int64(len(audio) / w.info.Encoding.BytesPerSample())
	pos := w.written
	w.written += n
	w.down.deliver(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		now := time.Now()
		if w.free.Before(now) {
			w.free = now.Add(w.hold)
		}
		w.played = append(w.played, playedRun{w.free, pos, n})
		w.free = w.free.Add(Duration(n, w.info.Rate))
	})
	return nil
}

func (w *wire) Mark(id uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down.deliver(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		at := w.free
		if at.Before(time.Now()) {
			at = time.Now()
		}
		w.marks = append(w.marks, wireMark{id: id, at: at})
		time.AfterFunc(time.Until(at), func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.returnMarks(time.Now())
		})
	})
	return nil
}

// returnMarks sends back the marks that are due by now.
func (w *wire) returnMarks(now time.Time) {
	for i := range w.marks {
		if m := &w.marks[i]; !m.back && !m.at.After(now) {
			m.back = true
			ev := LegEvent{Kind: Marked, Mark: m.id}
			w.up.deliver(func() { ev.At = time.Now(); w.observe(ev) })
		}
	}
	w.marks = slices.DeleteFunc(w.marks, func(m wireMark) bool { return m.back })
}

func (w *wire) observe(ev LegEvent) {
	w.mu.Lock()
	gone := w.gone
	w.mu.Unlock()
	if !gone {
		w.player.Observe(ev)
	}
}

// Flush drops what is not heard when the message arrives; a browser keeps
// nothing that could be dropped.
func (w *wire) Flush() error {
	if w.info.Lead == 0 {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.down.deliver(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		now := time.Now()
		for i := range w.played {
			r := &w.played[i]
			r.n = min(r.n, max(0, Samples(now.Sub(r.at), w.info.Rate)))
		}
		w.free = now
		w.returnMarks(now.Add(time.Hour))
	})
	return nil
}

// truth is the stream position that the party has heard up to now.
func (w *wire) truth() (pos int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range w.played {
		if n := Samples(time.Since(r.at), w.info.Rate); n > 0 && r.n > 0 {
			pos = max(pos, r.pos+min(n, r.n))
		}
	}
	return pos
}

// report has the page and RTCP tell what they know, as often as they do.
func (w *wire) report(ctx context.Context) {
	const tick = 20 * time.Millisecond
	for n := time.Duration(1); ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-time.After(tick):
		}
		if w.reports > 0 && n*tick%w.reports == 0 {
			frame := Samples(Ptime, w.info.Rate)
			pos := w.truth() / frame * frame // the packet that is played
			w.mu.Lock()
			w.up.deliver(func() {
				w.observe(LegEvent{Kind: Played, Position: pos, Delay: w.half(), At: time.Now()})
			})
			w.mu.Unlock()
		}
		if w.rtcp > 0 && n*tick%w.rtcp == 0 {
			w.observe(LegEvent{Kind: Delayed, Delay: w.half() + w.hold, At: time.Now()})
		}
	}
}

// half is what a measured round trip makes the one-way time to be.
func (w *wire) half() time.Duration {
	if w.rtcp == 0 {
		return 0
	}
	return (w.down.delay + w.up.delay + (w.down.jitter+w.up.jitter)/2) / 2
}

// A trial is one interruption, as the player counted it and as it was. Errors
// are of what was counted over what was heard.
type trial struct {
	running time.Duration // just before the interruption
	paused  time.Duration // what Pause said
	settled time.Duration // what is known at the verdict
}

// interruptAt has the player speak for 6 s, interrupts it at a time from the
// first write, and measures.
func interruptAt(t *testing.T, w *wire, at time.Duration, stall func(*wire)) (got trial) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := NewPlayer(w)
		w.player = p
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = p.Run(ctx) })
		wg.Go(func() { w.report(ctx) })
		time.Sleep(time.Second)
		for range 2 {
			if !w.known {
				break
			}
			if _, _, err := p.Append(t.Context(), speech(300*time.Millisecond, w.info.Rate)); err != nil {
				t.Error(err)
			}
			p.Seal()
			time.Sleep(2 * time.Second)
		}
		from, _, err := p.Append(t.Context(), speech(6*time.Second, w.info.Rate))
		if err != nil {
			t.Error(err)
		}
		p.Seal()
		if stall != nil {
			stall(w)
		}
		time.Sleep(at)
		over := func(counted, heard int64) time.Duration { return Duration(counted-heard, w.info.Rate) }
		got.running = over(max(p.Heard(), from), max(w.truth(), from)) // offsets are stream positions until the first drop
		paused := p.Pause()
		time.Sleep(verdictAfter)
		settled := p.Heard()
		time.Sleep(5 * time.Second) // whatever is under way arrives
		heard := max(w.truth(), from)
		got.paused, got.settled = over(paused, heard), over(settled, heard)
		cancel()
		wg.Wait()
		w.mu.Lock()
		w.gone = true
		w.mu.Unlock()
		time.Sleep(20 * time.Second) // virtual: let stale timers run out
	})
	return got
}

// verdictAfter is when an interruption's verdict comes at the soonest: a first
// interim transcript after the pause.
const verdictAfter = 400 * time.Millisecond

// spread sorts errors and tells their quantiles.
type spread []time.Duration

// q returns the quantile of the errors' sizes.
func (s spread) q(p float64) time.Duration {
	sizes := make([]time.Duration, len(s))
	for i, d := range s {
		sizes[i] = d.Abs()
	}
	slices.Sort(sizes)
	return sizes[min(len(sizes)-1, int(p*float64(len(sizes))))].Round(time.Millisecond)
}

func (s spread) String() string {
	return fmt.Sprintf("p50 %v p99 %v over %v under %v", s.q(.5), s.q(.99), max(0, slices.Max(s)).Round(time.Millisecond), -min(0, slices.Min(s)).Round(time.Millisecond))
}

// lines are what the heard position is measured on.
func lines(seed uint64) map[string]func(down, up, jitter time.Duration) *wire {
	hops := func(w *wire, down, up, jitter time.Duration) *wire {
		w.down = hop{delay: down, jitter: jitter, rnd: rand.New(rand.NewPCG(seed, 1))}
		w.up = hop{delay: up, jitter: jitter, rnd: rand.New(rand.NewPCG(seed, 2))}
		return w
	}
	phone := LegInfo{Rate: 8000, Encoding: PCMU, Lead: 300 * time.Millisecond, Marks: true}
	browser := LegInfo{Rate: 16000, Encoding: L16}
	return map[string]func(down, up, jitter time.Duration) *wire{
		"phone": func(down, up, jitter time.Duration) *wire { return hops(&wire{info: phone}, down, up, jitter) },
		"page": func(down, up, jitter time.Duration) *wire {
			return hops(&wire{info: browser, hold: 60 * time.Millisecond, reports: 200 * time.Millisecond, rtcp: time.Second}, down, up, jitter)
		},
		"rtcp": func(down, up, jitter time.Duration) *wire {
			return hops(&wire{info: browser, hold: 60 * time.Millisecond, rtcp: time.Second}, down, up, jitter)
		},
	}
}

// trials interrupts a reply at 20 points, on lines of 20 to 150 ms each way
// with 30 ms of jitter, even and uneven, known and fresh.
func trials(t *testing.T, name string, stall func(*wire, *rand.Rand)) (running, paused, settled spread) {
	delays := []time.Duration{20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 150 * time.Millisecond}
	const seeds = 3
	for i := range 20 {
		at := 100*time.Millisecond + time.Duration(i)*277*time.Millisecond
		for d := range delays {
			for seed := range uint64(seeds) {
				up := delays[d]
				if seed == 1 {
					up = delays[len(delays)-1-d]
				}
				w := lines(uint64(i)*100 + seed)[name](delays[d], up, 30*time.Millisecond)
				w.known = seed != 2
				rnd := rand.New(rand.NewPCG(uint64(i), seed))
				tr := interruptAt(t, w, at, func(w *wire) {
					if stall != nil {
						stall(w, rnd)
					}
				})
				running, paused, settled = append(running, tr.running), append(paused, tr.paused), append(settled, tr.settled)
			}
		}
	}
	t.Logf("while speaking %v; at the pause %v; at the verdict %v", running, paused, settled)
	return running, paused, settled
}

func TestHeardPosition(t *testing.T) {
	for name := range lines(0) {
		t.Run(name, func(t *testing.T) {
			running, paused, settled := trials(t, name, nil)
			for when, s := range map[string]spread{"while speaking": running, "at the pause": paused, "at the verdict": settled} {
				if s.q(.5) > 30*time.Millisecond || s.q(.99) > 100*time.Millisecond || slices.Max(s) > 100*time.Millisecond {
					t.Errorf("%s: %v, want p50 30ms, p99 100ms, over 100ms at most", when, s)
				}
			}
		})
	}
}

// A network that stands still for up to 2 s makes the estimate blind; what is
// counted in the end is never more than 200 ms too much.
func TestHeardPositionInStalls(t *testing.T) {
	ways := map[string]func(*wire) []*hop{
		"down": func(w *wire) []*hop { return []*hop{&w.down} },
		"up":   func(w *wire) []*hop { return []*hop{&w.up} },
		"both": func(w *wire) []*hop { return []*hop{&w.down, &w.up} },
	}
	for name, hops := range ways {
		t.Run(name, func(t *testing.T) {
			_, _, settled := trials(t, "phone", func(w *wire, rnd *rand.Rand) {
				begin := time.Duration(rnd.Int64N(int64(5 * time.Second)))
				last := 300*time.Millisecond + time.Duration(rnd.Int64N(int64(1700*time.Millisecond)))
				time.AfterFunc(begin, func() {
					w.mu.Lock()
					defer w.mu.Unlock()
					for _, h := range hops(w) {
						h.until = time.Now().Add(last)
					}
				})
			})
			if most := slices.Max(settled); most > 200*time.Millisecond {
				t.Errorf("counts %v too much in a stall, want 200ms at most", most)
			}
		})
	}
}
