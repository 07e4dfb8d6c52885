package media

import (
	"errors"
	"math"
	"slices"
	"testing"
)

type vadScore struct {
	hits, speech, alarms, silence int
}

func (s vadScore) hit() float64   { return 100 * float64(s.hits) / float64(max(1, s.speech)) }
func (s vadScore) alarm() float64 { return 100 * float64(s.alarms) / float64(max(1, s.silence)) }

// vadTail is how many frames after speech are not judged: the detector may take
// them to be sure of its end.
const vadTail = 3

// vadStart is how many frames at the start are not judged: until then noise is
// still unknown. TestVADStepOfNoise holds it to that time.
const vadStart = 100

func mustVAD(t testing.TB, rate int) *VAD {
	t.Helper()
	v, err := NewVAD(rate)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// detect returns what a new VAD says of each frame.
func detect(t testing.TB, pcm []int16, rate int) []bool {
	t.Helper()
	v := mustVAD(t, rate)
	var speech []bool
	eachFrame(pcm, rate, func(_ int, f Frame) { speech = append(speech, v.Detect(f).Speech) })
	return speech
}

func score(t *testing.T, clean, noisy []int16, rate int) (s vadScore) {
	labels := speechLabels(clean, rate)
	since := vadTail
	for i, speech := range detect(t, noisy, rate) {
		switch {
		case labels[i] == 1:
			since = 0
		case since < vadTail:
			since++
			continue
		}
		switch {
		case i < vadStart:
		case labels[i] == 1:
			s.speech++
			if speech {
				s.hits++
			}
		case labels[i] == -1:
			s.silence++
			if speech {
				s.alarms++
			}
		}
	}
	return s
}

// The bounds are what was measured, less a margin of about three points.
func TestVAD(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		// A second conversation, so that the first 2 s hold no speech to judge.
		clean := append(make([]int16, rate), conversation(t, "slt", rate)...)
		for _, tt := range []struct {
			kind       string
			snr        float64
			hit, alarm float64 // bounds; 0 and 100 where the figure is only reported
		}{
			{"none", 0, 95, 2},
			{"white", 20, 90, 2}, {"white", 10, 87, 2}, {"white", 5, 80, 2}, {"white", 0, 0, 2},
			{"pink", 20, 92, 2}, {"pink", 10, 87, 2}, {"pink", 5, 72, 2}, {"pink", 0, 0, 2},
			{"car", 20, 92, 2}, {"car", 10, 90, 2}, {"car", 5, 85, 2}, {"car", 0, 72, 2},
			{"babble", 20, 92, 8}, {"babble", 10, 83, 9}, {"babble", 5, 0, 12}, {"babble", 0, 0, 15},
			{"music", 10, 0, 100},
		} {
			noisy := clean
			if tt.kind != "none" {
				noisy = mix(clean, noise(t, tt.kind, rate, len(clean)), -25-tt.snr)
			}
			s := score(t, clean, noisy, rate)
			t.Logf("%3s %-6s %2.0f dB: %5.1f %% hits, %4.1f %% false alarms", rateName(rate), tt.kind, tt.snr, s.hit(), s.alarm())
			if s.hit() < tt.hit || s.alarm() > tt.alarm {
				t.Errorf("%s %s %.0f dB: %.1f %% hits, %.1f %% false alarms, want at least %.0f and at most %.0f",
					rateName(rate), tt.kind, tt.snr, s.hit(), s.alarm(), tt.hit, tt.alarm)
			}
			if s.speech < 500 || s.silence < 300 {
				t.Fatalf("only %d frames of speech and %d of silence", s.speech, s.silence)
			}
		}
	}
}

