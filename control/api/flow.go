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
	ID            uuid.UUID             `json:"id"`
	Name          string                `json:"name"`
	Public        bool                  `json:"public" doc:"Anybody may chat with what is live, without a key."`
	Origins       []string              `json:"origins" doc:"Origins of pages that may chat from a browser."`
	PublishedID   *uuid.UUID            `json:"published_id" doc:"The version that new sessions run, live."`
	CanaryID      *uuid.UUID            `json:"canary_id,omitempty" doc:"The version that some of them run instead, live."`
	CanaryPercent int                   `json:"canary_percent,omitempty"`
	Environments  []control.Environment `json:"environments" doc:"Where it is published, live among them."`
	Revision      int                   `json:"revision"`
	CreatedAt     time.Time             `json:"created_at"`
	UpdatedAt     time.Time             `json:"updated_at"`
}

func newFlowJSON(f control.Flow) flowJSON {
	live := f.In(control.Live)
	return flowJSON{f.ID, f.Name, f.Public, append([]string{}, f.Origins...), someID(live.Published), someID(live.Canary), live.CanaryPercent,
		append([]control.Environment{}, f.Environments...), f.Revision, f.CreatedAt, f.UpdatedAt}
}

// someID is null for none.
func someID(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

type flowOut struct {
	ETag string `header:"ETag"`
	Body flowJSON
}

func newFlowOut(f control.Flow) *flowOut { return &flowOut{etag(f.Revision), newFlowJSON(f)} }

type versionJSON struct {
	ID        uuid.UUID       `json:"id"`
	FlowID    uuid.UUID       `json:"flow_id"`
	Number    int             `json:"number"`
	Version   string          `json:"version,omitempty" doc:"As the document has it."`
	Hash      string          `json:"hash,omitempty" doc:"Base64 of SHA-256 of the canonical document."`
	Document  json.RawMessage `json:"document,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
}

// newVersionJSON leaves the document out.
func newVersionJSON(v control.Version) versionJSON {
	return versionJSON{v.ID, v.Of, v.Number, v.Label, v.Hash, nil, v.CreatedAt}
}

// FlowPath names a flow in a route; exported for huma, which fills it.
type FlowPath struct {
	Flow uuid.UUID `path:"flow"`
}

// maxFlow is the largest document, and a little for what is around it.
const maxFlow = 1<<20 + 4<<10

func (s *Server) flows() error {
	read, write := control.FlowsRead, control.FlowsWrite
	return errors.Join(
		operation(s, reads("/v1/flows", read), "list-flows", "List flows", 200, s.listFlows),
		operation(s, reads("/v1/flows/{flow}", read), "get-flow", "Get a flow", 200, s.getFlow),
		operation(s, writes("POST", "/v1/flows", write, maxFlow), "create-flow", "Create a flow", 201, s.createFlow),
		operation(s, writes("PATCH", "/v1/flows/{flow}", write, 4<<10), "change-flow", "Change a flow's name, or who may chat with it", 200, s.changeFlow),
		operation(s, reads("/v1/flows/{flow}/versions", read), "list-flow-versions", "List versions", 200, s.listFlowVersions),
		operation(s, reads("/v1/flows/{flow}/versions/{number}", read), "get-flow-version", "Get a version with its document", 200, s.getVersion),
		operation(s, writes("POST", "/v1/flows/{flow}/versions", write, maxFlow), "create-flow-version", "Add a version", 201, s.createVersion),
		s.flowReleases(),
		s.flowTools(),
	)
}

func (s *Server) listFlows(ctx context.Context, in *PageQuery) (*listOut[flowJSON], error) {
	rows, err := s.o.Flows.Store.Flows(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newFlowJSON, func(f control.Flow) uuid.UUID { return f.ID }), nil
}

func (s *Server) getFlow(ctx context.Context, in *FlowPath) (*flowOut, error) {
	f, err := s.o.Flows.Store.Flow(ctx, in.Flow)
	if err != nil {
		return nil, err
	}
	return newFlowOut(f), nil
}

func (s *Server) createFlow(ctx context.Context, in *struct {
	Body struct {
		Name     string          `json:"name"`
		Document json.RawMessage `json:"document" doc:"As docs/flow.md has it."`
	}
}) (*flowOut, error) {
	f, _, err := s.o.Flows.Create(ctx, in.Body.Name, in.Body.Document)
	if err != nil {
		return nil, err
	}
	return newFlowOut(f), nil
}

func (s *Server) changeFlow(ctx context.Context, in *struct {
	FlowPath
	Match
	Body struct {
		Name    *string   `json:"name,omitempty"`
		Public  *bool     `json:"public,omitempty" doc:"Whether anybody may chat with it, without a key."`
		Origins *[]string `json:"origins,omitempty" doc:"Origins of pages that may chat from a browser."`
	}
}) (*flowOut, error) {
	f, err := s.o.Flows.Store.Flow(ctx, in.Flow)
	if err != nil {
		return nil, err
	}
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	if revision == 0 {
		revision = f.Revision // what is not changed here is not lost
	}
	if in.Body.Name != nil {
		f.Name = *in.Body.Name
	}
	if in.Body.Public != nil {
		f.Public = *in.Body.Public
	}
	if in.Body.Origins != nil {
		f.Origins = *in.Body.Origins
	}
	if f, err = s.o.Flows.Update(ctx, f, revision); err != nil {
		return nil, in.matched(err)
	}
	return newFlowOut(f), nil
}

func (s *Server) listFlowVersions(ctx context.Context, in *struct {
	FlowPath
	PageQuery
}) (*listOut[versionJSON], error) {
	return listVersions(ctx, s.o.Flows.Releases(), in.Flow, in.PageQuery, newVersionJSON)
}

func (s *Server) getVersion(ctx context.Context, in *struct {
	FlowPath
	Number int `path:"number" minimum:"1" maximum:"2147483647"`
}) (*reply[versionJSON], error) {
	v, err := s.o.Flows.Releases().Version(ctx, in.Flow, in.Number)
	if err != nil {
		return nil, err
	}
	out := newVersionJSON(v)
	out.Document = v.Document
	return &reply[versionJSON]{out}, nil
}

func (s *Server) createVersion(ctx context.Context, in *struct {
	FlowPath
	Match
	Body struct {
		Document json.RawMessage `json:"document,omitempty" doc:"The draft by default, which is a draft no longer then."`
	}
}) (*reply[versionJSON], error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	v, err := addVersion(ctx, s.o.Flows.Releases(), in.Flow, in.Body.Document, "", revision)
	if err != nil {
		return nil, in.matched(err)
	}
	return &reply[versionJSON]{newVersionJSON(v)}, nil
}
