package control

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
)

// Releases carries documents of one kind of subject from a draft to what
// sessions run. [Flows.Releases] and [Agents.Releases] make one.
type Releases struct {
	Subject Subject
	Store   VersionStore
	Changes VersionChanges
	// Check refuses a document that may be no version, with every fault.
	Check func(ctx context.Context, document []byte) error
	// Ready refuses, beyond Check, to publish v in an environment.
	Ready func(ctx context.Context, v Version, environment string) error
	// Stamp returns what the document calls itself, and the hash of its
	// canonical form.
	Stamp func(document []byte) (label, hash string)
	// Published is told of each version that is published, and must not block.
	// Nil: nobody is.
	Published func(ctx context.Context, v Version)
}

// maxDocument is the most bytes of a version's document.
const maxDocument = 1 << 20

// Version returns a version by its number; 0 is the newest.
func (s *Releases) Version(ctx context.Context, of uuid.UUID, number int) (Version, error) {
	return s.Store.NumberedVersion(ctx, s.Subject, of, number)
}

// Add stores a further document, not yet published. label is what its author
// calls it, unless the document says so itself.
func (s *Releases) Add(ctx context.Context, of uuid.UUID, document []byte, label string, revision int) (Version, error) {
	if err := s.Check(ctx, document); err != nil {
		return Version{}, err
	}
	return s.Changes.InsertVersion(ctx, s.Subject, s.version(of, document, label), revision)
}

// Keep makes the draft a version, and is done with it. ErrNotFound: there is
// none.
func (s *Releases) Keep(ctx context.Context, of uuid.UUID, label string, revision int) (Version, error) {
	d, err := s.Store.Draft(ctx, s.Subject, of)
	if err != nil {
		return Version{}, err
	}
	if err := s.Check(ctx, d.Document); err != nil {
		return Version{}, err
	}
	return s.Changes.KeepDraft(ctx, s.Subject, s.version(of, d.Document, label), revision)
}

// version makes a version of a document that was checked.
func (s *Releases) version(of uuid.UUID, document []byte, label string) Version {
	v := Version{ID: NewID(), Of: of, Document: document, CreatedAt: time.Now().UTC()}
	own, hash := s.Stamp(document)
	v.Label, v.Hash = cmp.Or(own, label), hash
	return v
}

// SaveDraft keeps a document that is being worked on, faults and all but
// secrets in clear.
func (s *Releases) SaveDraft(ctx context.Context, of uuid.UUID, document []byte, revision int) error {
	if len(document) > maxDocument || !json.Valid(document) || bytes.Contains(document, []byte(`\u0000`)) {
		return Invalidf("document", "must be JSON of at most 1 MiB, without U+0000")
	}
	if err := refuseSecretIn("document", document); err != nil {
		return err
	}
	return s.Changes.PutDraft(ctx, s.Subject, of, document, revision)
}

// DropDraft forgets the draft, if there is one.
func (s *Releases) DropDraft(ctx context.Context, of uuid.UUID, revision int) error {
	return s.Changes.PutDraft(ctx, s.Subject, of, nil, revision)
}

// A Release says what new sessions are to run. The zero value is the newest
// version, for all that is live.
type Release struct {
	Environment string // "" is [Live]
	Number      int    // of the version; 0 is the newest
	// Percent of new sessions, 1 to 100; 0 is 100. With less than 100 the others
	// run what is published already.
	Percent int
}

var environmentName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

// Publish makes a version what new sessions of an environment run. Sessions in
// progress keep the version that they began with.
func (s *Releases) Publish(ctx context.Context, of uuid.UUID, r Release, revision int) (Version, error) {
	r.Environment, r.Percent = cmp.Or(r.Environment, Live), cmp.Or(r.Percent, 100)
	if !environmentName.MatchString(r.Environment) {
		return Version{}, Invalidf("environment", "must be 1 to 32 lower-case letters, digits and hyphens, a letter first")
	}
	if r.Percent < 1 || r.Percent > 100 {
		return Version{}, Invalidf("percent", "must be 1 to 100")
	}
	v, err := s.Version(ctx, of, r.Number)
	if err != nil {
		return Version{}, err
	}
	if err := s.Check(ctx, v.Document); err != nil {
		return Version{}, err
	}
	if s.Ready != nil {
		if err := s.Ready(ctx, v, r.Environment); err != nil {
			return Version{}, err
		}
	}
	if r.Percent < 100 {
		list, err := s.Store.Environments(ctx, s.Subject, of)
		if err != nil {
			return Version{}, err
		}
		if e := list.In(r.Environment); e.Published == uuid.Nil || e.Published == v.ID {
			return Version{}, Invalidf("percent", "needs another version that is published for all")
		}
	}
	err = s.publish(ctx, v, Publication{Environment: r.Environment, Percent: r.Percent}, revision)
	if err == nil && s.Published != nil {
		s.Published(ctx, v)
	}
	return v, err
}

