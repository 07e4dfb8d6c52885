package media

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// Sentences that a caller may say; between them they have every kind of sound.
var sentences = []string{
	"Hello, I would like to book a table for four people on Friday evening.",
	"My account number is seven three nine two, and the name is Jonathan Fisher.",
	"No, that is not what I meant. Could you please say it again?",
	"She sells sea shells by the sea shore, but the shells are small.",
	"Yes.",
	"What time do you open on Saturdays, and is there parking nearby?",
	"I am calling about the invoice that you sent me last Thursday.",
	"Thank you very much, that would be wonderful. Goodbye.",
}

// spoken holds what flite said, by voice and text, for all tests.
var spoken struct {
	sync.Mutex
	said map[string][]int16
}

// say returns text spoken by flite (voice slt at 16 kHz or kal at 8 kHz).
func say(t testing.TB, voice, text string) []int16 {
	t.Helper()
	spoken.Lock()
	defer spoken.Unlock()
	if pcm, ok := spoken.said[voice+text]; ok {
		return pcm
	}
	name := filepath.Join(t.TempDir(), "say.wav")
	if out, err := exec.Command("flite", "-voice", voice, "-t", text, "-o", name).CombinedOutput(); err != nil {
		t.Fatalf("flite: %v: %s (install Debian's package flite)", err, out)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	rate, channels, pcm, err := ReadWAV(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if want := map[string]int{"slt": 16000, "kal": 8000}[voice]; rate != want || channels != 1 {
		t.Fatalf("flite -voice %s: %d Hz, %d channels, want %d, 1", voice, rate, channels, want)
	}
	if spoken.said == nil {
		spoken.said = make(map[string][]int16)
	}
	spoken.said[voice+text] = pcm
	return pcm
}

// conversation returns the sentences at rate with a second of silence before
// each and after the last, in whole frames, at an active level of about -25
// dBFS.
func conversation(t testing.TB, rate int) []int16 {
	t.Helper()
	pause := make([]int16, 16000)
	pcm := append([]int16(nil), pause...)
	for _, s := range sentences {
		pcm = append(pcm, say(t, "slt", s)...)
		pcm = append(pcm, pause...)
	}
	if rate != 16000 {
		pcm = mustResampler(t, 16000, rate).Process(nil, pcm)
	}
	pcm = pcm[:len(pcm)/(rate/50)*(rate/50)]
	scaled := make([]int16, len(pcm))
	k := math.Pow(10, (-25-activeLevel(pcm, rate))/20)
	for i, s := range pcm {
		scaled[i] = int16(math.Round(max(-32768, min(32767, k*float64(s)))))
	}
	return scaled
}

// frameLevels returns the level of each frame in dBFS.
func frameLevels(pcm []int16, rate int) []float64 {
	n := rate / 50
	levels := make([]float64, len(pcm)/n)
	for i := range levels {
		power := 1e-10
		for _, s := range pcm[i*n : (i+1)*n] {
			x := float64(s) / 32768
			power += x * x / float64(n)
		}
		levels[i] = 10 * math.Log10(power)
	}
	return levels
}

// activeLevel is the mean power of the active frames, in dBFS: those at most
// activeMargin below that very mean, as ITU-T P.56 defines it.
func activeLevel(pcm []int16, rate int) float64 {
	levels := frameLevels(pcm, rate)
	active := -100.0
	for range 20 {
		sum, n := 0.0, 0
		for _, l := range levels {
			if l >= active-activeMargin {
				sum += math.Pow(10, l/10)
				n++
			}
		}
		active = 10 * math.Log10(sum/float64(n))
	}
	return active
}

const (
	activeMargin  = 15.9 // ITU-T P.56
	silenceMargin = 35   // what is between is judged neither way: breath, closures, decay
)

// speechLabels tells by the clean energy which frames are speech (1), silence
// (-1), or neither.
func speechLabels(pcm []int16, rate int) []int {
	levels, active := frameLevels(pcm, rate), activeLevel(pcm, rate)
	labels := make([]int, len(levels))
	for i, l := range levels {
		switch {
		case l >= active-activeMargin:
			labels[i] = 1
		case l < active-silenceMargin:
			labels[i] = -1
		}
	}
	return labels
}

// noise returns n samples of the kind, of power 1, from a seed.
func noise(t testing.TB, kind string, rate, n int) []float64 {
	t.Helper()
	rng := rand.New(rand.NewPCG(uint64(rate), 7))
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
	case "babble": // eight talkers who never stop
		for talker := range 8 {
			var voice []int16
			for i := range sentences {
				voice = append(voice, trimmed(say(t, "slt", sentences[(i*3+talker)%len(sentences)]))...)
			}
			// A slightly different speed gives each talker another pitch.
			if talker%2 == 1 {
				voice = mustResampler(t, 22050, 24000).Process(nil, voice)
			}
			if rate != 16000 {
				voice = mustResampler(t, 16000, rate).Process(nil, voice)
			}
			shift := talker * len(voice) * 3 / 8
			for i := range out {
				out[i] += float64(voice[(i+shift)%len(voice)])
			}
		}
	case "music": // chords of sawtooth, a new one every 400 ms
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
	default:
		t.Fatalf("no noise %q", kind)
	}
	power := 0.0
	for _, x := range out {
		power += x * x / float64(n)
	}
	for i := range out {
		out[i] /= math.Sqrt(power)
	}
	return out
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

func eachFrame(pcm []int16, rate int, f func(i int, frame Frame)) {
	n := rate / 50
	for i := 0; (i+1)*n <= len(pcm); i++ {
		f(i, Frame{Rate: rate, PCM: pcm[i*n : (i+1)*n]})
	}
}

func rateName(rate int) string { return fmt.Sprintf("%dk", rate/1000) }
