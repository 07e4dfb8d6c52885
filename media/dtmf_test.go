package media

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// press returns one press of key with its two tones at the given amplitudes and
// frequencies off by a share, samples of silence before and after.
func press(key byte, rate, samples int, low, high, off float64) []int16 {
	at := strings.IndexByte(toneKeys, key)
	pcm := make([]int16, samples)
	for n := range pcm {
		a := 2 * math.Pi * float64(n) / float64(rate) * (1 + off)
		s := low*math.Sin(a*toneRows[at/4]) + high*math.Sin(a*toneColumns[at%4])
		pcm[n] = int16(math.Round(32767 * s))
	}
	return pcm
}

// hear returns the digits that a new detector finds.
func hear(pcm []int16, rate int) string {
	d := NewToneDetector(rate)
	pad := make([]int16, rate/50-len(pcm)%(rate/50)+rate/10)
	var got []byte
	eachFrame(append(pcm[:len(pcm):len(pcm)], pad...), rate, func(_ int, f Frame) {
		if digit, ok := d.Detect(f); ok {
			got = append(got, digit)
		}
	})
	return string(got)
}

func TestTonesAreHeard(t *testing.T) {
	for _, rate := range callRates {
		pcm, err := Tones("0123456789*#ABCDabcd1122", rate)
		if err != nil {
			t.Fatal(err)
		}
		if want := 24 * rate / 5; len(pcm) != want {
			t.Errorf("%d Hz: %d samples, want %d", rate, len(pcm), want)
		}
		if got, want := hear(pcm, rate), "0123456789*#ABCDABCD1122"; got != want {
			t.Errorf("%d Hz: heard %q, want %q", rate, got, want)
		}
		for i, s := range pcm {
			if s > 27000 || s < -27000 {
				t.Fatalf("%d Hz: sample %d is %d: near clipping", rate, i, s)
			}
		}
		// The line's codec must not matter.
		if got := hear(DecodePCMU(nil, EncodePCMU(nil, pcm)), rate); got != "0123456789*#ABCDABCD1122" {
			t.Errorf("%d Hz over µ-law: heard %q", rate, got)
		}
	}
}

func TestTonesRefuses(t *testing.T) {
	for _, digits := range []string{"12x", "E", " ", "\x00", "é"} {
		if _, err := Tones(digits, 8000); err == nil {
			t.Errorf("%q: want an error", digits)
		}
	}
	for _, rate := range []int{0, -8000, 4000, 1 << 40} {
		if _, err := Tones("1", rate); !errors.Is(err, ErrRate) {
			t.Errorf("%d Hz: got %v, want ErrRate", rate, err)
		}
	}
}

// TestToneDetectorLimits holds the detector to ITU-T Q.24 (the stricter of the
// administrations it lists) for every key, wherever in a block the press falls.
func TestToneDetectorLimits(t *testing.T) {
	const rate, ms = 8000, 8
	const a = 0.2
	db := func(x float64) float64 { return math.Pow(10, x/20) }
	silence := func(n int) []int16 { return make([]int16, n) }
	join := func(parts ...[]int16) (pcm []int16) {
		for _, p := range parts {
			pcm = append(pcm, p...)
		}
		return pcm
	}
	for _, tt := range []struct {
		name  string
		build func(key byte) []int16
		want  int // presses
	}{
		{"40 ms", func(k byte) []int16 { return press(k, rate, 40*ms, a, a, 0) }, 1},
		{"a second", func(k byte) []int16 { return press(k, rate, 1000*ms, a, a, 0) }, 1},
		{"20 ms", func(k byte) []int16 { return press(k, rate, 20*ms, a, a, 0) }, 0},
		{"pause of 40 ms", func(k byte) []int16 {
			p := press(k, rate, 50*ms, a, a, 0)
			return join(p, silence(40*ms), p)
		}, 2},
		{"break of 10 ms", func(k byte) []int16 {
			p := press(k, rate, 60*ms, a, a, 0)
			return join(p, silence(10*ms), p)
		}, 1},
		{"1.5 % high", func(k byte) []int16 { return press(k, rate, 45*ms, a, a, 0.015) }, 1},
		{"1.5 % low", func(k byte) []int16 { return press(k, rate, 45*ms, a, a, -0.015) }, 1},
		{"3.5 % high", func(k byte) []int16 { return press(k, rate, 200*ms, a, a, 0.035) }, 0},
		{"3.5 % low", func(k byte) []int16 { return press(k, rate, 200*ms, a, a, -0.035) }, 0},
		{"high tone 4 dB above", func(k byte) []int16 { return press(k, rate, 45*ms, a*db(-4), a, 0) }, 1},
		{"low tone 8 dB above", func(k byte) []int16 { return press(k, rate, 45*ms, a, a*db(-8), 0) }, 1},
		{"high tone 12 dB above", func(k byte) []int16 { return press(k, rate, 100*ms, a*db(-12), a, 0) }, 0},
		{"low tone 14 dB above", func(k byte) []int16 { return press(k, rate, 100*ms, a, a*db(-14), 0) }, 0},
		{"one tone alone", func(k byte) []int16 { return press(k, rate, 100*ms, a, 0, 0) }, 0},
		{"-29 dBFS a tone", func(k byte) []int16 { return press(k, rate, 45*ms, db(-29), db(-29), 0) }, 1},
		{"-55 dBFS a tone", func(k byte) []int16 { return press(k, rate, 100*ms, db(-55), db(-55), 0) }, 0},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			for _, key := range []byte(toneKeys) {
				for offset := 0; offset < toneBlock; offset += 17 {
					got := hear(join(silence(400+offset), tt.build(key), silence(400)), rate)
					if want := strings.Repeat(string(key), tt.want); got != want {
						t.Fatalf("key %c at offset %d: heard %q, want %q", key, offset, got, want)
					}
				}
			}
		})
	}
}

