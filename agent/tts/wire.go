package tts

import (
	"errors"
	"time"

	"parley/media"
)

// errStale tells of a socket that was open but no longer answers: another one
// may.
var errStale = errors.New("the kept connection is dead")

// staleAfter is how old a socket is that may have died unnoticed.
const staleAfter = time.Second

// A wire turns a vendor's bytes into samples, wherever its messages split them.
type wire struct {
	mulaw bool
	half  []byte // of a sample that a message split
	pcm   []int16
}

// samples decodes audio; they are valid until the next call.
func (w *wire) samples(b []byte) []int16 {
	if w.mulaw {
		w.pcm = media.DecodePCMU(w.pcm[:0], b)
		return w.pcm
	}
	w.pcm = w.pcm[:0]
	if len(w.half) > 0 && len(b) > 0 {
		w.pcm = append(w.pcm, int16(uint16(w.half[0])|uint16(b[0])<<8))
		w.half, b = w.half[:0], b[1:]
	}
	for ; len(b) >= 2; b = b[2:] {
		w.pcm = append(w.pcm, int16(uint16(b[0])|uint16(b[1])<<8))
	}
	w.half = append(w.half, b...)
	return w.pcm
}

// reset forgets half a sample: what follows begins anew.
func (w *wire) reset() { w.half = w.half[:0] }
