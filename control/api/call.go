package api

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
)

type callJSON struct {
	ID              uuid.UUID  `json:"id"`
	AgentID         uuid.UUID  `json:"agent_id"`
	AgentVersionID  uuid.UUID  `json:"agent_version_id" doc:"The version that it began with, and stays with."`
	Carrier         string     `json:"carrier"`
	CarrierCallID   string     `json:"carrier_call_id,omitempty"`
	Direction       string     `json:"direction"`
	From            string     `json:"from,omitempty"`
	To              string     `json:"to,omitempty"`
	Status          string     `json:"status" enum:"arrived,active,transferring,ended"`
	StartedAt       time.Time  `json:"started_at"`
	AnsweredAt      *time.Time `json:"answered_at"`
	EndedAt         *time.Time `json:"ended_at"`
	EndReason       string     `json:"end_reason,omitempty"`
	TransferTo      string     `json:"transfer_to,omitempty"`
	TransferOutcome string     `json:"transfer_outcome,omitempty"`
	Recorded        bool       `json:"recorded"`
	Revision        int        `json:"revision" doc:"Counts what an operator may act upon; the ETag."`
	Live            *liveJSON  `json:"live" doc:"Where it stands; null in lists, and once it has ended."`
}

func newCallJSON(c control.Call) callJSON {
	return callJSON{c.ID, c.Agent, c.AgentVersion, c.Carrier, c.CarrierCallID, c.Direction, c.From, c.To, c.Status, c.StartedAt,
		when(c.AnsweredAt), when(c.EndedAt), c.EndReason, c.TransferTo, c.TransferOutcome, c.Recording != "", c.Revision, nil}
}

// A line of the transcript is what one party said and the other heard.
type lineJSON struct {
	Index       int    `json:"index"`
	Speaker     string `json:"speaker" enum:"caller,agent"`
	Text        string `json:"text" doc:"Caller: what was recognized. Agent: what was heard of it."`
	Interrupted bool   `json:"interrupted"`
	StartMS     int64  `json:"start_ms" doc:"From the call's answer."`
	EndMS       int64  `json:"end_ms"`

	Said       string  `json:"said,omitempty" doc:"Agent: what was made, heard or not."`
	Cut        string  `json:"cut,omitempty" doc:"Agent: what of it was not heard."`
	Confidence float64 `json:"confidence,omitempty" doc:"Caller: the recognizer's, 0 to 1."`
}

type turnJSON struct {
	Index       int          `json:"index"`
	Speaker     string       `json:"speaker" enum:"caller,agent"`
	Generated   string       `json:"generated,omitempty"`
	Sent        string       `json:"sent,omitempty"`
	Heard       string       `json:"heard"`
	Interrupted bool         `json:"interrupted"`
	Input       string       `json:"input,omitempty"`
	Node        string       `json:"node,omitempty"`
	Confidence  float64      `json:"confidence,omitempty"`
	StartMS     int64        `json:"start_ms"`
	EndMS       int64        `json:"end_ms"`
	Latency     *latencyJSON `json:"latency,omitempty"`

	Cut       string        `json:"cut,omitempty" doc:"What was made and not heard."`
	Waterfall []segmentJSON `json:"waterfall,omitempty" doc:"The wait from the end of the caller's speech to the first audible sample, in stretches that add up to it."`
}

type latencyJSON struct {
	EndOfTurnMS       float64 `json:"end_of_turn_ms,omitempty"`
	FinalTranscriptMS float64 `json:"final_transcript_ms,omitempty"`
	FirstTokenMS      float64 `json:"first_token_ms,omitempty" doc:"From the end of turn; negative if the reply was begun before it."`
	FirstClauseMS     float64 `json:"first_clause_ms,omitempty" doc:"As first_token_ms."`
	FirstSpeechMS     float64 `json:"first_speech_ms,omitempty" doc:"As first_token_ms."`
	FirstAudioMS      float64 `json:"first_audio_ms,omitempty"`
	MarkRoundTripMS   float64 `json:"mark_round_trip_ms,omitempty"`
}

func newTurnJSON(t agent.Turn) turnJSON {
	out := turnJSON{t.Index, t.Speaker, t.Generated, t.Sent, t.Heard, t.Interrupted, t.Input, t.Node, t.Confidence,
		t.Start.Milliseconds(), t.End.Milliseconds(), nil, cutOff(t), newWaterfallJSON(t.Latency)}
	if l := t.Latency; l != (agent.Latency{}) {
		ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
		out.Latency = &latencyJSON{ms(l.EndOfTurn), ms(l.FinalTranscript), ms(l.FirstToken), ms(l.FirstClause),
			ms(l.FirstSpeech), ms(l.FirstAudio), ms(l.MarkRoundTrip)}
	}
	return out
}

// CallPath names a call in a route; exported for huma, which fills it.
type CallPath struct {
	ID uuid.UUID `path:"id" doc:"The call's id."`
}

type turnsIn struct {
	CallPath
	After int `query:"after" default:"-1" minimum:"-1" maximum:"2147483647" doc:"Index of the last turn of the page before."`
	Limit int `query:"limit" default:"200" minimum:"1" maximum:"1000"`
}

