package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"time"

	"parley/media"
)

// A Recognizer is a vendor of speech-to-text, ready to be dialed.
type Recognizer struct {
	Vendor   string
	Rates    []int // sample rates it takes, best first
	Interims bool  // it gives interim transcripts
	// EndsTurns says that its Transcript.EOU goes by what is said and how, not
	// by silence alone: it counts more than what the text sounds like.
	EndsTurns bool
	// Lag learns how late its final transcripts come, over calls. Nil: each
	// session learns by itself.
	Lag *Lag
	// Pace is how many times faster than life it takes what the vendor before it
	// has left unfinished. Default 1.25, which is Deepgram's limit.
	Pace    float64
	Breaker *Breaker // nil: it is always asked
	Dial    func(context.Context, Hearing) (STT, error)
}

// rateFor chooses the leg's own rate if the vendor takes it, so that nothing is
// resampled, else the vendor's best.
func (r Recognizer) rateFor(leg int) int {
	if slices.Contains(r.Rates, leg) || len(r.Rates) == 0 {
		return leg
	}
	return r.Rates[0]
}

// recognizer keeps a recognition stream open over a session. When one fails, or
// is deaf, the next vendor gets what the caller's unfinished utterance has had so
// far, and then what is said.
type recognizer struct {
	vendors []Recognizer
	roster  *roster
	rate    int // of the frames written
	post    func(event)
	lost    time.Time // since when nobody has answered; zero: somebody does

	mu      sync.Mutex
	memory  memory
	link    *link // nil while no stream is open
	serving int   // index of the vendor of the stream, or of the last one
	voiced  int64 // samples of speech since the vendor was last heard of
	onset   int64 // of the stretch that goes on
	expect  Expectation
	hearing Hearing // what to listen for; Rate is each vendor's own
	fresh   bool    // what was said before is nothing to the next stream
	meter   *meter
}

// errRetuned ends a stream that listens for something else than what is to be
// heard from now on. It is nobody's fault.
var errRetuned = errors.New("the recognizer listens for another language or with another model")

// retune has the caller listened to in another way: the stream is opened anew,
// and hears what the caller has begun to say.
func (r *recognizer) retune(h Hearing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h == r.hearing {
		return
	}
	r.hearing, r.fresh = h, true
	if r.link != nil {
		r.link.cancel(errRetuned)
	}
}

// listening is what to listen for now.
func (r *recognizer) listening() Hearing {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hearing
}

const (
	// A vendor has dialTimeout to take a call, less if another could.
	dialTimeout  = 2 * time.Second
	dialPatience = 1500 * time.Millisecond
	// sttRounds is how often each vendor is dialed before it is given up, and
	// sttPatience how long the session is deaf at the most.
	sttRounds   = 4
	sttPatience = 3 * time.Second
	// sttService is how long a stream must have served for its end to be news,
	// and not one more failure of the same kind.
	sttService = 10 * time.Second
)

func newRecognizer(vendors []Recognizer, rate int, post func(event), log *slog.Logger) *recognizer {
	r := &recognizer{vendors: vendors, rate: rate, post: post, memory: memory{rate: rate, held: -1},
		roster: &roster{kind: "stt", log: log}}
	for _, v := range vendors {
		r.roster.list = append(r.roster.list, standing{vendor: v.Vendor, breaker: v.Breaker})
	}
	return r
}

// run keeps a stream open until ctx ends. It returns an error when no vendor is
// left.
func (r *recognizer) run(ctx context.Context) error {
	try, deafs := r.attempt(), 0
	for {
		late := !r.lost.IsZero() && time.Since(r.lost) > sttPatience
		if (late || deafs > 1) && slices.Min(try.tries) > 0 {
			return try.err()
		}
		i, pause, ok := try.next(time.Now())
		if !ok {
			return try.err()
		}
		if after(ctx, pause) != nil {
			return nil
		}
		service, err := r.serve(ctx, i, try)
		if ctx.Err() != nil {
			try.dropped(i)
			return nil
		}
		if errors.Is(err, errRetuned) {
			try.dropped(i)
			try = r.attempt()
			continue
		}
		now, deaf := time.Now(), errors.Is(err, errDeaf)
		if r.lost.IsZero() {
			deafs = 0
		}
		if deaf {
			deafs++ // a caller has spoken to it in vain; another such is the last
		}
		switch {
		case service > sttService && !deaf:
			try, r.lost = r.attempt(), now
			try.tries[i]++ // others first
		case r.lost.IsZero() && deaf:
			r.lost = now.Add(-deafPaused)
		case r.lost.IsZero():
			r.lost = now
		}
		try.failed(i, err, now)
	}
}

// attempt begins one whose end sttPatience tells.
func (r *recognizer) attempt() *attempt {
	a := r.roster.attempt(sttRounds)
	a.until = time.Now().Add(1 << 62)
	return a
}

