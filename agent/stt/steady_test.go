package stt

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// hiss adds white noise at a level in dBFS.
func hiss(pcm []int16, db float64, rnd *rand.Rand) []int16 {
	out := make([]int16, len(pcm))
	for i, v := range pcm {
		out[i] = int16(max(-32768, min(32767, float64(v)+rnd.NormFloat64()*32768*math.Pow(10, db/20))))
	}
	return out
}

func TestSteady(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, rate := range []int{8000, 16000} {
		voice := speak(t, "Stop. I would like to book a table.", rate)
		voice = voice[rate/2 : len(voice)-rate/2] // none of the quiet around it
		tone := make([]int16, rate)
		for i := range tone {
			tone[i] = int16(8000 * math.Sin(2*math.Pi*440*float64(i)/float64(rate)))
		}
		tests := []struct {
			name  string
			pcm   []int16
			noise bool
		}{
			{"voice", voice, false},
			{"voice-at-10-dB", hiss(voice, -32, rnd), false},
			{"one-word", speak(t, "Stop.", rate), false},
			{"hiss", hiss(make([]int16, rate), -35, rnd), true},
			{"quiet-hiss", hiss(make([]int16, 3*rate), -55, rnd), true},
			{"hum", tone, true},
			{"hiss-after-quiet", append(make([]int16, rate/3), hiss(make([]int16, rate/2), -35, rnd)...), true},
			{"click", tone[:rate/10], false},
		}
		for _, tt := range tests {
			var s steady
			for p := tt.pcm; len(p) > 0; p = p[min(len(p), 333):] { // in pieces that are no frames
				s.add(p[:min(len(p), 333)], rate)
			}
			if s.noise() != tt.noise {
				t.Errorf("%s at %d Hz: noise = %v", tt.name, rate, s.noise())
			}
			if s.reset(); s.noise() {
				t.Error("a new utterance inherits the last one's noise")
			}
		}
	}
}

// It makes words of noise, and a caller in a windy street would be taken at them.
func TestPocketsphinxMakesNoWordsOfNoise(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, db := range []float64{-35, -45} {
		s, err := Vendors["pocketsphinx"].Dial(t.Context(), Options{Rate: 8000, Limit: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if got, _ := hear(t, s, hiss(make([]int16, 16000), db, rnd), 8000); got.Text != "" || !got.Flushed {
			t.Errorf("of noise at %v dBFS it makes %q", db, got.Text)
		}
	}
}
