package signalingtest

import (
	"math"
	"math/rand/v2"
	"time"

	"parley/media"
)

// An Echo is what a telephone's loudspeaker gives back into its microphone.
type Echo struct {
	GainDB float64       // below zero; 0: no echo
	Delay  time.Duration // from the ear to the microphone, at most 2 s
}

// A Noise is the sound around a caller: hiss of one level, falling by 3 dB an
// octave as rooms and streets do.
type Noise struct {
	DBFS float64 // -60 is a quiet room, -40 a loud one; 0: no noise
}

// A room is what stands around a caller: it hears the loudspeaker, and adds to
// the voice. One goroutine uses it.
type room struct {
	gain  float64
	ring  []int16 // what was heard in the last Delay
	at    int
	noise []int16
	n     int

	voice, ear []int16 // a carrier's, decoded
}

// newRoom returns nil where there is neither echo nor noise.
func newRoom(e Echo, n Noise, rate int) *room {
	if e.GainDB == 0 && n.DBFS == 0 {
		return nil
	}
	r := &room{}
	if e.GainDB != 0 {
		r.gain = math.Pow(10, e.GainDB/20)
		r.ring = make([]int16, max(1, media.Samples(min(max(e.Delay, 0), 2*time.Second), rate)))
	}
	if n.DBFS != 0 {
		r.noise = pinkNoise(n.DBFS, rate)
	}
	return r
}

// add takes what is heard in a frame's time, and adds what the microphone takes
// up besides the voice, which is what was heard Delay before.
func (r *room) add(voice, heard []int16) {
	if r == nil {
		return
	}
	for i := range voice {
		v := float64(voice[i])
		if r.ring != nil {
			v += r.gain * float64(r.ring[r.at])
			r.ring[r.at] = heard[i]
			if r.at++; r.at == len(r.ring) {
				r.at = 0
			}
		}
		if r.noise != nil {
			v += float64(r.noise[r.n])
			if r.n++; r.n == len(r.noise) {
				r.n = 0
			}
		}
		voice[i] = int16(max(-32768, min(32767, v)))
	}
}

// pinkNoise makes 5 s of noise of a level: white noise through three one-pole
// filters, whose slopes together fall by 3 dB an octave.
func pinkNoise(dbfs float64, rate int) []int16 {
	random := rand.New(rand.NewPCG(1, uint64(rate)))
	raw := make([]float64, 5*rate)
	var b0, b1, b2, power float64
	for i := range raw {
		white := random.NormFloat64()
		b0 = 0.99765*b0 + 0.0990460*white
		b1 = 0.96300*b1 + 0.2965164*white
		b2 = 0.57000*b2 + 1.0526913*white
		raw[i] = b0 + b1 + b2 + 0.1848*white
		power += raw[i] * raw[i]
	}
	scale := 32768 * math.Pow(10, dbfs/20) / math.Sqrt(power/float64(len(raw)))
	pcm := make([]int16, len(raw))
	for i, v := range raw {
		pcm[i] = int16(max(-32768, min(32767, v*scale)))
	}
	return pcm
}
