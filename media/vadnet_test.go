package media

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// seededTensors are weights of the right shapes that nobody trained.
func seededTensors() map[string][]float32 {
	rng := rand.New(rand.NewPCG(5, 6))
	tensors := make(map[string][]float32)
	for _, name := range slices.Sorted(maps.Keys(vadTensors)) {
		shape := vadTensors[name]
		fan := 1
		for _, k := range shape[1:] {
			fan *= k
		}
		x := make([]float32, shape[0]*fan)
		for i := range x {
			x[i] = float32(2 * rng.NormFloat64() / math.Sqrt(float64(fan)))
			if len(shape) == 1 {
				x[i] /= 10
			}
		}
		tensors[name] = x
	}
	basis := tensors["stft_conv.weight"]
	for k := range netBins {
		for i := range vadFFT {
			s, c := math.Sincos(2 * math.Pi * float64(k*i%vadFFT) / vadFFT)
			basis[k*vadFFT+i], basis[(netBins+k)*vadFFT+i] = float32(c*hann(i)), float32(-s*hann(i))
		}
	}
	return tensors
}

// safetensors writes a file of tensors under the shapes, in order of names.
func safetensors(t testing.TB, tensors map[string][]float32, shapes map[string][]int) []byte {
	t.Helper()
	header := map[string]any{"__metadata__": map[string]string{"made": "here"}}
	var data []byte
	for _, name := range slices.Sorted(maps.Keys(tensors)) {
		from := len(data)
		for _, x := range tensors[name] {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
		}
		header[name] = map[string]any{"dtype": "F32", "shape": shapes[name], "data_offsets": []int{from, len(data)}}
	}
	return withHeader(t, header, data)
}

func withHeader(t testing.TB, header any, data []byte) []byte {
	t.Helper()
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(h))), h...), data...)
}

func seededWeights(t testing.TB) *VADWeights {
	t.Helper()
	w, err := ReadVADWeights(bytes.NewReader(safetensors(t, seededTensors(), vadTensors)))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// chirp is a tone that rises from 100 Hz to 4 kHz in a second, and swells and
// fades.
func chirp() []float32 {
	x := make([]float32, netRate)
	for i := range x {
		at := float64(i) / netRate
		x[i] = float32(0.3 * math.Sin(math.Pi*at) * math.Sin(2*math.Pi*(100+1950*at)*at))
	}
	return x
}

// passes returns the probability of each window.
func passes(n *network, pcm []float32) (p []float64) {
	var x [netContext + netWindow]float32
	for ; len(pcm) >= netWindow; pcm = pcm[netWindow:] {
		copy(x[:netContext], x[netWindow:])
		copy(x[netContext:], pcm)
		p = append(p, logistic(float32(n.pass(&x))))
	}
	return p
}

// What ONNX Runtime 1.31.1 makes of the chirp with the published graph of
// silero-vad 6.2.3 (silero_vad_16k_op15.onnx), its weights replaced by
// seededTensors.
var chirpByRuntime = []float64{
	0.594895, 0.579282, 0.486087, 0.494731, 0.538490, 0.560415, 0.560942, 0.510967,
	0.513269, 0.488692, 0.474713, 0.456381, 0.424746, 0.399988, 0.516324, 0.530925,
	0.548372, 0.693614, 0.513593, 0.565022, 0.578989, 0.395623, 0.457818, 0.439940,
	0.610576, 0.522972, 0.455861, 0.471658, 0.583466, 0.603590, 0.653989,
}

func TestNetworkEqualsTheRuntime(t *testing.T) {
	got := passes(newNetwork(seededWeights(t)), chirp())
	if len(got) != len(chirpByRuntime) {
		t.Fatalf("%d windows, want %d", len(got), len(chirpByRuntime))
	}
	for i, want := range chirpByRuntime {
		if math.Abs(got[i]-want) > 1e-4 {
			t.Errorf("window %d: probability %.6f, want %.6f", i, got[i], want)
		}
	}
}

// plain computes the network as it is drawn, in float64, without shortcuts.
type plain struct {
	w    map[string][]float32
	h, c [netWidth]float64
}

func (n *plain) conv(name string, in [][]float64, stride int) (out [][]float64) {
	w, b := n.w[name+".weight"], n.w[name+".bias"]
	for t := 0; t < len(in); t += stride {
		row := make([]float64, len(b))
		for o := range row {
			row[o] = float64(b[o])
			for i := range in[0] {
				for k := range 3 {
					if at := t + k - 1; at >= 0 && at < len(in) {
						row[o] += float64(w[(o*len(in[0])+i)*3+k]) * in[at][i]
					}
				}
			}
			row[o] = max(row[o], 0)
		}
		out = append(out, row)
	}
	return out
}

func (n *plain) pass(x []float64) float64 {
	for i := range netPad {
		x = append(x, x[len(x)-2-2*i])
	}
	var frames [][]float64
	for at := 0; at+vadFFT <= len(x); at += netHop {
		row := make([]float64, netBins)
		for k := range row {
			var re, im float64
			for i := range vadFFT {
				re += float64(n.w["stft_conv.weight"][k*vadFFT+i]) * x[at+i]
				im += float64(n.w["stft_conv.weight"][(netBins+k)*vadFFT+i]) * x[at+i]
			}
			row[k] = math.Hypot(re, im)
		}
		frames = append(frames, row)
	}
	in := n.conv("conv4", n.conv("conv3", n.conv("conv2", n.conv("conv1", frames, 1), 2), 2), 1)[0]
	gate := func(g int) float64 {
		sum := float64(n.w["lstm_cell.bias_ih"][g]) + float64(n.w["lstm_cell.bias_hh"][g])
		for i := range netWidth {
			sum += float64(n.w["lstm_cell.weight_ih"][g*netWidth+i])*in[i] + float64(n.w["lstm_cell.weight_hh"][g*netWidth+i])*n.h[i]
		}
		return sum
	}
	sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
	var h, c [netWidth]float64
	sum := float64(n.w["final_conv.bias"][0])
	for i := range h {
		c[i] = sigmoid(gate(netWidth+i))*n.c[i] + sigmoid(gate(i))*math.Tanh(gate(2*netWidth+i))
		h[i] = sigmoid(gate(3*netWidth+i)) * math.Tanh(c[i])
		sum += float64(n.w["final_conv.weight"][i]) * max(0, h[i])
	}
	n.h, n.c = h, c
	return sigmoid(sum)
}

func TestNetworkEqualsThePlainOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	pcm := make([]float32, 8*netWindow)
	for i := range pcm {
		pcm[i] = float32(0.3 * rng.NormFloat64() * math.Abs(math.Sin(float64(i)/900)))
	}
	ref := &plain{w: seededTensors()}
	got, before := passes(newNetwork(seededWeights(t)), pcm), make([]float64, netContext)
	for i, p := range got {
		x := before
		for _, s := range pcm[i*netWindow : (i+1)*netWindow] {
			x = append(x, float64(s))
		}
		before = slices.Clone(x[netWindow:])
		if want := ref.pass(x); math.Abs(p-want) > 1e-4 {
			t.Errorf("window %d: probability %.6f, want %.6f", i, p, want)
		}
	}
	least, most := slices.Min(got), slices.Max(got)
	if most-least < 0.1 {
		t.Errorf("probabilities from %.3f to %.3f prove nothing", least, most)
	}
}

