package api

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/uuid"

	"parley/control"
)

// sessionJSON is a conversation as operators see it.
type sessionJSON struct {
	ID            uuid.UUID  `json:"id"`
	Channel       string     `json:"channel" enum:"voice,chat"`
	CallID        *uuid.UUID `json:"call_id,omitempty"`
	FlowID        *uuid.UUID `json:"flow_id"`
	FlowVersionID *uuid.UUID `json:"flow_version_id"`
	UserID        string     `json:"user_id,omitempty"`
	Status        string     `json:"status" enum:"active,completed,abandoned,failed,transferred"`
	Revision      int        `json:"revision"`
	CurrentNode   string     `json:"current_node"`
	CreatedAt     time.Time  `json:"created_at"`
	UpdatedAt     time.Time  `json:"updated_at"`
	EndedAt       *time.Time `json:"ended_at"`
	ExpiresAt     *time.Time `json:"expires_at,omitempty"`
	QuarantinedAt *time.Time `json:"quarantined_at,omitempty" doc:"The stored state was found altered; nothing goes on with it."`
	State         *stateJSON `json:"state,omitempty"`
}

func newSessionJSON(c control.Conversation) sessionJSON {
	return sessionJSON{ID: c.ID, Channel: c.Channel, CallID: someID(c.Call), FlowID: someID(c.Flow), FlowVersionID: someID(c.FlowVersion),
		UserID: c.User, Status: c.Status, Revision: c.Revision, CurrentNode: c.Node, CreatedAt: c.CreatedAt, UpdatedAt: c.UpdatedAt,
		EndedAt: when(c.EndedAt), ExpiresAt: when(c.ExpiresAt), QuarantinedAt: when(c.Quarantined)}
}

// SessionPath names a conversation in a route; exported for huma, which fills it.
type SessionPath struct {
	ID uuid.UUID `path:"id" doc:"The session's id; that of a call's conversation is the call's."`
}

func (s *Server) sessions() error {
	read, write := control.SessionsRead, control.SessionsWrite
	return errors.Join(
		operation(s, reads("/v1/sessions", read), "list-sessions", "List conversations, newest first", 200, s.listSessions),
		operation(s, reads("/v1/sessions/{id}", read), "get-session", "Get a conversation with its state", 200, s.getSession),
		operation(s, reads("/v1/sessions/{id}/history", read), "get-session-history", "What happened and what came of it, in order", 200, s.sessionHistory),
		operation(s, writes("POST", "/v1/sessions/{id}/replay", read, maxFlow), "replay-session", "Run a conversation again, also against another version; nothing is stored or sent", 200, s.replaySession),
		operation(s, writes("POST", "/v1/sessions/{id}/end", write, NoBody), "end-session", "Complete a chat", 200, s.endSession),
		operation(s, writes("POST", "/v1/sessions/{id}/events", write, 64<<10), "tell-session", "Tell a conversation that something has happened", 202, s.tellSession),
	)
}

// StateQuery reads parameters such as state.variables.size=large, whose names
// are the tenant's own; exported for huma, which fills it.
type StateQuery struct{ tests []control.StateTest }

// Resolve implements huma.Resolver.
func (q *StateQuery) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	for name, values := range u.Query() {
		if path, ok := strings.CutPrefix(name, "state."); ok {
			for _, v := range values {
				q.tests = append(q.tests, control.StateTest{Path: path, Value: v})
			}
		}
	}
	return nil
}

func (s *Server) listSessions(ctx context.Context, in *struct {
	PageQuery
	Flow    uuid.UUID `query:"flow_id"`
	Status  string    `query:"status" enum:"active,completed,abandoned,failed,transferred"`
	Channel string    `query:"channel" enum:"voice,chat"`
	User    string    `query:"user_id" maxLength:"200"`
	Caller  string    `query:"caller" maxLength:"200" doc:"The number that called."`
	Since   time.Time `query:"since" doc:"Begun then or later."`
	Until   time.Time `query:"until" doc:"Begun before."`
	StateQuery
}) (*listOut[sessionJSON], error) {
	f := control.ConversationFilter{Page: in.page(), Flow: in.Flow, Status: in.Status, Channel: in.Channel, User: in.User,
		Caller: in.Caller, Since: in.Since, Until: in.Until}
	var err error
	if len(in.tests) > 0 {
		if f.State, err = control.StateWanted(in.tests); err != nil {
			return nil, err
		}
	}
	rows, err := s.o.Chats.Store.Conversations(ctx, f)
	if err != nil {
		return nil, err
	}
	return newList(in.PageQuery, rows, newSessionJSON, func(c control.Conversation) uuid.UUID { return c.ID }), nil
}

func (s *Server) getSession(ctx context.Context, in *SessionPath) (*reply[sessionJSON], error) {
	c, err := s.o.Chats.Store.Conversation(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out := newSessionJSON(c)
	switch r, err := s.o.Chats.Show(ctx, c); {
	case err == nil:
		state := newStateJSON(r.Current)
		out.State = &state
	case !errors.Is(err, control.ErrQuarantined): // whose state is not shown
		return nil, err
	}
	return &reply[sessionJSON]{out}, nil
}

// entryJSON is one revision as operators see it.
type entryJSON struct {
	Revision  int               `json:"revision"`
	At        time.Time         `json:"at"`
	Node      string            `json:"node"`
	Status    string            `json:"status"`
	StateHash string            `json:"state_hash"`
	Event     json.RawMessage   `json:"event,omitempty" doc:"What the flow was told, by type."`
	Messages  []json.RawMessage `json:"messages" doc:"What it said."`
	Trace     json.RawMessage   `json:"trace" doc:"What else it wanted done: calls, waits, events."`
}

func (s *Server) sessionHistory(ctx context.Context, in *struct {
	SessionPath
	HistoryQuery
}) (*listOut[entryJSON], error) {
	if _, err := s.o.Chats.Store.Conversation(ctx, in.ID); err != nil {
		return nil, err
	}
	return history(ctx, s, in.ID, in.HistoryQuery, func(e control.Entry) (entryJSON, error) {
		out := entryJSON{Revision: e.Revision, At: e.At, Node: e.Node, Status: e.Status, StateHash: e.Hash, Event: e.Event, Trace: e.Trace}
		return out, json.Unmarshal(e.Messages, &out.Messages)
	})
}

// endSession ends a chat; a call's conversation ends with the call.
func (s *Server) endSession(ctx context.Context, in *SessionPath) (*reply[chatJSON], error) {
	return chatReply(s.o.Chats.End(ctx, in.ID))
}

// tellSession ends a wait for the event, or keeps it for the next.
func (s *Server) tellSession(ctx context.Context, in *struct {
	SessionPath
	Body struct {
		Event string          `json:"event" minLength:"1" maxLength:"100" doc:"The name that the flow waits for."`
		Data  json.RawMessage `json:"data,omitempty" doc:"Any JSON; the wait's variable takes it."`
	}
}) (*struct{}, error) {
	return nil, s.o.Chats.Happen(ctx, s.o.Calls, in.ID, in.Body.Event, in.Body.Data)
}
