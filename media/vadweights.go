package media

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// VADWeights are the numbers of the network that a [NeuralVAD] computes. They
// do not change: any number of detectors may share them.
type VADWeights struct {
	conv  [4]layer
	gates layer // of the LSTM: input, forget, cell and output, over what comes in and what it said before
	out   layer
}

// A layer is an affine map: a row of weights and a bias for each output.
type layer struct {
	weight []float32
	bias   []float32
}

const (
	// vadWeightsHint tells an operator how to come by the file.
	vadWeightsHint = `use silero_vad_16k.safetensors of the Python package silero-vad, release 6, or what scripts/vad-weights.py makes of it`

	safetensorsHeader = 64 << 10 // bytes of a header, at most; that of the file is 1,208
	vadWeightsFile    = 4 << 20  // bytes of the file, at most; it has 1,239,748

	// vadWeightMost bounds each weight, so that no sum overflows. The greatest
	// of the published ones is 55.
	vadWeightMost = 1000
)

// ErrVADWeights is wrapped by each error about what a file of weights holds.
var ErrVADWeights = errors.New("media: not the weights of the voice activity network")

// vadTensors are all that the file holds, by name, as float32.
var vadTensors = map[string][]int{
	"stft_conv.weight":    {2 * netBins, 1, vadFFT},
	"conv1.weight":        {128, netBins, 3},
	"conv1.bias":          {128},
	"conv2.weight":        {64, 128, 3},
	"conv2.bias":          {64},
	"conv3.weight":        {64, 64, 3},
	"conv3.bias":          {64},
	"conv4.weight":        {netWidth, 64, 3},
	"conv4.bias":          {netWidth},
	"lstm_cell.weight_ih": {4 * netWidth, netWidth},
	"lstm_cell.weight_hh": {4 * netWidth, netWidth},
	"lstm_cell.bias_ih":   {4 * netWidth},
	"lstm_cell.bias_hh":   {4 * netWidth},
	"final_conv.weight":   {1, netWidth, 1},
	"final_conv.bias":     {1},
}

// ReadVADWeights reads a file of weights in the safetensors form
// (https://huggingface.co/docs/safetensors): the sixteen-kilohertz network of
// Silero VAD, version 5 or 6, under the names that its own package gives. A file
// that holds anything else is refused with an error that wraps [ErrVADWeights]
// and says what was expected, and where to get it.
func ReadVADWeights(r io.Reader) (*VADWeights, error) {
	file, err := io.ReadAll(io.LimitReader(r, vadWeightsFile+1))
	if err != nil {
		return nil, fmt.Errorf("read weights: %w", err)
	}
	tensors, err := parseSafetensors(file)
	if err == nil {
		err = checkVADTensors(tensors)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w; %s", ErrVADWeights, err, vadWeightsHint)
	}
	w := &VADWeights{
		gates: layer{bias: slices.Clone(tensors["lstm_cell.bias_ih"])},
		out:   layer{tensors["final_conv.weight"], tensors["final_conv.bias"]},
	}
	for i, b := range tensors["lstm_cell.bias_hh"] {
		w.gates.bias[i] += b
	}
	for i := range 4 * netWidth {
		row := i * netWidth
		w.gates.weight = append(w.gates.weight, tensors["lstm_cell.weight_ih"][row:row+netWidth]...)
		w.gates.weight = append(w.gates.weight, tensors["lstm_cell.weight_hh"][row:row+netWidth]...)
	}
	for i := range w.conv {
		name := fmt.Sprintf("conv%d", i+1)
		w.conv[i] = layer{tensors[name+".weight"], tensors[name+".bias"]}
	}
	// By then a window is so short that the other taps see nothing but padding.
	w.conv[2].weight = taps(w.conv[2].weight, 1, 2)
	w.conv[3].weight = taps(w.conv[3].weight, 1)
	return w, nil
}

// taps keeps these of every three weights.
func taps(weight []float32, keep ...int) []float32 {
	var kept []float32
	for i := 0; i < len(weight); i += 3 {
		for _, k := range keep {
			kept = append(kept, weight[i+k])
		}
	}
	return kept
}

// checkVADTensors holds the numbers themselves to what the network computes
// with.
func checkVADTensors(tensors map[string][]float32) error {
	for name, values := range tensors {
		for i, x := range values {
			if !(math.Abs(float64(x)) <= vadWeightMost) {
				return fmt.Errorf("%s has %v at place %d, want at most %d either way", name, x, i, vadWeightMost)
			}
		}
	}
	// The network begins with a Fourier transform written out as a convolution.
	// We compute a fast one.
	basis := tensors["stft_conv.weight"]
	for k := range netBins {
		for i := range vadFFT {
			s, c := math.Sincos(2 * math.Pi * float64(k*i%vadFFT) / vadFFT)
			re, im := basis[k*vadFFT+i], basis[(netBins+k)*vadFFT+i]
			if math.Abs(float64(re)-c*hann(i)) > 1e-4 || math.Abs(float64(im)+s*hann(i)) > 1e-4 {
				return errors.New("stft_conv.weight is not the Fourier transform of a Hann window")
			}
		}
	}
	return nil
}

// parseSafetensors returns the tensors of a file, which are exactly vadTensors.
func parseSafetensors(file []byte) (map[string][]float32, error) {
	if len(file) > vadWeightsFile {
		return nil, fmt.Errorf("the file has over %d bytes", vadWeightsFile)
	}
	if len(file) < 8 {
		return nil, fmt.Errorf("the file has %d bytes and no header", len(file))
	}
	size, rest := binary.LittleEndian.Uint64(file), file[8:]
	if size > safetensorsHeader || size > uint64(len(rest)) {
		return nil, fmt.Errorf("the header has %d bytes, by its own count, of a file of %d", size, len(file))
	}
	var header map[string]json.RawMessage
	if err := json.Unmarshal(rest[:size], &header); err != nil {
		return nil, fmt.Errorf("the header is not JSON: %w", err)
	}
	data := rest[size:]
	tensors := make(map[string][]float32)
	for name, raw := range header {
		if name == "__metadata__" {
			continue
		}
		want, ok := vadTensors[name]
		if !ok {
			return nil, fmt.Errorf("the file has a tensor %.40q", name)
		}
		values, err := parseTensor(raw, want, data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		tensors[name] = values
	}
	for name, shape := range vadTensors {
		if tensors[name] == nil {
			return nil, fmt.Errorf("%s is missing, F32 %v", name, shape)
		}
	}
	return tensors, nil
}

func parseTensor(raw json.RawMessage, shape []int, data []byte) ([]float32, error) {
	var t struct {
		Type    string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	if err := d.Decode(&t); err != nil {
		return nil, fmt.Errorf("its entry in the header: %w", err)
	}
	if t.Type != "F32" || !slices.Equal(t.Shape, shape) {
		return nil, fmt.Errorf("it is %.10s %.60v, want F32 %v", t.Type, fmt.Sprint(t.Shape), shape)
	}
	n := 1
	for _, k := range shape {
		n *= k
	}
	from, to := t.Offsets[0], t.Offsets[1]
	if from < 0 || to > len(data) || from > to {
		return nil, fmt.Errorf("it lies at bytes %d to %d of %d: the file is cut short", from, to, len(data))
	}
	if to-from != 4*n {
		return nil, fmt.Errorf("it has %d bytes, want %d", to-from, 4*n)
	}
	values := make([]float32, n)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[from+4*i:]))
	}
	return values, nil
}
