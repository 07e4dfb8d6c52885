// Package signaling brings legs into being: Twilio's webhook and websocket,
// and WebRTC offers. It knows nothing of agents; a [Desk] does.
package signaling

import (
	"context"
	"errors"
	"time"

	"parley/media"
)

// A Desk is what signaling needs to know of calls. Its methods are safe for
// concurrent use and return within 2 s, but for Serve.
type Desk interface {
	// Arrive takes a call in: a carrier's webhook or a browser's offer. For a
	// carrier's call that is known already (a repeated webhook) it returns the
	// same CallID. Errors: ErrNoAgent, ErrForbidden (the number is another
	// account's), ErrBusy, ErrEnded, ErrDraining,
	// ErrUnavailable.
	Arrive(ctx context.Context, a Arrival) (Admitted, error)

	// Serve holds the conversation on leg until it has ended, and closes leg.
	// It returns after all of it is gone. A session that serves the call already
	// ends first: a carrier has one stream a call, and the newest is it.
	Serve(ctx context.Context, callID string, leg media.Leg) error

	// Next tells what a carrier's call does after its stream has ended. Errors:
	// those of Arrive.
	Next(ctx context.Context, carrier, carrierCallID string) (Next, error)

	// TransferEnded reports how a transfer came out, and tells what is next:
	// hang up after "completed", else connect again, and the agent says so.
	TransferEnded(ctx context.Context, carrier, carrierCallID, outcome string) (Next, error)

	// Status reports the carrier's view of a call: "ringing", "in-progress",
	// "completed", "busy", "failed", "no-answer", "canceled"; and callbacks of
	// streams and recordings. An ended call is closed if it is still open here.
	Status(ctx context.Context, s CarrierStatus) error
}

// An Arrival is a call that wants an agent.
type Arrival struct {
	Carrier       string // "twilio" or "webrtc"
	Account       string // whose webhook it is, verified; "" for the gateway's own
	CarrierCallID string // Twilio: CallSid
	From, To      string // E.164, or empty
	Agent         string // id or name, where the address names one; else To picks
	Direction     string // "inbound", "outbound"
	Resume        string // browser: the CallID to go on with, already verified
	Dial          string // of a call that we placed: the ref of its webhook; not verified
}

// Admitted is a call that was taken in.
type Admitted struct {
	CallID string // uuid; also the correlation id of logs
	Agent  string // the agent's id

	// Instead of being connected to the agent, a carrier's call is told something
	// in Language ("" is en-US) and ended, or dials elsewhere at once.
	Say, Language, Dial string
}

// Next is what a carrier's call does next.
type Next struct {
	Do       string        // "hangup", "dial", "connect"
	CallID   string        // connect
	Dial     string        // dial: number (+E.164), sip: address, or client: name
	CallerID string        // dial; "" keeps the carrier's default
	Timeout  time.Duration // dial; 0: 30 s
}

// A CarrierStatus is a carrier's callback about a call.
type CarrierStatus struct {
	Carrier, CarrierCallID string
	Kind                   string // "call", "stream", "recording", "amd"
	Status                 string // the carrier's word
	Dial                   string // as in Arrival
	Detail                 map[string]string
}

// Errors of a Desk.
var (
	ErrNoAgent = errors.New("signaling: no such agent or number")
	ErrBusy    = errors.New("signaling: no capacity left")
	ErrEnded   = errors.New("signaling: the call has ended")

	// ErrDraining says that this process takes no calls any more; another one, or
	// its successor, does.
	ErrDraining = errors.New("signaling: this process is about to end")
	// ErrUnavailable says that what takes calls in needs something that is away.
	ErrUnavailable = errors.New("signaling: calls cannot be taken in at the moment")
)
