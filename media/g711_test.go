package media

import (
	"bytes"
	"math"
	"slices"
	"testing"
)

// g711Law is a law as G.711 prints it: decision values of the positive half in
// steps of 2^shift sixteen-bit units, and the character signals in order.
type g711Law struct {
	name      string
	encode    func([]byte, []int16) []byte
	decode    func([]int16, []byte) []int16
	decisions []int // 16-bit units; interval n is [decisions[n], decisions[n+1])
	code      func(interval int, positive bool) byte
}

func g711Laws() []g711Law {
	// Table 2a/G.711: the first interval is one unit wide, then 15 of 2, then
	// 16 each of 4, 8, ... 256, of 14-bit units.
	mu := []int{0, 4}
	for step, n := 2, 15; step <= 256; step, n = step*2, 16 {
		for range n {
			mu = append(mu, mu[len(mu)-1]+4*step)
		}
	}
	// Table 1a/G.711: 32 intervals of 2, then 16 each of 4, 8, ... 128, of
	// 13-bit units.
	a := []int{0}
	for step, n := 2, 32; step <= 128; step, n = step*2, 16 {
		for range n {
			a = append(a, a[len(a)-1]+8*step)
		}
	}
	return []g711Law{
		{"PCMU", EncodePCMU, DecodePCMU, mu[:128], func(n int, positive bool) byte {
			if positive {
				return byte(0xff - n)
			}
			return byte(0x7f - n)
		}},
		{"PCMA", EncodePCMA, DecodePCMA, a[:128], func(n int, positive bool) byte {
			if positive {
				return byte(0x80+n) ^ 0x55
			}
			return byte(n) ^ 0x55
		}},
	}
}

func TestG711EncodesEverySampleByTheTables(t *testing.T) {
	for _, law := range g711Laws() {
		t.Run(law.name, func(t *testing.T) {
			for s := math.MinInt16; s <= math.MaxInt16; s++ {
				n := 0
				for n+1 < len(law.decisions) && (s >= law.decisions[n+1] || -s > law.decisions[n+1]) {
					n++
				}
				want := law.code(n, s >= 0)
				if got := law.encode(nil, []int16{int16(s)})[0]; got != want {
					t.Fatalf("encode %d: got %#02x, want %#02x", s, got, want)
				}
			}
		})
	}
}

func TestG711DecodesToTheMiddleOfTheInterval(t *testing.T) {
	for _, law := range g711Laws() {
		t.Run(law.name, func(t *testing.T) {
			for n, low := range law.decisions {
				width := 0
				if n+1 < len(law.decisions) {
					width = law.decisions[n+1] - low
				} else {
					width = low - law.decisions[n-1]
				}
				want := low + width/2
				if law.name == "PCMU" && n == 0 {
					want = 0 // y(0) of table 2a is 0, not the middle
				}
				for _, positive := range []bool{true, false} {
					if !positive {
						want = -want
					}
					code := law.code(n, positive)
					if got := law.decode(nil, []byte{code})[0]; int(got) != want {
						t.Errorf("decode %#02x: got %d, want %d", code, got, want)
					}
				}
			}
		})
	}
}

// The values are the corner cases of tables 1 and 2 of G.711.
func TestG711KnownValues(t *testing.T) {
	for _, tt := range []struct {
		name    string
		code    byte
		pcm     int16
		decoded int16
		encode  func([]byte, []int16) []byte
		decode  func([]int16, []byte) []int16
	}{
		{"mu zero", 0xff, 0, 0, EncodePCMU, DecodePCMU},
		{"mu most", 0x80, 32767, 32124, EncodePCMU, DecodePCMU},
		{"mu least", 0x00, -32768, -32124, EncodePCMU, DecodePCMU},
		{"a zero", 0xd5, 0, 8, EncodePCMA, DecodePCMA},
		{"a minus one", 0x55, -1, -8, EncodePCMA, DecodePCMA},
		{"a most", 0xaa, 32767, 32256, EncodePCMA, DecodePCMA},
		{"a least", 0x2a, -32768, -32256, EncodePCMA, DecodePCMA},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.encode(nil, []int16{tt.pcm})[0]; got != tt.code {
				t.Errorf("encode %d: got %#02x, want %#02x", tt.pcm, got, tt.code)
			}
			if got := tt.decode(nil, []byte{tt.code})[0]; got != tt.decoded {
				t.Errorf("decode %#02x: got %d, want %d", tt.code, got, tt.decoded)
			}
		})
	}
}

// A sine at -10 dBm0 keeps at least 33 dB by the mask of ITU-T G.712.
func TestG711RoundTripSNR(t *testing.T) {
	for _, law := range g711Laws() {
		for _, level := range []float64{-3, -13, -23, -33} {
			pcm := sine(8000, 1004, math.Pow(10, level/20), 8000)
			back := law.decode(nil, law.encode(nil, pcm))
			got := snr(pcm, back)
			t.Logf("%s at %.0f dBFS: %.1f dB", law.name, level, got)
			if got < 35 {
				t.Errorf("%s at %.0f dBFS: SNR %.1f dB, want at least 35", law.name, level, got)
			}
		}
	}
}

func TestG711IsStableOnceQuantized(t *testing.T) {
	for _, law := range g711Laws() {
		for c := range 256 {
			once := law.decode(nil, []byte{byte(c)})
			if twice := law.decode(nil, law.encode(nil, once)); twice[0] != once[0] {
				t.Errorf("%s %#02x: %d became %d", law.name, c, once[0], twice[0])
			}
		}
	}
}

func TestG711AppendsWithoutAllocating(t *testing.T) {
	pcm := sine(8000, 440, 0.5, 160)
	for _, law := range g711Laws() {
		got := law.encode([]byte("ab"), pcm)
		if want := append([]byte("ab"), law.encode(nil, pcm)...); !bytes.Equal(got, want) {
			t.Errorf("%s: encode does not append", law.name)
		}
		if got, want := law.decode([]int16{7}, []byte{1, 2}), append([]int16{7}, law.decode(nil, []byte{1, 2})...); !slices.Equal(got, want) {
			t.Errorf("%s: decode does not append: got %v, want %v", law.name, got, want)
		}
		b, back := make([]byte, 0, 160), make([]int16, 0, 160)
		if n := testing.AllocsPerRun(100, func() { back = law.decode(back[:0], law.encode(b[:0], pcm)) }); n != 0 {
			t.Errorf("%s: %v allocations a frame", law.name, n)
		}
	}
}

func BenchmarkG711(b *testing.B) {
	pcm := sine(8000, 440, 0.5, 160)
	for _, law := range g711Laws() {
		out, back := make([]byte, 0, 160), make([]int16, 0, 160)
		b.Run(law.name+"-encode", func(b *testing.B) {
			for b.Loop() {
				out = law.encode(out[:0], pcm)
			}
		})
		b.Run(law.name+"-decode", func(b *testing.B) {
			for b.Loop() {
				back = law.decode(back[:0], out)
			}
		})
	}
}

// sine returns n samples of a tone; amplitude 1 is full scale.
func sine(rate int, hertz, amplitude float64, n int) []int16 {
	pcm := make([]int16, n)
	for i := range pcm {
		pcm[i] = int16(math.Round(32767 * amplitude * math.Sin(2*math.Pi*hertz*float64(i)/float64(rate))))
	}
	return pcm
}

// snr compares got with want, in decibels.
func snr(want, got []int16) float64 {
	var signal, noise float64
	for i := range want {
		d := float64(got[i]) - float64(want[i])
		signal += float64(want[i]) * float64(want[i])
		noise += d * d
	}
	return 10 * math.Log10(signal/noise)
}
