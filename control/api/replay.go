package api

import (
	"context"
	"encoding/json"

	"parley/agent/flow"
	"parley/control"
)

type replayIn struct {
	SessionPath
	Body *struct {
		Number   int             `json:"number,omitempty" minimum:"0" maximum:"2147483647" doc:"Version of the flow to compare with."`
		Latest   bool            `json:"latest,omitempty" doc:"Compare with the newest version."`
		Version  string          `json:"version,omitempty" maxLength:"100" doc:"The same by the documents' own versions: 1.4.0, ^1.4. The newest that fits."`
		Document json.RawMessage `json:"document,omitempty" doc:"Compare with a document that is no version."`
	}
}

type replayJSON struct {
	Verdict string             `json:"verdict" enum:"equal,different,impossible"`
	Reason  string             `json:"reason,omitempty"`
	Turns   []replayedTurnJSON `json:"turns"`
}

type replayedTurnJSON struct {
	Revision int             `json:"revision"`
	Event    string          `json:"event"`
	Input    string          `json:"input,omitempty"`
	Equal    bool            `json:"equal"`
	Stored   *turnResultJSON `json:"stored,omitempty"`
	Replayed *turnResultJSON `json:"replayed,omitempty"`
	State    []flow.Change   `json:"state,omitempty" doc:"From stored to replayed."`
	Notes    []string        `json:"notes,omitempty"`
}

type turnResultJSON struct {
	Messages    []json.RawMessage `json:"messages"`
	CurrentNode string            `json:"current_node"`
	Status      string            `json:"status"`
}

func newTurnResultJSON(r *control.TurnResult) (*turnResultJSON, error) {
	if r == nil {
		return nil, nil
	}
	messages, err := newMessages(r.Messages)
	return &turnResultJSON{messages, r.Node, r.Status}, err
}

// replaySession runs a conversation again. Nothing is stored or sent.
func (s *Server) replaySession(ctx context.Context, in *replayIn) (*reply[replayJSON], error) {
	c, err := s.o.Chats.Store.Conversation(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	var against *flow.Flow
	if b := in.Body; b != nil && (b.Number > 0 || b.Latest || b.Version != "" || len(b.Document) > 0) {
		against, err = s.o.Chats.Against(ctx, c, control.OtherVersion{Number: b.Number, Version: b.Version, Document: b.Document})
		if err != nil {
			return nil, err
		}
	}
	r, err := s.o.Chats.Replay(ctx, c, against)
	if err != nil {
		return nil, err
	}
	out := &reply[replayJSON]{replayJSON{r.Verdict, r.Reason, make([]replayedTurnJSON, len(r.Turns))}}
	for i, t := range r.Turns {
		j := replayedTurnJSON{Revision: t.Revision, Event: t.Event, Input: t.Input, Equal: t.Equal, State: t.State, Notes: t.Notes}
		if j.Stored, err = newTurnResultJSON(t.Stored); err != nil {
			return nil, err
		}
		if j.Replayed, err = newTurnResultJSON(t.Replayed); err != nil {
			return nil, err
		}
		out.Body.Turns[i] = j
	}
	return out, nil
}
