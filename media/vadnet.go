package media

import "math"

const (
	netRate    = 16000
	netWindow  = 512 // new samples, 32 ms
	netContext = 64  // samples of the past before them
	netPad     = 64  // samples mirrored after them
	netHop     = 128
	netFrames  = (netContext+netWindow+netPad-vadFFT)/netHop + 1 // of the spectrum: 4
	netBins    = vadFFT/2 + 1
	netWidth   = 128
)

// A network computes Silero VAD (https://github.com/snakers4/silero-vad, MIT):
// the magnitudes of four overlapping spectra, four convolutions along time with
// rectifiers, which leave one frame, an LSTM cell, and a logistic output. It
// holds one stream's state and all the room that a pass needs.
type network struct {
	w   *VADWeights
	fft *realFFT

	padded [netContext + netWindow + netPad]float32 // the context and the window come first
	spec   [netFrames][netBins]float32
	col    [3 * netBins]float32 // what one output frame of a convolution sees
	a      [netFrames][128]float32
	b      [2][64]float32
	c      [64]float32
	gates  [4 * netWidth]float32
	seen   [2 * netWidth]float32 // the LSTM's input, then its last output
	cell   [netWidth]float32
}

func newNetwork(w *VADWeights) *network {
	return &network{w: w, fft: newRealFFT(hann)}
}

// hann is the window of the network's transform.
func hann(i int) float64 { return 0.5 - 0.5*math.Cos(2*math.Pi*float64(i)/vadFFT) }

// forget begins a new stream.
func (n *network) forget() {
	clear(n.seen[:])
	clear(n.cell[:])
}

// pass returns the log-odds of speech in the window that follows the context,
// both full scale at one.
func (n *network) pass(x *[netContext + netWindow]float32) float64 {
	n.spectra(x)
	for t := range n.a {
		n.w.conv[0].rectified(n.a[t][:], n.col[:gather(n.col[:], n.spec[:], t-1)])
	}
	for t := range n.b {
		n.w.conv[1].rectified(n.b[t][:], n.col[:gather(n.col[:], n.a[:], 2*t-1)])
	}
	for i := range n.b[0] {
		n.col[2*i], n.col[2*i+1] = n.b[0][i], n.b[1][i]
	}
	n.w.conv[2].rectified(n.c[:], n.col[:128])
	n.w.conv[3].rectified(n.seen[:netWidth], n.c[:])
	return n.remember()
}

// gather lays three frames from the first on side by side for each channel, as
// the weights of a convolution lie, with zeros before the first frame and after
// the last. It returns how many values that is.
func gather[F [128]float32 | [netBins]float32](col []float32, frames []F, first int) int {
	width := len(frames[0])
	for k := range 3 {
		t := first + k
		for i := range width {
			x := float32(0)
			if t >= 0 && t < len(frames) {
				x = frames[t][i]
			}
			col[3*i+k] = x
		}
	}
	return 3 * width
}

// spectra fills spec.
func (n *network) spectra(x *[netContext + netWindow]float32) {
	copy(n.padded[:], x[:])
	for i := range netPad {
		n.padded[len(x)+i] = x[len(x)-2-i]
	}
	for t := range n.spec {
		power := n.fft.power((*[vadFFT]float32)(n.padded[t*netHop:]))
		for k, p := range power {
			n.spec[t][k] = float32(math.Sqrt(float64(p)))
		}
	}
}

// remember passes the LSTM cell and the output.
func (n *network) remember() float64 {
	n.w.gates.apply(n.gates[:], n.seen[:])
	sum := float64(n.w.out.bias[0])
	for i := range n.cell {
		in, forget := logistic(n.gates[i]), logistic(n.gates[netWidth+i])
		cell, out := math.Tanh(float64(n.gates[2*netWidth+i])), logistic(n.gates[3*netWidth+i])
		c := forget*float64(n.cell[i]) + in*cell
		h := out * math.Tanh(c)
		n.cell[i], n.seen[netWidth+i] = float32(c), float32(h)
		sum += float64(n.w.out.weight[i]) * max(h, 0)
	}
	return sum
}

func logistic(x float32) float64 { return 1 / (1 + math.Exp(-float64(x))) }

// rectified is apply without what is negative.
func (l layer) rectified(out, x []float32) {
	l.apply(out, x)
	for i := range out {
		out[i] = max(out[i], 0)
	}
}

// apply sets out to what the layer makes of x, eight rows at a time, which keeps
// eight sums in flight. All layers but the last have a multiple of eight.
func (l layer) apply(out, x []float32) {
	n := len(x)
	for i := 0; i+8 <= len(out); i += 8 {
		w := l.weight[i*n : (i+8)*n]
		a, b, c, d := w[:n], w[n:][:n], w[2*n:][:n], w[3*n:][:n]
		e, f, g, h := w[4*n:][:n], w[5*n:][:n], w[6*n:][:n], w[7*n:][:n]
		var sa, sb, sc, sd, se, sf, sg, sh float32
		for j, v := range x {
			sa += a[j] * v
			sb += b[j] * v
			sc += c[j] * v
			sd += d[j] * v
			se += e[j] * v
			sf += f[j] * v
			sg += g[j] * v
			sh += h[j] * v
		}
		for k, sum := range [8]float32{sa, sb, sc, sd, se, sf, sg, sh} {
			out[i+k] = sum + l.bias[i+k]
		}
	}
}
