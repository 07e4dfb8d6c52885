// Package flow runs conversation graphs: a pure step function over a document,
// a state and an event. Format and semantics are those of docs/flow.md.
package flow
