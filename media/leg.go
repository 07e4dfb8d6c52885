package media

import (
	"time"
)

// Encoding is how samples stand in bytes.
type Encoding string

const (
	PCMU Encoding = "PCMU" // µ-law, 1 byte a sample, 8 kHz (ITU-T G.711)
	L16  Encoding = "L16"  // 16-bit little-endian PCM, 2 bytes a sample
)

// BytesPerSample returns 1 for [PCMU] and 2 for [L16].
func (e Encoding) BytesPerSample() int {
	if e == PCMU {
		return 1
	}
	return 2
}

// Silence returns the byte that stands for silence.
func (e Encoding) Silence() byte {
	if e == PCMU {
		return 0xff
	}
	return 0
}

// A Leg is one party's two-way audio.
//
// Three goroutines use a leg, each its own methods: one reads (ReadFrame), one
// speaks (Write, Mark, Flush), one listens to Events. Close and Notify may be
// called by any. After Close, ReadFrame returns [io.EOF], the others
// [ErrClosed], and Events is closed once nothing of the leg is left running.
type Leg interface {
	// Info tells what the leg gives and takes. It does not change.
	Info() LegInfo

	// ReadFrame returns the party's next frame at Info().Rate. It comes every
	// Ptime of our clock, come what may: loss is concealed, the far clock's
	// drift is taken out in silences. A reader that comes much too late finds
	// frames left out, and how many in Frame.Skipped. It returns io.EOF after
	// the party hung up. The frame is valid until the next call.
	ReadFrame() (Frame, error)

	// Events yields what else the party does. The leg's user must drain it.
	// It is closed after the leg has ended.
	Events() <-chan LegEvent

	// Write takes whole frames in Info().Encoding to play to the party. The
	// caller paces: no further ahead of real time than Info().Lead. Write may
	// not keep audio. It is cut after 5 s with a peer that stops reading.
	Write(audio []byte) error

	// Mark asks for a LegEvent of kind [Marked] when all that was written
	// before has been heard. Legs without marks (LegInfo.Marks false) return nil
	// and send none.
	Mark(id uint64) error

	// Flush drops what was written and not yet heard. All outstanding marks
	// come back at once and prove nothing.
	Flush() error

	// Notify shows an event to a party with a screen, as JSON over the data
	// channel "events"; it never blocks, and is nothing where
	// LegInfo.Screen is false.
	Notify(event []byte)

	// Close ends the leg for the reason given, within 2 s. It is safe to
	// call twice; the first reason stands.
	Close(reason string) error
}

// LegInfo describes a leg.
type LegInfo struct {
	Carrier  string        // "twilio", "webrtc", "test": metric label and record
	Rate     int           // of ReadFrame and Write, in hertz
	Encoding Encoding      // of Write
	Lead     time.Duration // how far ahead of real time the far side buffers; 0 for none
	Marks    bool          // Mark comes back when heard
	Screen   bool          // Notify reaches somebody
}

// LegEventKind tells what happened on a leg.
type LegEventKind int

const (
	Marked  LegEventKind = iota + 1 // a mark came back: Mark
	Played                          // the party's player reports: Position samples of what was written have been heard
	Delayed                         // estimate of write-to-ear time for legs without marks or reports: Delay
	Digit                           // a key was pressed: Digit
	Typed                           // the party wrote: Text
	Away                            // the line is interrupted, it may come back
	Back                            // it came back
	HungUp                          // the party left or the line broke: Reason. Always the last one.
)

// A LegEvent is something the party did, or the line reports.
type LegEvent struct {
	Kind     LegEventKind
	At       time.Time     // when it reached us
	Mark     uint64        // Marked
	Position int64         // Played: samples at LegInfo.Rate since the leg began, counting what Write took
	Delay    time.Duration // Delayed; Played: how long the report was under way, 0 if unknown
	Digit    byte          // Digit: 0-9 * # A-D
	Text     string        // Typed
	Reason   string        // HungUp: "caller", "peer-timeout", "protocol", "network", …
}