func TestToneDetectorInNoise(t *testing.T) {
	const rate, presses = 8000, 200
	rng := rand.New(rand.NewPCG(5, 6))
	for _, tt := range []struct {
		snr   float64
		least int
	}{{24, presses}, {15, presses}, {12, presses * 99 / 100}} {
		var pcm []int16
		var want strings.Builder
		for range presses {
			key := toneKeys[rng.IntN(16)]
			want.WriteByte(key)
			pcm = append(pcm, press(key, rate, 60*8, 0.1, 0.1, 0.01*(rng.Float64()-0.5))...)
			pcm = append(pcm, make([]int16, 60*8+rng.IntN(100))...)
		}
		// Two tones of amplitude 0.1 have a power of 0.01.
		level := 10*math.Log10(0.01) - tt.snr
		got := hear(mix(pcm, noise(t, "white", rate, len(pcm)), level), rate)
		same := 0
		if len(got) == presses {
			for i := range got {
				if got[i] == want.String()[i] {
					same++
				}
			}
		}
		t.Logf("%.0f dB: %d of %d presses, %d heard in all", tt.snr, same, presses, len(got))
		if same < tt.least {
			t.Errorf("%.0f dB: %d of %d presses, want %d", tt.snr, same, presses, tt.least)
		}
	}
}

// Talk-off: speech must not press keys.
func TestToneDetectorIsNotTalkedOff(t *testing.T) {
	var seconds float64
	try := func(what string, pcm []int16, rate int) {
		seconds += float64(len(pcm)) / float64(rate)
		if got := hear(pcm, rate); got != "" {
			t.Errorf("%s pressed %q", what, got)
		}
	}
	for _, voice := range []string{"slt", "kal"} {
		for _, s := range append(sentences, talk...) {
			pcm := say(t, voice, s)
			rate := map[string]int{"slt": 16000, "kal": 8000}[voice]
			try(s, pcm, rate)
			// Other pitches of the same voice: play it slower and faster.
			for _, as := range [][2]int{{22050, 24000}, {24000, 22050}, {32000, 24000}, {24000, 32000}, {44100, 48000}} {
				try(s, mustResampler(t, as[0], as[1]).Process(nil, pcm), rate)
			}
		}
	}
	music := mix(make([]int16, 60*8000), noise(t, "music", 8000, 60*8000), -20)
	try("music", music, 8000)
	try("babble", mix(make([]int16, 60*8000), noise(t, "babble", 8000, 60*8000), -20), 8000)
	t.Logf("%.0f s of speech and music", seconds)
}

// talk is more speech, rich in long vowels.
var talk = []string{
	"We eat green peas every evening, and he sees three free trees near the sea.",
	"Who knew the blue moon would soon move through the gloomy room? You do too.",
	"Our father ought to have bought a larger car, or so my aunt always argued.",
	"Eleven, twelve, thirteen, fourteen, fifteen, sixteen, seventeen, eighteen, nineteen, twenty.",
	"Please leave a message after the tone, and we will call you back as soon as we can.",
}

func TestToneDetectorAllocatesNothing(t *testing.T) {
	d := NewToneDetector(8000)
	f := Frame{Rate: 8000, PCM: press('5', 8000, 160, 0.2, 0.2, 0)}
	if n := testing.AllocsPerRun(50, func() { d.Detect(f) }); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func TestToneDetectorIgnoresOtherRates(t *testing.T) {
	d := NewToneDetector(8000)
	pcm, _ := Tones("5", 16000)
	eachFrame(pcm, 16000, func(_ int, f Frame) {
		if digit, ok := d.Detect(f); ok {
			t.Errorf("heard %c in frames of another rate", digit)
		}
	})
	NewToneDetector(0).Detect(Frame{Rate: 0, PCM: pcm}) // must not panic
}

func BenchmarkToneDetector(b *testing.B) {
	d := NewToneDetector(8000)
	f := Frame{Rate: 8000, PCM: press('5', 8000, 160, 0.2, 0.2, 0)}
	for b.Loop() {
		d.Detect(f)
	}
}
