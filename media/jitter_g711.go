package media

// A G711Decoder is the [PacketDecoder] of PCMU and PCMA, 8 kHz on the wire and
// 16 kHz out. It is not safe for concurrent use.
type G711Decoder struct {
	decode func(dst []int16, b []byte) []int16
	up     *Resampler
	narrow []int16
	wide   []int16
	past   [g711Past]int16 // the last output, to conceal from
	period int             // of the concealment in progress, in samples
	phase  int
	gain   float64
}

const (
	g711Past  = 480                 // 30 ms at 16 kHz
	g711Short = 80                  // the shortest pitch period tried, 5 ms
	g711Long  = 240                 // 15 ms, 66 Hz
	g711Fade  = 1.0 / (16000 * .06) // silence after 60 ms, as G.711 appendix I does
)

// NewPCMUDecoder returns a decoder of µ-law packets (RFC 3551 §4.5.14).
func NewPCMUDecoder() (*G711Decoder, error) { return newG711Decoder(DecodePCMU) }

// NewPCMADecoder returns a decoder of A-law packets (RFC 3551 §4.5.14).
func NewPCMADecoder() (*G711Decoder, error) { return newG711Decoder(DecodePCMA) }

func newG711Decoder(decode func([]int16, []byte) []int16) (*G711Decoder, error) {
	up, err := NewResampler(8000, 16000)
	if err != nil {
		return nil, err
	}
	return &G711Decoder{decode: decode, up: up, gain: 1}, nil
}

// Samples implements [PacketDecoder].
func (d *G711Decoder) Samples(packet []byte) int { return 2 * len(packet) }

// Silent implements [PacketDecoder]: G.711 has no word for it.
func (d *G711Decoder) Silent([]byte) bool { return false }

// Carries implements [PacketDecoder]: G.711 has no FEC.
func (d *G711Decoder) Carries([]byte) bool { return false }

// Recover implements [PacketDecoder].
func (d *G711Decoder) Recover(dst []int16, _ []byte) error {
	d.Conceal(dst)
	return nil
}

// Decode implements [PacketDecoder].
func (d *G711Decoder) Decode(dst []int16, packet []byte) (int, error) {
	d.narrow = d.decode(d.narrow[:0], packet)
	d.wide = d.up.Process(d.wide[:0], d.narrow)
	// The resampler may hold a few samples back at first; the frame stays whole.
	n := 2 * len(packet)
	pad := max(0, n-len(d.wide))
	clear(dst[:pad])
	copy(dst[pad:n], d.wide)
	d.remember(dst[:n])
	d.period, d.gain = 0, 1
	return n, nil
}

// Conceal repeats the last pitch period, fading out within 60 ms.
func (d *G711Decoder) Conceal(dst []int16) {
	if d.period == 0 {
		d.period, d.phase = d.pitch(), 0
	}
	from := d.past[g711Past-d.period:]
	for i := range dst {
		dst[i] = int16(float64(from[d.phase]) * d.gain)
		d.phase = (d.phase + 1) % d.period
		d.gain = max(0, d.gain-g711Fade)
	}
}

// Reset implements [PacketDecoder].
func (d *G711Decoder) Reset() {
	d.up.Reset()
	clear(d.past[:])
	d.period, d.gain = 0, 1
}

func (d *G711Decoder) remember(pcm []int16) {
	if len(pcm) >= g711Past {
		copy(d.past[:], pcm[len(pcm)-g711Past:])
		return
	}
	copy(d.past[:], d.past[len(pcm):])
	copy(d.past[g711Past-len(pcm):], pcm)
}

// pitch returns the lag at which the last 15 ms look most like what came before.
func (d *G711Decoder) pitch() int {
	best, lag := 0.0, g711Long
	for l := g711Short; l <= g711Long; l += 2 {
		var cross, energy float64
		for i := g711Past - g711Long; i < g711Past; i += 2 {
			a, b := float64(d.past[i]), float64(d.past[i-l])
			cross += a * b
			energy += b * b
		}
		if cross > 0 && cross*cross > best*energy {
			best, lag = cross*cross/energy, l
		}
	}
	return lag
}
