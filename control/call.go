package control

import (
	"context"
	"time"

	"github.com/google/uuid"

	"parley/agent"
)

// States of a call.
const (
	CallArrived      = "arrived"      // taken in, not yet served
	CallActive       = "active"       // an agent serves it, or is to serve it again
	CallTransferring = "transferring" // the agent has gone; the carrier connects it elsewhere
	CallEnded        = "ended"
)

// A Call is what the carrier bills: from ring to hang-up.
type Call struct {
	ID            uuid.UUID
	Tenant        uuid.UUID
	Agent         uuid.UUID
	AgentVersion  uuid.UUID // that it began with, and stays with; zero on insertion: what is live
	Account       uuid.UUID // of the tenant, at the carrier; zero: the operator's
	Carrier       string    // "twilio", "webrtc"
	CarrierCallID string    // Twilio: CallSid; may be empty
	Direction     string    // "inbound", "outbound"
	From, To      string    // E.164, or empty
	Status        string
	StartedAt     time.Time
	AnsweredAt    time.Time // zero: not answered
	EndedAt       time.Time // zero: not ended

	// EndReason is an [agent.Ending]'s, or "crashed", "missed", or the
	// carrier's "busy", "failed", "no-answer", "canceled".
	EndReason       string
	TransferTo      string // where to, once a transfer was asked for
	TransferOutcome string // the carrier's word, once it is over
	Recording       string // key of the blob; "" for none
	Served          bool   // a process holds its lease
	Generation      int    // how often it was claimed

	// What operators see of a call in progress, as its process noted it last.
	Revision int       // counts what they may act upon
	Node     uuid.UUID // the process that serves it; zero: none
	Phase    string    // an [agent.Event]'s State; "" before the first
	PhaseAt  time.Time
	FlowNode string // the flow's node that speaks or asks

	// Say is what the caller is told by the carrier, in SayLanguage ("" is
	// en-US), before the call is over: no agent answers. Of [Calls.Arrive] alone.
	Say, SayLanguage string
}

// A Hold is a process's right to serve a call, from its claim to the next one.
// What is written under an older hold is refused with [ErrTaken], so that a
// process which was thought dead and is not cannot write into a conversation
// that went on elsewhere.
type Hold struct {
	Call       uuid.UUID `json:"call"`
	Generation int       `json:"generation"` // of the claim; 0: whoever holds it
}

// Hold returns the hold of the call's last claim.
func (c Call) Hold() Hold { return Hold{c.ID, c.Generation} }

// An Arrival is a call that wants an agent.
type Arrival struct {
	Carrier, CarrierCallID string
	Account                uuid.UUID // whose it is, verified; zero: the operator's
	From, To               string
	Agent                  string    // id or name; else To picks the agent
	AgentVersion           uuid.UUID // of that agent; zero: what is live
	Direction              string    // default inbound
	Resume                 string    // a call's id to go on with, verified by the caller
}

// Next is what a carrier's call does next.
type Next struct {
	Do   string // "hangup", "dial", "connect"
	Call uuid.UUID
	Dial string
}

// CallStore keeps calls. LocateX look over all tenants.
type CallStore interface {
	LocateCall(ctx context.Context, id uuid.UUID) (Located, error)
	LocateCarrierCall(ctx context.Context, carrier, carrierCallID string) (Located, error)
	// LocateStaleCalls returns open calls whose lease ended before leasedBefore,
	// those that never had one and arrived before arrivedBefore, and transfers
	// of a day ago; the oldest 500.
	LocateStaleCalls(ctx context.Context, leasedBefore, arrivedBefore time.Time) ([]Located, error)

	// InsertCall stores c, or returns the call that the carrier's id has
	// already; the tenant is the context's.
	InsertCall(ctx context.Context, c Call) (Call, error)
	Call(ctx context.Context, id uuid.UUID) (Call, error)
	Calls(ctx context.Context, f CallFilter) ([]Call, error)
}

// CallSearch finds calls by what was said.
type CallSearch interface {
	// SearchCalls returns calls in which a turn says what is asked for, newest
	// first, each with up to three such turns. What was made and not heard
	// counts too: its words are said so in the turn.
	SearchCalls(ctx context.Context, q WordQuery, p Page) ([]Found, error)
}

// A Found is a call that a search has found.
type Found struct {
	Call     Call
	Snippets []Snippet
}

// A CallMeasure is what can be counted of one call.
type CallMeasure struct {
	Latency          []LatencyFigure
	RecordingFailure string // why it has no recording, or not all; "" for none
}

// A LatencyFigure is one step of [agent.Latency] over a call's turns, in
// milliseconds.
type LatencyFigure struct {
	Step     string
	Turns    int
	P50, P95 float64
}

