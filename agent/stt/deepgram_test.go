package stt

import (
	"strings"
	"testing"
	"time"

	"parley/agent"
	"parley/agent/providertest"
	"parley/media"
)

// A vendor that answers a Finalize too late has been answered for; its words
// come, and are not taken for the answer to the next.
func TestDeepgramLateFinalize(t *testing.T) {
	server := providertest.NewDeepgram(providertest.DeepgramScript{
		Utterances: []string{"one two", "three four"}, Manner: providertest.Slow, Delay: deepgramFinal + 300*time.Millisecond})
	t.Cleanup(server.Close)
	s, err := deepgram.Dial(t.Context(), Options{URL: server.URL, Rate: 8000, Limit: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var got []string
	tell := func(tr agent.Transcript) {
		if !tr.Final {
			return
		}
		text := tr.Text
		if tr.Late {
			text += "!"
		}
		if tr.Flushed {
			text += "|"
		}
		got = append(got, text)
	}
	for range 2 {
		tone := providertest.Tone(strings.Repeat("x", 16), 8000)
		_ = s.Speech(true)
		for i := 0; i+160 <= len(tone); i += 160 {
			if err := s.WriteFrame(media.Frame{Rate: 8000, PCM: tone[i : i+160]}); err != nil {
				t.Fatal(err)
			}
		}
		_ = s.Speech(false)
		for flushed := false; !flushed; {
			tr, err := s.Recv()
			if err != nil {
				t.Fatal(err)
			}
			tell(tr)
			flushed = tr.Flushed
		}
	}
	_ = s.Close()
	for {
		tr, err := s.Recv()
		if err != nil {
			break
		}
		tell(tr)
	}
	// Each pause is answered in its stead, and each utterance's words come once.
	if want := "!| one two !| three four"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", strings.Join(got, " "), want)
	}
}

// An open line without audio is kept alive by the message that the vendor knows.
func TestDeepgramKeepsAlive(t *testing.T) {
	server := providertest.NewDeepgram(providertest.DeepgramScript{})
	t.Cleanup(server.Close)
	s, err := deepgram.Dial(t.Context(), Options{URL: server.URL, Rate: 8000, Limit: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	late := time.After(deepgramKeepAlive + time.Minute)
	for {
		for _, r := range server.Requests() {
			if string(r.Body) == `{"type":"KeepAlive"}` {
				return
			}
		}
		select {
		case <-late:
			t.Fatal("no KeepAlive")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
