package api

import (
	"context"
	"errors"
	"fmt"

	"parley/control"
)

type testCallOut struct {
	Location string `header:"Location"`
	Body     callJSON
}

// testAgent has a scripted caller talk to an agent; the call is read, watched and
// listened to as any other.
func (s *Server) testAgent(ctx context.Context, in *struct {
	AgentPath
	Body struct {
		Number int               `json:"number,omitempty" minimum:"0" maximum:"2147483647" doc:"Of the version, published or not; what is live by default."`
		Script []control.TestAct `json:"script,omitempty" maxItems:"20" doc:"What the caller does, each act once the agent has spoken and is silent again; then the caller hears the answer and hangs up."`
	}
}) (*testCallOut, error) {
	if s.o.TestCalls == nil {
		return nil, newProblem(503, "unavailable", "this server makes no test calls")
	}
	_, a, err := s.o.Agents.Find(ctx, in.Agent)
	if err != nil {
		return nil, err
	}
	t := control.TestCall{Agent: a.ID, Script: in.Body.Script}
	if in.Body.Number != 0 {
		v, err := s.o.Agents.Releases().Version(ctx, a.ID, in.Body.Number)
		if err != nil {
			return nil, control.NotFoundIs(err, control.Invalidf("number", "must be the number of one of the agent's versions"))
		}
		t.Version = v.ID
	}
	c, err := s.o.TestCalls.TestCall(ctx, t)
	if errors.Is(err, control.ErrTestCalls) {
		return nil, newProblem(503, "busy", fmt.Sprintf("%d test calls of yours are in progress; try again when one has ended", control.MaxTestCalls))
	}
	if err != nil {
		return nil, err
	}
	return &testCallOut{"/v1/calls/" + c.ID.String(), newCallJSON(c)}, nil
}
