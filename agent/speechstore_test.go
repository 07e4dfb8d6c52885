package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"parley/agent/flow"
)

// memoryStore keeps speech in memory.
type memoryStore map[string][]byte

func (m memoryStore) LoadSpeech(_ context.Context, key string) ([]byte, error) {
	if b, ok := m[key]; ok {
		return b, nil
	}
	return nil, errors.New("nothing")
}

func (m memoryStore) SaveSpeech(_ context.Context, key string, data []byte) error {
	m[key] = slices.Clone(data)
	return nil
}

// What was made beforehand is spoken after a restart, though the vendor is away.
func TestPrerenderedLinesNeedNoVendor(t *testing.T) {
	f := mustFlow(t, deskFlow)
	store := memoryStore{}
	tone := &toneTTS{}
	dials := 0
	vendor := Synthesizer{Vendor: "far", Voice: "far", Dial: func(context.Context, Delivery) (TTS, error) { dials++; return tone, nil }}
	lines := append(HouseLines("en-US"), FixedLines(f)...)
	cache := &SpeechCache{Store: store}
	made, err := cache.Prerender(t.Context(), []Synthesizer{vendor}, lines, slog.New(slog.DiscardHandler))
	if err != nil || made == 0 || made != len(store) {
		t.Fatalf("made %d lines, stored %d: %v", made, len(store), err)
	}
	if again, err := cache.Prerender(t.Context(), []Synthesizer{vendor}, lines, slog.New(slog.DiscardHandler)); again != 0 || err != nil {
		t.Errorf("made %d lines again: %v", again, err)
	}
	play(t, func(s *scene) {
		atDesk(s)
		s.spec.Cache = &SpeechCache{Store: store} // as after a restart
		s.spec.Synthesizers = []Synthesizer{{Vendor: "far", Voice: "far", Dial: func(context.Context, Delivery) (TTS, error) {
			return nil, ErrUnavailable
		}}}
		s.results = []string{"hours"}
	}, func(s *scene) {
		s.wait(5 * time.Second)
		s.line.say(600 * time.Millisecond)
		if e := s.ended(30 * time.Second); e.Reason != "goodbye" {
			t.Errorf("ended by %+v", e)
		}
		s.want("agent: Hello, this is the desk. Hours or booking?\ncaller: hours\n" +
			"agent: We are open every day from nine in the morning until ten in the evening, all year round. Goodbye then.")
	})
}

// A line that holds a value cannot be made beforehand: the apology can.
func TestApologyNeedsNoVendor(t *testing.T) {
	store := memoryStore{}
	vendor := Synthesizer{Vendor: "far", Voice: "far", Dial: func(context.Context, Delivery) (TTS, error) { return &toneTTS{}, nil }}
	if _, err := (&SpeechCache{Store: store}).Prerender(t.Context(), []Synthesizer{vendor}, HouseLines("en-US"), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	play(t, func(s *scene) {
		s.spec.Prompt = nil
		s.spec.Flow = &FlowSpec{Flow: mustFlow(t, `{"nodes":[{"id":"m","type":"hangup","content":{"text":"Hello {context.caller}."}}]}`), Init: flow.Init{ID: "x"}}
		s.spec.Cache = &SpeechCache{Store: store}
		s.spec.Synthesizers = []Synthesizer{{Vendor: "far", Voice: "far", Dial: func(context.Context, Delivery) (TTS, error) {
			return nil, ErrUnavailable
		}}}
	}, func(s *scene) {
		if e := s.ended(20 * time.Second); e.Reason != "vendor" {
			t.Errorf("ended by %+v", e)
		}
		s.want("agent: " + defaultApology)
	})
}

func TestDamagedSpeechIsNotPlayed(t *testing.T) {
	for _, b := range [][]byte{nil, {1, 2}, {255, 255, 255, 127, 0}, {2, 0, 0, 0, '{', '}'}} {
		if s, err := decodeSpeech(b, 8000); err == nil {
			t.Errorf("%v gives %d samples", b, len(s.pcm))
		}
	}
}
