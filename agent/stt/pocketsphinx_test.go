package stt

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"parley/agent"
	"parley/media"
)

// speak returns what flite's slt says, at rate, with half a second of quiet
// around it.
func speak(t *testing.T, text string, rate int) []int16 {
	t.Helper()
	wav := filepath.Join(t.TempDir(), "a.wav")
	cmd := exec.Command("flite", "-voice", "slt", "-o", wav)
	cmd.Stdin = strings.NewReader(text)
	if err := cmd.Run(); err != nil {
		t.Fatalf("flite: %v; install it: apt-get install flite", err)
	}
	b, err := os.ReadFile(wav)
	if err != nil {
		t.Fatal(err)
	}
	b = b[44:]
	pcm := make([]int16, 8000, 16000+len(b)/2)
	for ; len(b) >= 2; b = b[2:] {
		pcm = append(pcm, int16(binary.LittleEndian.Uint16(b)))
	}
	pcm = append(pcm, make([]int16, 8000)...)
	if rate == 16000 {
		return pcm
	}
	r, err := media.NewResampler(16000, rate)
	if err != nil {
		t.Fatal(err)
	}
	return r.Process(nil, pcm)
}

// What it hears of a clear voice, word for word, in a wide band and of a
// telephone's. By telephone, digit strings and an unstressed "no" are beyond it.
func TestPocketsphinxHears(t *testing.T) {
	tests := []struct {
		name, say, want string
		expect          agent.Expectation
	}{
		{"yes", "Yes please.", "yes please", agent.Expectation{Kind: "yes_no"}},
		{"no", "No, thank you.", "no thank you", agent.Expectation{Kind: "yes_no"}},
		{"no-i-dont", "No I don't.", "no i don't", agent.Expectation{Kind: "yes_no"}},
		{"correct", "That's correct.", "that's correct", agent.Expectation{Kind: "yes_no"}},
		{"choice", "I'd like billing please.", "i'd like billing please", agent.Expectation{Kind: "choice", Phrases: []string{"Sales", "Billing", "Technical Support"}}},
		{"choice-two", "Technical support.", "technical support", agent.Expectation{Kind: "choice", Phrases: []string{"Sales", "Billing", "Technical Support"}}},
		{"stop", "Stop.", "stop", agent.Expectation{Kind: "choice", Phrases: []string{"Sales", "Billing", "Technical Support"}}},
		{"digits", "Four two seven nine one.", "four two seven nine one", agent.Expectation{Kind: "digits"}},
		{"digits-long", "Five five five, zero one two, three eight six four.", "five five five zero one two three eight six four", agent.Expectation{Kind: "digits"}},
		{"number", "Twenty five.", "twenty five", agent.Expectation{Kind: "number"}},
		{"people", "For six people please.", "for six people please", agent.Expectation{Kind: "number"}},
		{"table", "Book a table.", "book a table", agent.Expectation{Kind: "choice", Phrases: []string{"Opening hours", "Book a table", "Speak to a person"}}},
		{"name", "My name is Alice Johnson.", "my name is alice johnson", agent.Expectation{Kind: "text", Phrases: []string{"Alice Johnson", "Robert Miller", "Maria Garcia"}}},
	}
	for _, rate := range []int{16000, 8000} {
		for _, tt := range tests {
			if rate == 8000 && (tt.expect.Kind == "digits" || tt.name == "no") {
				continue
			}
			t.Run(tt.name, func(t *testing.T) {
				s, err := Vendors["pocketsphinx"].Dial(t.Context(), Options{Rate: rate, Limit: time.Minute})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				s.Expect(tt.expect)
				got, delay := hear(t, s, speak(t, tt.say, rate), rate)
				if got.Text != tt.want || !got.Flushed {
					t.Errorf("heard %q at %d Hz, want %q", got.Text, rate, tt.want)
				}
				t.Logf("%d Hz %q in %v, confidence %.2f", rate, got.Text, delay, got.Confidence)
			})
		}
	}
}

// hear feeds pcm and returns the flushed transcript and how long it
// took after the end of speech was told.
func hear(t *testing.T, s agent.STT, pcm []int16, rate int) (agent.Transcript, time.Duration) {
	t.Helper()
	const lead = 15 // frames until the speech is noticed
	var start time.Time
	frame := rate / 50
	for i := 0; i*frame+frame <= len(pcm); i++ {
		if i == lead {
			if err := s.Speech(true); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.WriteFrame(media.Frame{Rate: rate, PCM: pcm[i*frame : (i+1)*frame]}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond) // twice as fast as life, or as fast as it is taken: the ring holds 2 s, and drops more
		for s.(*stream).ring.held() > time.Second {
			time.Sleep(10 * time.Millisecond)
		}
	}
	start = time.Now()
	if err := s.Speech(false); err != nil {
		t.Fatal(err)
	}
	for {
		tr, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if tr.Flushed {
			return tr, time.Since(start)
		}
	}
}

// held is how much audio is not taken yet.
func (r *ring) held() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return media.Duration(int64(r.n), r.rate)
}
