package media

import (
	"math"
	"math/bits"
)

// vadFFT is the length of the analysis: 32 ms at 8 kHz.
const vadFFT = 256

// A realFFT gives the power spectrum of a windowed frame, by a complex
// transform of half its length.
type realFFT struct {
	window  [vadFFT]float32
	order   [vadFFT / 2]uint8
	cos     [vadFFT / 2]float32 // of 2πk/vadFFT
	sin     [vadFFT / 2]float32
	re, im  [vadFFT / 2]float32
	squares [vadFFT/2 + 1]float32
}

func newRealFFT(window func(i int) float64) *realFFT {
	f := &realFFT{}
	for i := range f.window {
		f.window[i] = float32(window(i))
	}
	for i := range f.order {
		f.order[i] = bits.Reverse8(uint8(i)) >> 1
		s, c := math.Sincos(2 * math.Pi * float64(i) / vadFFT)
		f.cos[i], f.sin[i] = float32(c), float32(s)
	}
	return f
}

// power returns |X|² of bins 0 to vadFFT/2. It is valid until the next call.
func (f *realFFT) power(x *[vadFFT]float32) *[vadFFT/2 + 1]float32 {
	const n = vadFFT / 2
	for i, k := range f.order {
		j := 2 * int(k)
		f.re[i] = x[j] * f.window[j]
		f.im[i] = x[j+1] * f.window[j+1]
	}
	for i := 0; i < n; i += 4 { // the first two stages have no twiddle factors
		re, im := f.re[i:i+4:i+4], f.im[i:i+4:i+4]
		ar, ai, br, bi := re[0]+re[1], im[0]+im[1], re[0]-re[1], im[0]-im[1]
		cr, ci, dr, di := re[2]+re[3], im[2]+im[3], re[2]-re[3], im[2]-im[3]
		re[0], im[0], re[2], im[2] = ar+cr, ai+ci, ar-cr, ai-ci
		re[1], im[1], re[3], im[3] = br+di, bi-dr, br-di, bi+dr
	}
	for half := 4; half < n; half *= 2 {
		step := vadFFT / (2 * half)
		for start := 0; start < n; start += 2 * half {
			lr, li := f.re[start:start+half], f.im[start:start+half]
			hr, hi := f.re[start+half:start+2*half], f.im[start+half:start+2*half]
			hr, hi, li = hr[:len(lr)], hi[:len(lr)], li[:len(lr)]
			for i := range lr {
				c, s := f.cos[i*step&(n-1)], f.sin[i*step&(n-1)]
				tr := hr[i]*c + hi[i]*s
				ti := hi[i]*c - hr[i]*s
				hr[i], hi[i] = lr[i]-tr, li[i]-ti
				lr[i], li[i] = lr[i]+tr, li[i]+ti
			}
		}
	}
	f.unpack()
	return &f.squares
}

// unpack parts the even samples, which were the real ones, from the odd.
func (f *realFFT) unpack() {
	const n = vadFFT / 2
	low, high := f.re[0]+f.im[0], f.re[0]-f.im[0]
	f.squares[0], f.squares[n] = low*low, high*high
	for k := 1; k < n; k++ {
		ar, ai := f.re[k], f.im[k]
		br, bi := f.re[n-k], -f.im[n-k]
		er, ei := (ar+br)/2, (ai+bi)/2
		or, oi := (ai-bi)/2, (br-ar)/2
		c, s := f.cos[k], f.sin[k]
		xr := er + or*c + oi*s
		xi := ei + oi*c - or*s
		f.squares[k] = xr*xr + xi*xi
	}
}

// A halfBand splits a 16 kHz stream at 4 kHz.
type halfBand struct {
	past [2 * halfBandReach]float32
	work [2*halfBandReach + 2*vadHop]float32
}

const halfBandReach = 5

// halfBandTaps are those of a half-band low-pass at distances 1, 3 and 5:
// sin(πk/2)/πk under a Kaiser window, beta 3. It is 30 dB down from 5.5 kHz,
// which does for levels.
var halfBandTaps = [3]float32{0.3075, -0.0735, 0.0160}

// split writes the lower half, at 8 kHz, to low, and returns the power of the
// upper.
func (h *halfBand) split(low []float32, pcm []int16) float64 {
	copy(h.work[:], h.past[:])
	for i, s := range pcm {
		h.work[2*halfBandReach+i] = float32(s) * (1.0 / 32768)
	}
	upper := float32(0)
	for i := range low {
		x := h.work[2*i : 2*i+2*halfBandReach+1]
		side := halfBandTaps[0]*(x[4]+x[6]) + halfBandTaps[1]*(x[2]+x[8]) + halfBandTaps[2]*(x[0]+x[10])
		low[i] = x[5]/2 + side
		up := x[5]/2 - side
		upper += up * up
	}
	copy(h.past[:], h.work[2*vadHop:])
	// White noise of power p leaves p/2 in either half.
	return float64(upper) / float64(len(low)) * 2
}
