package control

import (
	"cmp"
	"context"
	"time"

	"github.com/google/uuid"
)

// A Subject is what has versions. All subjects have them by one mechanism: a
// draft that may have any fault, versions that never change, environments that
// publish them, and publications that tell what was published when.
type Subject string

// The subjects.
const (
	SubjectFlow  Subject = "flow"  // its documents are graphs
	SubjectAgent Subject = "agent" // its documents are [AgentSettings]
)

// Live is the environment of sessions that name none.
const Live = "live"

// An Environment is where sessions run a flow or an agent, such as "live" or
// "staging", and which of its versions they run there.
type Environment struct {
	Name      string    `json:"name"`
	Published uuid.UUID `json:"published_id"` // what new sessions run; zero for nothing
	// Canary is what CanaryPercent of new sessions run instead; zero for none.
	Canary        uuid.UUID `json:"canary_id,omitzero"`
	CanaryPercent int       `json:"canary_percent,omitzero"` // 1 to 99
}

// Environments are where a subject is published, by name.
type Environments []Environment

// In returns an environment, "" being [Live]; one in which nothing was ever
// published is empty.
func (list Environments) In(name string) Environment {
	name = cmp.Or(name, Live)
	for _, e := range list {
		if e.Name == name {
			return e
		}
	}
	return Environment{Name: name}
}

// A Version is one document of a subject. It never changes.
type Version struct {
	ID        uuid.UUID
	Of        uuid.UUID // the flow or agent
	Number    int       // counts from 1 in its subject
	Label     string    // what its author calls it, such as 1.4.0; may be empty
	Hash      string    // of the canonical document, as [flow.Hash] has it
	Document  []byte    // JSON, as it was given; empty in lists
	CreatedAt time.Time
}

// A Publication is one change of what new sessions run.
type Publication struct {
	ID          uuid.UUID
	Of          uuid.UUID // the flow or agent
	Version     uuid.UUID
	Environment string // "" is [Live]
	Number      int    // of the version
	Percent     int    // of new sessions: 100, or 1 to 99 for a canary
	// Withdraws is the version that a rollback takes back; zero for none.
	Withdraws uuid.UUID
	By        string // "user:id" or "key:id"; empty for the program itself
	At        time.Time
}

// A Draft is work in progress. It may have any fault.
type Draft struct {
	Document  []byte
	UpdatedAt time.Time
}

// VersionStore reads versions. Without the subject: ErrNotFound, or nothing in
// lists.
type VersionStore interface {
	// Environments returns where a subject is published; ErrNotFound without it.
	Environments(ctx context.Context, s Subject, of uuid.UUID) (Environments, error)
	Version(ctx context.Context, s Subject, id uuid.UUID) (Version, error)
	// NumberedVersion returns a version by its number; 0 is the newest,
	// published or not.
	NumberedVersion(ctx context.Context, s Subject, of uuid.UUID, number int) (Version, error)
	// Versions lists without documents, the newest first.
	Versions(ctx context.Context, s Subject, of uuid.UUID, p Page) ([]Version, error)
	// ReleasedVersions returns, without documents and newest first, what was
	// published for all sessions of an environment once and is not taken back.
	ReleasedVersions(ctx context.Context, s Subject, of uuid.UUID, environment string) ([]Version, error)
	// Publications of one environment, or of all where it is "".
	Publications(ctx context.Context, s Subject, of uuid.UUID, environment string, p Page) ([]Publication, error)
	// Draft returns ErrNotFound where there is none.
	Draft(ctx context.Context, s Subject, of uuid.UUID) (Draft, error)
}

// VersionChanges writes versions. Each method is one conditional update:
// ErrConflict unless revision is the subject's, or 0; it counts that up.
type VersionChanges interface {
	// InsertVersion numbers v and stores it.
	InsertVersion(ctx context.Context, s Subject, v Version, revision int) (Version, error)
	// Publish notes p and makes it so: a version for all sessions ends a canary.
	// A canary needs a version that is published for all.
	Publish(ctx context.Context, s Subject, p Publication, revision int) error
	// PutDraft stores a draft over the one before; an empty one removes it.
	PutDraft(ctx context.Context, s Subject, of uuid.UUID, document []byte, revision int) error
	// KeepDraft stores v, made of the draft, and removes that.
	KeepDraft(ctx context.Context, s Subject, v Version, revision int) (Version, error)
}
