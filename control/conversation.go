package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/agent/effect"
	"parley/agent/flow"
)

// Channels of conversations.
const (
	ChannelChat  = "chat"
	ChannelVoice = "voice"
)

// Errors of conversations.
var (
	// ErrQuarantined: the stored state is not the one whose hash was kept.
	// Nothing goes on with it until somebody has looked.
	ErrQuarantined = errors.New("control: the stored state was altered")
	// ErrNotWaiting: the flow waits for something else than an answer.
	ErrNotWaiting = errors.New("control: the conversation does not wait for an answer")
)

// A Conversation is what a flow remembers; in the chat API a session. That of
// a call has the call's id. It stays with the versions that it began with.
type Conversation struct {
	ID          uuid.UUID
	Call        uuid.UUID // zero: a chat
	Channel     string
	Flow        uuid.UUID
	FlowVersion uuid.UUID
	Pins        map[string]uuid.UUID // versions of the flows that it calls, by the name it calls them
	User        string               // who it is with, in the words of the tenant's program; may be empty
	TokenHash   []byte               // chat: of the token that opens it; never read back
	Revision    int                  // counts commits from 1, without a gap
	Node        string
	Status      string
	State       []byte // JSON
	Hash        string
	CreatedAt   time.Time
	UpdatedAt   time.Time
	EndedAt     time.Time // zero: active
	DueAt       time.Time // when what the flow waits for comes by itself; zero: it does not
	Due         bool      // that time has come
	ExpiresAt   time.Time // chat: the earlier of idle and absolute expiry
	Expired     bool      // that time has come
	Quarantined time.Time // zero: not
}

// An Entry is one revision of a conversation in its history: what happened,
// and what came of it.
type Entry struct {
	Revision int             `json:"revision"`
	Node     string          `json:"node"`
	Status   string          `json:"status"`
	Hash     string          `json:"hash"`
	Event    json.RawMessage `json:"event,omitempty"`    // as [flow.EncodeEvent] has it; a sensitive answer without its text
	Messages json.RawMessage `json:"messages,omitempty"` // a list, what the flow said
	Trace    json.RawMessage `json:"trace,omitempty"`    // a list, what else it wanted done: {"effect": …}
	Base     json.RawMessage `json:"base,omitempty"`     // the state that Event was given to, where the entry before does not lead there
	At       time.Time       `json:"at,omitzero"`
}

// A Revision is one commit of a conversation as storage takes it.
type Revision struct {
	Entry
	State  json.RawMessage `json:"state"` // canonical JSON
	Events []Reported      `json:"events,omitempty"`
	// Entered are the nodes that it came to, in order; NoInput and NoMatch the
	// node at which a silence, or an answer that was not understood, was counted.
	// Figures are made of them.
	Entered []string `json:"entered,omitempty"`
	NoInput string   `json:"no_input,omitempty"`
	NoMatch string   `json:"no_match,omitempty"`
}

// A Reported event is one that a flow told of by itself.
type Reported struct {
	Type string          `json:"type"`
	Data json.RawMessage `json:"data"`
}

// ConversationFilter narrows a list of conversations; zero fields do not.
type ConversationFilter struct {
	Page
	Flow    uuid.UUID
	Status  string
	Channel string
	User    string
	Caller  string // the number that called
	// Since and Until bound the beginning, Until not included.
	Since, Until time.Time
	// State is what a state must contain one of, as of [StateWanted].
	State []json.RawMessage
}

// ConversationStore keeps conversations. LocateX look over all tenants.
type ConversationStore interface {
	// LocateConversation finds a chat by its token's hash.
	LocateConversation(ctx context.Context, tokenHash []byte) (Located, error)
	// LocateDueConversations returns chats that somebody must go on with: a
	// turn was broken off, its time has come, or nobody has answered until the
	// expiry. The oldest 200.
	LocateDueConversations(ctx context.Context) ([]Located, error)

	Conversation(ctx context.Context, id uuid.UUID) (Conversation, error)
	Conversations(ctx context.Context, f ConversationFilter) ([]Conversation, error)
	// History returns entries with a revision greater than after, in order.
	History(ctx context.Context, id uuid.UUID, after, limit int) ([]Entry, error)
	// DeleteConversation takes a conversation out of sight with its history, until
	// it is restored or its time is over. ErrHeld.
	DeleteConversation(ctx context.Context, id uuid.UUID) error
}

// A Claim is one turn's hold on a conversation.
type Claim struct {
	ID    uuid.UUID
	Lease time.Duration // how long it lasts without a word
}