// Speech is found within two frames of its onset and lost within a few of its
// end, in every sentence.
func TestVADReactsFast(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		clean := conversation(t, "slt", rate)
		labels := speechLabels(clean, rate)
		for _, tt := range []struct {
			name       string
			pcm        []int16
			onset, end int
		}{
			{"clean", clean, 2, 3},
			{"white 20 dB", mix(clean, noise(t, "white", rate, len(clean)), -45), 2, 3},
		} {
			speech := detect(t, tt.pcm, rate)
			late, long, onsets := 0, 0, 0
			for i := vadStart; i < len(labels)-40; i++ {
				if labels[i] != 1 {
					continue
				}
				if quiet(labels[i-15 : i]) {
					onsets++
					late = max(late, next(speech[i:], true))
				}
				if quiet(labels[i+1 : i+31]) {
					long = max(long, next(speech[i+1:], false))
				}
			}
			t.Logf("%s %s: speech at most %d frames late, held at most %d frames; %d onsets", rateName(rate), tt.name, late, long, onsets)
			if onsets < 5 || late > tt.onset || long > tt.end {
				t.Errorf("%s %s: %d onsets, %d frames late, held %d, want 5, %d, %d", rateName(rate), tt.name, onsets, late, long, tt.onset, tt.end)
			}
		}
	}
}

func quiet(labels []int) bool {
	for _, l := range labels {
		if l == 1 {
			return false
		}
	}
	return true
}

// next returns how many values come before the first that is want.
func next(values []bool, want bool) int {
	for i, v := range values {
		if v == want {
			return i
		}
	}
	return len(values)
}

func share(values []bool) float64 {
	n := 0
	for _, v := range values {
		if v {
			n++
		}
	}
	return 100 * float64(n) / float64(max(1, len(values)))
}

// The very first frames of a call may be speech, or digital silence and then
// speech.
func TestVADHearsTheFirstWord(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		word := conversation(t, "slt", rate)[rate+rate/4:] // inside the first sentence
		if got := next(detect(t, word[:rate], rate), true); got > 2 {
			t.Errorf("%s: speech from the first frame is found after %d frames", rateName(rate), got)
		}
		after := append(make([]int16, 10*rate), word[:rate]...)
		speech := detect(t, after, rate)
		if got := share(speech[:500]); got != 0 {
			t.Errorf("%s: %.1f %% of digital silence is speech", rateName(rate), got)
		}
		if got := next(speech[500:], true); got > 2 {
			t.Errorf("%s: speech after digital silence is found after %d frames", rateName(rate), got)
		}
	}
}

// Steady noise, and noise that grows by 15 dB, pass for speech for 2 s and a few
// frames at most, and never again in a minute.
func TestVADStepOfNoise(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		for _, kind := range []string{"white", "pink", "car"} {
			hiss := noise(t, kind, rate, 60*rate)
			pcm := append(mix(make([]int16, 20*rate), hiss, -50), mix(make([]int16, 40*rate), hiss[20*rate:], -35)...)
			speech := detect(t, pcm, rate)
			for _, step := range []struct{ from, to int }{{0, 1000}, {1000, 3000}} {
				last := step.from
				for i := step.from; i < step.from+300; i++ {
					if speech[i] {
						last = i + 1
					}
				}
				rest := share(speech[step.from+vadStart+15 : step.to])
				t.Logf("%s %s: shut after %d frames, then %.2f %% false alarms", rateName(rate), kind, last-step.from, rest)
				if rest > 1 {
					t.Errorf("%s %s: %.2f %% of steady noise is speech", rateName(rate), kind, rest)
				}
			}
		}
	}
}

// A click of 40 ms, however loud, never makes six frames of seven.
func TestVADClick(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		for _, floor := range []float64{-90, -50} {
			for offset := 0; offset < rate/50; offset += rate / 50 / 8 {
				pcm := mix(make([]int16, 5*rate), noise(t, "white", rate, 5*rate), floor)
				burst := noise(t, "pink", rate, rate/25)
				for i, x := range burst {
					pcm[3*rate+offset+i] = int16(max(-32768, min(32767, 12000*x)))
				}
				speech := detect(t, pcm, rate)
				for i := 120; i+7 <= len(speech); i++ {
					n := 0
					for _, s := range speech[i : i+7] {
						if s {
							n++
						}
					}
					if n >= 6 {
						t.Fatalf("%s over %.0f dBFS, offset %d: %d speech frames of seven", rateName(rate), floor, offset, n)
					}
				}
			}
		}
	}
}

