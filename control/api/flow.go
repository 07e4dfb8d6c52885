package api

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
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
func newVersionJSON(v control.FlowVersion) versionJSON {
	return versionJSON{v.ID, v.Flow, v.Number, v.Label, v.Hash, nil, v.CreatedAt}
}

// FlowPath names a flow in a route; exported for huma, which fills it.
type FlowPath struct {
	Flow uuid.UUID `path:"flow"`
}

// FlowMatch is what a change of a flow is based on; exported for huma.
type FlowMatch struct {
	IfMatch string `header:"If-Match" doc:"The ETag that the change is based on."`
}

// revision that the client has seen; 0 where it does not say.
func (m FlowMatch) revision() (int, error) {
	s := strings.TrimSpace(m.IfMatch)
	if s == "" || s == "*" {
		return 0, nil
	}
	n, err := strconv.Atoi(strings.Trim(strings.TrimPrefix(s, "W/"), `"`))
	if err != nil || n < 1 {
		return 0, errChanged
	}
	return n, nil
}

var errChanged = newProblem(412, "changed", "it has changed meanwhile; read it again")

// matched turns the conflict of a change that was based on an ETag into 412.
func (m FlowMatch) matched(err error) error {
	if m.IfMatch != "" && errors.Is(err, control.ErrConflict) {
		return errChanged
	}
	return err
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
		operation(s, reads("/v1/flows/{flow}/versions", read), "list-flow-versions", "List versions", 200, s.listVersions),
		operation(s, reads("/v1/flows/{flow}/versions/{number}", read), "get-flow-version", "Get a version with its document", 200, s.getVersion),
		operation(s, writes("POST", "/v1/flows/{flow}/versions", write, maxFlow), "create-flow-version", "Add a version", 201, s.createVersion),
		s.releases(),
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
	FlowMatch
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

func (s *Server) listVersions(ctx context.Context, in *struct {
	FlowPath
	PageQuery
}) (*listOut[versionJSON], error) {
	if _, err := s.o.Flows.Store.Flow(ctx, in.Flow); err != nil {
		return nil, err
	}
	rows, err := s.o.Flows.Store.FlowVersions(ctx, in.Flow, in.page())
	if err != nil {
		return nil, err
	}
	return newList(in.PageQuery, rows, newVersionJSON, func(v control.FlowVersion) uuid.UUID { return v.ID }), nil
}

func (s *Server) getVersion(ctx context.Context, in *struct {
	FlowPath
	Number int `path:"number" minimum:"1"`
}) (*reply[versionJSON], error) {
	v, err := s.o.Flows.Version(ctx, in.Flow, in.Number)
	if err != nil {
		return nil, err
	}
	out := newVersionJSON(v)
	out.Document = v.Document
	return &reply[versionJSON]{out}, nil
}

func (s *Server) createVersion(ctx context.Context, in *struct {
	FlowPath
	FlowMatch
	Body struct {
		Document json.RawMessage `json:"document,omitempty" doc:"The draft by default, which is a draft no longer then."`
	}
}) (*reply[versionJSON], error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	if len(in.Body.Document) == 0 {
		v, err := s.o.Flows.Keep(ctx, in.Flow, revision)
		if err != nil {
			return nil, in.matched(err)
		}
		return &reply[versionJSON]{newVersionJSON(v)}, nil
	}
	v, err := s.o.Flows.AddVersion(ctx, in.Flow, in.Body.Document, revision)
	if err != nil {
		return nil, in.matched(err)
	}
	return &reply[versionJSON]{newVersionJSON(v)}, nil
}
