package api

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

type flowJSON struct {
	ID          uuid.UUID  `json:"id"`
	Name        string     `json:"name"`
	PublishedID *uuid.UUID `json:"published_id" doc:"The version that new calls run."`
	CreatedAt   time.Time  `json:"created_at"`
	UpdatedAt   time.Time  `json:"updated_at"`
}

func newFlowJSON(f control.Flow) flowJSON {
	out := flowJSON{ID: f.ID, Name: f.Name, CreatedAt: f.CreatedAt, UpdatedAt: f.UpdatedAt}
	if f.Published != uuid.Nil {
		out.PublishedID = &f.Published
	}
	return out
}

type versionJSON struct {
	ID        uuid.UUID       `json:"id"`
	FlowID    uuid.UUID       `json:"flow_id"`
	Number    int             `json:"number"`
	Document  json.RawMessage `json:"document,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
}

func newVersionJSON(v control.FlowVersion) versionJSON {
	return versionJSON{v.ID, v.Flow, v.Number, nil, v.CreatedAt}
}

// FlowPath names a flow in a route; exported for huma, which fills it.
type FlowPath struct {
	Flow uuid.UUID `path:"flow"`
}

// maxFlow is the largest document, and a little for what is around it.
const maxFlow = 1<<20 + 4<<10

func (s *Server) flows() error {
	return errors.Join(
		operation(s, reads("/v1/flows", control.FlowsRead), "list-flows", "List flows", 200, s.listFlows),
		operation(s, reads("/v1/flows/{flow}", control.FlowsRead), "get-flow", "Get a flow", 200, s.getFlow),
		operation(s, writes("POST", "/v1/flows", control.FlowsWrite, maxFlow), "create-flow", "Create a flow", 201, s.createFlow),
		operation(s, writes("POST", "/v1/flows/{flow}/versions", control.FlowsWrite, maxFlow), "create-flow-version", "Add a version", 201, s.createVersion),
		operation(s, writes("POST", "/v1/flows/{flow}/publish", control.FlowsWrite, NoBody), "publish-flow", "Publish the newest version", 200, s.publishFlow),
	)
}

func (s *Server) listFlows(ctx context.Context, in *PageQuery) (*listOut[flowJSON], error) {
	rows, err := s.o.Flows.Store.Flows(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newFlowJSON, func(f control.Flow) uuid.UUID { return f.ID }), nil
}

func (s *Server) getFlow(ctx context.Context, in *FlowPath) (*reply[flowJSON], error) {
	f, err := s.o.Flows.Store.Flow(ctx, in.Flow)
	if err != nil {
		return nil, err
	}
	return &reply[flowJSON]{newFlowJSON(f)}, nil
}

func (s *Server) createFlow(ctx context.Context, in *struct {
	Body struct {
		Name     string         `json:"name"`
		Document map[string]any `json:"document" doc:"As docs/flow.md has it."`
	}
}) (*reply[flowJSON], error) {
	document, err := json.Marshal(in.Body.Document)
	if err != nil {
		return nil, err
	}
	f, _, err := s.o.Flows.Create(ctx, in.Body.Name, document)
	if err != nil {
		return nil, err
	}
	return &reply[flowJSON]{newFlowJSON(f)}, nil
}

func (s *Server) createVersion(ctx context.Context, in *struct {
	FlowPath
	Body struct {
		Document map[string]any `json:"document"`
	}
}) (*reply[versionJSON], error) {
	document, err := json.Marshal(in.Body.Document)
	if err != nil {
		return nil, err
	}
	v, err := s.o.Flows.AddVersion(ctx, in.Flow, document)
	if err != nil {
		return nil, err
	}
	return &reply[versionJSON]{newVersionJSON(v)}, nil
}

func (s *Server) publishFlow(ctx context.Context, in *FlowPath) (*reply[versionJSON], error) {
	v, err := s.o.Flows.Publish(ctx, in.Flow)
	if err != nil {
		return nil, err
	}
	return &reply[versionJSON]{newVersionJSON(v)}, nil
}
