package media

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The pairs that calls use: carriers at 8, vendors at 16 and 24, Opus at 48 kHz.
var callRates = []int{8000, 16000, 24000, 32000, 48000}

func eachPair(t *testing.T, rates []int, f func(t *testing.T, from, to int)) {
	for _, from := range rates {
		for _, to := range rates {
			if from != to {
				t.Run(fmt.Sprintf("%d-%d", from, to), func(t *testing.T) { f(t, from, to) })
			}
		}
	}
}

func mustResampler(t testing.TB, from, to int) *Resampler {
	t.Helper()
	r, err := NewResampler(from, to)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// toneGain passes a tone and returns the output's level at the tone and the
// level of all else, in dB of the input.
func toneGain(t *testing.T, from, to int, hertz float64) (gain, rest float64) {
	const amplitude = 0.9
	out := mustResampler(t, from, to).Process(nil, sine(from, hertz, amplitude, from/2))
	out = out[to/10 : to/10+to/4] // settled; a quarter of a second holds whole cycles of multiples of 4 Hz
	var re, im, power float64
	for i, s := range out {
		a := 2 * math.Pi * hertz * float64(i) / float64(to)
		re += float64(s) * math.Cos(a)
		im += float64(s) * math.Sin(a)
		power += float64(s) * float64(s)
	}
	n := float64(len(out))
	tone := 2 * (re*re + im*im) / (n * n) // mean power of the fitted tone
	full := amplitude * amplitude * 32767 * 32767 / 2
	return 10 * math.Log10(tone/full+1e-20), 10 * math.Log10(max(power/n-tone, 1e-3)/full)
}

func TestResamplerPassband(t *testing.T) {
	eachPair(t, callRates, func(t *testing.T, from, to int) {
		nyquist := float64(min(from, to)) / 2
		ripple, noise := 0.0, math.Inf(-1)
		for share := 0.02; share <= 0.8501; share += 0.0346 {
			hertz := math.Round(share*nyquist/4) * 4
			gain, rest := toneGain(t, from, to, hertz)
			ripple = max(ripple, math.Abs(gain))
			noise = max(noise, rest)
		}
		edge, _ := toneGain(t, from, to, math.Round(0.9*nyquist/4)*4)
		t.Logf("ripple %.4f dB, images and noise %.1f dB, at 0.9 of Nyquist %.2f dB", ripple, noise, edge)
		if ripple > 0.02 {
			t.Errorf("ripple %.4f dB to 0.85 of Nyquist, want at most 0.02", ripple)
		}
		if noise > -78 {
			t.Errorf("images and noise at %.1f dB, want at most -78", noise)
		}
		if edge < -1.5 {
			t.Errorf("gain at 0.9 of Nyquist %.2f dB, want at least -1.5", edge)
		}
	})
}

func TestResamplerAlias(t *testing.T) {
	eachPair(t, callRates, func(t *testing.T, from, to int) {
		if from < to {
			return // images are checked in TestResamplerPassband
		}
		worst := math.Inf(-1)
		nyquist := float64(to) / 2
		for hertz := 1.15 * nyquist; hertz < float64(from)/2; hertz += 97 {
			out := mustResampler(t, from, to).Process(nil, sine(from, hertz, 0.9, from/5))
			worst = max(worst, levelOver(out[to/20:], 0.9))
		}
		t.Logf("worst alias %.1f dB", worst)
		if worst > -80 {
			t.Errorf("alias %.1f dB, want at most -80", worst)
		}
	})
}

// levelOver returns the level of pcm in dB of a sine of the given amplitude.
func levelOver(pcm []int16, amplitude float64) float64 {
	power := 1e-6
	for _, s := range pcm {
		power += float64(s) * float64(s)
	}
	full := amplitude * amplitude * 32767 * 32767 / 2
	return 10 * math.Log10(power/float64(len(pcm))/full)
}

func TestResamplerDelay(t *testing.T) {
	eachPair(t, resampleRates, func(t *testing.T, from, to int) {
		r := mustResampler(t, from, to)
		if limit := 3 * time.Millisecond; r.Delay() > limit {
			t.Errorf("delay %v, want at most %v", r.Delay(), limit)
		}
		// The phase of a slow tone shows the true delay.
		const hertz = 100 // a period of 10 ms: no delay is ambiguous
		out := r.Process(nil, sine(from, hertz, 0.9, from/2))
		var re, im float64
		for i := to / 10; i < to/10+to/5; i++ {
			a := 2 * math.Pi * hertz * float64(i) / float64(to)
			re += float64(out[i]) * math.Sin(a)
			im += float64(out[i]) * math.Cos(a)
		}
		got := time.Duration(-math.Atan2(im, re) / (2 * math.Pi * hertz) * float64(time.Second))
		if diff := (got - r.Delay()).Abs(); diff > 10*time.Microsecond {
			t.Errorf("measured delay %v, Delay says %v", got, r.Delay())
		}
	})
}

func TestResamplerOutputDoesNotDependOnChunks(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	eachPair(t, resampleRates, func(t *testing.T, from, to int) {
		src := make([]int16, from/4)
		for i := range src {
			src[i] = int16(rng.Uint32())
		}
		whole := mustResampler(t, from, to)
		want := whole.Process(nil, src)
		cut := mustResampler(t, from, to)
		var got []int16
		for rest := src; len(rest) > 0; {
			n := min(rng.IntN(1200), len(rest))
			got = cut.Process(got, rest[:n])
			rest = rest[n:]
		}
		if !slices.Equal(got, want) {
			t.Error("output depends on the chunks")
		}
		whole.Reset()
		if again := whole.Process(nil, src); !slices.Equal(again, want) {
			t.Error("a reset Resampler differs from a new one")
		}
	})
}

// Frames in, frames out: each 20 ms of input gives exactly 20 ms of output, for
// an hour.
func TestResamplerDoesNotDrift(t *testing.T) {
	eachPair(t, resampleRates, func(t *testing.T, from, to int) {
		// All that decides the count is the phase, which must be where it
		// started after each frame: then an hour is as good as a second.
		r := mustResampler(t, from, to)
		src := make([]int16, from/50)
		out := make([]int16, 0, to/50)
		for i := range 50 {
			out = r.Process(out[:0], src)
			if len(out) != to/50 {
				t.Fatalf("frame %d: %d samples, want %d", i, len(out), to/50)
			}
			if r.phase != 0 {
				t.Fatalf("frame %d ends at phase %d, want 0", i, r.phase)
			}
		}
	})
}

func TestResamplerCountsExactly(t *testing.T) {
	r := mustResampler(t, 8000, 44100)
	rng := rand.New(rand.NewPCG(3, 4))
	src := make([]int16, 4000)
	out := make([]int16, 0, 30000)
	in, got := 0, 0
	for in < 60*8000 {
		n := rng.IntN(len(src))
		out = r.Process(out[:0], src[:n])
		in, got = in+n, got+len(out)
		if want := (in*441 + 79) / 80; got != want {
			t.Fatalf("after %d samples: %d out, want %d", in, got, want)
		}
	}
}

func TestResamplerThereAndBack(t *testing.T) {
	for _, to := range []int{16000, 24000, 48000} {
		src := sine(8000, 1000, 0.7, 8000)
		up, down := mustResampler(t, 8000, to), mustResampler(t, to, 8000)
		back := down.Process(nil, up.Process(nil, src))
		// A tone of 1 kHz lasts 8 samples, so a delay of a whole number of
		// them can be taken out, and the rest by the fit.
		delay := (up.Delay() + down.Delay()).Seconds() * 8000
		want := make([]int16, len(src))
		for i := range want {
			want[i] = int16(math.Round(32767 * 0.7 * math.Sin(2*math.Pi*1000*(float64(i)-delay)/8000)))
		}
		got := snr(want[200:], back[200:])
		t.Logf("8000-%d-8000: %.1f dB", to, got)
		if got < 75 {
			t.Errorf("8000-%d-8000: SNR %.1f dB, want at least 75", to, got)
		}
	}
}

func TestResamplerSaturates(t *testing.T) {
	src := make([]int16, 800)
	for i := range src {
		if src[i] = math.MaxInt16; i/20%2 == 1 {
			src[i] = math.MinInt16
		}
	}
	// The overshoot at an edge of a full-scale square must not wrap around.
	for i, s := range mustResampler(t, 8000, 16000).Process(nil, src)[48:] {
		if inside := (i + 0) % 40; inside > 8 && inside < 32 && s > -30000 && s < 30000 {
			t.Fatalf("sample %d is %d in the flat of a square", i, s)
		}
	}
}

func TestResamplerEqualRatesPassThrough(t *testing.T) {
	r := mustResampler(t, 16000, 16000)
	src := sine(16000, 440, 1, 320)
	if got := r.Process(nil, src); !slices.Equal(got, src) || r.Delay() != 0 {
		t.Error("equal rates must pass through")
	}
}

func TestResamplerRefusesRates(t *testing.T) {
	for _, tt := range [][2]int{{8000, 11025}, {0, 8000}, {8000, -1}, {96000, 8000}, {7, 7}} {
		if _, err := NewResampler(tt[0], tt[1]); !errors.Is(err, ErrRate) {
			t.Errorf("%v: got %v, want ErrRate", tt, err)
		}
	}
}

func TestResamplerAllocatesNothing(t *testing.T) {
	eachPair(t, resampleRates, func(t *testing.T, from, to int) {
		r := mustResampler(t, from, to)
		src, dst := make([]int16, from/50), make([]int16, 0, to/50)
		if n := testing.AllocsPerRun(20, func() { dst = r.Process(dst[:0], src) }); n != 0 {
			t.Errorf("%v allocations a frame", n)
		}
	})
}

func TestLinearUpsamplerLeavesTheImage(t *testing.T) {
	var u LinearUpsampler
	out := u.Process(nil, sine(8000, 2000, 0.9, 8000))
	var re, im float64 // at 6 kHz, the mirror of 2 kHz
	for i, s := range out {
		a := 2 * math.Pi * 6000 * float64(i) / 16000
		re += float64(s) * math.Cos(a)
		im += float64(s) * math.Sin(a)
	}
	image := 20 * math.Log10(2*math.Hypot(re, im)/float64(len(out))/(0.9*32767))
	if image < -18 || image > -12 {
		t.Errorf("image of 2 kHz at %.1f dB, want about -15", image)
	}
	u = LinearUpsampler{}
	if got, want := u.Process(nil, []int16{100, 200, -200}), []int16{50, 100, 150, 200, 0, -200}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func BenchmarkResampler(b *testing.B) {
	for _, pair := range [][2]int{{8000, 16000}, {16000, 8000}, {24000, 8000}, {24000, 16000}, {8000, 48000}, {48000, 16000}, {48000, 8000}, {22050, 8000}} {
		b.Run(fmt.Sprintf("%d-%d", pair[0], pair[1]), func(b *testing.B) {
			r := mustResampler(b, pair[0], pair[1])
			src, dst := sine(pair[0], 440, 0.5, pair[0]/50), make([]int16, 0, pair[1]/50)
			for b.Loop() {
				dst = r.Process(dst[:0], src)
			}
		})
	}
}
