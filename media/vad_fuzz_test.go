package media

import (
	"math"
	"math/rand/v2"
	"testing"
)

// extremes are frames that no microphone gives.
func extremes(rate int) map[string]func(i int) int16 {
	rng := rand.New(rand.NewPCG(9, 9))
	return map[string]func(i int) int16{
		"silence":       func(int) int16 { return 0 },
		"DC":            func(int) int16 { return 32767 },
		"negative DC":   func(int) int16 { return -32768 },
		"full square":   func(i int) int16 { return []int16{32767, -32768}[i/10%2] },
		"Nyquist":       func(i int) int16 { return []int16{32767, -32768}[i%2] },
		"one bit":       func(i int) int16 { return int16(i % 2) },
		"full noise":    func(int) int16 { return int16(rng.Uint32()) },
		"one impulse":   func(i int) int16 { return []int16{32767, 0}[min(i, 1)] },
		"impulse train": func(i int) int16 { return []int16{32767, 0}[min(i%rate, 1)] },
	}
}

// sound reports what of an activity is out of bounds.
func sound(t *testing.T, a Activity) {
	t.Helper()
	if !(a.Probability >= 0 && a.Probability <= 1) || a.Speech != (a.Probability > 0.5) {
		t.Fatalf("speech %v with probability %v", a.Speech, a.Probability)
	}
	for _, db := range []float64{a.LevelDB, a.NoiseDB} {
		if !(db >= -100.1 && db <= 10) {
			t.Fatalf("a level of %v dB and noise of %v", a.LevelDB, a.NoiseDB)
		}
	}
}

// Whatever a line sends for a minute, the state stays sound: a minute later,
// the detector hears as it should.
func TestVADSurvivesExtremes(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		word := conversation(t, "slt", rate)[rate : 3*rate]
		for name, sample := range extremes(rate) {
			v := mustVAD(t, rate)
			pcm := make([]int16, 20*rate)
			for i := range pcm {
				pcm[i] = sample(i)
			}
			eachFrame(pcm, rate, func(_ int, f Frame) { sound(t, v.Detect(f)) })
			for i := range v.n {
				b := v.bands[i]
				for _, x := range []float64{b.noise, b.peak, b.swing, v.odds, v.rest, v.spread} {
					if math.IsNaN(x) || x < 0 || x > 1e9 {
						t.Fatalf("%s after %s: band %d is %+v, odds %g, rest %g, spread %g", rateName(rate), name, i, b, v.odds, v.rest, v.spread)
					}
				}
			}
			if got := share(detect(v, make([]int16, 5*rate), rate)[100:]); got > 0 {
				t.Errorf("%s: %.1f %% of silence after %s is speech", rateName(rate), got, name)
			}
			if n := sixOfSeven(detect(v, word, rate)); n < 0 {
				t.Errorf("%s: no speech is heard after %s and silence", rateName(rate), name)
			}
		}
	}
}

// Each byte is a frame of some level and kind.
func FuzzVAD(f *testing.F) {
	f.Add([]byte{0, 0, 0, 255, 255, 255, 1, 130, 7}, false)
	f.Add([]byte("speech, and then none"), true)
	w := seededWeights(f)
	f.Fuzz(func(t *testing.T, frames []byte, wide bool) {
		rate := 8000
		if wide {
			rate = 16000
		}
		v := mustNeuralVAD(t, w, rate)
		pcm := make([]int16, rate/50)
		for n, b := range frames[:min(len(frames), 200)] {
			level := 1 << (b & 15)
			rng := rand.New(rand.NewPCG(uint64(b), uint64(n)))
			for i := range pcm {
				switch b >> 4 & 3 {
				case 0:
					pcm[i] = int16(level - 1)
				case 1:
					pcm[i] = int16(rng.IntN(2*level) - level)
				case 2:
					pcm[i] = int16(float64(level-1) * math.Sin(float64(i)*float64(b>>6+1)/10))
				case 3:
					pcm[i] = int16((level - 1) * (1 - 2*(i/8%2)))
				}
			}
			sound(t, v.Detect(Frame{Rate: rate, PCM: pcm}))
		}
	})
}