func TestVADLevels(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		v := mustVAD(t, rate)
		a := v.Detect(Frame{Rate: rate, PCM: sine(rate, 1000, 1, rate/50)})
		if math.Abs(a.LevelDB+3.01) > 0.1 {
			t.Errorf("%s: a full sine has %.2f dBFS, want -3", rateName(rate), a.LevelDB)
		}
		if a := v.Detect(Frame{Rate: rate, PCM: make([]int16, rate/50)}); a.LevelDB > -90 {
			t.Errorf("%s: silence has %.1f dBFS", rateName(rate), a.LevelDB)
		}
		v.Reset()
		eachFrame(mix(make([]int16, 10*rate), noise(t, "white", rate, 10*rate), -40), rate, func(i int, f Frame) {
			if a := v.Detect(f); i > 150 && math.Abs(a.NoiseDB+40) > 2 {
				t.Fatalf("%s frame %d: noise of -40 dBFS tracked as %.1f", rateName(rate), i, a.NoiseDB)
			}
		})
	}
}

func TestVADReset(t *testing.T) {
	pcm := conversation(t, "slt", 16000)[:5*16000]
	v := mustVAD(t, 16000)
	var first, second []Activity
	eachFrame(pcm, 16000, func(_ int, f Frame) { first = append(first, v.Detect(f)) })
	v.Reset()
	eachFrame(pcm, 16000, func(_ int, f Frame) { second = append(second, v.Detect(f)) })
	if !slices.Equal(first, second) {
		t.Error("a reset VAD differs from a new one")
	}
}

func TestVADRefusesOtherRates(t *testing.T) {
	for _, rate := range []int{0, 11025, 24000, 48000} {
		if _, err := NewVAD(rate); !errors.Is(err, ErrRate) {
			t.Errorf("%d Hz: got %v, want ErrRate", rate, err)
		}
	}
	v := mustVAD(t, 8000)
	for _, f := range []Frame{{}, {Rate: 16000, PCM: sine(16000, 300, 1, 320)}, {Rate: 8000, PCM: sine(8000, 300, 1, 80)}} {
		if a := v.Detect(f); a.Speech {
			t.Errorf("a frame of %d samples at %d Hz is speech", len(f.PCM), f.Rate)
		}
	}
}

func TestVADAllocatesNothing(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		v := mustVAD(t, rate)
		f := Frame{Rate: rate, PCM: sine(rate, 300, 0.3, rate/50)}
		if n := testing.AllocsPerRun(50, func() { v.Detect(f) }); n != 0 {
			t.Errorf("%s: %v allocations a frame", rateName(rate), n)
		}
	}
}

func BenchmarkVAD(b *testing.B) {
	for _, rate := range []int{8000, 16000} {
		b.Run(rateName(rate), func(b *testing.B) {
			v, err := NewVAD(rate)
			if err != nil {
				b.Fatal(err)
			}
			f := Frame{Rate: rate, PCM: sine(rate, 440, 0.5, rate/50)}
			for b.Loop() {
				v.Detect(f)
			}
		})
	}
}

func TestRealFFT(t *testing.T) {
	var x [vadFFT]float32
	for i := range x {
		x[i] = float32(math.Sin(float64(i*i%97)) + 0.3)
	}
	f := newRealFFT(vadWindow())
	got := f.power(&x)
	for k := range got {
		var re, im float64
		for i := range x {
			s, c := math.Sincos(2 * math.Pi * float64(k*i) / vadFFT)
			re += float64(x[i]*f.window[i]) * c
			im -= float64(x[i]*f.window[i]) * s
		}
		if want := re*re + im*im; math.Abs(float64(got[k])-want) > 1e-4*(1+want) {
			t.Errorf("bin %d: got %g, want %g", k, got[k], want)
		}
	}
}
