// Package flow runs conversation graphs: a pure step function over a document,
// a state and an event. Format and semantics are those of docs/flow.md.
//
// [Parse] compiles a document, [Flow.Check] tells what keeps it from being
// published, [New] makes a state and [Step] takes an event and returns the next
// state with the effects that a host performs. [EncodeState] and [DecodeState]
// store a state under its [Hash].
//
// On a host with audio, speech is a queue: messages and questions follow one
// another in one step, and only a node that acts on the world (action, webhook,
// wait) or a message with wait_for_ack holds until the caller has heard, or
// interrupted, what was said before. What a caller says over such a message
// answers the question that it leads to.
package flow
