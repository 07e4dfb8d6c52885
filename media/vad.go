package media

import (
	"fmt"
	"math"
)

// Activity is what a [VAD] thinks of one frame. Levels are root mean square, in
// decibels of full scale: a sine of full scale has -3.
type Activity struct {
	Speech      bool
	Probability float64 // of speech, from 0 to 1; Speech if over one half
	LevelDB     float64 // of the frame
	NoiseDB     float64 // of the noise beneath it, as tracked
}

const (
	vadHop     = 160 // samples of a frame at 8 kHz, where the analysis runs
	vadOverlap = vadFFT - vadHop
)

// vadEdges are the first bins (31.25 Hz each) of the bands, and the end: from
// 94 to 3,750 Hz, about as wide as the ear's.
var vadEdges = [...]int{3, 5, 7, 9, 11, 13, 16, 19, 22, 26, 30, 35, 41, 48, 56, 66, 78, 92, 106, 120}

const (
	vadBands = len(vadEdges) - 1
	vadHigh  = vadBands // one more band, 4 to 8 kHz, of a wideband stream
)

// Tuning. Powers are per bin and sample, of full scale.
const (
	vadLeast    = 1e-7 // noise is never thought to be less: -70 dBFS
	vadPrior    = 1e-6 // noise at the start of a stream: -60 dBFS, so that speech may come first
	vadSNRKeep  = 0.7  // weight of the frame before in the a-priori SNR
	vadSNRLeast = 0.01
	vadSmooth   = 0.75 // of the power whose minima are tracked
	vadBias     = 1.5  // from those minima to the mean of the noise
	vadLearn    = 0.08 // of the noise from a frame that is surely noise
	vadMost     = 12   // what one band may say for speech
	vadOpen     = 1.0  // mean log-likelihood ratio at which speech is as likely as not
	vadSteep    = 2.0
)

// A VAD tells speech from noise, a frame at a time.
//
// It tests in each band whether the power is more likely under noise alone or
// under speech and noise (J. Sohn, N. S. Kim, W. Sung: A statistical
// model-based voice activity detection, 1999).
type VAD struct {
	rate int
	high *halfBand // nil at 8 kHz

	window [vadFFT]float32 // vadOverlap samples of the past, then a frame
	fft    *realFFT
	bands  [vadBands + 1]vadBand
	n      int // bands in use

	rest    float64 // the statistic's mean over frames of noise
	spread  float64 // and its mean square deviation
}

type vadBand struct {
	noise float64
	clean float64 // estimated power of speech in the frame before
	floor minimum
}

// NewVAD returns a VAD for frames at 8000 or 16000 Hz, or [ErrRate].
func NewVAD(rate int) (*VAD, error) {
	v := &VAD{rate: rate, fft: newRealFFT(), n: vadBands}
	switch rate {
	case 8000:
	case 16000:
		v.high = &halfBand{}
		v.n++
	default:
		return nil, fmt.Errorf("detect speech at %d Hz: %w", rate, ErrRate)
	}
	v.Reset()
	return v, nil
}

// Reset forgets the stream.
func (v *VAD) Reset() {
	v.window = [vadFFT]float32{}
	if v.high != nil {
		*v.high = halfBand{}
	}
	for i := range v.bands {
		v.bands[i] = vadBand{noise: vadPrior, floor: newMinimum(vadPrior)}
	}
	v.rest, v.spread = 0, 0
}

// Detect judges the next frame of the stream.
func (v *VAD) Detect(f Frame) Activity {
	if f.Rate != v.rate || len(f.PCM) != v.rate/50 {
		return Activity{LevelDB: decibels(0), NoiseDB: decibels(0)}
	}
	var power [vadBands + 1]float64
	level := v.analyse(f.PCM, &power)

	stat := 0.0
	for i := range v.n {
		stat += v.bands[i].test(power[i])
	}
	stat /= float64(v.n)
	threshold := vadOpen
	p := 1 / (1 + math.Exp(-vadSteep*(stat-threshold)))
	noise := 0.0
	for i := range v.n {
		b := &v.bands[i]
		b.learn(power[i], p)
		noise += b.noise * bandShare(i, v.n)
	}
	return Activity{Speech: p > 0.5, Probability: p, LevelDB: decibels(level), NoiseDB: decibels(noise)}
}


func bandShare(i, n int) float64 {
	if i == vadHigh {
		return 0.5
	}
	s := float64(vadEdges[i+1]-vadEdges[i]) / float64(vadEdges[vadBands]-vadEdges[0])
	if n > vadBands {
		s /= 2
	}
	return s
}

// analyse returns the frame's mean power and, in power, that of its bands.
func (v *VAD) analyse(pcm []int16, power *[vadBands + 1]float64) float64 {
	copy(v.window[:vadOverlap], v.window[vadHop:])
	frame := v.window[vadOverlap:]
	sum := float32(0)
	for _, s := range pcm {
		x := float32(s) * (1.0 / 32768)
		sum += x * x
	}
	if v.high == nil {
		for i, s := range pcm {
			frame[i] = float32(s) * (1.0 / 32768)
		}
	} else {
		power[vadHigh] = v.high.split(frame, pcm)
	}
	bins := v.fft.power(&v.window)
	for i := range vadBands {
		s := float32(0)
		for _, x := range bins[vadEdges[i]:vadEdges[i+1]] {
			s += x
		}
		power[i] = float64(s) / float64(vadEdges[i+1]-vadEdges[i])
	}
	return float64(sum) / float64(len(pcm))
}

// test returns the band's log-likelihood ratio of speech over noise.
func (b *vadBand) test(power float64) float64 {
	post := min(power/b.noise, 1000)
	prior := vadSNRKeep*b.clean/b.noise + (1-vadSNRKeep)*max(post-1, 0)
	prior = max(vadSNRLeast, min(prior, 1000))
	gain := prior / (1 + prior)
	b.clean = gain * gain * power
	return min(post*gain-math.Log(1+prior), vadMost)
}

// learn moves the band's noise toward what a frame shows, the more the less it
// is speech, and never below what the minima say.
func (b *vadBand) learn(power, speech float64) {
	floor := vadBias * b.floor.next(power)
	b.noise += vadLearn * (1 - speech) * (power - b.noise)
	b.noise = max(b.noise, floor, vadLeast)
}

func decibels(power float64) float64 { return 10 * math.Log10(power+1e-10) }

// minimum follows the least of a smoothed power over the last 1.2 to 1.4 s (R.
// Martin: Noise power spectral density estimation based on optimal smoothing
// and minimum statistics, 2001, with a constant smoothing).
type minimum struct {
	smooth float64
	blocks [minimumBlocks]float64 // the least of each block, a ring
	at     int
	n      int // frames in the block
}

const (
	minimumBlocks = 7
	minimumFrames = 10
)

func newMinimum(prior float64) minimum {
	m := minimum{smooth: prior}
	for i := range m.blocks {
		m.blocks[i] = prior
	}
	return m
}

func (m *minimum) next(power float64) float64 {
	m.smooth = vadSmooth*m.smooth + (1-vadSmooth)*power
	if m.n == minimumFrames {
		m.n = 0
		m.at = (m.at + 1) % minimumBlocks
		m.blocks[m.at] = m.smooth
	}
	m.n++
	m.blocks[m.at] = min(m.blocks[m.at], m.smooth)
	least := m.blocks[0]
	for _, b := range m.blocks[1:] {
		least = min(least, b)
	}
	return least
}
