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
	Lag  *Lag
	Dial func(ctx context.Context, rate int) (STT, error)
}

// rateFor chooses the leg's own rate if the vendor takes it, so that nothing is
// resampled, else the vendor's best.
func (r Recognizer) rateFor(leg int) int {
	if slices.Contains(r.Rates, leg) || len(r.Rates) == 0 {
		return leg
	}
	return r.Rates[0]
}

// recognizer keeps a recognition stream open over a session: it dials, holds
// frames meanwhile, and goes to the next vendor when one fails.
type recognizer struct {
	vendors []Recognizer
	rate    int // of the frames written
	post    func(event)
	log     *slog.Logger

	mu      sync.Mutex
	stream  STT
	serving string           // the vendor of the stream, or of the last one; "" before the first
	toRate  *media.Resampler // nil where the rates agree
	out     []int16
	outRate int
	backlog []int16 // written while no stream was open, at most backlogLimit
	dropped uint64
	talking bool
	expect  Expectation
	closed  bool
}

const (
	backlogLimit = 2 * time.Second
	dialTimeout  = 3 * time.Second
	// sttRetries is how often the list of vendors is gone through again: a
	// socket that dies after minutes of service is dialed once more.
	sttRetries = 2
)

// run keeps a stream open until ctx ends. It returns an error when no vendor is
// left.
func (r *recognizer) run(ctx context.Context) error {
	var errs []error
	for round := 0; round < sttRetries; round++ {
		for _, v := range r.vendors {
			began := time.Now()
			err := r.serve(ctx, v)
			if ctx.Err() != nil {
				return nil
			}
			providerFailures.WithLabelValues("stt", v.Vendor, failureWord(err)).Inc()
			r.log.Warn("recognizer failed", "vendor", v.Vendor, "err", err)
			errs = append(errs, fmt.Errorf("%s: %w", v.Vendor, err))
			if time.Since(began) > time.Minute {
				round = 0 // it served well: this is a new failure
			}
		}
	}
	return fmt.Errorf("no recognizer is left: %w", errors.Join(errs...))
}

// serve dials a vendor and passes on what it recognizes until it fails.
func (r *recognizer) serve(ctx context.Context, v Recognizer) error {
	rate := v.rateFor(r.rate)
	// The stream lives within ctx; only the dial has a limit of its own.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	limit := time.AfterFunc(dialTimeout, cancel)
	stream, err := v.Dial(ctx, rate)
	if !limit.Stop() {
		if err == nil {
			_ = stream.Close()
		}
		err = fmt.Errorf("%w: no connection in %v", ErrUnavailable, dialTimeout)
	}
	if err != nil {
		return err
	}
	defer func() {
		_ = stream.Close()
		if d, ok := stream.(interface{ Dropped() int64 }); ok {
			audioDropped.WithLabelValues(v.Vendor).Add(media.Duration(d.Dropped(), rate).Seconds())
		}
	}()
	if err := r.attach(stream, v.Vendor, rate); err != nil {
		return err
	}
	defer r.detach()
	for {
		t, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: stream ended", ErrUnavailable)
		}
		if err != nil {
			return err
		}
		r.post(recognized{Transcript: t, at: time.Now(), from: &v})
	}
}

// attach gives the stream what was heard while there was none.
func (r *recognizer) attach(stream STT, vendor string, rate int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return io.EOF
	}
	r.toRate, r.outRate, r.serving = nil, rate, vendor
	if rate != r.rate {
		var err error
		if r.toRate, err = media.NewResampler(r.rate, rate); err != nil {
			return fmt.Errorf("recognizer at %d Hz: %w", rate, err)
		}
	}
	stream.Expect(r.expect)
	if r.talking {
		if err := stream.Speech(true); err != nil {
			return err
		}
	}
	frame := int(media.Samples(media.Ptime, r.rate))
	r.stream = stream
	for i := 0; i+frame <= len(r.backlog); i += frame {
		r.feed(media.Frame{Rate: r.rate, PCM: r.backlog[i : i+frame]})
	}
	r.backlog = nil
	return nil
}

func (r *recognizer) detach() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stream = nil
}

// write takes a frame. It never waits for a vendor.
func (r *recognizer) write(f media.Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stream != nil {
		r.feed(f)
		return
	}
	r.backlog = append(r.backlog, f.PCM...)
	if over := len(r.backlog) - int(media.Samples(backlogLimit, r.rate)); over > 0 {
		r.backlog = append(r.backlog[:0], r.backlog[over:]...)
		r.dropped++
	}
}

// feed writes to the open stream. A stream that fails says so by Recv.
func (r *recognizer) feed(f media.Frame) {
	if r.toRate != nil {
		r.out = r.toRate.Process(r.out[:0], f.PCM)
		f = media.Frame{Rate: r.outRate, PCM: r.out}
	}
	_ = r.stream.WriteFrame(f)
}

// speech tells the vendor where speech begins and pauses.
func (r *recognizer) speech(on bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.talking = on
	if r.stream != nil {
		_ = r.stream.Speech(on)
	}
}

// interims reports whether the vendor that serves now, or will first, gives
// interim transcripts.
func (r *recognizer) interims() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, v := range r.vendors {
		if r.serving == "" || v.Vendor == r.serving {
			return v.Interims
		}
	}
	return false
}

// expects tells the vendor what the waiting question takes.
func (r *recognizer) expects(e Expectation) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expect = e
	if r.stream != nil {
		r.stream.Expect(e)
	}
}

// failureWord names an error for a metric.
func failureWord(err error) string {
	switch {
	case errors.Is(err, ErrBusy):
		return "busy"
	case errors.Is(err, ErrCredentials):
		return "credentials"
	case errors.Is(err, ErrProtocol):
		return "protocol"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrUnavailable):
		return "unavailable"
	}
	return "other"
}
