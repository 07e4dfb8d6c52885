package tts

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"parley/agent"
	"parley/agent/providertest"
)

// Wherever a vendor's messages split the bytes, the samples are the same.
func FuzzWire(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, []byte{1, 3, 0, 1, 5}, false)
	f.Add([]byte{1, 2, 3}, []byte{1, 1, 1}, true)
	f.Fuzz(func(t *testing.T, b, sizes []byte, mulaw bool) {
		whole := wire{mulaw: mulaw}
		want := slices.Clone(whole.samples(b))
		w := wire{mulaw: mulaw}
		var got []int16
		for _, n := range sizes {
			k := min(int(n), len(b))
			got = append(got, w.samples(b[:k])...)
			b = b[k:]
		}
		if got = append(got, w.samples(b)...); !slices.Equal(got, want) {
			t.Errorf("in pieces %v, whole %v", got, want)
		}
	})
}

func TestOpenAISoundOfOtherRatesAndPieces(t *testing.T) {
	for _, tt := range []struct {
		name  string
		sound providertest.Sound
	}{
		{"as asked", providertest.Sound{}},
		{"a byte a piece", providertest.Sound{Piece: 1}},
		{"three bytes a piece", providertest.Sound{Piece: 3}},
		{"WAV at another rate", providertest.Sound{Rate: 16000, WAV: true, Piece: 7}},
		{"a parameter tells the rate", providertest.Sound{Rate: 8000, Piece: 4801}},
		{"a higher rate", providertest.Sound{Rate: 48000, WAV: true, Piece: 4801}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := providertest.NewOpenAI(providertest.OpenAIScript{Sound: tt.sound})
			t.Cleanup(s.Close)
			v, err := openai.Dial(t.Context(), Options{URL: s.URL})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			const text = "abcdef"
			var pcm []int16
			for p, err := range v.Say(t.Context(), agent.Clause{Text: text}) {
				if err != nil {
					t.Fatal(err)
				}
				pcm = append(pcm, p.PCM...)
			}
			want := len(providertest.Tone(text, openaiRate))
			if len(pcm) < want-200 || len(pcm) > want+200 {
				t.Errorf("%d samples, want about %d", len(pcm), want)
			}
			if hz := pitch(pcm[len(pcm)/10:len(pcm)*9/10], openaiRate); hz < 215 || hz > 225 {
				t.Errorf("a tone of %.0f Hz, want 220", hz)
			}
		})
	}
}

// pitch counts how often a tone crosses zero upwards.
func pitch(pcm []int16, rate int) float64 {
	first, last, n := -1, 0, 0
	for i := 1; i < len(pcm); i++ {
		if pcm[i-1] < 0 && pcm[i] >= 0 {
			if first < 0 {
				first = i
			} else {
				last = i
				n++
			}
		}
	}
	if n == 0 {
		return 0
	}
	return float64(n) * float64(rate) / float64(last-first)
}

// An unknown chunk stands before the samples, as some servers have it.
func FuzzWAVHeader(f *testing.F) {
	le := binary.LittleEndian
	ok := []byte("RIFF\xff\xff\xff\xffWAVELIST\x04\x00\x00\x00abcdfmt \x10\x00\x00\x00\x01\x00\x01\x00")
	ok = le.AppendUint32(ok, 22050)
	ok = le.AppendUint32(ok, 44100)
	ok = append(ok, "\x02\x00\x10\x00data\xff\xff\xff\xff12"...)
	f.Add(ok)
	f.Add([]byte("RIFF\x00\x00\x00\x00WAVEdata\x00\x00\x00\x00"))
	f.Add([]byte("RIFF"))
	f.Fuzz(func(t *testing.T, b []byte) {
		in, rate, err := sound("audio/wav", bytes.NewReader(b), 24000)
		if err != nil {
			if !errors.Is(err, agent.ErrProtocol) {
				t.Errorf("%v is no protocol error", err)
			}
			return
		}
		rest, err := io.ReadAll(in)
		if err != nil || len(rest) > len(b) {
			t.Errorf("%d bytes of %d, %v", len(rest), len(b), err)
		}
		if bytes.Equal(b, ok) && (rate != 22050 || string(rest) != "12") {
			t.Errorf("rate %d, samples %q", rate, rest)
		}
	})
}

// The first clause finds its socket open; one that the vendor has closed while
// nobody spoke is open again before the next.
func TestSocketIsOpenBeforeItIsNeeded(t *testing.T) {
	type standIn interface {
		Requests() []providertest.Request
		Open() int
		Cut()
	}
	for name, start := range map[string]func(t *testing.T) (standIn, string){
		"deepgram": func(t *testing.T) (standIn, string) {
			s := providertest.NewDeepgramSpeak(providertest.DeepgramSpeakScript{Key: providertest.Canary})
			t.Cleanup(s.Close)
			return s, s.URL
		},
		"elevenlabs": func(t *testing.T) (standIn, string) {
			s := providertest.NewElevenLabs(providertest.ElevenLabsScript{Key: providertest.Canary})
			t.Cleanup(s.Close)
			return s, s.URL
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			server, url := start(t)
			v, err := Vendors[name].Dial(t.Context(), Options{URL: url, Key: providertest.Key, FirstByte: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			speak := func() {
				t.Helper()
				for _, err := range v.Say(t.Context(), agent.Clause{Text: "Hello.", Last: true}) {
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			for round := 1; round <= 3; round++ {
				waitUntil(t, func() bool { return dials(server.Requests()) == round && server.Open() == 1 })
				speak()
				speak()
				if n := dials(server.Requests()); n != round {
					t.Fatalf("the clauses dialed: %d sockets, want %d", n, round)
				}
				server.Cut()
			}
			// Nobody speaks any more: it is not opened for ever.
			for round := 4; round <= 3+keptUnused; round++ {
				waitUntil(t, func() bool { return dials(server.Requests()) == round && server.Open() == 1 })
				server.Cut()
			}
		})
	}
}

// keptUnused is how many sockets are opened that nobody uses.
const keptUnused = 2

func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	for !ok() {
		select {
		case <-late:
			t.Fatal("it did not happen")
		case <-time.After(time.Millisecond):
		}
	}
}
