package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"parley/media"
)

// An STT is one open recognition stream: audio in by WriteFrame, text out by
// Recv. It lives within the context it was dialed with. One goroutine may write
// (WriteFrame, Speech, Expect) while another receives; neither side may be
// used by two goroutines at once.
type STT interface {
	// WriteFrame takes audio at the rate the stream was dialed with. It never
	// waits for the network: a bounded ring of 2 s drops the oldest and counts.
	media.Writer

	// Speech tells that the caller began to speak (true: with the frames of
	// the last 300 ms) or seems to have paused (false). On false the vendor is
	// to finish what it holds and answer with a Transcript whose Flushed is
	// true, even if Text is empty.
	Speech(on bool) error

	// Expect tells what the waiting question accepts, for vendors that can be
	// biased or need a grammar. It holds until the next call.
	Expect(Expectation)

	// Recv blocks for the next transcript. An empty one is a sign of life: a
	// vendor that hears something but no words yet is not deaf. It returns
	// io.EOF once Close has drained the stream, the context's error if that ended
	// first, and otherwise an error wrapping one of the Err values of this
	// package.
	Recv() (Transcript, error)

	// Close asks for the last words and releases the stream. Recv goes on
	// returning transcripts until io.EOF. It is safe to call twice.
	Close() error
}

// A Transcript is what the recognizer holds for one stretch of audio.
type Transcript struct {
	Text       string
	Start      time.Duration // from the first frame written; rebased over reconnects
	End        time.Duration // from the first frame written
	Final      bool          // Text will not change; append it to the finals before
	EOU        bool          // the recognizer's own endpointing heard the end of the utterance
	Eager      bool          // not final, but the recognizer thinks that the turn may be over; a later transcript tells
	Flushed    bool          // answers the last Speech(false): nothing of before is outstanding
	Late       bool          // the vendor did not say so in time: the adapter did, in its stead
	Confidence float64       // 0 to 1; 0 where the vendor gives none
}

// An Expectation is what the waiting question accepts.
type Expectation struct {
	Kind    string   // "", "text", "yes_no", "choice", "digits", "number", "email", "phone", "date", …
	Phrases []string // what is likely to be said: choices, synonyms, hints
	Digits  int      // how many digits end the answer, 0 if unknown
	Boost   float64  // how much Phrases weigh, up to 10; 0: the vendor's own measure
}

// An LLM answers a prompt by a stream of deltas. It may be used by many
// goroutines at once.
type LLM interface {
	// Reply yields the reply as it is made. The stream ends after the last
	// delta, or with an error wrapping one of the Err values of this package.
	// Breaking off the loop or ending ctx aborts the request at once.
	Reply(ctx context.Context, p Prompt) iter.Seq2[Delta, error]
}

// A Prompt is all that a model sees of a conversation.
type Prompt struct {
	System      string
	Messages    []Message
	Tools       []Tool
	MaxTokens   int     // 0: the vendor's default
	Temperature float64 // 0 to 2
	MustCall    bool    // it is to answer by calling a tool, and by nothing else
}

// A Message is one entry of a model's context.
type Message struct {
	Role       string     // "user", "assistant", "tool", "system"
	Text       string     // for the assistant: what was heard, no more
	Calls      []ToolCall // of the assistant
	ToolCallID string     // role tool: the call it answers
}

// A Tool is a function that the model may call.
type Tool struct {
	Name        string
	Description string
	Parameters  json.RawMessage // a JSON Schema object
}

// A ToolCall is the model's wish to have a tool run.
type ToolCall struct {
	ID        string
	Name      string
	Arguments string // JSON as the model wrote it; may be invalid
}

// A Delta is one piece of a reply: text, a complete tool call, or the closing
// usage.
type Delta struct {
	Text   string
	Call   *ToolCall // complete, never partial
	Finish string    // "stop", "length", "tool_calls", "content_filter"; with the last delta
	Usage  *Usage    // with the last delta, where the vendor tells
}

// Usage counts what a reply cost. CachedTokens are those of PromptTokens that
// the vendor had in its cache, and mostly bills at less.
type Usage struct{ PromptTokens, CompletionTokens, CachedTokens int }

// A TTS turns clauses into speech. It lives within the context it was dialed
// with, and is used by one goroutine.
type TTS interface {
	// Rate returns the sample rate of the speech, in hertz.
	Rate() int

	// Say yields the speech of one clause as it is made. Breaking off the loop
	// or ending ctx aborts the request at once. An error wraps one of the Err
	// values of this package.
	Say(ctx context.Context, c Clause) iter.Seq2[Speech, error]

	// Close releases the vendor's connection. It is safe to call twice.
	Close() error
}

// A Clause is a stretch of speakable text that is synthesized in one piece.
type Clause struct {
	Text string
	SSML string // the same with marks (W3C, SSML 1.1); only for vendors that take them
	Turn uint64 // clauses of one turn belong together
	Last bool   // no clause of the turn follows
}

// A Speech is a piece of synthesized audio.
type Speech struct {
	PCM   []int16 // any number of samples at Rate(); valid until the loop's next step
	Words []Word  // that begin in this clause, if the vendor aligns; may come with any piece
}

// A Word is a word's place in the speech of its clause.
type Word struct {
	Text  string
	Start time.Duration // from the clause's first sample
	End   time.Duration
}

// Errors of a provider. An adapter wraps one of these, so that the session can
// choose between retry, fall-over and hang-up without knowing the vendor.
var (
	ErrBusy        = errors.New("agent: provider is rate limiting")   // retry after a pause
	ErrCredentials = errors.New("agent: provider refused the key")    // never retry
	ErrUnavailable = errors.New("agent: provider is not answering")   // fall over
	ErrProtocol    = errors.New("agent: provider broke its protocol") // log, fall over
)

// Credential returns a vendor's key. It is asked at each dial, so that a
// rotated key needs no restart.
type Credential func(context.Context) (string, error)

// Read returns the key, "" where c is nil. Its error wraps ErrUnavailable where
// what keeps the key is away, which is no reason to give the vendor up; else
// ErrCredentials.
func (c Credential) Read(ctx context.Context) (string, error) {
	if c == nil {
		return "", nil
	}
	key, err := c(ctx)
	switch {
	case err == nil:
		return key, nil
	case errors.Is(err, ErrUnavailable):
		return "", fmt.Errorf("read key: %w", err)
	}
	return "", fmt.Errorf("read key: %w: %w", ErrCredentials, err)
}
