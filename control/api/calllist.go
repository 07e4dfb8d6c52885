package api

import (
	"context"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

type callsIn struct {
	PageQuery
	Agent         uuid.UUID `query:"agent_id"`
	Status        string    `query:"status" enum:"arrived,active,transferring,ended"`
	Direction     string    `query:"direction" enum:"inbound,outbound"`
	Carrier       string    `query:"carrier" maxLength:"20" doc:"twilio, webrtc, …"`
	From          string    `query:"from" maxLength:"256" doc:"The caller, whole."`
	FromPrefix    string    `query:"from_prefix" maxLength:"256" doc:"How the caller's number begins, such as +4930."`
	To            string    `query:"to" maxLength:"256" doc:"Who was called, whole."`
	ToPrefix      string    `query:"to_prefix" maxLength:"256"`
	Number        string    `query:"number" maxLength:"256" doc:"Caller or called."`
	StartedAfter  time.Time `query:"started_after"`
	StartedBefore time.Time `query:"started_before"`
	Ended         string    `query:"ended" enum:"true,false"`
	EndReason     string    `query:"end_reason" maxLength:"40" doc:"goodbye, caller, operator, transfer, …"`
	MinSeconds    int       `query:"min_seconds" minimum:"0" maximum:"86400" doc:"Shortest talk, from the answer to the end: ended calls alone."`
	MaxSeconds    int       `query:"max_seconds" minimum:"0" maximum:"86400" doc:"Longest talk."`
	Transferred   string    `query:"transferred" enum:"true,false" doc:"Whether a transfer was asked for."`
	Recorded      string    `query:"recorded" enum:"true,false"`
}

// filter of the query. What is given whole and as a beginning is a mistake.
func (in *callsIn) filter() (control.CallFilter, error) {
	f := control.CallFilter{Page: in.page(), Agent: in.Agent, Status: in.Status, Direction: in.Direction, Carrier: in.Carrier,
		EndReason: in.EndReason, From: in.From, To: in.To, Number: in.Number, StartedAfter: in.StartedAfter, StartedBefore: in.StartedBefore,
		MinTalk: time.Duration(in.MinSeconds) * time.Second, MaxTalk: time.Duration(in.MaxSeconds) * time.Second,
		Ended: truth(in.Ended), Transferred: truth(in.Transferred), Recorded: truth(in.Recorded)}
	for name, p := range map[string]struct {
		whole  *string
		begins string
		prefix *bool
	}{"from_prefix": {&f.From, in.FromPrefix, &f.FromPrefix}, "to_prefix": {&f.To, in.ToPrefix, &f.ToPrefix}} {
		switch {
		case p.begins == "":
		case *p.whole != "":
			return f, &control.Invalid{Field: name, Reason: "cannot be given together with the whole"}
		default:
			*p.whole, *p.prefix = p.begins, true
		}
	}
	return f, nil
}

// truth is nil where nothing was said.
func truth(s string) *bool {
	if s == "" {
		return nil
	}
	b := s == "true"
	return &b
}

func (s *Server) listCalls(ctx context.Context, in *callsIn) (*listOut[callJSON], error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	rows, err := s.o.Calls.Store.Calls(ctx, f)
	if err != nil {
		return nil, err
	}
	return newList(in.PageQuery, rows, newCallJSON, func(c control.Call) uuid.UUID { return c.ID }), nil
}

// A liveJSON is where a call in progress stands.
type liveJSON struct {
	Node       *uuid.UUID    `json:"node" doc:"The process that serves it."`
	Phase      string        `json:"phase,omitempty" enum:"listening,thinking,speaking,paused,holding,closing"`
	Since      *time.Time    `json:"since" doc:"When the phase began."`
	FlowNode   string        `json:"flow_node,omitempty" doc:"The flow's node that speaks or asks."`
	LastCaller string        `json:"last_caller_text,omitempty" doc:"What the caller said last."`
	Transfer   *transferJSON `json:"transfer" doc:"The transfer that is under way."`
}

type transferJSON struct {
	Mode    string     `json:"mode,omitempty" enum:"cold,warm"`
	To      string     `json:"to,omitempty"`
	Stage   string     `json:"stage,omitempty" enum:"asked,calling,offered,accepted,connected"`
	Command *uuid.UUID `json:"command_id" doc:"The operator's command; null where the agent transfers."`
}

type callOut struct {
	ETag string `header:"ETag"`
	Body callFullJSON
}

// getCall answers GET /v1/calls/{id}. The tenant is in ctx, and the database
// shows no other's.
func (s *Server) getCall(ctx context.Context, in *CallPath) (*callOut, error) {
	c, err := s.o.Calls.Store.Call(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	out, err := s.liveCall(ctx, c)
	if err != nil {
		return nil, err
	}
	full, err := s.fullCall(ctx, c, out)
	if err != nil {
		return nil, err
	}
	return &callOut{etag(c.Revision), full}, nil
}

// liveCall is a call with its live state, which is null once it has ended.
func (s *Server) liveCall(ctx context.Context, c control.Call) (callJSON, error) {
	out := newCallJSON(c)
	if c.Status == control.CallEnded {
		return out, nil
	}
	now, err := s.o.Calls.Look(ctx, c)
	if err != nil {
		return out, err
	}
	out.Live = &liveJSON{some(now.Node), now.Phase, when(now.At), now.FlowNode, now.LastCaller, nil}
	if t := now.Transfer; t != nil {
		mode := map[string]string{control.CommandWarm: "warm"}[t.Kind]
		out.Live.Transfer = &transferJSON{mode, t.Target, t.Stage, some(t.ID)}
		if mode == "" {
			out.Live.Transfer.Mode = "cold"
		}
	}
	return out, nil
}

func some(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}
