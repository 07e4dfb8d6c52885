package media

import (
	"bytes"
	"fmt"
	"math"
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

// say returns text spoken by flite: voice slt, rms, awb or kal16 at 16 kHz, kal
// at 8 kHz.
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
	want := 16000
	if voice == "kal" {
		want = 8000
	}
	if rate != want || channels != 1 {
		t.Fatalf("flite -voice %s: %d Hz, %d channels, want %d, 1", voice, rate, channels, want)
	}
	if spoken.said == nil {
		spoken.said = make(map[string][]int16)
	}
	spoken.said[voice+text] = pcm
	return pcm
}

// conversation returns the sentences by a voice at rate with a second of silence
// before each and after the last, in whole frames, at an active level of about
// -25 dBFS.
func conversation(t testing.TB, voice string, rate int) []int16 {
	t.Helper()
	pause := make([]int16, 16000)
	pcm := append([]int16(nil), pause...)
	for _, s := range sentences {
		pcm = append(pcm, say(t, voice, s)...)
		pcm = append(pcm, pause...)
	}
	if rate != 16000 {
		pcm = mustResampler(t, 16000, rate).Process(nil, pcm)
	}
	pcm = pcm[:len(pcm)/(rate/50)*(rate/50)]
	return atLevel(pcm, rate, -25)
}

// atLevel brings speech to an active level in dBFS.
func atLevel(pcm []int16, rate int, level float64) []int16 {
	scaled := make([]int16, len(pcm))
	k := math.Pow(10, (level-activeLevel(pcm, rate))/20)
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

func eachFrame(pcm []int16, rate int, f func(i int, frame Frame)) {
	n := rate / 50
	for i := 0; (i+1)*n <= len(pcm); i++ {
		f(i, Frame{Rate: rate, PCM: pcm[i*n : (i+1)*n]})
	}
}

func rateName(rate int) string { return fmt.Sprintf("%dk", rate/1000) }
