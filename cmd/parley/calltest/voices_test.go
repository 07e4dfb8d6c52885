package calltest

import (
	"context"
	"iter"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"parley/agent"
	"parley/agent/tts"
	"parley/media"
	"parley/signaling/signalingtest"
)

// speeches keeps what flite has said, by voice and text: it says each once, and
// in no virtual time.
type speeches struct {
	mu   sync.Mutex
	said map[string]fliteSpeech
}

// A fliteSpeech is what flite said: at its own 16 kHz, and as a telephone has it.
type fliteSpeech struct {
	agent.Speech
	narrow []int16 // 8 kHz
}

var spoken = speeches{said: map[string]fliteSpeech{}}

func (s *speeches) say(t testing.TB, voice, text string) fliteSpeech {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := voice + ": " + text
	if sp, ok := s.said[key]; ok {
		return sp
	}
	flite, err := tts.Vendors["flite"].Dial(context.Background(), tts.Options{Voice: voice})
	if err != nil {
		t.Fatal(err)
	}
	var all fliteSpeech
	for sp, err := range flite.Say(context.Background(), agent.Clause{Text: text}) {
		if err != nil {
			t.Fatal(err)
		}
		all.PCM = append(all.PCM, sp.PCM...)
		all.Words = append(all.Words, sp.Words...)
	}
	all.narrow = narrow(t, all.PCM)
	s.said[key] = all
	return all
}

// narrow returns speech at 8 kHz.
func narrow(t testing.TB, pcm []int16) []int16 {
	r, err := media.NewResampler(16000, 8000)
	if err != nil {
		t.Fatal(err)
	}
	return r.Process(nil, pcm)
}

// A sound is something that a caller's line carries: words, or none.
type sound struct {
	pcm   []int16 // 8 kHz
	words []agent.Word
}

// says is a caller's words, by another voice than the agent's.
func says(t testing.TB, text string) sound {
	sp := spoken.say(t, "rms", text)
	return sound{sp.narrow, sp.Words}
}

// cough is two bursts of breath, door a slam: short, loud and without words.
func cough() sound {
	return sound{pcm: append(burst(180*time.Millisecond, 60, 9000, 1200), burst(220*time.Millisecond, 80, 7000, 900)...)}
}

func door() sound { return sound{pcm: burst(300*time.Millisecond, 35, 24000, 250)} }

// burst is noise below hz that dies away.
func burst(length time.Duration, decayMS, peak, hz float64) []int16 {
	random := rand.New(rand.NewPCG(7, uint64(peak)))
	pcm := make([]int16, media.Samples(length, 8000))
	k := 1 - math.Exp(-2*math.Pi*hz/8000)
	low, gain := 0.0, 1/math.Sqrt(k/(2-k))/3
	for i := range pcm {
		low += k * (random.NormFloat64() - low)
		v := peak * gain * low * math.Exp(-float64(i)/8/decayMS)
		pcm[i] = int16(max(-32768, min(32767, v)))
	}
	return pcm
}

// A standInVoice speaks by flite in virtual time: the first byte after delay,
// then faster than real time.
type standInVoice struct {
	c     *call
	delay time.Duration
	align bool
}

func (v *standInVoice) Rate() int    { return 16000 }
func (v *standInVoice) Close() error { return nil }

func (v *standInVoice) Say(ctx context.Context, cl agent.Clause) iter.Seq2[agent.Speech, error] {
	return func(yield func(agent.Speech, error) bool) {
		sp := spoken.say(v.c.t, "slt", cl.Text)
		v.c.spoke(cl.Text, sp)
		select {
		case <-time.After(v.delay):
		case <-ctx.Done():
			yield(agent.Speech{}, ctx.Err())
			return
		}
		const chunk = 3200 // 200 ms, in 50 ms
		for from := 0; from < len(sp.PCM); from += chunk {
			part := agent.Speech{PCM: sp.PCM[from:min(from+chunk, len(sp.PCM))]}
			if v.align && from == 0 {
				part.Words = sp.Words
			}
			if !yield(part, nil) {
				return
			}
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
				yield(agent.Speech{}, ctx.Err())
				return
			}
		}
	}
}

// spoke notes what the agent's voice made, as the caller's ear may hear it.
func (c *call) spoke(text string, sp fliteSpeech) {
	known := signalingtest.Speech{PCM: sp.narrow}
	for _, w := range sp.Words {
		known.Words = append(known.Words, signalingtest.Word{Text: w.Text, Start: w.Start, End: w.End})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made = append(c.made, clause{text, time.Now(), known})
}
