package media

import (
	"math"
	"time"
)

// A jitterTiming measures a stream's network: a packet's transit time is its
// arrival less its timestamp, and only differences of it mean anything.
type jitterTiming struct {
	origin time.Time // zero time of transit
	zero   int64     // timestamp at origin
	set    bool
	base   time.Duration // smallest transit of late: what the network cannot undercut
	peak   time.Duration // how much slower others are; grows at once, shrinks in silence
	minima [32]window    // smallest transit of each of the last stretches of 10 s
	n      int
}

type window struct {
	at, min time.Duration
}

const (
	timingWindow  = 10 * time.Second
	timingShrink  = 0.998 // a silent frame: halves the peak in 7 s of silence
	timingMaxPeak = 200 * time.Millisecond
)

func (t *jitterTiming) reset() { *t = jitterTiming{} }

func (t *jitterTiming) arrive(at time.Time, ts int64, clock int) {
	if !t.set {
		t.set, t.origin, t.zero = true, at, ts
		t.minima[0] = window{}
	}
	since := at.Sub(t.origin)
	transit := since - Duration(ts-t.zero, clock)
	w := &t.minima[t.n%len(t.minima)]
	if since-w.at >= timingWindow {
		t.n++
		w = &t.minima[t.n%len(t.minima)]
		*w = window{at: since, min: transit}
	}
	w.min = min(w.min, transit)
	t.base = w.min
	if t.n > 0 { // the window before is whole, this one is young
		t.base = min(w.min, t.minima[(t.n-1)%len(t.minima)].min)
	}
	if over := min(transit-t.base, timingMaxPeak); over > t.peak {
		t.peak = over
	}
}

func (t *jitterTiming) relax() { t.peak = time.Duration(float64(t.peak) * timingShrink) }

// due returns when the sample at ts is to be heard, delay after the fastest
// packet could have brought it.
func (t *jitterTiming) due(ts int64, clock int, delay time.Duration) time.Time {
	return t.origin.Add(t.base + delay + Duration(ts-t.zero, clock))
}

// drift is the slope of the minima by least squares. A far clock that is fast
// makes transit times fall.
func (t *jitterTiming) drift() float64 {
	have := min(t.n, len(t.minima)-1) // without the young one
	if have < 6 {
		return 0
	}
	var sx, sy, sxx, sxy float64
	for i := t.n - have; i < t.n; i++ {
		w := t.minima[i%len(t.minima)]
		x, y := (w.at - t.minima[(t.n-1)%len(t.minima)].at).Seconds(), w.min.Seconds()
		sx, sy, sxx, sxy = sx+x, sy+y, sxx+x*x, sxy+x*y
	}
	k := float64(have)
	den := k*sxx - sx*sx
	if den == 0 {
		return 0
	}
	return -(k*sxy - sx*sy) / den * 1e6
}

// A comfortNoise knows how loud the line is when nobody speaks.
type comfortNoise struct {
	floor float64 // RMS of the quietest frames, in samples
	seed  uint32
	last  float64
}

const (
	noiseMax   = 100.0 // RMS, -50 dBFS: louder is not silence, and no noise of ours is
	noiseRise  = 1.01  // a frame: the floor doubles in 1.4 s
	noiseQuiet = 2.0   // times the floor, 6 dB
)

func rms(pcm []int16) float64 {
	var sum float64
	for _, s := range pcm {
		sum += float64(s) * float64(s)
	}
	return math.Sqrt(sum / float64(max(1, len(pcm))))
}

func (c *comfortNoise) learn(pcm []int16) {
	c.floor = min(max(c.floor, 0.5)*noiseRise, rms(pcm), noiseMax)
}

func (c *comfortNoise) quiet(pcm []int16) bool {
	return rms(pcm) <= min(max(c.floor, 4)*noiseQuiet, noiseMax)
}

// fill writes noise a little below the floor, low-passed so that it hisses less.
func (c *comfortNoise) fill(dst []int16) {
	amp := min(c.floor, noiseMax) * 0.7
	for i := range dst {
		c.seed ^= c.seed << 13
		c.seed ^= c.seed >> 17
		c.seed ^= c.seed << 5
		white := float64(int32(c.seed)) / (1 << 31) * 1.73 // RMS 1
		c.last = 0.6*c.last + 0.8*white                    // RMS 1 again
		dst[i] = int16(c.last * amp)
	}
}
