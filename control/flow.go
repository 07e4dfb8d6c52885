package control

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// A Flow is a conversation graph under a name; its documents are versions.
type Flow struct {
	ID        uuid.UUID
	Name      string    // unique in the tenant
	Published uuid.UUID // the version that new calls run; zero for none
	CreatedAt time.Time
	UpdatedAt time.Time
}

// A FlowVersion is one document of a flow. It never changes.
type FlowVersion struct {
	ID        uuid.UUID
	Flow      uuid.UUID
	Number    int    // counts from 1 in its flow
	Document  []byte // JSON, as it was given
	CreatedAt time.Time
}

// FlowStore keeps flows and their versions.
type FlowStore interface {
	Flow(ctx context.Context, id uuid.UUID) (Flow, error)
	FlowByName(ctx context.Context, name string) (Flow, error)
	Flows(ctx context.Context, p Page) ([]Flow, error)
	// InsertFlow stores f with its first version. ErrConflict: the name is taken.
	InsertFlow(ctx context.Context, f Flow, v FlowVersion) error
	// InsertFlowVersion numbers v and stores it.
	InsertFlowVersion(ctx context.Context, v FlowVersion) (FlowVersion, error)
	// PublishFlow makes version what new calls run.
	PublishFlow(ctx context.Context, flow, version uuid.UUID) error
	// PublishedVersion returns ErrNotFound for a flow that is not published.
	PublishedVersion(ctx context.Context, flow uuid.UUID) (FlowVersion, error)
	// LatestVersion returns the newest version, published or not.
	LatestVersion(ctx context.Context, flow uuid.UUID) (FlowVersion, error)
	FlowVersion(ctx context.Context, id uuid.UUID) (FlowVersion, error)
}

// Flows is the service of flows.
type Flows struct {
	Store FlowStore
	// Check reports what keeps a document from being published; nil for a
	// good one. It is flow.Parse and flow.Check, given by the program.
	Check func(document []byte) error
}

// Create stores a flow with its first document, which must pass Check.
func (s *Flows) Create(ctx context.Context, name string, document []byte) (Flow, FlowVersion, error) {
	if !agentName.MatchString(name) {
		return Flow{}, FlowVersion{}, invalid("name", "must be 1 to 63 lower-case letters, digits and inner hyphens")
	}
	if err := s.check(document); err != nil {
		return Flow{}, FlowVersion{}, err
	}
	now := time.Now().UTC()
	f := Flow{ID: newID(), Name: name, CreatedAt: now, UpdatedAt: now}
	v := FlowVersion{ID: newID(), Flow: f.ID, Number: 1, Document: document, CreatedAt: now}
	if err := s.Store.InsertFlow(ctx, f, v); err != nil {
		return Flow{}, FlowVersion{}, fmt.Errorf("create flow: %w", err)
	}
	return f, v, nil
}

// AddVersion stores a further document of a flow, not yet published.
func (s *Flows) AddVersion(ctx context.Context, flow uuid.UUID, document []byte) (FlowVersion, error) {
	if err := s.check(document); err != nil {
		return FlowVersion{}, err
	}
	v := FlowVersion{ID: newID(), Flow: flow, Document: document, CreatedAt: time.Now().UTC()}
	return s.Store.InsertFlowVersion(ctx, v)
}

// Publish makes the flow's newest version what new calls run. Calls in
// progress keep the version that they began with.
func (s *Flows) Publish(ctx context.Context, flow uuid.UUID) (FlowVersion, error) {
	v, err := s.Store.LatestVersion(ctx, flow)
	if err != nil {
		return FlowVersion{}, err
	}
	if err := s.check(v.Document); err != nil {
		return FlowVersion{}, err
	}
	return v, s.Store.PublishFlow(ctx, flow, v.ID)
}

func (s *Flows) check(document []byte) error {
	if len(document) > 1<<20 {
		return invalid("document", "must be at most 1 MiB")
	}
	if err := s.Check(document); err != nil {
		return invalid("document", "%s", err)
	}
	return nil
}
