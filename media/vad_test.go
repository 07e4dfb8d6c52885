package media

import (
	"math"
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

func score(t *testing.T, clean, noisy []int16, rate int) vadScore {
	v, err := NewVAD(rate)
	if err != nil {
		t.Fatal(err)
	}
	labels := speechLabels(clean, rate)
	var s vadScore
	since := vadTail
	eachFrame(noisy, rate, func(i int, f Frame) {
		a := v.Detect(f)
		switch {
		case labels[i]:
			since = 0
			s.speech++
			if a.Speech {
				s.hits++
			}
		case since < vadTail:
			since++
		default:
			s.silence++
			if a.Speech {
				s.alarms++
			}
		}
	})
	return s
}

func TestVADTable(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		clean := conversation(t, rate)
		c := score(t, clean, clean, rate)
		t.Logf("%s clean %.1f/%.1f  (%d/%d)", rateName(rate), c.hit(), c.alarm(), c.speech, c.silence)
		for _, kind := range []string{"white", "pink", "car", "babble"} {
			n := noise(t, kind, rate, len(clean))
			for _, snr := range []float64{20, 15, 10, 5, 0} {
				s := score(t, clean, mix(clean, n, -25-snr), rate)
				t.Logf("%s %-7s %3.0f dB: %.1f/%.1f", rateName(rate), kind, snr, s.hit(), s.alarm())
			}
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
	f := newRealFFT()
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
