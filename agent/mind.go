package agent

import (
	"context"
	"time"

	"parley/agent/flow"
)

// A mind decides what the agent says: a model with a prompt, or a flow. One
// goroutine uses it at a time, a turn's.
type mind interface {
	// reply answers in by what it gives to say, in order, and returns what is
	// to be done when that was said. It runs under the turn's context and must
	// return at once when that ends; what it has understood by then, it keeps.
	reply(ctx context.Context, in input, say func(line) error) (move, error)

	// heard tells what the caller heard of the last reply. It comes before the
	// next reply, always.
	heard(text string, interrupted bool)

	// aside tells what the caller heard of words that the mind did not make, and
	// note what an operator wants it to know, which the caller does not hear. They
	// come before the next reply.
	aside(text string)
	note(text string)

	// retract takes the last reply back, of which nothing was heard, because
	// the caller goes on talking. It reports whether that was possible: it is
	// not if the reply had effects outside.
	retract() bool

	// spent counts the tokens that models were asked for so far. It is called
	// by whoever calls reply.
	spent() int
}

// inputKind tells what a mind answers.
type inputKind int

const (
	inputStart    inputKind = iota + 1 // the session begins
	inputSaid                          // the caller said, typed or keyed text
	inputSilence                       // nobody answered in time
	inputPlayed                        // what was said was heard, and the mind wanted to know
	inputReturned                      // a transfer came back: text is its outcome
	inputHangup                        // the caller has left: no audio
	inputRecorded                      // a message was recorded: recorded
)

// An input is what a mind answers.
type input struct {
	kind       inputKind
	at         time.Time
	text       string
	mode       string // inputSaid: "speech", "text", "dtmf"
	confidence float64
	heard      string     // inputPlayed
	cut        bool       // inputPlayed: it was interrupted
	recorded   *voicemail // inputRecorded, inputHangup: the message, nil if there is none

	// commit is set if the input is a guess: the caller may not have finished.
	// The mind may think and speak on it, and calls commit before it decides or
	// does anything that lasts. It returns what was said for certain, or an
	// error: then nothing of the guess was.
	commit func(context.Context) (input, error)
}

// certain returns what is answered for certain.
func (in input) certain(ctx context.Context) (input, error) {
	if in.commit == nil {
		return in, nil
	}
	return in.commit(ctx)
}

// A line is something to say.
type line struct {
	text   string
	fixed  bool   // written by an author: its speech may be cached
	ssml   string // the text with marks
	how    Delivery
	digits string // keys to press, as tones, and w for a pause; instead of text
	audio  string // address of a sound file; text stands in for it
	beep   bool   // the tone before a recording; instead of text
	firm   bool   // says nothing, but that the reply is not given up from here on
	quiet  bool   // with firm: nobody need be spoken to meanwhile
	yields bool   // with firm: but for a caller who speaks
	ends   bool   // says nothing, but that what was said before is a whole clause
	cut    bool   // says nothing, but that what is no whole clause yet is not said
	node   string // of the flow
	policy policy

	// fits tells whether a line that is said on a guess answers what was said
	// in the end. Nil: whatever equals the guess but for case and punctuation.
	fits func(input) bool
}

// moveKind is what happens when a reply was said.
type moveKind int

const (
	moveListen   moveKind = iota + 1 // wait for the caller
	movePlayed                       // ask the mind again with inputPlayed
	moveEnd                          // end the call, for reason
	moveTransfer                     // connect the caller to target
	moveRecord                       // record what the caller says, then ask the mind with inputRecorded
)

// sounds reports whether a line is other than text.
func (l line) sounds() bool { return l.digits != "" || l.audio != "" || l.beep }

// A move is what is to be done when a reply was said and heard.
type move struct {
	kind    moveKind
	expect  Expectation
	silence time.Duration // moveListen: inputSilence after this much quiet; 0: the session's default
	digits  keypad
	// endSilence overrides how much quiet makes the end of a turn a candidate.
	endSilence time.Duration
	sensitive  bool // the answer is neither recorded nor kept
	patient    bool // it is not answered before its end is certain
	hearing    Hearing
	record     flow.Record // moveRecord
	node       string      // of the flow
	target     string
	reason     string
}

// keypad shapes how keys become an answer.
type keypad struct {
	max       int           // ends the answer
	finish    byte          // ends the answer
	interKey  time.Duration // ends the answer after this much quiet
	immediate bool          // the first key is the answer
}
