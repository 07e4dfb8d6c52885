package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

type agentJSON struct {
	ID           uuid.UUID             `json:"id"`
	Name         string                `json:"name"`
	Public       bool                  `json:"public"`
	Settings     control.AgentSettings `json:"settings" doc:"What is live."`
	VersionID    uuid.UUID             `json:"version_id" doc:"The version that is live, with these settings."`
	Number       int                   `json:"number" doc:"Of that version."`
	Environments []control.Environment `json:"environments" doc:"Where it is published, live among them."`
	Revision     int                   `json:"revision"`
	CreatedAt    time.Time             `json:"created_at"`
	UpdatedAt    time.Time             `json:"updated_at"`
}

func newAgentJSON(a control.Agent) agentJSON {
	return agentJSON{a.ID, a.Name, a.Public, a.Settings, a.Version, a.Number,
		append([]control.Environment{}, a.Environments...), a.Revision, a.CreatedAt, a.UpdatedAt}
}

type agentOut struct {
	ETag string `header:"ETag"`
	Body agentJSON
}

func newAgentOut(a control.Agent) *agentOut { return &agentOut{etag(a.Revision), newAgentJSON(a)} }

func etag(revision int) string { return fmt.Sprintf("%q", fmt.Sprint(revision)) }

// AgentPath names an agent in a route; exported for huma, which fills it.
type AgentPath struct {
	Agent string `path:"agent" maxLength:"63" doc:"The agent's id or name."`
}

func (s *Server) agents() error {
	testCalls := writes("POST", "/v1/agents/{agent}/test-call", control.CallsStart, 32<<10)
	testCalls.Limit = Limit{30, time.Minute}
	return errors.Join(
		operation(s, reads("/v1/agents", control.AgentsRead), "list-agents", "List agents", 200, s.listAgents),
		operation(s, reads("/v1/agents/{agent}", control.AgentsRead), "get-agent", "Get an agent", 200, s.getAgent),
		operation(s, writes("POST", "/v1/agents", control.AgentsWrite, 256<<10), "create-agent", "Create an agent", 201, s.createAgent),
		operation(s, writes("PATCH", "/v1/agents/{agent}", control.AgentsWrite, 256<<10), "change-agent", "Change an agent; new settings become a version that is live at once", 200, s.changeAgent),
		operation(s, writes("DELETE", "/v1/agents/{agent}", control.AgentsWrite, NoBody), "delete-agent", "Delete an agent that nothing uses", 204, s.deleteAgent),
		s.agentReleases(),
		operation(s, testCalls, "test-agent", "Have a scripted caller talk to an agent", 202, s.testAgent),
		operation(s, writes("POST", "/v1/agents/{agent}/call-tokens", control.CallsStart, 4<<10),
			"create-call-token", "Make a token that opens one call from a browser", 201, s.createCallToken),
	)
}

func (s *Server) listAgents(ctx context.Context, in *PageQuery) (*listOut[agentJSON], error) {
	rows, err := s.o.Agents.Store.Agents(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newAgentJSON, func(a control.Agent) uuid.UUID { return a.ID }), nil
}

func (s *Server) getAgent(ctx context.Context, in *AgentPath) (*agentOut, error) {
	_, a, err := s.o.Agents.Find(ctx, in.Agent)
	if err != nil {
		return nil, err
	}
	return newAgentOut(a), nil
}

func (s *Server) createAgent(ctx context.Context, in *struct {
	Body struct {
		Name     string                `json:"name"`
		Public   bool                  `json:"public,omitempty"`
		Settings control.AgentSettings `json:"settings"`
	}
}) (*agentOut, error) {
	a, err := s.o.Agents.Create(ctx, control.Agent{Name: in.Body.Name, Public: in.Body.Public, Settings: in.Body.Settings})
	if err != nil {
		return nil, err
	}
	return newAgentOut(a), nil
}

func (s *Server) changeAgent(ctx context.Context, in *struct {
	AgentPath
	Match
	Body struct {
		Name     *string                `json:"name,omitempty"`
		Public   *bool                  `json:"public,omitempty"`
		Settings *control.AgentSettings `json:"settings,omitempty" doc:"Replaces all settings."`
	}
}) (*agentOut, error) {
	ctx, a, err := s.o.Agents.Find(ctx, in.Agent)
	if err != nil {
		return nil, err
	}
	if err := in.onto(&a.Revision); err != nil {
		return nil, err
	}
	if in.Body.Name != nil {
		a.Name = *in.Body.Name
	}
	if in.Body.Public != nil {
		a.Public = *in.Body.Public
	}
	if in.Body.Settings != nil {
		a.Settings = *in.Body.Settings
	}
	if a, err = s.o.Agents.Update(ctx, a); err != nil {
		return nil, in.matched(err)
	}
	return newAgentOut(a), nil
}

func (s *Server) deleteAgent(ctx context.Context, in *struct {
	AgentPath
	Match
}) (*struct{}, error) {
	_, a, err := s.o.Agents.Find(ctx, in.Agent)
	if err != nil {
		return nil, err
	}
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	return nil, in.matched(s.o.Agents.Delete(ctx, a.ID, revision))
}

type callTokenJSON struct {
	Token     string    `json:"token" doc:"Bearer for POST /webrtc/{agent}, once."`
	AgentID   uuid.UUID `json:"agent_id"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (s *Server) createCallToken(ctx context.Context, in *struct {
	AgentPath
	Body struct {
		Origin string `json:"origin,omitempty" maxLength:"300" doc:"Of the page that will call: this server's own, or one listed at /v1/origins, such as https://example.com; empty for a program."`
	}
}) (*reply[callTokenJSON], error) {
	_, a, err := s.o.Agents.Find(ctx, in.Agent)
	if err != nil {
		return nil, err
	}
	if err := s.callsFrom(ctx, in.Body.Origin); err != nil {
		return nil, err
	}
	token, expires, err := s.o.Tokens.Mint(ctx, a.ID, in.Body.Origin)
	if err != nil {
		return nil, err
	}
	return &reply[callTokenJSON]{callTokenJSON{token, a.ID, expires}}, nil
}
