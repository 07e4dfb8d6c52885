package stt

import (
	"math"
	"slices"

	"parley/media"
)

// steady tells a hum or a hiss from a voice: speech rises and falls by 15 dB
// and more within a second, a machine's noise hardly at all. It serves a
// recognizer that makes words of whatever it is given.
type steady struct {
	levels []float64 // dB, one a frame
	power  float64   // of the frame under way
	n      int       // its samples
}

const (
	// swing is how far a voice's level moves at the least, in dB, between its
	// quiet and its loud frames. White noise moves by 1 dB; so does a tone.
	swing = 2
	// quiet is how far below the loud frames those lie that are not of it, in dB.
	quiet = 25
)

func (s *steady) reset() { *s = steady{levels: s.levels[:0]} }

// add takes the next samples, at rate.
func (s *steady) add(pcm []int16, rate int) {
	frame := int(media.Samples(media.Ptime, rate))
	for _, v := range pcm {
		s.power += float64(v) * float64(v)
		if s.n++; s.n == frame {
			s.levels = append(s.levels, 10*math.Log10(s.power/float64(frame)+1))
			s.power, s.n = 0, 0
		}
	}
}

// noise reports that what came was no voice. The quiet before it and after it
// proves nothing, and of less than 0.16 s it cannot be told.
func (s *steady) noise() bool {
	if len(s.levels) == 0 {
		return false
	}
	l := slices.Sorted(slices.Values(s.levels))
	loud := l[len(l)*19/20]
	first, _ := slices.BinarySearch(l, loud-quiet)
	l = l[first:]
	return len(l) >= 8 && loud-l[len(l)/5] < swing
}
