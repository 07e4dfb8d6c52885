package signaling_test

import (
	"errors"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"parley/media"
	"parley/signaling"
)

// An agent that speaks for so long whenever the caller was silent for a second.
func talkTo(t *testing.T, leg *signaling.ScriptedLeg, speech time.Duration) (said []time.Duration, keys string, end string) {
	t.Helper()
	start := time.Now()
	loud, speakUntil := make([]byte, 2*signaling.ScriptedRate/50), time.Now().Add(speech)
	for i := range loud {
		loud[i] = 0x10
	}
	lastHeard, talking := time.Now(), false
	for {
		f, err := leg.ReadFrame()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
		voiced := slices.ContainsFunc(f.PCM, func(s int16) bool { return s != 0 })
		if voiced {
			if !talking {
				said = append(said, time.Since(start).Round(100*time.Millisecond))
			}
			lastHeard = time.Now()
		}
		talking = voiced
		for drained := false; !drained; {
			select {
			case e, more := <-leg.Events():
				drained = !more
				if e.Kind == media.Digit {
					keys += string(e.Digit)
					lastHeard = time.Now()
				} else if e.Kind == media.HungUp {
					end = e.Reason
				}
			default:
				drained = true
			}
		}
		switch {
		case time.Now().Before(speakUntil):
			_ = leg.Write(loud)
		case speech > 0 && lastHeard.After(speakUntil) && time.Since(lastHeard) > time.Second:
			speakUntil = time.Now().Add(speech)
		default:
			_ = leg.Write(make([]byte, 2*signaling.ScriptedRate/50)) // silence is none of its words
		}
	}
	for e := range leg.Events() {
		if e.Kind == media.HungUp {
			end = e.Reason
		}
	}
	return said, keys, end
}

func TestScriptedLeg(t *testing.T) {
	words := make([]int16, signaling.ScriptedRate/2) // half a second
	for i := range words {
		words[i] = 1000
	}
	tests := []struct {
		name   string
		agent  time.Duration // of speech, each time
		acts   []signaling.Act
		said   []time.Duration // when the caller began
		keys   string
		length time.Duration
	}{
		{"listens and leaves", 3 * time.Second, nil, nil, "", 4500 * time.Millisecond},
		{"speaks in turn", 3 * time.Second, []signaling.Act{{Speech: words}}, []time.Duration{3700 * time.Millisecond}, "", 9700 * time.Millisecond},
		{"keys in turn", 3 * time.Second, []signaling.Act{{Keys: "12"}, {Speech: words}}, []time.Duration{8700 * time.Millisecond}, "12", 14700 * time.Millisecond},
		{"keeps silence first", 3 * time.Second, []signaling.Act{{Speech: words, Rest: 2 * time.Second}}, []time.Duration{5700 * time.Millisecond}, "", 11700 * time.Millisecond},
		{"interrupts", 3 * time.Second, []signaling.Act{{Speech: words, Interrupt: true}}, []time.Duration{time.Second}, "", 4500 * time.Millisecond},
		{"with an agent that says nothing", 0, []signaling.Act{{Speech: words}}, []time.Duration{15 * time.Second}, "", 30500 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				leg := signaling.NewScriptedLeg(tt.acts)
				said, keys, end := talkTo(t, leg, tt.agent)
				near := func(a, b time.Duration) bool { return (a - b).Abs() <= 200*time.Millisecond }
				if !slices.EqualFunc(said, tt.said, near) || keys != tt.keys || end != "caller" {
					t.Errorf("said at %v, keys %q, end %q; want %v, %q, caller", said, keys, end, tt.said, tt.keys)
				}
				if length := time.Since(start); !near(length, tt.length) {
					t.Errorf("the call lasted %v, want %v", length, tt.length)
				}
				if err := leg.Write(nil); !errors.Is(err, media.ErrClosed) {
					t.Errorf("write after the end: %v", err)
				}
			})
		})
	}
}

// Whoever serves the leg may end it at any time, and twice.
func TestScriptedLegCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		leg := signaling.NewScriptedLeg(nil)
		if _, err := leg.ReadFrame(); err != nil {
			t.Fatal(err)
		}
		_, _ = leg.Close("goodbye"), leg.Close("limit")
		if _, err := leg.ReadFrame(); !errors.Is(err, io.EOF) {
			t.Errorf("read: %v, want io.EOF", err)
		}
		var last media.LegEvent
		for e := range leg.Events() {
			last = e
		}
		if last.Kind != media.HungUp || last.Reason != "goodbye" {
			t.Errorf("the last event is %+v", last)
		}
	})
}
