package stt

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"parley/agent"
	"parley/agent/socket"
	"parley/media"
)

// A fluxMessage is what the vendor sends, in the fields used.
type fluxMessage struct {
	Type       string  `json:"type"`
	Event      string  `json:"event"`
	TurnIndex  int64   `json:"turn_index"`
	Start      float64 `json:"audio_window_start"` // seconds
	End        float64 `json:"audio_window_end"`
	Transcript string  `json:"transcript"` // of the turn so far
	Confidence float64 `json:"end_of_turn_confidence"`
	Trigger    string  `json:"trigger"` // of EndOfTurn: model, manual, timeout
	Code       string  `json:"code"`    // of Error
	Words      []struct {
		Confidence float64 `json:"confidence"`
	} `json:"words"`
}

// parseFlux reads one message; one of type Error is the error that it tells.
func parseFlux(b []byte) (fluxMessage, error) {
	var m fluxMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("deepgram-flux: %w: message is not the JSON promised", agent.ErrProtocol)
	}
	if m.Type == "Error" {
		return m, fmt.Errorf("deepgram-flux: %w: error %q", fluxKind(m.Code), socket.Plain(m.Code))
	}
	if m.Type == "TurnInfo" && m.Event == "" {
		return m, fmt.Errorf("deepgram-flux: %w: %w", agent.ErrProtocol, errors.New("turn without an event"))
	}
	return m, nil
}

// fluxKind sorts a fatal error. The vendor's document names the field but does
// not list its values, so this goes by the words in them (unverified).
func fluxKind(code string) error {
	code = strings.ToUpper(code)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(code, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("AUTH", "FORBIDDEN", "CREDENTIAL", "PAYMENT"):
		return agent.ErrCredentials
	case has("RATE", "LIMIT", "TOO_MANY", "CONCURREN"):
		return agent.ErrBusy
	case has("PARS", "INVALID", "DATA", "MESSAGE", "BIG"):
		return agent.ErrProtocol
	}
	return agent.ErrUnavailable
}

// A fluxTurn makes transcripts of the vendor's turns, and sees to it that each
// pause of the caller is answered in time. It is pure: time comes with calls.
type fluxTurn struct {
	rate  int
	clock fluxClock

	open  bool // between StartOfTurn and EndOfTurn
	index int64
	last  agent.Transcript // the open turn's latest
	heard time.Duration    // how far the vendor has listened

	given   int // words of turn givenOf that were told as final before its end
	givenOf int64

	paused   bool          // a pause is unanswered
	at       time.Duration // where in the audio
	since    time.Time     // when it was told
	due      time.Time     // of the next step towards its answer; zero if none
	isForced bool
}

// info takes a TurnInfo.
func (u *fluxTurn) info(m fluxMessage) (out []agent.Transcript) {
	t := agent.Transcript{
		Text:       strings.TrimSpace(m.Transcript),
		Start:      u.clock.ours(seconds(m.Start), u.rate),
		End:        u.clock.ours(seconds(m.End), u.rate),
		Confidence: fluxConfidence(m),
	}
	t.End = max(t.End, t.Start)
	u.heard = max(u.heard, t.End)
	if u.given > 0 && m.TurnIndex == u.givenOf {
		// Told as final when a pause ran out. By words, since the vendor goes on
		// correcting their spelling.
		words := strings.Fields(t.Text)
		t.Text = strings.Join(words[min(u.given, len(words)):], " ")
	}
	switch m.Event {
	case "EndOfTurn":
		u.open = false
		t.Final, t.EOU = true, m.Trigger != "manual" // which was our wish, not its judgement
		t.Flushed = u.paused && (u.isForced && m.Trigger == "manual" || t.End >= u.at-fluxSlack)
		if t.Flushed {
			u.answered()
		}
		return append(out, t)
	case "StartOfTurn", "Update", "EagerEndOfTurn", "TurnResumed":
		u.open = m.Event != "Update" || t.Text != "" || u.open && m.TurnIndex == u.index
		u.index, u.last = m.TurnIndex, t
		t.Eager = m.Event == "EagerEndOfTurn"
		if t.Text != "" {
			out = append(out, t)
		}
	}
	if u.paused && !u.open && u.heard >= u.at {
		out = append(out, u.answer())
	}
	return out
}

