package agent

import (
	"io"
	"slices"
	"testing"
	"time"

	"parley/media"
)

// lateLeg gives a second of frames whose reader comes half a second late to the
// eleventh.
type lateLeg struct {
	media.Leg
	n int
}

func (l *lateLeg) Info() media.LegInfo { return media.LegInfo{Rate: 8000, Encoding: media.PCMU} }

func (l *lateLeg) ReadFrame() (media.Frame, error) {
	f := media.Frame{Rate: 8000, PCM: slices.Repeat([]int16{1000}, 160)}
	switch l.n++; l.n {
	case 11:
		f.Skipped = 500 * time.Millisecond
	case 51:
		return f, io.EOF
	}
	return f, nil
}

// reel keeps what is recorded of the caller.
type reel struct{ caller []int16 }

func (r *reel) Write(caller, _ []int16) error {
	r.caller = append(r.caller, caller...)
	return nil
}

// What a stall leaves out is silence in the recording: it is as long as the call,
// and what comes after stands at its time.
func TestRecordingKeepsTheCallsTime(t *testing.T) {
	vad, err := newDetector(nil, 8000)
	if err != nil {
		t.Fatal(err)
	}
	leg, kept := &lateLeg{}, &reel{}
	e := &ears{leg: leg, player: media.NewPlayer(leg), vad: vad, rec: &recognizer{memory: memory{rate: 8000, held: -1}},
		record: &tap{to: kept}, post: func(event) {}}
	e.setSilence(time.Second)
	if err := e.run(); err != nil {
		t.Fatal(err)
	}
	if got, want := media.Duration(int64(len(kept.caller)), 8000), 1500*time.Millisecond; got != want {
		t.Fatalf("recorded %v, want %v", got, want)
	}
	at := func(d time.Duration) int16 { return kept.caller[media.Samples(d, 8000)] }
	if at(190*time.Millisecond) == 0 || at(210*time.Millisecond) != 0 || at(690*time.Millisecond) != 0 || at(710*time.Millisecond) == 0 {
		t.Error("the silence does not stand where frames were left out")
	}
}