// serve dials a vendor and passes on what it recognizes until it fails. service
// is how long its stream was open.
func (r *recognizer) serve(ctx context.Context, i int, try *attempt) (service time.Duration, err error) {
	v := r.vendors[i]
	limit := dialTimeout
	if try.others(i) {
		limit = dialPatience
	}
	rate, hearing := v.rateFor(r.rate), r.listening()
	hearing.Rate = rate
	// The stream lives within ctx; only the dial has a limit of its own.
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(limit, func() { cancel(nil) })
	stream, err := v.Dial(ctx, hearing)
	inTime := late.Stop()
	l := &link{stream: stream, vendor: v, cancel: cancel, hurry: !r.lost.IsZero(), outRate: rate}
	if stream != nil {
		defer func() {
			_ = stream.Close()
			r.spend(l)
			if d, ok := stream.(interface{ Dropped() int64 }); ok {
				audioDropped.WithLabelValues(v.Vendor).Add(media.Duration(d.Dropped(), rate).Seconds())
			}
		}()
	}
	defer cancel(nil) // before Close, which would wait for last words
	if !inTime {
		return 0, fmt.Errorf("%w: no connection in %v", ErrUnavailable, limit)
	}
	if err != nil {
		return 0, err
	}
	if err := r.attach(l, i, hearing); err != nil {
		return 0, err
	}
	var feeding sync.WaitGroup
	feeding.Go(func() { r.catchUp(ctx, l) })
	defer feeding.Wait()
	defer cancel(nil)
	defer r.detach(l)
	began := time.Now()
	err = r.receive(ctx, l, func() { r.roster.first, r.lost = i, time.Time{}; try.served(i) })
	return time.Since(began), err
}

// receive passes on transcripts. served is called at the vendor's first sign of
// life.
func (r *recognizer) receive(ctx context.Context, l *link, served func()) error {
	heard := false
	for {
		t, err := l.stream.Recv()
		switch {
		case err != nil && (errors.Is(context.Cause(ctx), ErrUnavailable) || errors.Is(context.Cause(ctx), errRetuned)):
			return context.Cause(ctx) // it was found deaf, or is not wanted any more
		case errors.Is(err, io.EOF):
			return fmt.Errorf("%w: stream ended", ErrUnavailable)
		case err != nil:
			return err
		}
		if !heard && !t.Late {
			heard = true
			served()
		}
		if t, ok := r.heard(l, t); ok {
			r.post(recognized{Transcript: t, at: time.Now(), from: &l.vendor})
		}
	}
}

// heard takes a vendor's message: it puts the times on the session's clock, and
// is false for a mere sign of life.
func (r *recognizer) heard(l *link, t Transcript) (Transcript, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	base := media.Duration(l.base, r.rate)
	t.Start, t.End = t.Start+base, t.End+base
	if !t.Late {
		l.life, r.voiced, r.onset = time.Now(), 0, r.memory.now()
		if t.Flushed {
			r.memory.flushed(l.asked)
			l.paused = time.Time{}
		}
		if t.Final && t.Text != "" {
			r.memory.finish(media.Samples(t.End, r.rate))
		}
		r.watch(l)
	}
	return t, t.Text != "" || t.Final || t.EOU || t.Flushed
}

// attach has the stream begin where the unfinished utterance does.
func (r *recognizer) attach(l *link, vendor int, hearing Hearing) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	rate := hearing.Rate
	if hearing.Rate = 0; hearing != r.hearing {
		return errRetuned // while it was dialed
	}
	l.outRate, r.serving = rate, vendor
	if rate != r.rate {
		var err error
		if l.toRate, err = media.NewResampler(r.rate, rate); err != nil {
			return fmt.Errorf("recognizer at %d Hz: %w", rate, err)
		}
	}
	if l.base = r.memory.wanted(); r.fresh && !r.memory.open {
		l.base = r.memory.now()
	}
	r.fresh = false
	l.next, r.memory.held = l.base, l.base
	l.scratch = make([]int16, media.Samples(catchUpMax, r.rate))
	l.stream.Expect(r.expect)
	var talked bool
	talked, l.mark = r.memory.talkedAt(l.base)
	r.link = l
	if talked {
		return r.tell(l, true, l.base)
	}
	return nil
}

func (r *recognizer) detach(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.deaf != nil {
		l.deaf.Stop()
	}
	r.link, r.memory.held = nil, -1
}

// write takes a frame. It never waits for a vendor.
func (r *recognizer) write(f media.Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.link
	live := l != nil && l.live
	r.memory.add(f.PCM)
	if live {
		l.feed(r.rate, f.PCM)
	}
}

// speech tells the vendor where speech begins and pauses.
func (r *recognizer) speech(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if on {
		r.onset = r.memory.now() - media.Samples(7*media.Ptime, r.rate)
	} else {
		r.voiced += r.memory.now() - r.onset
	}
	r.memory.speech(on)
	if l := r.link; l != nil && l.live {
		_ = r.tell(l, on, r.memory.now())
	}
}

// tell gives a mark to the stream. A stream that fails says so by Recv.
func (r *recognizer) tell(l *link, on bool, at int64) error {
	if on {
		l.began, l.paused = time.Now(), time.Time{}
	} else {
		l.began, l.paused, l.asked = time.Time{}, time.Now(), at
	}
	r.watch(l)
	return l.stream.Speech(on)
}

// settle tells that the conversation goes on without the words that are still
// due: a vendor that takes over now does not hear them again.
func (r *recognizer) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.memory.flushed(r.memory.now())
}

// interims reports whether the vendor that serves now, or will first, gives
// interim transcripts.
func (r *recognizer) interims() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.serving < len(r.vendors) && r.vendors[r.serving].Interims
}

// spend counts what the stream was given since it was last asked.
func (r *recognizer) spend(l *link) {
	s, ok := l.stream.(interface{ Sent() (string, int64) })
	if !ok {
		return
	}
	model, samples := s.Sent()
	l.sentMu.Lock()
	defer l.sentMu.Unlock()
	r.meter.addHeard(l.vendor.Vendor, model, samples-l.sent, l.outRate)
	l.sent = samples
}

// spent counts what the open stream was given so far.
func (r *recognizer) spent() {
	r.mu.Lock()
	l := r.link
	r.mu.Unlock()
	if l != nil {
		r.spend(l)
	}
}

// expects tells the vendor what the waiting question takes.
func (r *recognizer) expects(e Expectation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expect = e
	if r.link != nil {
		r.link.stream.Expect(e)
	}
}
