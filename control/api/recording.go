package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

type recordingJSON struct {
	CallID    uuid.UUID  `json:"call_id"`
	AgentID   uuid.UUID  `json:"agent_id"`
	Direction string     `json:"direction" enum:"inbound,outbound"`
	StartedAt time.Time  `json:"started_at" doc:"The call."`
	EndedAt   *time.Time `json:"ended_at"`
	Bytes     int64      `json:"bytes" doc:"As it is downloaded."`
	Seconds   float64    `json:"seconds"`
	Channels  int        `json:"channels" doc:"The caller left, the agent right."`
	Consent   string     `json:"consent,omitempty" enum:"announced,answered,ordered" doc:"How the caller's was had, where the agent's settings ask for it."`
	URL       string     `json:"url" doc:"Where it is, for who may listen."`
}

func newRecordingJSON(c control.RecordedCall) recordingJSON {
	return recordingJSON{c.ID, c.Agent, c.Direction, c.StartedAt, when(c.EndedAt), c.Recording.Bytes, c.Recording.Length.Seconds(),
		control.RecordingChannels, c.Recording.Consent, "/v1/calls/" + c.ID.String() + "/recording"}
}

func (s *Server) recordings() error {
	if s.o.Ledger == nil {
		return nil
	}
	return errors.Join(
		operation(s, reads("/v1/recordings", control.CallsRead), "list-recordings", "List recordings of calls, newest first", 200, s.listRecordings),
		operation(s, writes("DELETE", "/v1/calls/{id}/recording", control.CallsDelete, NoBody), "delete-recording", "Delete a call's recording alone; it can be restored for a while", 204, s.deleteRecording),
		operation(s, writes("POST", "/v1/calls/{id}/recording/restore", control.CallsDelete, NoBody), "restore-recording", "Bring a deleted recording back", 200, s.restoreRecording),
	)
}

func (s *Server) listRecordings(ctx context.Context, in *struct {
	PageQuery
	Call          uuid.UUID `query:"call_id"`
	Agent         uuid.UUID `query:"agent_id"`
	StartedAfter  time.Time `query:"started_after"`
	StartedBefore time.Time `query:"started_before"`
}) (*listOut[recordingJSON], error) {
	rows, err := s.o.Ledger.Recordings(ctx, control.RecordingFilter{Page: in.page(), Call: in.Call, Agent: in.Agent,
		StartedAfter: in.StartedAfter, StartedBefore: in.StartedBefore})
	if err != nil {
		return nil, err
	}
	return newList(in.PageQuery, rows, newRecordingJSON, func(c control.RecordedCall) uuid.UUID { return c.ID }), nil
}

func (s *Server) deleteRecording(ctx context.Context, in *CallPath) (*struct{}, error) {
	return nil, s.o.Ledger.DeleteRecording(ctx, in.ID)
}

func (s *Server) restoreRecording(ctx context.Context, in *CallPath) (*callOut, error) {
	if err := s.o.Ledger.RestoreRecording(ctx, in.ID); err != nil {
		return nil, err
	}
	return s.getCall(ctx, in)
}
