package control

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
)

// A Flow is a conversation graph under a name; its documents are versions.
type Flow struct {
	ID        uuid.UUID
	Name      string    // unique in the tenant
	Public    bool      // anybody may chat with it, without a key
	Published uuid.UUID // the version that new sessions run; zero for none
	// Canary is the version that CanaryPercent of new sessions run instead;
	// zero for none.
	Canary        uuid.UUID
	CanaryPercent int // 1 to 99
	Revision      int // counts from 1 with every change, versions included
	CreatedAt     time.Time
	UpdatedAt     time.Time
}

// A FlowVersion is one document of a flow. It never changes.
type FlowVersion struct {
	ID        uuid.UUID
	Flow      uuid.UUID
	Number    int    // counts from 1 in its flow
	Document  []byte // JSON, as it was given; empty in lists
	CreatedAt time.Time
}

// A Publication is one change of what new sessions run.
type Publication struct {
	ID      uuid.UUID
	Flow    uuid.UUID
	Version uuid.UUID
	Number  int    // of the version
	Percent int    // of new sessions: 100, or 1 to 99 for a canary
	By      string // "user:id" or "key:id"; empty for the program itself
	At      time.Time
}

// FlowStore keeps flows and their versions.
type FlowStore interface {
	// LocatePublicFlow finds a published flow that anybody may chat with, over
	// all tenants.
	LocatePublicFlow(ctx context.Context, id uuid.UUID) (Located, error)

	Flow(ctx context.Context, id uuid.UUID) (Flow, error)
	FlowByName(ctx context.Context, name string) (Flow, error)
	Flows(ctx context.Context, p Page) ([]Flow, error)
	// PublishedVersion returns ErrNotFound for a flow that is not published.
	PublishedVersion(ctx context.Context, flow uuid.UUID) (FlowVersion, error)
	// LatestVersion returns the newest version, published or not.
	LatestVersion(ctx context.Context, flow uuid.UUID) (FlowVersion, error)
	FlowVersion(ctx context.Context, id uuid.UUID) (FlowVersion, error)
	NumberedVersion(ctx context.Context, flow uuid.UUID, number int) (FlowVersion, error)
	FlowVersions(ctx context.Context, flow uuid.UUID, p Page) ([]FlowVersion, error)
	Publications(ctx context.Context, flow uuid.UUID, p Page) ([]Publication, error)
}

// FlowChanges writes flows. Each method is one conditional update: ErrConflict
// unless revision is the flow's, or 0.
type FlowChanges interface {
	// InsertFlow stores f with its first version. ErrConflict: the name is taken.
	InsertFlow(ctx context.Context, f Flow, v FlowVersion) error
	// UpdateFlow writes the name and who may chat.
	UpdateFlow(ctx context.Context, f Flow, revision int) (Flow, error)
	// InsertFlowVersion numbers v and stores it.
	InsertFlowVersion(ctx context.Context, v FlowVersion, revision int) (FlowVersion, error)
	// PublishFlow notes p and makes it so: a version for all sessions ends a
	// canary.
	PublishFlow(ctx context.Context, p Publication, revision int) (Flow, error)
}

// Flows is the service of flows.
type Flows struct {
	Store   FlowStore
	Changes FlowChanges
	// Contents is what simulations find content in. Nil: there is none.
	Contents effect.Contents
}

// maxFlowBytes of a document.
const maxFlowBytes = 1 << 20

// Create stores a flow with its first document, which must be without errors.
func (s *Flows) Create(ctx context.Context, name string, document []byte) (Flow, FlowVersion, error) {
	if err := s.named(name); err != nil {
		return Flow{}, FlowVersion{}, err
	}
	if err := s.check(document); err != nil {
		return Flow{}, FlowVersion{}, err
	}
	now := time.Now().UTC()
	f := Flow{ID: newID(), Name: name, Revision: 1, CreatedAt: now, UpdatedAt: now}
	v := FlowVersion{ID: newID(), Flow: f.ID, Number: 1, Document: document, CreatedAt: now}
	if err := s.Changes.InsertFlow(ctx, f, v); err != nil {
		return Flow{}, FlowVersion{}, fmt.Errorf("create flow: %w", err)
	}
	return f, v, nil
}

// Update writes a flow's name and who may chat with it.
func (s *Flows) Update(ctx context.Context, f Flow, revision int) (Flow, error) {
	if err := s.named(f.Name); err != nil {
		return Flow{}, err
	}
	return s.Changes.UpdateFlow(ctx, f, revision)
}

func (s *Flows) named(name string) error {
	if !agentName.MatchString(name) || isUUID(name) {
		return invalid("name", "must be 1 to 63 lower-case letters, digits and inner hyphens, and no UUID")
	}
	return nil
}