// CallMeasures reads them.
type CallMeasures interface {
	CallMeasures(ctx context.Context, call uuid.UUID) (CallMeasure, error)
}

// CallFilter narrows a list of calls; zero fields do not.
type CallFilter struct {
	Page
	Agent                       uuid.UUID
	Status, Direction, Carrier  string
	EndReason                   string
	From, To                    string // whole, or with FromPrefix and ToPrefix how they begin
	FromPrefix, ToPrefix        bool
	Number                      string // either of the two
	StartedAfter, StartedBefore time.Time
	MinTalk, MaxTalk            time.Duration // from the answer to the end, both included
	Ended, Transferred          *bool
	Recorded                    *bool
}

// CallChanges writes what happens to a call. Each method is one conditional
// update: ErrConflict if the call is not in a state that allows it, ErrTaken if
// the hold is not the last.
type CallChanges interface {
	// ClaimCall makes node the call's server until the lease ends, and the
	// call active, also one that "network" or "crashed" ended within
	// [ResumeWindow]. It ends the hold of whoever served it before: who asks
	// has the carrier's line. ErrConflict for a call being transferred,
	// ErrEnded.
	ClaimCall(ctx context.Context, id, node uuid.UUID, lease time.Duration) (Call, error)
	// RenewCalls extends the leases of holds, of calls that were taken for
	// crashed too, and returns the calls that are still held.
	RenewCalls(ctx context.Context, node uuid.UUID, holds []Hold, lease time.Duration) ([]uuid.UUID, error)
	// LapseCall ends a call as "crashed" whose lease is over; ErrConflict if it
	// is not, or another process was first.
	LapseCall(ctx context.Context, id uuid.UUID, at time.Time) (Call, error)
	// EndCall closes an open call and releases its lease. An ended call stays
	// as it is, and is returned with no error, but for one that was taken for
	// crashed: its holder knows better.
	EndCall(ctx context.Context, h Hold, reason string, at time.Time) (Call, error)
	// TransferCall releases the lease and has the carrier connect it to.
	TransferCall(ctx context.Context, h Hold, to string) (Call, error)
	// TransferEnded notes the outcome; back makes the call active again, to
	// be served anew within 30 s, else it ends with reason "transfer".
	TransferEnded(ctx context.Context, id uuid.UUID, outcome string, back bool, at time.Time) (Call, error)
	// SetRecording notes the blob that holds the recording, and enters what it
	// takes. Another of the same call is a longer one.
	SetRecording(ctx context.Context, id uuid.UUID, r Recording) error
	// FailRecording notes why a call goes on without one, once, and writes the
	// event call_recording_failed.
	FailRecording(ctx context.Context, id uuid.UUID, why string) error
	// NotePhases notes where calls stand that are served under holds.
	NotePhases(ctx context.Context, phases []CallPhase) error
}

// A CallPhase is where a call in progress stands.
type CallPhase struct {
	Hold
	Phase    string
	At       time.Time
	FlowNode string
}

// LiveCalls is where all processes note which calls are live, beside the leases
// in storage. It may be away at any time.
type LiveCalls interface {
	// SetLive notes that calls are live for as long as life from now.
	SetLive(ctx context.Context, life time.Duration, calls ...uuid.UUID) error
	// Alive reports whether a call is noted as live.
	Alive(ctx context.Context, call uuid.UUID) (bool, error)
	// Ended takes a call out.
	Ended(ctx context.Context, call uuid.UUID) error
}

// RecordStore keeps what was said and what a flow came to. What is written
// under a hold that is not the call's last is ErrTaken.
type RecordStore interface {
	// WriteTurn is idempotent by (call, index). What the turn used is entered,
	// and priced, as of at, when the turn ended: it may be written hours later.
	WriteTurn(ctx context.Context, h Hold, t agent.Turn, at time.Time) error
	// WriteUsage writes what vendors did that belongs to no turn: see NoTurn. It
	// is idempotent by (hold, turn, use), as what a turn has used is, and no
	// claim is in its way: vendors are paid all the same.
	WriteUsage(ctx context.Context, h Hold, turn int, uses []agent.Use, at time.Time) error
	// WriteCommit is idempotent by (conversation, revision); an older revision
	// never overwrites a newer one.
	WriteCommit(ctx context.Context, h Hold, c Conversation, r Revision) error
	// Turns returns turns with an index greater than after, in order.
	Turns(ctx context.Context, call uuid.UUID, after, limit int) ([]agent.Turn, error)
	// Conversation returns ErrNotFound where nothing was committed.
	Conversation(ctx context.Context, id uuid.UUID) (Conversation, error)
	// NextTurn is the index that the next turn of the call takes.
	NextTurn(ctx context.Context, call uuid.UUID) (int, error)
}