// TurnStore writes the turns of chats. A turn first claims the conversation;
// every write fails with ErrConflict once the claim is lost.
type TurnStore interface {
	// BeginConversation stores a new conversation with its first commit,
	// claimed unless the commit is the turn's last.
	BeginConversation(ctx context.Context, c Conversation, m TurnCommit) error
	// ClaimConversation returns the conversation as it stands. ErrConflict:
	// another turn holds it, or it is a call's; ErrEnded; ErrQuarantined.
	ClaimConversation(ctx context.Context, id uuid.UUID, k Claim) (Conversation, error)
	// RenewClaim makes the lease begin again.
	RenewClaim(ctx context.Context, id uuid.UUID, k Claim) error
	// CommitTurn writes the next revision: state, history and events in one
	// transaction. ErrConflict: the revision is not the next.
	CommitTurn(ctx context.Context, id uuid.UUID, m TurnCommit) error
	// ReleaseConversation ends a claim early, and says what is left to do.
	ReleaseConversation(ctx context.Context, id uuid.UUID, k Claim, left Left) error
	// QuarantineConversation marks the state as altered, with an event.
	QuarantineConversation(ctx context.Context, id uuid.UUID, k Claim) error
}

// Left is what a turn leaves behind.
type Left int

// What may be left.
const (
	LeaveDue   Left = iota // what was due stays so
	DueNow                 // somebody must go on at once
	NothingDue             // nothing comes by itself
)

// A TurnCommit is one revision of a chat.
type TurnCommit struct {
	Revision
	Claim   Claim
	Task    *Task         // to be done after it; nil: none. ErrNoQueue: it cannot be ordered
	Last    bool          // of the turn: the claim ends
	Due     time.Duration // until what the flow waits for comes by itself; 0: it does not
	KeepDue bool          // it waited for that before: the time stands
	Idle    time.Duration // expiry without a further commit
	Life    time.Duration // expiry from the beginning, whatever happens
}

// traced is an effect as the history keeps it.
type traced struct {
	Effect string          `json:"effect"`
	ID     string          `json:"id,omitempty"`
	Node   string          `json:"node,omitempty"`
	What   string          `json:"what,omitempty"`
	Type   string          `json:"type,omitempty"`
	Data   json.RawMessage `json:"data,omitempty"`
}

// NewRevision returns a commit as storage takes it.
func NewRevision(m agent.Commit) (Revision, error) {
	e := Revision{Entry: Entry{Revision: m.Revision, Node: m.Node, Status: m.Status, Hash: m.Hash, Base: m.Base},
		State: m.State, Events: reported(m.Effects), Entered: m.Entered}
	e.NoInput, e.NoMatch = failedAt(m.Effects, "no_input"), failedAt(m.Effects, "no_match")
	var err error
	if ev := m.Event; ev != nil {
		if in, ok := ev.(flow.Input); ok && m.Sensitive {
			in.Text = ""
			ev = in
		}
		if e.Event, err = flow.EncodeEvent(ev); err != nil {
			return e, err
		}
	}
	messages := effect.Step{Effects: m.Effects}.Messages()
	if messages == nil {
		messages = []flow.Message{}
	}
	if e.Messages, err = json.Marshal(messages); err == nil {
		e.Trace, err = traceOf(m.Effects)
	}
	if err != nil {
		return e, fmt.Errorf("describe a commit: %w", err)
	}
	return e, nil
}

// failedAt returns the node that an event of the engine names, or "".
func failedAt(effects []flow.Effect, kind string) string {
	for _, e := range effects {
		if e, ok := e.(flow.Emit); ok && e.Type == kind {
			var at struct{ Node string }
			if json.Unmarshal(e.Data, &at) == nil {
				return at.Node
			}
		}
	}
	return ""
}

// traceOf describes effects that are no messages.
func traceOf(effects []flow.Effect) (json.RawMessage, error) {
	trace := []traced{}
	for _, eff := range effects {
		switch eff := eff.(type) {
		case flow.Call:
			trace = append(trace, traced{Effect: "call", ID: eff.ID, Node: eff.Node, What: eff.Route})
		case flow.Transfer:
			trace = append(trace, traced{Effect: "transfer", ID: eff.ID, Node: eff.Node, What: eff.To})
		case flow.Fetch:
			trace = append(trace, traced{Effect: "fetch", ID: eff.ID, Node: eff.Node, What: "content"})
		case flow.Wait:
			trace = append(trace, traced{Effect: "wait", ID: eff.ID, Node: eff.Node, What: eff.After.String()})
		case flow.Model:
			trace = append(trace, traced{Effect: "model", ID: eff.ID, Node: eff.Node, What: eff.Kind})
		case flow.Record:
			trace = append(trace, traced{Effect: "record", ID: eff.ID, Node: eff.Node})
		case flow.Emit:
			trace = append(trace, traced{Effect: "emit", Type: eff.Type, Data: eff.Data})
		}
	}
	return json.Marshal(trace)
}

// reported returns the events of effects that subscribers may want; changes of
// node and status are told by storage.
func reported(effects []flow.Effect) []Reported {
	var out []Reported
	for _, e := range effects {
		if e, ok := e.(flow.Emit); ok {
			switch e.Type {
			case "session_started", "node_changed", "session_status_changed", "warning":
			default:
				out = append(out, Reported{e.Type, e.Data})
			}
		}
	}
	return out
}
