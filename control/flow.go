package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
)

// A Flow is a conversation graph under a name; its documents are versions.
type Flow struct {
	ID           uuid.UUID
	Name         string   // unique in the tenant
	Public       bool     // anybody may chat with what is live, without a key
	Origins      []string // of pages that may chat from a browser, "https://shop.example"
	Environments          // where it is published
	Revision     int      // counts from 1 with every change, versions included
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// FlowStore keeps flows and their versions.
type FlowStore interface {
	VersionStore

	// LocatePublicFlow finds a published flow that anybody may chat with, over
	// all tenants.
	LocatePublicFlow(ctx context.Context, id uuid.UUID) (Located, error)
	// OriginListed tells whether any flow, of whichever tenant, lists an origin.
	OriginListed(ctx context.Context, origin string) (bool, error)

	Flow(ctx context.Context, id uuid.UUID) (Flow, error)
	FlowByName(ctx context.Context, name string) (Flow, error)
	Flows(ctx context.Context, p Page) ([]Flow, error)
}

// FlowChanges writes flows. Each method is one conditional update: ErrConflict
// unless revision is the flow's, or 0.
type FlowChanges interface {
	VersionChanges

	// InsertFlow stores f with its first version. ErrConflict: the name is taken.
	InsertFlow(ctx context.Context, f Flow, v Version) error
	// UpdateFlow writes the name and who may chat.
	UpdateFlow(ctx context.Context, f Flow, revision int) (Flow, error)
}

// Flows is the service of flows.
type Flows struct {
	Store   FlowStore
	Changes FlowChanges
	// Contents is what simulations find content in. Nil: there is none.
	Contents effect.Contents
	// Published is told of each version that is published, and must not block.
	// Nil: nobody is.
	Published func(ctx context.Context, v Version)
	Types     flow.Types // the program's own node types, beside those of the format
}

// Create stores a flow with its first document, which must be without errors.
func (s *Flows) Create(ctx context.Context, name string, document []byte) (Flow, Version, error) {
	if err := s.named(name); err != nil {
		return Flow{}, Version{}, err
	}
	if err := s.check(document); err != nil {
		return Flow{}, Version{}, err
	}
	v := s.Releases().version(NewID(), document, "")
	v.Number = 1
	f := Flow{ID: v.Of, Name: name, Revision: 1, CreatedAt: v.CreatedAt, UpdatedAt: v.CreatedAt}
	if err := s.Changes.InsertFlow(ctx, f, v); err != nil {
		return Flow{}, Version{}, fmt.Errorf("create flow: %w", err)
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

// Releases are the versions of flows.
func (s *Flows) Releases() *Releases {
	return &Releases{Subject: SubjectFlow, Store: s.Store, Changes: s.Changes, Published: s.Published,
		Check: func(_ context.Context, document []byte) error { return s.check(document) },
		Ready: s.composites,
		Stamp: func(document []byte) (label, hash string) {
			f, err := flow.Parse(document)
			if err != nil {
				return "", ""
			}
			return f.Version, flow.Hash(f.Canonical())
		}}
}

// composites refuses a version whose composites would find no flow. One that
// calls itself will be there.
func (s *Flows) composites(ctx context.Context, v Version, environment string) error {
	f, err := flow.Parse(v.Document)
	if err != nil {
		return err
	}
	g := &Graphs{Store: s.Store}
	for _, use := range f.Uses() {
		sub, err := g.named(ctx, use.Flow)
		if err == nil && sub.ID == v.Of && use.Version == "" {
			continue
		}
		if err == nil {
			_, err = g.resolve(ctx, use, environment)
		}
		switch {
		case errors.Is(err, ErrNotFound):
			return Invalidf("document", "missing-flow: no flow %q is published in version %q (publish it first, or change the composite)", use.Flow, cmp.Or(use.Version, "*"))
		case err != nil:
			return err
		}
	}
	return nil
}

// check refuses what may not be published, with every fault.
func (s *Flows) check(document []byte) error {
	if len(document) > maxDocument {
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
