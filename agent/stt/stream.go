package stt

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"parley/agent"
	"parley/media"
)

// drainLimit bounds how long Close waits for a vendor's last words: the whole
// of a session's teardown fits in 2 s.
const drainLimit = 1500 * time.Millisecond

// A stream is what every vendor's stream has: the ring on the way in, the
// transcripts on the way out, and one goroutine between them.
type stream struct {
	ring  *ring
	ctx   context.Context // the stream's own: ends with the dialer's, or with Close
	dial  context.Context // the dialer's
	stop  context.CancelFunc
	done  chan struct{} // closed when the goroutine has ended
	ready chan struct{} // holds one token when Recv has something
	model string        // the vendor's name of it; set before start
	sent  atomic.Int64  // samples that went to the vendor

	mu  sync.Mutex
	out []agent.Transcript
	err error
}

func newStream(ctx context.Context, rate int) *stream {
	own, stop := context.WithCancel(ctx)
	return &stream{
		ring: newRing(rate), ctx: own, dial: ctx, stop: stop,
		done: make(chan struct{}), ready: make(chan struct{}, 1),
	}
}

// start runs f in the stream's goroutine. f returns nil once it has drained a
// closed ring, and in any case soon after its context has ended.
func (s *stream) start(f func(context.Context) error) {
	go func() {
		defer close(s.done)
		defer s.stop()
		err := f(s.ctx)
		s.ring.close()
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case s.dial.Err() != nil:
			s.err = s.dial.Err()
		case err == nil || errors.Is(err, context.Canceled):
			s.err = io.EOF
		default:
			s.err = err
		}
	}()
}

// WriteFrame implements [agent.STT].
func (s *stream) WriteFrame(f media.Frame) error { return s.ring.write(f) }

// Dropped returns how many samples were given up because the vendor did not
// take them in time. The session counts them when the stream has ended.
func (s *stream) Dropped() int64 { return s.ring.lost() }

// Sent returns how many samples the vendor was given, which is what it bills,
// and to which of its models. It counts up until the stream has ended.
func (s *stream) Sent() (model string, samples int64) { return s.model, s.sent.Load() }

// Speech implements [agent.STT].
func (s *stream) Speech(on bool) error { return s.ring.put(event{speech: on}) }

// Expect implements [agent.STT].
func (s *stream) Expect(e agent.Expectation) { _ = s.ring.put(event{expect: &e}) }

// Recv implements [agent.STT].
func (s *stream) Recv() (agent.Transcript, error) {
	for {
		if t, ok := s.pop(); ok {
			return t, nil
		}
		select {
		case <-s.ready:
		case <-s.done:
			if t, ok := s.pop(); ok { // came just before the end
				return t, nil
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			return agent.Transcript{}, s.err
		}
	}
}

func (s *stream) pop() (agent.Transcript, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.out) == 0 {
		return agent.Transcript{}, false
	}
	t := s.out[0]
	s.out = s.out[1:]
	return t, true
}

// emit hands t to Recv. It never waits: a vendor gives a few a second.
func (s *stream) emit(t agent.Transcript) {
	s.mu.Lock()
	s.out = append(s.out, t)
	s.mu.Unlock()
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// Close implements [agent.STT]. It returns when the stream's goroutine has
// ended, within [drainLimit] and a little.
func (s *stream) Close() error {
	s.ring.close()
	limit := time.NewTimer(drainLimit)
	defer limit.Stop()
	select {
	case <-s.done:
	case <-limit.C:
		s.stop()
		<-s.done
	}
	return nil
}

// wait blocks until the ring may have something, or ctx has ended.
func (s *stream) wait(ctx context.Context) error {
	select {
	case <-s.ring.wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// appendPCM appends samples as little-endian 16-bit PCM.
func appendPCM(dst []byte, pcm []int16) []byte {
	for _, v := range pcm {
		dst = append(dst, byte(v), byte(v>>8))
	}
	return dst
}