func TestReadVADWeightsRefuses(t *testing.T) {
	good := seededTensors()
	file := safetensors(t, good, vadTensors)
	changed := func(f func(tensors map[string][]float32, shapes map[string][]int)) []byte {
		tensors, shapes := maps.Clone(good), maps.Clone(vadTensors)
		f(tensors, shapes)
		return safetensors(t, tensors, shapes)
	}
	set := func(name string, i int, x float32) []byte {
		return changed(func(tensors map[string][]float32, _ map[string][]int) {
			tensors[name] = slices.Clone(tensors[name])
			tensors[name][i] = x
		})
	}
	for _, tt := range []struct {
		name string
		file []byte
		says string
	}{
		{"empty", nil, "0 bytes"},
		{"text", []byte("<!DOCTYPE html><p>not found"), "header has"},
		{"cut", file[:len(file)-100], "cut short"},
		{"cut in the header", file[:100], "header has"},
		{"huge", make([]byte, vadWeightsFile+1), "over 4194304 bytes"},
		{"not JSON", append(binary.LittleEndian.AppendUint64(nil, 4), "nope"...), "not JSON"},
		{"wrong shape", changed(func(ts map[string][]float32, shapes map[string][]int) {
			shapes["conv1.weight"] = []int{128, 128, 3}
		}), "conv1.weight: it is F32 [128 128 3], want F32 [128 129 3]"},
		{"missing", changed(func(ts map[string][]float32, _ map[string][]int) { delete(ts, "conv4.bias") }), "conv4.bias is missing"},
		{"one too many", changed(func(ts map[string][]float32, _ map[string][]int) { ts["conv5.bias"] = nil }), `"conv5.bias"`},
		{"another length", changed(func(ts map[string][]float32, _ map[string][]int) {
			ts["final_conv.bias"] = make([]float32, 2)
		}), "it has 8 bytes, want 4"},
		{"another type", withHeader(t, map[string]any{"conv1.bias": map[string]any{"dtype": "F16", "shape": []int{128}, "data_offsets": []int{0, 256}}}, make([]byte, 256)), "F16"},
		{"offsets out of the file", withHeader(t, map[string]any{"final_conv.bias": map[string]any{"dtype": "F32", "shape": []int{1}, "data_offsets": []int{-4, 0}}}, nil), "cut short"},
		{"not a number", set("conv2.weight", 7, float32(math.NaN())), "conv2.weight has NaN at place 7"},
		{"infinite", set("lstm_cell.weight_hh", 7, float32(math.Inf(-1))), "-Inf"},
		{"another transform", set("stft_conv.weight", 300, 0.5), "Fourier"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ReadVADWeights(bytes.NewReader(tt.file))
			if !errors.Is(err, ErrVADWeights) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), "silero_vad_16k.safetensors") {
				t.Errorf("got %q, want ErrVADWeights, %q and where to get the file", err, tt.says)
			}
		})
	}
}

func FuzzReadVADWeights(f *testing.F) {
	entry := map[string]any{"dtype": "F32", "shape": []int{1}, "data_offsets": []int{0, 4}}
	f.Add(withHeader(f, map[string]any{"final_conv.bias": entry}, make([]byte, 4)))
	f.Add(withHeader(f, map[string]any{"__metadata__": nil}, nil))
	f.Add([]byte{255, 255, 255, 255, 255, 255, 255, 255, '{', '}'})
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ReadVADWeights(bytes.NewReader(b)); err != nil && !errors.Is(err, ErrVADWeights) {
			t.Errorf("%v is not ErrVADWeights", err)
		}
	})
}

func BenchmarkNetwork(b *testing.B) {
	n := newNetwork(seededWeights(b))
	x := (*[netContext + netWindow]float32)(chirp())
	for b.Loop() {
		n.pass(x)
	}
}
