package control

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
)

// Live is the environment of sessions that name none.
const Live = "live"

// A Flow is a conversation graph under a name; its documents are versions.
type Flow struct {
	ID           uuid.UUID
	Name         string        // unique in the tenant
	Public       bool          // anybody may chat with what is live, without a key
	Origins      []string      // of pages that may chat from a browser, "https://shop.example"
	Environments []Environment // where it is published, by name
	Revision     int           // counts from 1 with every change, versions included
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// An Environment is where sessions run a flow, such as "live" or "staging",
// and which of its versions they run there.
type Environment struct {
	Name      string    `json:"name"`
	Published uuid.UUID `json:"published_id"` // what new sessions run; zero for nothing
	// Canary is what CanaryPercent of new sessions run instead; zero for none.
	Canary        uuid.UUID `json:"canary_id,omitzero"`
	CanaryPercent int       `json:"canary_percent,omitzero"` // 1 to 99
}

// In returns an environment of f, "" being [Live]; one in which it was never
// published is empty.
func (f Flow) In(environment string) Environment {
	environment = cmp.Or(environment, Live)
	for _, e := range f.Environments {
		if e.Name == environment {
			return e
		}
	}
	return Environment{Name: environment}
}

// A FlowVersion is one document of a flow. It never changes.
type FlowVersion struct {
	ID        uuid.UUID
	Flow      uuid.UUID
	Number    int    // counts from 1 in its flow
	Label     string // the document's own "version", such as 1.4.0; may be empty
	Hash      string // [flow.Hash] of the canonical document
	Document  []byte // JSON, as it was given; empty in lists
	CreatedAt time.Time
}

// A Publication is one change of what new sessions run.
type Publication struct {
	ID          uuid.UUID
	Flow        uuid.UUID
	Version     uuid.UUID
	Environment string // "" is [Live]
	Number      int    // of the version
	Percent     int    // of new sessions: 100, or 1 to 99 for a canary
	// Withdraws is the version that a rollback takes back; zero for none.
	Withdraws uuid.UUID
	By        string // "user:id" or "key:id"; empty for the program itself
	At        time.Time
}

// A Draft is a flow's work in progress. It may have any fault.
type Draft struct {
	Document  []byte
	UpdatedAt time.Time
}

// FlowStore keeps flows and their versions.
type FlowStore interface {
	// LocatePublicFlow finds a published flow that anybody may chat with, over
	// all tenants.
	LocatePublicFlow(ctx context.Context, id uuid.UUID) (Located, error)
	// OriginListed tells whether any flow, of whichever tenant, lists an origin.
	OriginListed(ctx context.Context, origin string) (bool, error)

	Flow(ctx context.Context, id uuid.UUID) (Flow, error)
	FlowByName(ctx context.Context, name string) (Flow, error)
	Flows(ctx context.Context, p Page) ([]Flow, error)
	// ReleasedVersions returns, without documents and newest first, what was
	// published for all sessions of an environment once and is not taken back.
	ReleasedVersions(ctx context.Context, flow uuid.UUID, environment string) ([]FlowVersion, error)
	// LatestVersion returns the newest version, published or not.
	LatestVersion(ctx context.Context, flow uuid.UUID) (FlowVersion, error)
	FlowVersion(ctx context.Context, id uuid.UUID) (FlowVersion, error)
	NumberedVersion(ctx context.Context, flow uuid.UUID, number int) (FlowVersion, error)
	FlowVersions(ctx context.Context, flow uuid.UUID, p Page) ([]FlowVersion, error)
	// Publications of one environment, or of all where it is "".
	Publications(ctx context.Context, flow uuid.UUID, environment string, p Page) ([]Publication, error)
	// FlowDraft returns ErrNotFound for a flow without one.
	FlowDraft(ctx context.Context, flow uuid.UUID) (Draft, error)
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
	// canary. A canary needs a version that is published for all.
	PublishFlow(ctx context.Context, p Publication, revision int) (Flow, error)
	// PutFlowDraft stores a draft over the one before; an empty one removes it.
	PutFlowDraft(ctx context.Context, flow uuid.UUID, document []byte, revision int) (Flow, error)
}

// Flows is the service of flows.
type Flows struct {
	Store   FlowStore
	Changes FlowChanges
	// Contents is what simulations find content in. Nil: there is none.
	Contents effect.Contents
	// Published is told of each version that is published, and must not block.
	// Nil: nobody is.
	Published func(ctx context.Context, v FlowVersion)
	Types     flow.Types // the program's own node types, beside those of the format
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
	v := newVersion(NewID(), document)
	v.Number = 1
	f := Flow{ID: v.Flow, Name: name, Revision: 1, CreatedAt: v.CreatedAt, UpdatedAt: v.CreatedAt}
	if err := s.Changes.InsertFlow(ctx, f, v); err != nil {
		return Flow{}, FlowVersion{}, fmt.Errorf("create flow: %w", err)
	}
	return f, v, nil
}

// CheckOrigins wants origins as browsers send them, each by its name.
func CheckOrigins(list []string) error {
	if len(list) > MaxOrigins {
		return Invalidf("origins", "must be at most %d", MaxOrigins)
	}
	for i, o := range list {
		if err := RefuseSecret(fmt.Sprintf("origins[%d]", i), o); err != nil {
			return err
		}
		if !IsOrigin(o) {
			return Invalidf(fmt.Sprintf("origins[%d]", i), "must be an origin such as https://shop.example: scheme, host and port, in lower case, no pattern")
		}
	}
	return nil
}

// Update writes a flow's name, who may chat with it, and from where.
func (s *Flows) Update(ctx context.Context, f Flow, revision int) (Flow, error) {
	if err := s.named(f.Name); err != nil {
		return Flow{}, err
	}
	if err := CheckOrigins(f.Origins); err != nil {
		return Flow{}, err
	}
	return s.Changes.UpdateFlow(ctx, f, revision)
}

func (s *Flows) named(name string) error {
	if err := RefuseSecret("name", name); err != nil {
		return err
	}
	if !agentName.MatchString(name) || isUUID(name) {
		return Invalidf("name", "must be 1 to 63 lower-case letters, digits and inner hyphens, and no UUID")
	}
	return nil
}

// AddVersion stores a further document of a flow, not yet published.
func (s *Flows) AddVersion(ctx context.Context, id uuid.UUID, document []byte, revision int) (FlowVersion, error) {
	if err := s.check(document); err != nil {
		return FlowVersion{}, err
	}
	return s.Changes.InsertFlowVersion(ctx, newVersion(id, document), revision)
}

// Keep makes the draft a version, and is done with it. ErrNotFound: there is
// none.
func (s *Flows) Keep(ctx context.Context, id uuid.UUID, revision int) (FlowVersion, error) {
	d, err := s.Store.FlowDraft(ctx, id)
	if err != nil {
		return FlowVersion{}, err
	}
	v, err := s.AddVersion(ctx, id, d.Document, revision)
	if err != nil {
		return FlowVersion{}, err
	}
	_, err = s.DropDraft(ctx, id, 0)
	return v, err
}

// newVersion makes a version of a document that was checked.
func newVersion(id uuid.UUID, document []byte) FlowVersion {
	v := FlowVersion{ID: NewID(), Flow: id, Document: document, CreatedAt: time.Now().UTC()}
	if f, err := flow.Parse(document); err == nil {
		v.Label, v.Hash = f.Version, flow.Hash(f.Canonical())
	}
	return v
}

// SaveDraft keeps a document that is being worked on, faults and all but
// secrets in clear.
func (s *Flows) SaveDraft(ctx context.Context, id uuid.UUID, document []byte, revision int) (Flow, error) {
	if len(document) > maxFlowBytes || !json.Valid(document) || bytes.Contains(document, []byte(`\u0000`)) {
		return Flow{}, Invalidf("document", "must be JSON of at most 1 MiB, without U+0000")
	}
	if err := refuseSecretIn("document", document); err != nil {
		return Flow{}, err
	}
	return s.Changes.PutFlowDraft(ctx, id, document, revision)
}

// DropDraft forgets the draft, if there is one.
func (s *Flows) DropDraft(ctx context.Context, id uuid.UUID, revision int) (Flow, error) {
	return s.Changes.PutFlowDraft(ctx, id, nil, revision)
}

// Version returns a version by its number; 0 is the newest.
func (s *Flows) Version(ctx context.Context, flow uuid.UUID, number int) (FlowVersion, error) {
	if number == 0 {
		return s.Store.LatestVersion(ctx, flow)
	}
	return s.Store.NumberedVersion(ctx, flow, number)
}

// check refuses what may not be published, with every fault.
func (s *Flows) check(document []byte) error {
	if len(document) > maxFlowBytes {
		return Invalidf("document", "must be at most 1 MiB")
	}
	if err := refuseSecretIn("document", document); err != nil {
		return err
	}
	var faults []string
	for _, p := range flow.Lint(document, s.Types) {
		if p.Severity == "error" {
			faults = append(faults, p.String())
		}
	}
	if len(faults) > 0 {
		return Invalidf("document", "%s", strings.Join(faults, "; "))
	}
	return nil
}