// AddVersion stores a further document of a flow, not yet published.
func (s *Flows) AddVersion(ctx context.Context, id uuid.UUID, document []byte, revision int) (FlowVersion, error) {
	if err := s.check(document); err != nil {
		return FlowVersion{}, err
	}
	v := FlowVersion{ID: newID(), Flow: id, Document: document, CreatedAt: time.Now().UTC()}
	return s.Changes.InsertFlowVersion(ctx, v, revision)
}

// Version returns a version by its number; 0 is the newest.
func (s *Flows) Version(ctx context.Context, flow uuid.UUID, number int) (FlowVersion, error) {
	if number == 0 {
		return s.Store.LatestVersion(ctx, flow)
	}
	return s.Store.NumberedVersion(ctx, flow, number)
}

// Publish makes a version, 0 for the newest, what percent of new sessions run;
// with less than 100 the others run what is published already. Sessions in
// progress keep the version that they began with.
func (s *Flows) Publish(ctx context.Context, id uuid.UUID, number, percent, revision int) (FlowVersion, error) {
	v, err := s.Version(ctx, id, number)
	if err != nil {
		return FlowVersion{}, err
	}
	if err := s.check(v.Document); err != nil {
		return FlowVersion{}, err
	}
	if percent < 1 || percent > 100 {
		return FlowVersion{}, invalid("percent", "must be 1 to 100")
	}
	if percent < 100 {
		f, err := s.Store.Flow(ctx, id)
		if err != nil {
			return FlowVersion{}, err
		}
		if f.Published == uuid.Nil || f.Published == v.ID {
			return FlowVersion{}, invalid("percent", "needs another version that is published for all")
		}
	}
	return v, s.publish(ctx, v, percent, revision)
}

func (s *Flows) publish(ctx context.Context, v FlowVersion, percent, revision int) error {
	p := Publication{ID: newID(), Flow: v.Flow, Version: v.ID, Number: v.Number, Percent: percent, At: time.Now().UTC()}
	if who := PrincipalOf(ctx); who.Kind != "" {
		p.By = who.Kind + ":" + who.ID.String()
	}
	_, err := s.Changes.PublishFlow(ctx, p, revision)
	return err
}

// Rollback ends a canary; without one it publishes the newest version before
// the published one that was published for all once. ErrNotFound: there is none.
func (s *Flows) Rollback(ctx context.Context, id uuid.UUID, revision int) (FlowVersion, error) {
	f, err := s.Store.Flow(ctx, id)
	if err != nil {
		return FlowVersion{}, err
	}
	if f.Published == uuid.Nil {
		return FlowVersion{}, ErrNotFound
	}
	v, err := s.Store.FlowVersion(ctx, f.Published)
	if err == nil && f.Canary == uuid.Nil {
		v, err = s.before(ctx, v)
	}
	if err != nil {
		return FlowVersion{}, err
	}
	return v, s.publish(ctx, v, 100, revision)
}

func (s *Flows) before(ctx context.Context, v FlowVersion) (FlowVersion, error) {
	best := Publication{}
	for page := (Page{Limit: 200}); ; {
		list, err := s.Store.Publications(ctx, v.Flow, page)
		if err != nil {
			return v, err
		}
		for _, p := range list {
			if p.Percent == 100 && p.Number < v.Number && p.Number > best.Number {
				best = p
			}
			page.After = p.ID
		}
		if len(list) < page.Limit {
			break
		}
	}
	if best.Number == 0 {
		return v, ErrNotFound
	}
	return s.Store.FlowVersion(ctx, best.Version)
}

// Pick returns the version that a new session runs: always the same for the
// same session.
func (s *Flows) Pick(ctx context.Context, flow, session uuid.UUID) (FlowVersion, error) {
	return pick(ctx, s.Store, flow, session)
}

func pick(ctx context.Context, store FlowStore, flow, session uuid.UUID) (FlowVersion, error) {
	f, err := store.Flow(ctx, flow)
	if err != nil {
		return FlowVersion{}, err
	}
	version := f.Published
	if f.Canary != uuid.Nil && drawn(flow, session) < f.CanaryPercent {
		version = f.Canary
	}
	if version == uuid.Nil {
		return FlowVersion{}, fmt.Errorf("flow %s is not published: %w", flow, ErrNotFound)
	}
	return store.FlowVersion(ctx, version)
}

// drawn is a number from 0 to 99 that a session draws in a flow.
func drawn(flow, session uuid.UUID) int {
	sum := sha256.Sum256(append(flow[:], session[:]...))
	return int(binary.BigEndian.Uint64(sum[:]) % 100)
}

// check refuses what may not be published, with every fault.
func (s *Flows) check(document []byte) error {
	if len(document) > maxFlowBytes {
		return invalid("document", "must be at most 1 MiB")
	}
	var faults []string
	for _, p := range flow.Lint(document) {
		if p.Severity == "error" {
			faults = append(faults, p.String())
		}
	}
	if len(faults) > 0 {
		return invalid("document", "%s", strings.Join(faults, "; "))
	}
	return nil
}