// pause takes the caller's pause, or that the caller goes on: then the turn
// must not be ended.
func (u *fluxTurn) pause(on bool, at time.Duration, now time.Time) (agent.Transcript, bool) {
	u.answered()
	if !on {
		return agent.Transcript{}, false
	}
	u.paused, u.at, u.since, u.due = true, at, now, now.Add(fluxForce)
	if !u.open && u.heard >= u.at-fluxSlack/2 {
		return u.answer(), true
	}
	return agent.Transcript{}, false
}

// late takes the next step towards a pause's answer: force is true when the
// vendor is to be asked to end the turn.
func (u *fluxTurn) late(now time.Time) (t agent.Transcript, force, ok bool) {
	switch {
	case !u.paused || now.Before(u.due):
		return t, false, false
	case !u.isForced:
		u.isForced, u.due = true, u.since.Add(fluxFinal)
		return t, true, false
	}
	t = u.answer()
	t.Late = t.Text == "" // it was not heard of
	return t, false, true
}

// answer ends a pause by what is known.
func (u *fluxTurn) answer() agent.Transcript {
	t := agent.Transcript{Start: u.at, End: u.at}
	if u.open && u.last.Text != "" {
		t = u.last
		if u.givenOf != u.index {
			u.given, u.givenOf = 0, u.index
		}
		u.given += len(strings.Fields(t.Text))
		u.last.Text = ""
	}
	t.Eager, t.Final, t.Flushed = false, true, true
	u.answered()
	return t
}

func (u *fluxTurn) answered() { u.paused, u.isForced, u.due = false, false, time.Time{} }

// close returns the open turn's text as final: no more will come.
func (u *fluxTurn) close() (agent.Transcript, bool) {
	if !u.open && !u.paused {
		return agent.Transcript{}, false
	}
	wanted := u.paused
	t := u.answer()
	t.Flushed = wanted
	return t, t.Text != "" || wanted
}

// fluxConfidence is the least sure word's. end_of_turn_confidence is another
// matter: how sure the vendor is of the turn's end.
func fluxConfidence(m fluxMessage) float64 {
	least := 0.0
	for _, w := range m.Words {
		if c := min(w.Confidence, 1); c > 0 && (least == 0 || c < least) {
			least = c
		}
	}
	return least
}

// A fluxClock turns the vendor's times into ours: it counts the silence that
// was put in, and does not count what the ring dropped.
type fluxClock struct {
	sent  int64 // samples
	marks []fluxMark
}

// A fluxMark is where the two clocks parted: from sample sent of the vendor's,
// ours is at, and stands still if still.
type fluxMark struct {
	sent, at int64
	still    bool
}

const (
	fluxMarks   = 64             // remembered: minutes of the worst line
	fluxLongest = 24 * time.Hour // of a stream; the vendor's nonsense beyond
)

// audio notes that n samples from ours at were sent.
func (c *fluxClock) audio(at, n int64) {
	if last := c.last(); last.still || last.at+c.sent-last.sent != at {
		c.mark(fluxMark{sent: c.sent, at: at})
	}
	c.sent += n
}

// silence notes that n samples of nothing were sent.
func (c *fluxClock) silence(n int64) {
	if last := c.last(); !last.still {
		c.mark(fluxMark{sent: c.sent, at: last.at + c.sent - last.sent, still: true})
	}
	c.sent += n
}

func (c *fluxClock) last() fluxMark {
	if len(c.marks) == 0 {
		return fluxMark{}
	}
	return c.marks[len(c.marks)-1]
}

func (c *fluxClock) mark(m fluxMark) {
	if len(c.marks) == fluxMarks {
		c.marks = append(c.marks[:0], c.marks[1:]...)
	}
	c.marks = append(c.marks, m)
}

// ours turns a time of the vendor's into one since the first frame written.
func (c *fluxClock) ours(t time.Duration, rate int) time.Duration {
	sent := min(media.Samples(min(t, fluxLongest), rate), c.sent)
	var m fluxMark
	for _, k := range c.marks {
		if k.sent > sent {
			break
		}
		m = k
	}
	if m.still {
		return media.Duration(m.at, rate)
	}
	return media.Duration(m.at+max(0, sent-m.sent), rate)
}
