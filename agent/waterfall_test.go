package agent

import (
	"testing"
	"testing/quick"
	"time"
)

func TestWaterfall(t *testing.T) {
	const ms = time.Millisecond
	got := Latency{EndOfTurn: 250 * ms, FinalTranscript: 180 * ms, FirstToken: 300 * ms, FirstClause: 350 * ms,
		FirstSpeech: 500 * ms, FirstAudio: 780 * ms}.Waterfall()
	want := []Segment{{"final_transcript", 180 * ms}, {"end_of_turn", 70 * ms}, {"first_token", 300 * ms},
		{"first_clause", 50 * ms}, {"first_speech", 150 * ms}, {"first_audio", 30 * ms}}
	if len(got) != len(want) {
		t.Fatalf("%v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%v, want %v", got[i], want[i])
		}
	}
	if got := (Latency{EndOfTurn: ms}).Waterfall(); got != nil {
		t.Errorf("nothing was heard: %v", got)
	}
}

// Whatever was measured, no stretch is negative and all add up to the whole.
func TestWaterfallAddsUp(t *testing.T) {
	err := quick.Check(func(a, b, c, d, e int16, f uint16) bool {
		n := func(v int16) time.Duration { return time.Duration(v) * time.Millisecond }
		l := Latency{EndOfTurn: n(a).Abs(), FinalTranscript: n(b).Abs(), FirstToken: n(c), FirstClause: n(d), FirstSpeech: n(e),
			FirstAudio: time.Duration(f) * time.Millisecond}
		var sum time.Duration
		for _, s := range l.Waterfall() {
			if s.Took < 0 {
				return false
			}
			sum += s.Took
		}
		return sum == l.FirstAudio
	}, nil)
	if err != nil {
		t.Error(err)
	}
}