func (s *Server) calls() error {
	recording := Route{Method: "GET", Pattern: "/v1/calls/{id}/recording", Class: Tenanted, Permission: control.CallsListen,
		Limit: Limit{600, time.Minute}, Body: NoBody, Long: true, Summary: "Listen to a call, whole or by ranges", Media: "audio/wav"}
	message := recording
	message.Pattern, message.Summary = "/v1/calls/{id}/messages/{message}", "Listen to a message that a caller left"
	return errors.Join(
		operation(s, reads("/v1/calls", control.CallsRead), "list-calls", "List calls, newest first", 200, s.listCalls),
		s.callSearch(),
		operation(s, reads("/v1/calls/{id}", control.CallsRead), "get-call", "Get a call", 200, s.getCall),
		operation(s, reads("/v1/calls/{id}/transcript", control.CallsRead), "get-transcript", "What was said and heard", 200, s.transcript),
		operation(s, reads("/v1/calls/{id}/turns", control.CallsRead), "get-turns", "Turns with their latency", 200, s.turns),
		operation(s, writes("POST", "/v1/calls/{id}/after-call", control.CallsControl, NoBody), "order-after-call", "Ask again for what a model was to make of the call, and failed", 202, s.orderAfterwork),
		s.commands(),
		s.Handle(recording, http.HandlerFunc(s.recording)),
		s.Handle(message, http.HandlerFunc(s.message)),
	)
}

// transcript leaves out turns of which nothing was heard.
func (s *Server) transcript(ctx context.Context, in *turnsIn) (*listOut[lineJSON], error) {
	turns, next, err := s.readTurns(ctx, in)
	if err != nil {
		return nil, err
	}
	out := &listOut[lineJSON]{Body: list[lineJSON]{Items: []lineJSON{}, Next: next}}
	for _, t := range turns {
		if t.Heard != "" {
			out.Body.Items = append(out.Body.Items, lineJSON{t.Index, t.Speaker, t.Heard, t.Interrupted, t.Start.Milliseconds(), t.End.Milliseconds(),
				t.Generated, cutOff(t), t.Confidence})
		}
	}
	return out, nil
}

func (s *Server) turns(ctx context.Context, in *turnsIn) (*listOut[turnJSON], error) {
	turns, next, err := s.readTurns(ctx, in)
	if err != nil {
		return nil, err
	}
	out := &listOut[turnJSON]{Body: list[turnJSON]{Items: []turnJSON{}, Next: next}}
	for _, t := range turns {
		out.Body.Items = append(out.Body.Items, newTurnJSON(t))
	}
	return out, nil
}

func (s *Server) readTurns(ctx context.Context, in *turnsIn) (turns []agent.Turn, next string, err error) {
	if _, err = s.o.Calls.Store.Call(ctx, in.ID); err != nil {
		return nil, "", err
	}
	turns, err = s.o.Calls.Records.Turns(ctx, in.ID, in.After, in.Limit)
	if n := len(turns); n == in.Limit && n > 0 {
		next = strconv.Itoa(turns[n-1].Index)
	}
	return turns, next, err
}

// recording answers ranges, so that a player can seek.
func (s *Server) recording(w http.ResponseWriter, r *http.Request) {
	if err := s.sendRecording(w, r); err != nil {
		s.problem(r.Context(), err).write(w)
	}
}

func (s *Server) sendRecording(w http.ResponseWriter, r *http.Request) error {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return control.ErrNotFound
	}
	c, err := s.o.Calls.Store.Call(r.Context(), id)
	if err == nil && c.Recording == "" {
		err = control.ErrNotFound
	}
	if err != nil {
		return err
	}
	return s.sendWAV(w, r, c.Recording, "call:", id, c.EndedAt)
}

// message sends what a caller has left.
func (s *Server) message(w http.ResponseWriter, r *http.Request) {
	if err := s.sendMessage(w, r); err != nil {
		s.problem(r.Context(), err).write(w)
	}
}

func (s *Server) sendMessage(w http.ResponseWriter, r *http.Request) error {
	call, err := uuid.Parse(r.PathValue("id"))
	message, err2 := uuid.Parse(r.PathValue("message"))
	if err != nil || err2 != nil || call == message { // a call's recording has its own route
		return control.ErrNotFound
	}
	c, err := s.o.Calls.Store.Call(r.Context(), call)
	if err != nil {
		return err
	}
	return s.sendWAV(w, r, control.MessageKey(c.Tenant, c.ID, message), "message:", message, c.EndedAt)
}

func (s *Server) sendWAV(w http.ResponseWriter, r *http.Request, key, kind string, id uuid.UUID, at time.Time) error {
	blob, err := s.o.Blobs.Open(r.Context(), key)
	if err != nil {
		return err
	}
	defer blob.Close()
	if err := s.notePlay(r.Context(), kind+id.String()); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "audio/wav")
	w.Header().Set("Content-Disposition", `attachment; filename="`+id.String()+`.wav"`)
	http.ServeContent(w, r, "", at, blob)
	return nil
}
