package media

import (
	"math"
	"math/rand/v2"
	"testing"
)

// noise returns n samples of the kind, of power 1.
func noise(t testing.TB, kind string, rate, n int) []float64 {
	t.Helper()
	return noiseFrom(t, rand.New(rand.NewPCG(uint64(rate), 7)), kind, rate, n)
}

// noiseFrom returns n samples of the kind, of power 1, by the random numbers.
func noiseFrom(t testing.TB, rng *rand.Rand, kind string, rate, n int) []float64 {
	t.Helper()
	out := make([]float64, n)
	switch kind {
	case "white":
		for i := range out {
			out[i] = rng.NormFloat64()
		}
	case "pink": // three poles and zeros spread over the octaves, after Kellet
		var a, b, c float64
		for i := range out {
			w := rng.NormFloat64()
			a = 0.99765*a + w*0.0990460
			b = 0.96300*b + w*0.2965164
			c = 0.57000*c + w*1.0526913
			out[i] = a + b + c + w*0.1848
		}
	case "car": // a strong rumble below 150 Hz over a faint hiss
		pole := math.Exp(-2 * math.Pi * 120 / float64(rate))
		var a, b float64
		for i := range out {
			w := rng.NormFloat64()
			a = pole*a + (1-pole)*w
			b = pole*b + (1-pole)*a
			out[i] = b + 0.002*rng.NormFloat64()
		}
	case "babble":
		babble(t, out, rng, rate, "slt", "rms")
	case "music":
		chords(out, rate)
	case "song":
		song(out, rng, rate)
	case "keys":
		keys(out, rng, rate)
	default:
		t.Fatalf("no noise %q", kind)
	}
	normalize(out)
	return out
}

// normalize brings x to power 1.
func normalize(x []float64) {
	power := 0.0
	for _, v := range x {
		power += v * v / float64(len(x))
	}
	for i := range x {
		x[i] /= math.Sqrt(power)
	}
}

// babble adds eight talkers who never stop: the voices in turn, each at a speed,
// hence a pitch, and from a sentence of his own.
func babble(t testing.TB, out []float64, rng *rand.Rand, rate int, voices ...string) {
	t.Helper()
	for talker := range 8 {
		var voice []int16
		for _, i := range rng.Perm(len(sentences)) {
			voice = append(voice, trimmed(say(t, voices[talker%len(voices)], sentences[i]))...)
		}
		if rate != 16000 {
			voice = mustResampler(t, 16000, rate).Process(nil, voice)
		}
		speed, shift := 0.85+0.3*rng.Float64(), rng.Float64()*float64(len(voice))
		one := make([]float64, len(out))
		for i := range one {
			at, part := math.Modf(math.Mod(shift+speed*float64(i), float64(len(voice)-1)))
			one[i] = (1-part)*float64(voice[int(at)]) + part*float64(voice[int(at)+1])
		}
		normalize(one)
		for i, x := range one {
			out[i] += x
		}
	}
}

// chords of sawtooth, a new one every 400 ms.
func chords(out []float64, rate int) {
	for i := range out {
		at := float64(i) / float64(rate)
		chord := int(at / 0.4)
		decay := math.Exp(-3 * (at - 0.4*float64(chord)))
		root := 220 * math.Pow(2, float64([]int{0, 5, 7, 3}[chord%4])/12)
		for _, note := range []float64{1, 1.26, 1.5} {
			for h := 1.0; h <= 6; h++ {
				out[i] += decay / h * math.Sin(2*math.Pi*root*note*h*at)
			}
		}
	}
}

