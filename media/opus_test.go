package media

import (
	"math"
	"math/rand/v2"
	"testing"
)

func mustOpus(t testing.TB) (*OpusEncoder, *OpusDecoder) {
	t.Helper()
	e, err := NewOpusEncoder()
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewOpusDecoder()
	if err != nil {
		t.Fatal(err)
	}
	return e, d
}

// voiced makes something like speech: a glottal pulse train with a gliding
// pitch through two resonances, in syllables of 200 ms with pauses of 60 ms.
func voiced(samples int) []int16 {
	out := make([]int16, samples)
	var phase, a1, a2, b1, b2 float64
	for i := range out {
		sec := float64(i) / OpusRate
		pitch := 120 + 25*math.Sin(2*math.Pi*0.9*sec)
		phase += pitch / OpusRate
		x := 0.0
		if phase >= 1 {
			phase--
			x = 1
		}
		if math.Mod(sec, 0.26) > 0.2 {
			x = 0
		}
		y := x + 1.86*math.Cos(2*math.Pi*600/OpusRate)*a1 - 0.93*0.93*a2
		a2, a1 = a1, y
		z := y + 1.8*math.Cos(2*math.Pi*1500/OpusRate)*b1 - 0.9*0.9*b2
		b2, b1 = b1, z
		out[i] = int16(max(-20000, min(20000, z*1500)))
	}
	return out
}

// opusSNR compares got with want at the lag that fits best, in dB.
func opusSNR(want, got []int16, maxLag int) float64 {
	best := math.Inf(-1)
	for lag := range maxLag {
		var sig, cross, other float64
		for i := 1000; i+lag < len(got) && i < len(want); i++ {
			a, b := float64(want[i]), float64(got[i+lag])
			sig += a * a
			cross += a * b
			other += b * b
		}
		if sig == 0 || other == 0 {
			continue
		}
		// Gain-independent: the codec high-passes and shapes.
		c2 := cross * cross / (sig * other)
		if cross > 0 {
			best = max(best, 10*math.Log10(c2/(1-c2)))
		}
	}
	return best
}

func encodeAll(t testing.TB, e *OpusEncoder, pcm []int16) [][]byte {
	t.Helper()
	var packets [][]byte
	for i := 0; i+opusFrame <= len(pcm); i += opusFrame {
		p, err := e.Encode(nil, pcm[i:i+opusFrame])
		if err != nil {
			t.Fatal(err)
		}
		packets = append(packets, p)
	}
	return packets
}

func TestOpusRoundTrip(t *testing.T) {
	e, d := mustOpus(t)
	in := voiced(3 * OpusRate)
	packets := encodeAll(t, e, in)
	var out []int16
	bytes := 0
	dst := make([]int16, opusMaxSamples)
	for _, p := range packets {
		bytes += len(p)
		if got := d.Samples(p); got != opusFrame {
			t.Fatalf("Samples = %d, want %d", got, opusFrame)
		}
		n, err := d.Decode(dst, p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, dst[:n]...)
	}
	if got := opusSNR(in, out, 400); got < 7 {
		t.Errorf("SNR %.1f dB, want at least 7", got)
	}
	if rate := bytes * 8 / 3; rate < 8000 || rate > 32000 {
		t.Errorf("bit rate %d, want about 24000", rate)
	}
}

func TestOpusFECBeatsConcealment(t *testing.T) {
	e, fec := mustOpus(t)
	e.ExpectLoss(10)
	_, plc := mustOpus(t)
	_, clean := mustOpus(t)
	in := voiced(10 * OpusRate)
	packets := encodeAll(t, e, in)
	rng := rand.New(rand.NewPCG(1, 2))
	a, b, ref := make([]int16, opusMaxSamples), make([]int16, opusMaxSamples), make([]int16, opusMaxSamples)
	var sig, errFEC, errPLC float64
	recovered := 0
	for i, p := range packets {
		if _, err := clean.Decode(ref, p); err != nil {
			t.Fatal(err)
		}
		if i < 5 || i+1 == len(packets) || rng.Float64() >= 0.1 {
			fec.Decode(a, p)
			plc.Decode(b, p)
			continue
		}
		if next := packets[i+1]; fec.Carries(next) {
			recovered++
			if err := fec.Recover(a[:opusFrame], next); err != nil {
				t.Fatal(err)
			}
		} else {
			fec.Conceal(a[:opusFrame])
		}
		plc.Conceal(b[:opusFrame])
		for k := range opusFrame {
			r := float64(ref[k])
			sig += r * r
			errFEC += (r - float64(a[k])) * (r - float64(a[k]))
			errPLC += (r - float64(b[k])) * (r - float64(b[k]))
		}
	}
	gotFEC, gotPLC := 10*math.Log10(sig/errFEC), 10*math.Log10(sig/errPLC)
	t.Logf("10 %% loss: lost frames %.1f dB by FEC (%d recovered), %.1f dB by concealment", gotFEC, recovered, gotPLC)
	if recovered == 0 || gotFEC < gotPLC+3 {
		t.Errorf("FEC gives %.1f dB, concealment %.1f: want at least 3 dB more", gotFEC, gotPLC)
	}
}

