// Package media carries audio between a leg and an agent: frames, codecs,
// resampling, jitter, play-out, voice activity, digits and recordings.
//
// Audio moves one way, by calls: each stage holds the next and writes into it.
// Only [Player.Run] keeps a goroutine, and its caller waits for it.
package media

import (
	"errors"
	"time"
)

// Ptime is the duration of one frame, the default packetization time for
// audio (RFC 3551 §4.2).
const Ptime = 20 * time.Millisecond

// A Frame is [Ptime] of mono 16-bit PCM, oldest sample first.
type Frame struct {
	Rate int     // samples per second: 8000, 16000, 24000 or 48000
	PCM  []int16 // Rate/50 samples

	// Skipped is for how much time before it a leg has no frames, because its
	// reader came too late for them. It is 0 elsewhere.
	Skipped time.Duration
}

// A Writer accepts audio.
//
// WriteFrame may block for at most one Ptime. It must not keep f.PCM after it
// returns: the caller reuses the array. It returns [ErrRate] if f.Rate is not
// the rate the Writer was built for, and [ErrClosed] after the leg is gone.
type Writer interface {
	WriteFrame(f Frame) error
}

// Errors of audio stages.
var (
	ErrRate   = errors.New("media: wrong sample rate")
	ErrClosed = errors.New("media: leg is closed")
)

// Samples returns how many samples last d at rate.
func Samples(d time.Duration, rate int) int64 {
	return int64(d) * int64(rate) / int64(time.Second)
}

// Duration returns how long n samples last at rate.
func Duration(n int64, rate int) time.Duration {
	return time.Duration(n * int64(time.Second) / int64(rate))
}
