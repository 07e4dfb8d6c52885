package agent

import (
	"context"
	"time"

	"parley/agent/flow"
)

// A Journal keeps what a session leaves behind. Its methods are called by the
// conductor and must not block on I/O: an implementation queues, in order,
// bounded, and writes when its storage is back.
type Journal interface {
	// Turn records a finished turn. Index counts from 0 over the whole call. A
	// caller's turn under an agent's comes before it.
	Turn(context.Context, Turn)

	// Commit stores the flow's state after a step. Revision counts from 1.
	Commit(context.Context, Commit)
}

// A Turn is one party's holding of the floor, as it came to pass.
type Turn struct {
	Index   int
	Speaker string // "caller" or "agent"

	// What the agent made, what went to the wire, and what the caller heard of
	// it, rounded down to whole words. For the caller, Heard is what was
	// recognized and the others are empty.
	Generated, Sent, Heard string

	Interrupted bool
	// Pauses are the verdicts on a caller who spoke over this reply, oldest first
	// and [maxPauses] at most: what was taken for the cause, a slash, and what
	// came of it. "words", "key" and "sound" may "yield" the floor; "words",
	// "listening", "echo" and "sound" may "resume" the reply.
	Pauses     []string
	Input      string // caller: "speech", "dtmf", "text"
	Node       string // the flow's node, if a flow speaks or asks
	Confidence float64

	// Offsets from the time the call was answered.
	Start, End time.Duration

	Latency Latency // agent only

	// Uses is what vendors did since the turn before: of a caller's turn the
	// recognizers, of an agent's all.
	Uses []Use
}

// Latency splits the time between the end of the caller's speech and the
// agent's first audible sample. Zero means that the step did not happen.
type Latency struct {
	EndOfTurn       time.Duration // end of speech → the turn was taken as ended
	FinalTranscript time.Duration // end of speech → final transcript
	// Counted from the end of turn, and negative where they came before it, of
	// an answer that was begun early ([Speculation]).
	FirstToken  time.Duration // → the model's first token
	FirstClause time.Duration // → first clause ready to be spoken
	FirstSpeech time.Duration // → the vendor's first speech byte

	FirstAudio    time.Duration // end of speech → first audible sample on the wire
	MarkRoundTrip time.Duration // of the mark before the first audio
}

// A Commit is a flow's stored step.
type Commit struct {
	Revision int
	Node     string // where it waits; "" when ended
	Status   string // active, completed, abandoned, failed, transferred
	// Entered are the nodes that the step came to, in order: none where it
	// stayed. See [flow.Entered] for what very long conversations lose.
	Entered []string
	State   []byte // canonical JSON
	Hash    string // base64 of SHA-256 of State, see flow.Hash

	// Event is what the flow was told, and Effects what it wants done.
	Event   flow.Event
	Effects []flow.Effect
	// Base is the state that Event was given to, as State is, where it is not
	// that of the commit before; else nil.
	Base []byte
	// Sensitive says that Event answers a question whose answers are not kept
	// in the history.
	Sensitive bool
}

// NewCommit describes a step of a flow from one state to the next. With base,
// the state before is not the one that was committed last. The state must not
// be larger than a state may be ([flow.EncodeState]).
func NewCommit(before flow.State, ev flow.Event, after flow.State, effects []flow.Effect, base bool) (Commit, error) {
	b, err := flow.EncodeState(after)
	if err != nil {
		return Commit{}, err
	}
	c := Commit{Revision: after.System.Revision, Node: after.Session.CurrentNode, Status: after.Session.Status,
		Entered: flow.Entered(before, after), State: b, Hash: flow.Hash(b), Event: ev, Effects: effects}
	if base {
		if c.Base, err = flow.EncodeState(before); err != nil {
			return Commit{}, err
		}
	}
	_, answered := ev.(flow.Input)
	c.Sensitive = answered && after.System.Sensitive
	return c, nil
}

// An Ending is how a session ended.
type Ending struct {
	// Reason is a fixed word: "goodbye", "transfer", "caller", "idle", "limit",
	// "vendor", "operator", "drain", "protocol", "network".
	Reason string
	// Transfer is the number or address to connect the caller to, if Reason
	// is "transfer".
	Transfer string
	Err      error // the fault behind it, if any
	Uses     []Use // what vendors did since the last turn
}