// song is music on hold: pads of three notes that last a bar, a melody of
// plucked notes, and drums, at 110 beats a minute.
func song(out []float64, rng *rand.Rand, rate int) {
	beat := rate * 60 / 110
	var pad [3]float64
	tone := func(from, n int, hz, gain, decay float64) {
		for i := range min(n, len(out)-from) {
			at := float64(i) / float64(rate)
			fade := min(1, at/0.01, float64(n-i)/float64(rate)/0.01)
			for h := 1.0; h <= 5 && h*hz < 0.45*float64(rate); h++ {
				out[from+i] += gain * fade * math.Exp(-decay*at) / h * math.Sin(2*math.Pi*hz*h*at)
			}
		}
	}
	drum := func(from int, gain, decay, pole float64) {
		low := 0.0
		for i := range min(beat/2, len(out)-from) {
			low = pole*low + (1-pole)*rng.NormFloat64()
			out[from+i] += gain * math.Exp(-decay*float64(i)/float64(rate)) * low
		}
	}
	for n, from := 0, 0; from < len(out); n, from = n+1, from+beat/2 {
		if n%8 == 0 {
			root := 130.8 * math.Pow(2, float64([]int{0, 9, 5, 7}[n/8%4])/12)
			pad = [3]float64{root, root * 1.26, root * 1.5}
			for _, hz := range pad {
				tone(from, 4*beat, hz, 0.25, 0.2)
			}
		}
		if rng.IntN(3) > 0 {
			tone(from, beat/2, 4*pad[rng.IntN(3)], 0.5, 4)
		}
		drum(from, 0.25, 60, 0) // hi-hat
		switch n % 4 {
		case 0:
			tone(from, beat/2, 60, 1, 15)
		case 2:
			drum(from, 1, 25, 0.5)
		}
	}
}

// keys is typing: some eight clicks a second of a few milliseconds.
func keys(out []float64, rng *rand.Rand, rate int) {
	for at := 0; at < len(out); at += rate/20 + rng.IntN(rate/7) {
		gain := 0.3 + rng.Float64()
		for i := range min(rate/100, len(out)-at) {
			out[at+i] += gain * math.Exp(-500*float64(i)/float64(rate)) * rng.NormFloat64()
		}
	}
}

// trimmed cuts the silence at both ends.
func trimmed(pcm []int16) []int16 {
	loud := func(s int16) bool { return s > 300 || s < -300 }
	for len(pcm) > 0 && !loud(pcm[0]) {
		pcm = pcm[1:]
	}
	for len(pcm) > 0 && !loud(pcm[len(pcm)-1]) {
		pcm = pcm[:len(pcm)-1]
	}
	return pcm
}

// mix adds noise at a level in dBFS.
func mix(pcm []int16, noise []float64, level float64) []int16 {
	out := make([]int16, len(pcm))
	k := 32768 * math.Pow(10, level/20)
	for i, s := range pcm {
		out[i] = int16(math.Round(max(-32768, min(32767, float64(s)+k*noise[i]))))
	}
	return out
}

// phoneBand takes away what a telephone does not carry, below 300 Hz (a
// Butterworth high-pass of fourth order).
func phoneBand(pcm []int16, rate int) []int16 {
	x := make([]float64, len(pcm))
	for i, s := range pcm {
		x[i] = float64(s)
	}
	for _, q := range []float64{0.5412, 1.3066} {
		s, c := math.Sincos(2 * math.Pi * 300 / float64(rate))
		alpha := s / (2 * q)
		b, a0, a1, a2 := (1+c)/2, 1+alpha, -2*c, 1-alpha
		var x1, x2, y1, y2 float64
		for i, v := range x {
			y := (b*(v-2*x1+x2) - a1*y1 - a2*y2) / a0
			x1, x2, y1, y2 = v, x1, y, y1
			x[i] = y
		}
	}
	out := make([]int16, len(x))
	for i, v := range x {
		out[i] = int16(math.Round(max(-32768, min(32767, v))))
	}
	return out
}

// phoneNoise is what a telephone carries of noise, of power 1.
func phoneNoise(x []float64, rate int) []float64 {
	out := make([]float64, len(x))
	for i, s := range phoneBand(mix(make([]int16, len(x)), x, -20), rate) {
		out[i] = float64(s)
	}
	normalize(out)
	return out
}
