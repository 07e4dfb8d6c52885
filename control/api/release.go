package api

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// Flows and agents go from a draft to what sessions run in the same way. What
// is here serves both; their routes differ in paths and in what a document is.

func listVersions[T any](ctx context.Context, r *control.Releases, of uuid.UUID, q PageQuery, view func(control.Version) T) (*listOut[T], error) {
	if _, err := r.Store.Environments(ctx, r.Subject, of); err != nil {
		return nil, err
	}
	rows, err := r.Store.Versions(ctx, r.Subject, of, q.page())
	if err != nil {
		return nil, err
	}
	return newList(q, rows, view, func(v control.Version) uuid.UUID { return v.ID }), nil
}

// addVersion makes a version of a document, or of the draft where that is empty.
func addVersion(ctx context.Context, r *control.Releases, of uuid.UUID, document []byte, label string, revision int) (control.Version, error) {
	if len(document) == 0 {
		return r.Keep(ctx, of, label, revision)
	}
	return r.Add(ctx, of, document, label, revision)
}

// ReleaseBody says what is to be published; exported for huma, which fills it.
type ReleaseBody struct {
	Number      int    `json:"number,omitempty" minimum:"1" maximum:"2147483647" doc:"The version; the newest by default."`
	Percent     int    `json:"percent,omitempty" minimum:"1" maximum:"100" doc:"Of new sessions; 100 by default. The others run what is published already."`
	Environment string `json:"environment,omitempty" doc:"Such as staging; live by default."`
}

func (b *ReleaseBody) release() control.Release {
	if b == nil {
		return control.Release{}
	}
	return control.Release{Environment: b.Environment, Number: b.Number, Percent: b.Percent}
}

// RollbackBody says where; exported for huma, which fills it.
type RollbackBody struct {
	Environment string `json:"environment,omitempty" doc:"Such as staging; live by default."`
}

func (b *RollbackBody) where() string {
	if b == nil || b.Environment == "" {
		return control.Live
	}
	return b.Environment
}

type publicationJSON struct {
	ID          uuid.UUID  `json:"id"`
	VersionID   uuid.UUID  `json:"version_id"`
	Number      int        `json:"number"`
	Environment string     `json:"environment"`
	Percent     int        `json:"percent"`
	Withdraws   *uuid.UUID `json:"withdraws,omitempty" doc:"The version that a rollback took back."`
	By          string     `json:"published_by,omitempty"`
	At          time.Time  `json:"published_at"`
}

func newPublicationJSON(p control.Publication) publicationJSON {
	return publicationJSON{p.ID, p.Version, p.Number, p.Environment, p.Percent, someID(p.Withdraws), p.By, p.At.UTC()}
}

func listPublications(ctx context.Context, r *control.Releases, of uuid.UUID, environment string, q PageQuery) (*listOut[publicationJSON], error) {
	if _, err := r.Store.Environments(ctx, r.Subject, of); err != nil {
		return nil, err
	}
	rows, err := r.Store.Publications(ctx, r.Subject, of, environment, q.page())
	if err != nil {
		return nil, err
	}
	return newList(q, rows, newPublicationJSON, func(p control.Publication) uuid.UUID { return p.ID }), nil
}

// flowReleases are the routes between a flow's document and what sessions run.
func (s *Server) flowReleases() error {
	read, write := control.FlowsRead, control.FlowsWrite
	return errors.Join(
		operation(s, reads("/v1/flows/{flow}/draft", read), "get-flow-draft", "Get the document that is worked on", 200, s.getFlowDraft),
		operation(s, writes("PUT", "/v1/flows/{flow}/draft", write, maxFlow), "put-flow-draft", "Keep a document that is worked on, faults and all", 200, s.putFlowDraft),
		operation(s, writes("DELETE", "/v1/flows/{flow}/draft", write, NoBody), "delete-flow-draft", "Forget it", 200, s.deleteFlowDraft),
		operation(s, writes("POST", "/v1/flows/{flow}/publish", control.FlowsPublish, 4<<10), "publish-flow", "Publish a version to all new sessions of an environment, or to some", 200, s.publishFlow),
		operation(s, writes("POST", "/v1/flows/{flow}/rollback", control.FlowsPublish, 4<<10), "roll-back-flow", "End a trial, or publish what was published before", 200, s.rollbackFlow),
		operation(s, reads("/v1/flows/{flow}/publications", read), "list-flow-publications", "List what was published when, where, and by whom", 200, s.listFlowPublications),
	)
}

type flowDraftOut struct {
	ETag string `header:"ETag"`
	Body struct {
		Document  json.RawMessage `json:"document"`
		UpdatedAt time.Time       `json:"updated_at"`
		Problems  []faultJSON     `json:"problems" doc:"What keeps it from being published, and what is worth a look."`
	}
}

func (s *Server) getFlowDraft(ctx context.Context, in *FlowPath) (*flowDraftOut, error) {
	f, err := s.o.Flows.Store.Flow(ctx, in.Flow)
	if err != nil {
		return nil, err
	}
	d, err := s.o.Flows.Store.Draft(ctx, control.SubjectFlow, in.Flow)
	if err != nil {
		return nil, err
	}
	out := &flowDraftOut{ETag: etag(f.Revision)}
	out.Body.Document, out.Body.UpdatedAt, out.Body.Problems = d.Document, d.UpdatedAt, validity(d.Document, s.o.Flows.Types).Body.Problems
	return out, nil
}

func (s *Server) putFlowDraft(ctx context.Context, in *struct {
	FlowPath
	Match
	Body struct {
		Document json.RawMessage `json:"document"`
	}
}) (*flowOut, error) {
	revision, err := in.revision()
	if err == nil {
		err = in.matched(s.o.Flows.Releases().SaveDraft(ctx, in.Flow, in.Body.Document, revision))
	}
	if err != nil {
		return nil, err
	}
	return s.getFlow(ctx, &in.FlowPath)
}

func (s *Server) deleteFlowDraft(ctx context.Context, in *struct {
	FlowPath
	Match
}) (*flowOut, error) {
	revision, err := in.revision()
	if err == nil {
		err = in.matched(s.o.Flows.Releases().DropDraft(ctx, in.Flow, revision))
	}
	if err != nil {
		return nil, err
	}
	return s.getFlow(ctx, &in.FlowPath)
}

func (s *Server) publishFlow(ctx context.Context, in *struct {
	FlowPath
	Match
	Body *ReleaseBody
}) (*reply[versionJSON], error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	v, err := s.o.Flows.Releases().Publish(ctx, in.Flow, in.Body.release(), revision)
	if err != nil {
		return nil, in.matched(err)
	}
	return &reply[versionJSON]{newVersionJSON(v)}, nil
}

func (s *Server) rollbackFlow(ctx context.Context, in *struct {
	FlowPath
	Match
	Body *RollbackBody
}) (*reply[versionJSON], error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	v, err := s.o.Flows.Releases().Rollback(ctx, in.Flow, in.Body.where(), revision)
	if err != nil {
		return nil, in.matched(err)
	}
	return &reply[versionJSON]{newVersionJSON(v)}, nil
}

func (s *Server) listFlowPublications(ctx context.Context, in *struct {
	FlowPath
	PageQuery
	Environment string `query:"environment" doc:"Only there."`
}) (*listOut[publicationJSON], error) {
	return listPublications(ctx, s.o.Flows.Releases(), in.Flow, in.Environment, in.PageQuery)
}
