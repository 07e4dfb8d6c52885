package api

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// releases are the routes between a document and what sessions run.
func (s *Server) releases() error {
	read, write := control.FlowsRead, control.FlowsWrite
	return errors.Join(
		operation(s, reads("/v1/flows/{flow}/draft", read), "get-flow-draft", "Get the document that is worked on", 200, s.getDraft),
		operation(s, writes("PUT", "/v1/flows/{flow}/draft", write, maxFlow), "put-flow-draft", "Keep a document that is worked on, faults and all", 200, s.putDraft),
		operation(s, writes("DELETE", "/v1/flows/{flow}/draft", write, NoBody), "delete-flow-draft", "Forget it", 200, s.deleteDraft),
		operation(s, writes("POST", "/v1/flows/{flow}/publish", control.FlowsPublish, 4<<10), "publish-flow", "Publish a version to all new sessions of an environment, or to some", 200, s.publishFlow),
		operation(s, writes("POST", "/v1/flows/{flow}/rollback", control.FlowsPublish, 4<<10), "roll-back-flow", "End a trial, or publish what was published before", 200, s.rollbackFlow),
		operation(s, reads("/v1/flows/{flow}/publications", read), "list-flow-publications", "List what was published when, where, and by whom", 200, s.listPublications),
	)
}

type draftOut struct {
	ETag string `header:"ETag"`
	Body struct {
		Document  json.RawMessage `json:"document"`
		UpdatedAt time.Time       `json:"updated_at"`
		Problems  []faultJSON     `json:"problems" doc:"What keeps it from being published, and what is worth a look."`
	}
}

func (s *Server) getDraft(ctx context.Context, in *FlowPath) (*draftOut, error) {
	f, err := s.o.Flows.Store.Flow(ctx, in.Flow)
	if err != nil {
		return nil, err
	}
	d, err := s.o.Flows.Store.FlowDraft(ctx, in.Flow)
	if err != nil {
		return nil, err
	}
	out := &draftOut{ETag: etag(f.Revision)}
	out.Body.Document, out.Body.UpdatedAt, out.Body.Problems = d.Document, d.UpdatedAt, validity(d.Document, s.o.Flows.Types).Body.Problems
	return out, nil
}

func (s *Server) putDraft(ctx context.Context, in *struct {
	FlowPath
	FlowMatch
	Body struct {
		Document json.RawMessage `json:"document"`
	}
}) (*flowOut, error) {
	return s.drafted(ctx, in.FlowPath, in.FlowMatch, in.Body.Document)
}

func (s *Server) deleteDraft(ctx context.Context, in *struct {
	FlowPath
	FlowMatch
}) (*flowOut, error) {
	return s.drafted(ctx, in.FlowPath, in.FlowMatch, nil)
}

func (s *Server) drafted(ctx context.Context, path FlowPath, match FlowMatch, document []byte) (*flowOut, error) {
	revision, err := match.revision()
	if err != nil {
		return nil, err
	}
	var f control.Flow
	if document == nil {
		f, err = s.o.Flows.DropDraft(ctx, path.Flow, revision)
	} else {
		f, err = s.o.Flows.SaveDraft(ctx, path.Flow, document, revision)
	}
	if err != nil {
		return nil, match.matched(err)
	}
	return newFlowOut(f), nil
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

type publishIn struct {
	FlowPath
	FlowMatch
	Body *struct {
		Number      int    `json:"number,omitempty" minimum:"1" doc:"The version; the newest by default."`
		Percent     int    `json:"percent,omitempty" minimum:"1" maximum:"100" doc:"Of new sessions; 100 by default. The others run what is published already."`
		Environment string `json:"environment,omitempty" doc:"Such as staging; live by default."`
	}
}

func (s *Server) publishFlow(ctx context.Context, in *publishIn) (*reply[versionJSON], error) {
	var r control.Release
	if b := in.Body; b != nil {
		r = control.Release{Environment: b.Environment, Number: b.Number, Percent: b.Percent}
	}
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	v, err := s.o.Flows.Publish(ctx, in.Flow, r, revision)
	if err != nil {
		return nil, in.matched(err)
	}
	return &reply[versionJSON]{newVersionJSON(v)}, nil
}

func (s *Server) rollbackFlow(ctx context.Context, in *struct {
	FlowPath
	FlowMatch
	Body *struct {
		Environment string `json:"environment,omitempty" doc:"Such as staging; live by default."`
	}
}) (*reply[versionJSON], error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	environment := control.Live
	if in.Body != nil && in.Body.Environment != "" {
		environment = in.Body.Environment
	}
	v, err := s.o.Flows.Rollback(ctx, in.Flow, environment, revision)
	if err != nil {
		return nil, in.matched(err)
	}
	return &reply[versionJSON]{newVersionJSON(v)}, nil
}

func (s *Server) listPublications(ctx context.Context, in *struct {
	FlowPath
	PageQuery
	Environment string `query:"environment" doc:"Only there."`
}) (*listOut[publicationJSON], error) {
	if _, err := s.o.Flows.Store.Flow(ctx, in.Flow); err != nil {
		return nil, err
	}
	rows, err := s.o.Flows.Store.Publications(ctx, in.Flow, in.Environment, in.page())
	if err != nil {
		return nil, err
	}
	return newList(in.PageQuery, rows, newPublicationJSON, func(p control.Publication) uuid.UUID { return p.ID }), nil
}
