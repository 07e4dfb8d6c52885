package agent

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"parley/media"
)

// flite says text at 8 kHz with an active level of -25 dBFS.
func flite(t testing.TB, voice, text string) []float64 {
	t.Helper()
	name := filepath.Join(t.TempDir(), "say.wav")
	if out, err := exec.Command("flite", "-voice", voice, "-t", text, "-o", name).CombinedOutput(); err != nil {
		t.Fatalf("flite: %v: %s (install Debian's package flite)", err, out)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	rate, _, pcm, err := media.ReadWAV(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if rate != 8000 {
		r, err := media.NewResampler(rate, 8000)
		if err != nil {
			t.Fatal(err)
		}
		pcm = r.Process(nil, pcm)
	}
	out := make([]float64, len(pcm))
	sum, n := 0.0, 0.0
	for i, s := range pcm {
		out[i] = float64(s) / 32768
		if math.Abs(out[i]) > 0.005 {
			sum += out[i] * out[i]
			n++
		}
	}
	k := amplitude(-25) / math.Sqrt(sum/n)
	for i := range out {
		out[i] *= k
	}
	return out
}

// An echoLine is what a caller's line brings: the caller, the agent's voice come
// back, noise, all through G.711.
type echoLine struct {
	agent, caller []float64
	gain          float64
	delay         int // samples
	noise         float64
	later         float64 // gain from half of the time on; 0: the same
	room          bool    // the echo comes back three times
	wrong         int     // frames by which the played position is thought to be later
	judged        bool    // each pause is found to be in vain
}

// echo is what comes back at a sample.
func (l *echoLine) echo(at int) float64 {
	back := func(ms int) float64 {
		if i := at - l.delay - 8*ms; i >= 0 {
			return l.agent[i]
		}
		return 0
	}
	v := back(0)
	if l.room {
		v += 0.5*back(45) + 0.25*back(90)
	}
	if l.later > 0 && at > len(l.agent)/2 {
		return l.later * v
	}
	return l.gain * v
}

func (l *echoLine) frames(rnd *rand.Rand) (received [][]int16, played []float64) {
	n := len(l.agent) / 160
	for f := range n {
		pcm := make([]int16, 160)
		for i := range pcm {
			at := f*160 + i
			v := l.noise * rnd.NormFloat64()
			if at < len(l.caller) {
				v += l.caller[at]
			}
			v += l.echo(at)
			pcm[i] = int16(max(-32768, min(32767, 32768*v)))
		}
		received = append(received, media.DecodePCMU(nil, media.EncodePCMU(nil, pcm)))
		sum := 0.0
		for _, v := range l.agent[f*160 : f*160+160] {
			sum += v * v
		}
		played = append(played, sum/160)
	}
	return received, played
}

// An echoScene is the agent speaking for a while.
type echoScene struct {
	agent  []float64
	bursts [][]float64 // what callers say
}

func newEchoScene(t *testing.T) *echoScene {
	rnd := rand.New(rand.NewPCG(1, 2))
	s := &echoScene{}
	for _, c := range saidClauses(t)[:8] {
		s.agent = append(s.agent, flite(t, "slt", c.text)...)
		s.agent = append(s.agent, make([]float64, 160*rnd.IntN(20))...)
	}
	for _, text := range []string{"No, that is not what I meant.", "Could you please stop?", "I would like a table.",
		"Yes, but how much is it?", "Hello, are you there?"} {
		s.bursts = append(s.bursts, flite(t, "kal", text))
	}
	return s
}

// call has somebody speak over the agent every few seconds, at a gain, and
// returns the line's caller with the onsets.
func (s *echoScene) call(gain float64) (caller []float64, onsets []time.Duration) {
	rnd := rand.New(rand.NewPCG(5, 6))
	caller = make([]float64, len(s.agent))
	for at := 8000; at+8000*3 < len(caller); at += 8000*7/2 + rnd.IntN(4000) {
		b := s.bursts[rnd.IntN(len(s.bursts))]
		for i, v := range b {
			caller[at+i] = gain * v
		}
		on := slices.IndexFunc(b, func(v float64) bool { return math.Abs(v) > amplitude(-40) })
		onsets = append(onsets, media.Duration(int64(at+on), 8000))
	}
	return caller, onsets
}

// begun is when speech is found to begin on a line.
func (l *echoLine) begun(t *testing.T) (began []time.Duration) {
	vad, err := media.NewVAD(8000)
	if err != nil {
		t.Fatal(err)
	}
	received, played := l.frames(rand.New(rand.NewPCG(3, 4)))
	var o onset
	start := time.Unix(0, 0)
	for f := range received {
		at := start.Add(time.Duration(f+1) * media.Ptime)
		a := vad.Detect(media.Frame{Rate: 8000, PCM: received[f]})
		if o.frame(a, played[max(0, f-l.wrong)], at, 10) == speechBegan {
			began = append(began, at.Sub(start))
			if l.judged {
				o.echo.nobody()
			}
		}
	}
	return began
}

// detected is how long after its onset each speech was found; missing ones are
// counted.
func detected(began, onsets []time.Duration) (after []time.Duration, missed int) {
	for _, on := range onsets {
		i := slices.IndexFunc(began, func(b time.Duration) bool { return b >= on && b < on+1500*time.Millisecond })
		if i < 0 {
			missed++
			continue
		}
		after = append(after, began[i]-on)
	}
	slices.Sort(after)
	return after, missed
}

// The agent's own voice come back pauses nothing, however loud and late; a
// caller at its level is noticed over it.
func TestEchoIsNotTheCaller(t *testing.T) {
	s := newEchoScene(t)
	clean := echoLine{agent: s.agent, noise: amplitude(-60)}
	lines := map[string]echoLine{"none": clean}
	for _, db := range []float64{-30, -24, -18, -12} {
		for _, ms := range []int{50, 100, 200, 400} {
			l := clean
			l.gain, l.delay = amplitude(db), ms*8
			lines[fmt.Sprintf("%v-dB-%d-ms", db, ms)] = l
		}
	}
	room := clean
	room.gain, room.delay, room.room, room.wrong = amplitude(-15), 800, true, 2
	lines["speakerphone"] = room
	for name, l := range lines {
		t.Run(name, func(t *testing.T) {
			if began := l.begun(t); len(began) > 0 {
				t.Errorf("%d false pauses in %v: %v", len(began), media.Duration(int64(len(s.agent)), 8000), began)
			}
			caller, onsets := s.call(1)
			l.caller = caller
			after, missed := detected(l.begun(t), onsets)
			p50, p90, most := after[len(after)/2], after[len(after)*9/10], after[len(after)-1]
			t.Logf("caller noticed after p50 %v, p90 %v, at most %v; %d of %d missed", p50, p90, most, missed, len(onsets))
			half, limit := 150*time.Millisecond, 350*time.Millisecond
			switch {
			case l.gain == 0:
				limit = 180 * time.Millisecond
			case l.gain > amplitude(-16):
				half = 200 * time.Millisecond // weak sounds drown in an echo of that level
			}
			if p50 > half || most > limit || missed > 0 {
				t.Errorf("caller noticed after p50 %v, at most %v, %d missed; want %v, %v, 0", p50, most, missed, half, limit)
			}
		})
	}
}

// A line whose echo grows in the middle of a call is learned anew; until then
// its loudness tells.
func TestEchoThatGrows(t *testing.T) {
	s := newEchoScene(t)
	l := echoLine{agent: s.agent, noise: amplitude(-60), gain: amplitude(-40), later: amplitude(-14), delay: 800}
	began := l.begun(t)
	t.Logf("%d false pauses: %v", len(began), began)
	if len(began) > 6 {
		t.Errorf("%d false pauses after the echo grew by 26 dB, want 6 at most", len(began))
	}
}

// A few verdicts that nobody spoke make a line's echo known, however loud and late.
func TestEchoIsLearnedFromPausesInVain(t *testing.T) {
	s := newEchoScene(t)
	for _, ms := range []int{100, 400, 700} {
		for _, db := range []float64{-14, -6} {
			l := echoLine{agent: s.agent, noise: amplitude(-60), gain: amplitude(-40), later: amplitude(db), delay: 8 * ms}
			before := l.begun(t)
			l.judged = true
			began := l.begun(t)
			t.Logf("%v dB after %d ms: paused at %v, with verdicts at %v", db, ms, before, began)
			if len(began) > 3 {
				t.Errorf("%v dB after %d ms: paused at %v, want three times at most", db, ms, began)
			}
		}
	}
}

func TestClickIsNotTheCaller(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	caller := make([]float64, 8000*20)
	for at := 8000 * 3; at < len(caller)-8000; at += 8000 + rnd.IntN(800) {
		for i := range 320 { // 40 ms
			caller[at+i] = 0.3 * rnd.NormFloat64()
		}
	}
	agent := make([]float64, len(caller)) // speaks: only then can anything pause it
	for i := range agent {
		agent[i] = 0.05
	}
	l := echoLine{agent: agent, caller: caller, noise: amplitude(-60)}
	if began := l.begun(t); len(began) > 0 {
		t.Errorf("%d of 16 clicks pause the agent", len(began))
	}
}

func TestOnsetDoesNotAllocate(t *testing.T) {
	var o onset
	at := time.Unix(0, 0)
	n := 0
	if allocs := testing.AllocsPerRun(500, func() {
		n++
		at = at.Add(media.Ptime)
		o.frame(media.Activity{Speech: n%40 < 20, LevelDB: -30, NoiseDB: -60}, 0.01*float64(n%7), at, 10)
	}); allocs != 0 {
		t.Errorf("a frame allocates %v times, want 0", allocs)
	}
}

func BenchmarkOnset(b *testing.B) {
	var o onset
	at := time.Unix(0, 0)
	for n := 0; b.Loop(); n++ {
		at = at.Add(media.Ptime)
		o.frame(media.Activity{Speech: n%40 < 20, LevelDB: -30, NoiseDB: -60}, 0.01*float64(n%7), at, 10)
	}
}
