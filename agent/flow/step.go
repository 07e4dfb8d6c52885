package flow

import (
	"encoding/json"
	"time"
)

// Step is declared in engine.go:
//
//	func Step(f *Flow, s State, ev Event) (State, []Effect)
//
// It is pure: no I/O, no clock, no goroutine, no global state. It does not
// change s. The same flow, state and event give the same result on every host,
// so that any stored conversation can be replayed.

// An Event is what a host tells a flow. Every event carries its time: the
// engine has no clock.
type Event interface {
	Time() time.Time
	isEvent()
}

// At is the time of an event, embedded in each.
type At struct {
	At time.Time `json:"at"`
}

// Time implements [Event].
func (a At) Time() time.Time { return a.At }
func (At) isEvent()          {}

type (
	// Start begins a conversation whose state was made by [New].
	Start struct{ At }

	// Input is the caller's answer: an utterance, a typed text, or digits.
	Input struct {
		At
		Text string `json:"text"`
		// Mode is "speech", "text" or "dtmf".
		Mode string `json:"mode"`
		// Confidence of speech, 0 to 1; 0 if unknown.
		Confidence float64 `json:"confidence,omitempty"`
	}

	// Silence says that the time the waiting question gave has passed without
	// an answer ([Ask].NoInput).
	Silence struct{ At }

	// Played says that the speech of a [Say] or [Ask] is over: Heard of it
	// reached the caller, who may have interrupted. Only hosts with audio send
	// it; a state that waits for it has State.System.Playing set to ID.
	Played struct {
		At
		ID          string `json:"id"`
		Heard       string `json:"heard"`
		Interrupted bool   `json:"interrupted,omitempty"`
	}

	// Result brings back what an effect with an ID came to.
	Result struct {
		At
		ID      string          `json:"id"`
		Outcome string          `json:"outcome"` // "success", "error", "busy", "answered", …
		Data    json.RawMessage `json:"data,omitempty"`
		Error   string          `json:"error,omitempty"` // for the trace; never holds a secret
		Spent   Spent           `json:"spent,omitzero"`  // by a [Call]
	}

	// Happened says that an event has arrived from outside. A wait for it ends;
	// without one it is kept for the next.
	Happened struct {
		At
		Event string          `json:"event"`
		Data  json.RawMessage `json:"data,omitempty"`
		// Operator says that it is an operator's note, [NoteEvent]: models are told.
		Operator bool `json:"operator,omitempty"`
	}

	// Hangup says that the caller has left. The flow's on_hangup path runs
	// without audio.
	Hangup struct {
		At
		// Result is what the effect that the flow waits for had come to by then,
		// such as a recorded message; it is stored, and its outcome is not taken.
		Result *Result `json:"result,omitempty"`
	}
)

// An Effect is what the flow wants done. A host performs effects in order.
// Those with an ID come back as a [Result] (or [Played]) with that ID; until
// then they stand in State.System.Pending, and whoever loads the state gives
// them out again under the same ID.
type Effect interface{ isEffect() }

type effect struct{}

func (effect) isEffect() {}

type (
	// Say shows or speaks messages without waiting for an answer.
	Say struct {
		effect
		ID       string    `json:"id"`
		Node     string    `json:"node"`
		Messages []Message `json:"messages"`
		Voice    Voice     `json:"voice"`
		// Spoken says that the host has given the messages to the caller
		// already, as a model made them.
		Spoken bool `json:"spoken,omitempty"`
	}

	// Ask shows or speaks a question and waits for [Input], or [Silence]
	// after Voice.NoInput.Timeout from the end of the prompt. It is always the
	// last effect of a step. Messages may be empty: wait without a prompt.
	Ask struct {
		effect
		ID       string    `json:"id"`
		Node     string    `json:"node"`
		Messages []Message `json:"messages"`
		Takes    Takes     `json:"takes"`
		Voice    Voice     `json:"voice"`
		Spoken   bool      `json:"spoken,omitempty"` // as of [Say]
	}

	// End says that the conversation is over. Status is completed, failed,
	// abandoned or transferred; Hangup asks the host to end the call too
	// (after what was said has been heard).
	End struct {
		effect
		Status string `json:"status"`
		Hangup bool   `json:"hangup,omitempty"`
	}

	// Emit reports something for the event log: session_started,
	// node_changed, session_status_changed, limit_exceeded, ….
	Emit struct {
		effect
		Type string          `json:"type"`
		Data json.RawMessage `json:"data,omitempty"`
	}
)

// A Message is one thing to show or to speak.
type Message struct {
	Type string `json:"type"` // text, image, audio, video, file
	Text string `json:"text,omitempty"`
	// SSML is the text with its marks, for a host that speaks; Text is the same
	// without them. Empty: there are none.
	SSML string `json:"ssml,omitempty"`
	URL  string `json:"url,omitempty"`
	Alt  string `json:"alt,omitempty"`
	// Extra fields of the document (typing_delay, delay, …), as they stand.
	Extra map[string]json.RawMessage `json:"-"`
}

// Takes tells what a waiting question accepts.
type Takes struct {
	Type    string   `json:"type"` // input_type of docs/flow.md, Question
	Options []Option `json:"options,omitempty"`
	// Validation as the document has it, for a client that checks before it sends.
	Validation json.RawMessage `json:"validation,omitempty"`
	// Hints are words that the answer may hold: voice.speech.hints and the
	// phrases of the globals. For recognizers.
	Hints []string `json:"hints,omitempty"`
}

// An Option is one choice of a question.
type Option struct {
	Label string   `json:"label"`
	Value any      `json:"value"`
	DTMF  string   `json:"dtmf,omitempty"`
	Say   []string `json:"say,omitempty"` // synonyms
}

// Voice is the resolved voice block of a node (docs/flow.md, Voice): the node's own
// over its content's over the flow's defaults.
type Voice struct {
	BargeIn   BargeIn
	NoInput   time.Duration // 0: the host's default
	Digits    Digits
	Hints     []string
	Sensitive bool
	// Boost is how much the hints weigh, from 0 to 10; 0 for the recognizer's own.
	Boost float64
	// Model and Language are the recognizer's for this question; "" for the
	// agent's model and the conversation's language.
	Model, Language string
	// TTS is how the node is spoken.
	TTS TTS
	// ChatNoInput is NoInput of a host without audio; 0: silence means nothing.
	ChatNoInput time.Duration
	// EndSilence overrides the agent's end-of-turn silence; 0 for none.
	EndSilence time.Duration
	// Patient has the agent begin its answer only when the caller's turn has
	// ended for certain (speech.eager: false).
	Patient bool
	// Filler is how long a call outside may last before its filler is said; 0
	// for the host's default.
	Filler time.Duration
}

// TTS is how something is spoken.
type TTS struct {
	Voice string  // a vendor's voice, "vendor/voice" for another vendor than the first; "" for the agent's
	Rate  float64 // times as fast; 0 for the agent's
	SSML  bool    // texts have marks
}

// BargeIn is when the caller may interrupt.
type BargeIn struct {
	Off      bool          // never
	DTMFOnly bool          // by a key only
	After    time.Duration // not before this much was played
	MinWords int
}

// Digits shapes keypad input.
type Digits struct {
	Max        int           // ends the answer; 0 for no fixed length
	FinishKey  string        // ends the answer; "" for the default "#"
	InterDigit time.Duration // ends the answer after this much quiet; 0 for the host's default
}
