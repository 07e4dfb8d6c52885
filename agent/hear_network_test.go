package agent

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"parley/media"
)

// deafNetwork is a network of the right shape that never hears speech: all its
// weights are zero, but for the transform that it must begin with and the bias of
// its verdict.
func deafNetwork(t *testing.T) *media.VADWeights {
	t.Helper()
	header, data := map[string]any{}, []byte(nil)
	for name, shape := range map[string][]int{
		"stft_conv.weight": {258, 1, 256},
		"conv1.weight":     {128, 129, 3}, "conv1.bias": {128},
		"conv2.weight": {64, 128, 3}, "conv2.bias": {64},
		"conv3.weight": {64, 64, 3}, "conv3.bias": {64},
		"conv4.weight": {128, 64, 3}, "conv4.bias": {128},
		"lstm_cell.weight_ih": {512, 128}, "lstm_cell.weight_hh": {512, 128},
		"lstm_cell.bias_ih": {512}, "lstm_cell.bias_hh": {512},
		"final_conv.weight": {1, 128, 1}, "final_conv.bias": {1},
	} {
		from, n := len(data), 4
		for _, k := range shape {
			n *= k
		}
		data = append(data, make([]byte, n)...)
		put := func(i int, x float64) { binary.LittleEndian.PutUint32(data[from+4*i:], math.Float32bits(float32(x))) }
		switch name {
		case "stft_conv.weight":
			for i := range 129 * 256 {
				s, c := math.Sincos(2 * math.Pi * float64(i/256*(i%256)) / 256)
				hann := 0.5 - 0.5*math.Cos(2*math.Pi*float64(i%256)/256)
				put(i, c*hann)
				put(129*256+i, -s*hann)
			}
		case "final_conv.bias":
			put(0, -50)
		}
		header[name] = map[string]any{"dtype": "F32", "shape": shape, "data_offsets": []int{from, len(data)}}
	}
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	w, err := media.ReadVADWeights(bytes.NewReader(append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...), data...)))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// burstLeg gives 2 s of silence and 1 s of loud noise, which statistics take for
// speech at first, and ends.
type burstLeg struct {
	media.Leg
	n   int
	rng *rand.Rand
}

func (l *burstLeg) Info() media.LegInfo { return media.LegInfo{Rate: 8000, Encoding: media.PCMU} }

func (l *burstLeg) ReadFrame() (media.Frame, error) {
	f := media.Frame{Rate: 8000, PCM: make([]int16, 160)}
	l.n++
	if l.n > 150 {
		return f, io.EOF
	}
	for i := range f.PCM {
		if l.n > 100 {
			f.PCM[i] = int16(3000 * l.rng.NormFloat64())
		}
	}
	return f, nil
}

// A session whose Spec has weights asks the network.
func TestEarsAskTheNetwork(t *testing.T) {
	heard := func(w *media.VADWeights) bool {
		vad, err := newDetector(w, 8000)
		if err != nil {
			t.Fatal(err)
		}
		began := false
		leg := &burstLeg{rng: rand.New(rand.NewPCG(1, 2))}
		e := &ears{leg: leg, player: media.NewPlayer(leg), vad: vad, rec: &recognizer{memory: memory{rate: 8000, held: -1}}, record: &tap{},
			post: func(ev event) {
				if _, ok := ev.(speechStarted); ok {
					began = true
				}
			}}
		e.setSilence(200 * media.Ptime)
		if err := e.run(); err != nil {
			t.Fatal(err)
		}
		return began
	}
	if !heard(nil) {
		t.Error("a burst of noise is not taken for speech without a network: the test proves nothing")
	}
	if heard(deafNetwork(t)) {
		t.Error("speech began though the network hears none")
	}
	if _, err := newDetector(nil, 44100); err == nil || !strings.Contains(err.Error(), "44100") {
		t.Errorf("44.1 kHz: %v, want an error that says so", err)
	}
}
