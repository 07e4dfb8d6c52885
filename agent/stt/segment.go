package stt

import (
	"context"
	"time"

	"parley/agent"
	"parley/media"
)

const (
	preRoll    = 300 * time.Millisecond // audio before Speech(true) that belongs to it
	maxSegment = 30 * time.Second       // a segment that never pauses is cut here
)

// A segmenter takes a stream's audio an utterance at a time. Its methods are
// called by the stream's goroutine. Only what lies between begin and end is
// audio; pcm is good during the call.
type segmenter interface {
	begin(ctx context.Context, start time.Duration) error
	audio(pcm []int16) error
	// end finishes the segment. flushed: a Transcript with Flushed must come.
	end(end time.Duration, flushed bool) error
	// idle answers a pause where no segment is open.
	idle(at time.Duration) error
	expect(ctx context.Context, e agent.Expectation) error
}

// segments cuts the ring's audio at speech events and feeds g, until the ring
// is closed and empty or ctx ends.
func (s *stream) segments(ctx context.Context, g segmenter) error {
	rate := s.ring.rate
	chunk := make([]int16, media.Samples(100*time.Millisecond, rate))
	roll := make([]int16, 0, media.Samples(preRoll, rate))
	var open bool
	var opened, at int64
	for {
		n, e, pos, closed := s.ring.take(chunk)
		at = pos + int64(n)
		pcm := chunk[:n]
		var err error
		switch {
		case closed && open:
			return g.end(media.Duration(at, rate), false)
		case closed:
			return nil
		case e != nil && e.expect != nil:
			err = g.expect(ctx, *e.expect)
		case e != nil && e.speech && !open:
			open, opened = true, at-int64(len(roll))
			err = g.begin(ctx, media.Duration(opened, rate))
			if err == nil {
				err = g.audio(roll)
			}
			roll = roll[:0]
		case e != nil && e.speech: // already open
		case e != nil && open:
			open = false
			err = g.end(media.Duration(at, rate), true)
		case e != nil:
			err = g.idle(media.Duration(at, rate))
		case n == 0:
			err = s.wait(ctx)
		case !open:
			roll = keepLast(roll, pcm)
		default:
			err = g.audio(pcm)
			if err == nil && at-opened >= media.Samples(maxSegment, rate) {
				opened = at
				if err = g.end(media.Duration(at, rate), false); err == nil {
					err = g.begin(ctx, media.Duration(at, rate))
				}
			}
		}
		if err != nil {
			return err
		}
	}
}

// keepLast appends pcm to roll, keeping the last cap(roll) samples.
func keepLast(roll, pcm []int16) []int16 {
	pcm = pcm[max(0, len(pcm)-cap(roll)):]
	if over := len(roll) + len(pcm) - cap(roll); over > 0 {
		roll = roll[:copy(roll, roll[over:])]
	}
	return append(roll, pcm...)
}
