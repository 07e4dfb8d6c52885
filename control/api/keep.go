package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
	"parley/control"
)

// RetentionFields say how long a tenant keeps what; exported for huma.
type RetentionFields struct {
	Recordings  *int `json:"recordings_days" doc:"Days from a call's end; null: until somebody deletes them."`
	Messages    *int `json:"messages_days" doc:"That callers left; as recordings_days."`
	Transcripts *int `json:"transcripts_days" doc:"What was said, and what flows remember; of chats the whole of them."`
	Calls       *int `json:"calls_days" doc:"Calls with all that belongs to them but usage."`
	Events      *int `json:"events_days" doc:"From when they happened, with deliveries of them. At least 7."`
	Usage       *int `json:"usage_days" doc:"What calls have used and cost. At least 90."`
	Restore     int  `json:"restore_days" minimum:"0" maximum:"365" doc:"How long what was deleted by hand can be restored."`
}

type retentionJSON struct {
	RetentionFields
	Audit     string     `json:"audit" enum:"for_good" doc:"The audit trail is a chain, names callers not at all, and is never deleted."`
	UpdatedAt *time.Time `json:"updated_at"`
}

type retentionOut struct {
	ETag string `header:"ETag"`
	Body retentionJSON
}

// days is null for none.
func days(n int) *int {
	if n == 0 {
		return nil
	}
	return &n
}

func newRetentionOut(r control.Retention) *retentionOut {
	return &retentionOut{etag(r.Revision), retentionJSON{RetentionFields{days(r.Recordings), days(r.Messages), days(r.Transcripts), days(r.Calls),
		days(r.Events), days(r.Usage), r.Restore}, "for_good", when(r.UpdatedAt)}}
}

func (f RetentionFields) retention() (control.Retention, error) {
	r := control.Retention{Restore: f.Restore}
	for _, p := range []struct {
		name string
		from *int
		to   *int
	}{
		{"recordings_days", f.Recordings, &r.Recordings}, {"messages_days", f.Messages, &r.Messages}, {"transcripts_days", f.Transcripts, &r.Transcripts},
		{"calls_days", f.Calls, &r.Calls}, {"events_days", f.Events, &r.Events}, {"usage_days", f.Usage, &r.Usage},
	} {
		if p.from != nil {
			if *p.from <= 0 {
				return r, control.Invalidf(p.name, "must be a number of days, or null: until somebody deletes it")
			}
			*p.to = *p.from
		}
	}
	return r, r.Check()
}

func (s *Server) keeping() error {
	if s.o.Keeper == nil {
		return nil
	}
	calls, write := control.CallsDelete, control.SessionsWrite
	return errors.Join(
		operation(s, reads("/v1/retention", control.TenantRead), "get-retention", "How long what is kept", 200, s.getRetention),
		operation(s, writes("PUT", "/v1/retention", control.TenantManage, 64<<10), "put-retention", "Say how long what is kept; the next pass deletes what is older, within minutes", 200, s.putRetention),
		operation(s, writes("DELETE", "/v1/calls/{id}", calls, NoBody), "delete-call", "Delete a call with all that belongs to it; it can be restored for a while", 204, s.deleteCall),
		operation(s, writes("POST", "/v1/calls/{id}/restore", calls, NoBody), "restore-call", "Bring a deleted call back", 200, s.restoreCall),
		operation(s, writes("DELETE", "/v1/sessions/{id}", write, NoBody), "delete-session", "Delete a conversation with its history; it can be restored for a while", 204, s.deleteSession),
		operation(s, writes("POST", "/v1/sessions/{id}/restore", write, NoBody), "restore-session", "Bring a deleted conversation back", 200, s.restoreSession),
		operation(s, reads("/v1/trash", calls), "list-trash", "What was deleted by hand and can be restored, newest first", 200, s.listTrash),
		s.legalHolds(), s.erasures(),
	)
}

func (s *Server) getRetention(ctx context.Context, _ *struct{}) (*retentionOut, error) {
	r, err := s.o.Keeper.Store.Retention(ctx)
	if err != nil {
		return nil, err
	}
	return newRetentionOut(r), nil
}

func (s *Server) putRetention(ctx context.Context, in *struct {
	Match
	Body RetentionFields
}) (*retentionOut, error) {
	r, err := in.Body.retention()
	if err != nil {
		return nil, err
	}
	revision, err := in.only()
	if err != nil {
		return nil, err
	}
	r, err = s.o.Keeper.Store.PutRetention(ctx, r, revision)
	if err != nil {
		return nil, in.matched(err)
	}
	return newRetentionOut(r), nil
}

func (s *Server) deleteCall(ctx context.Context, in *CallPath) (*struct{}, error) {
	return nil, s.o.Keeper.Store.DeleteCall(ctx, in.ID)
}

func (s *Server) restoreCall(ctx context.Context, in *CallPath) (*callOut, error) {
	if err := s.o.Keeper.Store.RestoreCall(ctx, in.ID); err != nil {
		return nil, err
	}
	return s.getCall(ctx, in)
}

func (s *Server) deleteSession(ctx context.Context, in *SessionPath) (*struct{}, error) {
	c, err := s.o.Chats.Store.Conversation(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if c.Channel == control.ChannelVoice && c.Status == flow.Active {
		return nil, control.Refuse(control.ErrConflict, "its call goes on, and would write it again: hang up first")
	}
	return nil, s.o.Chats.Store.DeleteConversation(ctx, in.ID)
}

func (s *Server) restoreSession(ctx context.Context, in *SessionPath) (*reply[sessionJSON], error) {
	if err := s.o.Keeper.Store.RestoreConversation(ctx, in.ID); err != nil {
		return nil, err
	}
	return s.getSession(ctx, in)
}

type trashedJSON struct {
	Kind      string    `json:"kind" enum:"call,session,recording"`
	ID        uuid.UUID `json:"id" doc:"Of a recording: its call's."`
	DeletedAt time.Time `json:"deleted_at"`
	Until     time.Time `json:"restorable_until" doc:"It is gone with the first pass after it."`
}

func (s *Server) listTrash(ctx context.Context, in *PageQuery) (*listOut[trashedJSON], error) {
	r, err := s.o.Keeper.Store.Retention(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.o.Keeper.Store.Trash(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, list, func(t control.Trashed) trashedJSON {
		return trashedJSON{t.Kind, t.ID, t.DeletedAt, t.DeletedAt.AddDate(0, 0, r.Restore)}
	}, func(t control.Trashed) uuid.UUID { return t.ID }), nil
}