func (s *Releases) publish(ctx context.Context, v Version, p Publication, revision int) error {
	return s.Changes.Publish(ctx, s.Subject, p.of(ctx, v), revision)
}

// of says what is published, when and by whom.
func (p Publication) of(ctx context.Context, v Version) Publication {
	p.ID, p.Of, p.Version, p.Number = NewID(), v.Of, v.ID, v.Number
	p.By, p.At = ActorOf(ctx), time.Now().UTC()
	return p
}

// Rollback ends a canary; without one it publishes again what was published for
// all before, and was not taken back itself. ErrNotFound: there is none.
func (s *Releases) Rollback(ctx context.Context, of uuid.UUID, environment string, revision int) (Version, error) {
	list, err := s.Store.Environments(ctx, s.Subject, of)
	if err != nil {
		return Version{}, err
	}
	e := list.In(environment)
	if e.Published == uuid.Nil {
		return Version{}, ErrNotFound
	}
	p := Publication{Environment: e.Name, Percent: 100, Withdraws: e.Canary}
	to := e.Published
	if e.Canary == uuid.Nil {
		p.Withdraws = e.Published
		if to, err = s.before(ctx, of, e); err != nil {
			return Version{}, err
		}
	}
	v, err := s.Store.Version(ctx, s.Subject, to)
	if err != nil {
		return Version{}, err
	}
	return v, s.publish(ctx, v, p, revision)
}

// before finds what was published before what is.
func (s *Releases) before(ctx context.Context, of uuid.UUID, e Environment) (uuid.UUID, error) {
	withdrawn := map[uuid.UUID]bool{}
	for page := (Page{Limit: 200}); ; {
		list, err := s.Store.Publications(ctx, s.Subject, of, e.Name, page)
		if err != nil {
			return uuid.Nil, err
		}
		for _, p := range list { // the newest first
			if p.Percent == 100 && p.Version != e.Published && !withdrawn[p.Version] {
				return p.Version, nil
			}
			withdrawn[p.Withdraws] = true
			page.After = p.ID
		}
		if len(list) < page.Limit {
			return uuid.Nil, ErrNotFound
		}
	}
}

// Pick returns the version that a new session of an environment runs: always
// the same for the same session. ErrNotFound: nothing is published there. It
// reads the environments each time, so that what one process publishes holds in
// all of them at once.
func (s *Releases) Pick(ctx context.Context, of uuid.UUID, environment string, session uuid.UUID) (uuid.UUID, error) {
	return pick(ctx, s.Store, s.Subject, of, environment, session)
}

func pick(ctx context.Context, store VersionStore, s Subject, of uuid.UUID, environment string, session uuid.UUID) (uuid.UUID, error) {
	list, err := store.Environments(ctx, s, of)
	if err != nil {
		return uuid.Nil, err
	}
	e := list.In(environment)
	switch {
	case e.Published == uuid.Nil:
		return uuid.Nil, fmt.Errorf("%s %s is not published in %s: %w", s, of, e.Name, ErrNotFound)
	case e.Canary != uuid.Nil && drawn(of, session) < e.CanaryPercent:
		return e.Canary, nil
	}
	return e.Published, nil
}

// drawn is a number from 0 to 99 that a session draws in a subject.
func drawn(of, session uuid.UUID) int {
	sum := sha256.Sum256(append(of[:], session[:]...))
	return int(binary.BigEndian.Uint64(sum[:]) % 100)
}