func TestOpusDTX(t *testing.T) {
	e, d := mustOpus(t)
	packets := encodeAll(t, e, make([]int16, 4*OpusRate))
	silent := 0
	for _, p := range packets {
		if d.Silent(p) {
			silent++
		}
	}
	if silent < len(packets)*3/4 {
		t.Errorf("%d of %d silent packets are DTX, want three quarters", silent, len(packets))
	}
}

func TestOpusKeepsSteadyTones(t *testing.T) {
	e, d := mustOpus(t)
	in := make([]int16, 4*OpusRate)
	for i := range in {
		in[i] = int16(8000 * math.Sin(2*math.Pi*440*float64(i)/OpusRate))
	}
	dst := make([]int16, opusMaxSamples)
	for i, p := range encodeAll(t, e, in) {
		n, err := d.Decode(dst, p)
		if err != nil {
			t.Fatal(err)
		}
		if got := rms(dst[:n]); i > 5 && got < 4000 {
			t.Fatalf("frame %d has RMS %.0f, want 5657", i, got)
		}
	}
}

func TestOpusPoolLendsReset(t *testing.T) {
	var pool OpusPool
	e, err := pool.Encoder()
	if err != nil {
		t.Fatal(err)
	}
	e.ExpectLoss(10)
	d, err := pool.Decoder()
	if err != nil {
		t.Fatal(err)
	}
	in := voiced(OpusRate)
	for _, p := range encodeAll(t, e, in) {
		d.Decode(make([]int16, opusMaxSamples), p)
	}
	e.Reset()
	d.Reset()
	var out []int16
	dst := make([]int16, opusMaxSamples)
	for _, p := range encodeAll(t, e, in) {
		if d.Carries(p) {
			t.Fatal("FEC after Reset")
		}
		n, err := d.Decode(dst, p)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, dst[:n]...)
	}
	if got := opusSNR(in, out, 400); got < 7 {
		t.Errorf("SNR after Reset %.1f dB, want at least 7", got)
	}
	pool.PutEncoder(e)
	pool.PutDecoder(d)
	pool.PutEncoder(nil)
	pool.PutDecoder(nil)
}

func TestOpusAllocatesNothing(t *testing.T) {
	e, d := mustOpus(t)
	in := voiced(OpusRate)
	packets := encodeAll(t, e, in)
	buf, dst := make([]byte, 0, OpusMaxPacket), make([]int16, opusMaxSamples)
	for _, p := range packets { // warm
		d.Decode(dst, p)
	}
	i := 0
	got := testing.AllocsPerRun(200, func() {
		k := i % 50
		i++
		p, err := e.Encode(buf, in[k*opusFrame:(k+1)*opusFrame])
		if err != nil {
			t.Fatal(err)
		}
		d.Decode(dst, p)
	})
	if got != 0 {
		t.Errorf("%.1f allocations a frame, want 0", got)
	}
}

func FuzzOpusDecode(f *testing.F) {
	e, err := NewOpusEncoder()
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range encodeAll(f, e, voiced(OpusRate/5)) {
		f.Add(p)
	}
	f.Add([]byte{0xff})
	f.Add([]byte{3, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		_, d := mustOpus(t)
		dst := make([]int16, opusMaxSamples)
		want := d.Samples(p)
		n, err := d.Decode(dst, p)
		if err == nil && n != want {
			t.Errorf("decoded %d samples, Samples said %d", n, want)
		}
		d.Recover(dst[:opusFrame], p)
		d.Conceal(dst[:opusFrame])
		d.Carries(p)
		if d.broken {
			t.Error("codec panicked")
		}
	})
}

func BenchmarkOpusEncode(b *testing.B) {
	e, _ := mustOpus(b)
	in, buf := voiced(OpusRate), make([]byte, 0, OpusMaxPacket)
	i := 0
	for b.Loop() {
		e.Encode(buf, in[i*opusFrame:(i+1)*opusFrame])
		i = (i + 1) % 50
	}
}

func BenchmarkOpusDecode(b *testing.B) {
	e, d := mustOpus(b)
	packets, dst := encodeAll(b, e, voiced(OpusRate)), make([]int16, opusMaxSamples)
	i := 0
	for b.Loop() {
		d.Decode(dst, packets[i])
		i = (i + 1) % 50
	}
}
