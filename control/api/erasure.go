package api

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

type erasureJSON struct {
	ID          uuid.UUID  `json:"id"`
	Status      string     `json:"status" enum:"running,waiting,held,done" doc:"waiting: for calls in progress, or just over. held: a legal hold keeps some of it."`
	Subject     string     `json:"subject" doc:"Whom it is about, as a MAC: the same person is the same text."`
	RequestedBy string     `json:"requested_by"`
	RequestedAt time.Time  `json:"requested_at"`
	FinishedAt  *time.Time `json:"finished_at"`
	Waiting     int        `json:"waiting" doc:"Calls that must end first."`
	Held        int        `json:"held" doc:"Calls and sessions that legal holds keep."`
	Sessions    int        `json:"sessions" doc:"Calls and sessions that were deleted."`
	Rows        int64      `json:"rows" doc:"Rows of all tables that were deleted."`
	Files       int        `json:"files" doc:"Recordings and messages that were deleted."`
	Bytes       int64      `json:"bytes" doc:"Of files."`
	Answers     int        `json:"answers" doc:"Kept answers of requests that named them, and were emptied."`
	Cached      int        `json:"cached" doc:"Entries of shared memory that were dropped."`
}

func newErasureJSON(e control.Erasure) erasureJSON {
	return erasureJSON{e.ID, e.Status, hex.EncodeToString(e.Subject), e.RequestedBy, e.RequestedAt, when(e.FinishedAt), e.Waiting, e.Held,
		e.Sessions, e.Rows, e.Blobs, e.Bytes, e.Answers, e.Cached}
}

type deletionJSON struct {
	ID         uuid.UUID   `json:"id"`
	Class      string      `json:"class" doc:"Such as calls, sessions, transcripts, recordings, events."`
	Reason     string      `json:"reason" enum:"period,deleted,erasure" doc:"deleted: by hand, when the time to restore was over."`
	ErasureID  *uuid.UUID  `json:"erasure_id,omitempty"`
	Objects    []uuid.UUID `json:"objects" doc:"Calls and sessions; empty: by age."`
	Before     *time.Time  `json:"before,omitempty" doc:"By age: what was as old as this."`
	Rows       int64       `json:"rows"`
	Files      int         `json:"files"`
	Bytes      int64       `json:"bytes" doc:"Of files."`
	Hash       string      `json:"hash" doc:"A MAC over all of it, under the operator's key; it tells nothing of what there was."`
	BegunAt    time.Time   `json:"begun_at"`
	FinishedAt *time.Time  `json:"finished_at" doc:"Null: it is under way, and proves nothing yet."`
}

func newDeletionJSON(d control.Deletion) deletionJSON {
	objects := d.Objects
	if objects == nil {
		objects = []uuid.UUID{}
	}
	return deletionJSON{d.ID, d.Class, d.Reason, someID(d.Erasure), objects, when(d.Before), d.Rows, d.Blobs, d.Bytes,
		hex.EncodeToString(d.Hash), d.BegunAt, when(d.FinishedAt)}
}

// ErasureFields say whom to forget; exported for huma.
type ErasureFields struct {
	Caller string `json:"caller,omitempty" maxLength:"200" doc:"A number: all calls from and to it."`
	User   string `json:"user_id,omitempty" maxLength:"200" doc:"A user, in the words of your own program: all sessions with them."`
}

// ErasurePath names an erasure in a route; exported for huma, which fills it.
type ErasurePath struct {
	ID uuid.UUID `path:"id" doc:"The erasure's id."`
}

func (s *Server) erasures() error {
	manage := control.RecordsManage
	ask := writes("POST", "/v1/erasures", manage, 16<<10)
	ask.StepUp = true
	return errors.Join(
		operation(s, ask, "request-erasure", "Forget a caller or a user, for good: all that there is of them by now", 202, s.requestErasure),
		operation(s, reads("/v1/erasures", manage), "list-erasures", "List erasures, newest first", 200, s.listErasures),
		operation(s, reads("/v1/erasures/{id}", manage), "get-erasure", "How far an erasure is", 200, s.getErasure),
		operation(s, reads("/v1/deletions", manage), "list-deletions", "Proofs of what was deleted, newest first", 200, s.listDeletions),
	)
}

func (s *Server) requestErasure(ctx context.Context, in *struct{ Body ErasureFields }) (*reply[erasureJSON], error) {
	e, err := s.o.Keeper.RequestErasure(ctx, in.Body.Caller, in.Body.User)
	if err != nil {
		return nil, err
	}
	return &reply[erasureJSON]{newErasureJSON(e)}, nil
}

func (s *Server) listErasures(ctx context.Context, in *PageQuery) (*listOut[erasureJSON], error) {
	list, err := s.o.Keeper.Store.Erasures(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, list, newErasureJSON, func(e control.Erasure) uuid.UUID { return e.ID }), nil
}

func (s *Server) getErasure(ctx context.Context, in *ErasurePath) (*reply[erasureJSON], error) {
	e, err := s.o.Keeper.Store.Erasure(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &reply[erasureJSON]{newErasureJSON(e)}, nil
}

func (s *Server) listDeletions(ctx context.Context, in *struct {
	PageQuery
	Erasure uuid.UUID `query:"erasure_id" doc:"Those of one erasure."`
}) (*listOut[deletionJSON], error) {
	list, err := s.o.Keeper.Store.Deletions(ctx, in.Erasure, in.page())
	if err != nil {
		return nil, err
	}
	return newList(in.PageQuery, list, newDeletionJSON, func(d control.Deletion) uuid.UUID { return d.ID }), nil
}
