package media

import (
	"bytes"
	"errors"
	"slices"
	"testing"
)

// opinionated is a network that always says these log-odds.
func opinionated(t testing.TB, odds float32) *VADWeights {
	t.Helper()
	tensors := seededTensors()
	tensors["final_conv.weight"] = make([]float32, netWidth)
	tensors["final_conv.bias"] = []float32{odds}
	w, err := ReadVADWeights(bytes.NewReader(safetensors(t, tensors, vadTensors)))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func mustNeuralVAD(t testing.TB, w *VADWeights, rate int) *NeuralVAD {
	t.Helper()
	v, err := NewNeuralVAD(w, rate)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The network has the last word: one that hears no speech anywhere leaves no six
// frames of seven, and one that hears it everywhere finds at least what the
// statistical test finds.
func TestNeuralVADHeedsTheNetwork(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		pcm := conversation(t, "slt", rate)[:6*rate]
		alone := detect(mustVAD(t, rate), pcm, rate)
		if got := detect(mustNeuralVAD(t, opinionated(t, -50), rate), pcm, rate); sixOfSeven(got) >= 0 {
			t.Errorf("%s: %d of %d frames are speech to a network that hears none", rateName(rate), ones(got), ones(alone))
		}
		for i, speech := range detect(mustNeuralVAD(t, opinionated(t, 50), rate), pcm, rate) {
			if alone[i] && !speech {
				t.Fatalf("%s: frame %d is not speech to a network that hears it everywhere", rateName(rate), i)
			}
		}
	}
}

// Without weights the network cannot compute: silence does not ask it.
func TestNeuralVADAsksOnlyAboutSpeech(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		v := mustNeuralVAD(t, &VADWeights{}, rate)
		for range 500 {
			if a := v.Detect(Frame{Rate: rate, PCM: make([]int16, rate/50)}); a.Speech {
				t.Fatalf("%s: silence is speech", rateName(rate))
			}
		}
	}
}

func TestNeuralVADReset(t *testing.T) {
	pcm := conversation(t, "slt", 16000)[:4*16000]
	v := mustNeuralVAD(t, seededWeights(t), 16000)
	var first, second []Activity
	eachFrame(pcm, 16000, func(_ int, f Frame) { first = append(first, v.Detect(f)) })
	v.Reset()
	eachFrame(pcm, 16000, func(_ int, f Frame) { second = append(second, v.Detect(f)) })
	if !slices.Equal(first, second) {
		t.Error("a reset detector differs from a new one")
	}
}

func TestNeuralVADRefusesOtherRates(t *testing.T) {
	if _, err := NewNeuralVAD(&VADWeights{}, 48000); !errors.Is(err, ErrRate) {
		t.Errorf("48 kHz: got %v, want ErrRate", err)
	}
	v := mustNeuralVAD(t, &VADWeights{}, 8000)
	for range 20 {
		if a := v.Detect(Frame{Rate: 16000, PCM: sine(16000, 300, 1, 320)}); a.Speech {
			t.Fatal("a frame of another rate is speech")
		}
	}
}

func TestNeuralVADAllocatesNothing(t *testing.T) {
	for _, rate := range []int{8000, 16000} {
		v := mustNeuralVAD(t, seededWeights(t), rate)
		f := Frame{Rate: rate, PCM: sine(rate, 300, 0.3, rate/50)}
		if n := testing.AllocsPerRun(20, func() { v.Detect(f) }); n != 0 {
			t.Errorf("%s: %v allocations a frame", rateName(rate), n)
		}
	}
}
