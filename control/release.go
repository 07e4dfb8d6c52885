package control

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
)

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
func (s *Flows) Publish(ctx context.Context, id uuid.UUID, r Release, revision int) (FlowVersion, error) {
	r.Environment, r.Percent = cmp.Or(r.Environment, Live), cmp.Or(r.Percent, 100)
	if !environmentName.MatchString(r.Environment) {
		return FlowVersion{}, Invalidf("environment", "must be 1 to 32 lower-case letters, digits and hyphens, a letter first")
	}
	if r.Percent < 1 || r.Percent > 100 {
		return FlowVersion{}, Invalidf("percent", "must be 1 to 100")
	}
	v, err := s.Version(ctx, id, r.Number)
	if err != nil {
		return FlowVersion{}, err
	}
	if err := s.check(v.Document); err != nil {
		return FlowVersion{}, err
	}
	if err := s.composites(ctx, v, r.Environment); err != nil {
		return FlowVersion{}, err
	}
	if r.Percent < 100 {
		f, err := s.Store.Flow(ctx, id)
		if err != nil {
			return FlowVersion{}, err
		}
		if e := f.In(r.Environment); e.Published == uuid.Nil || e.Published == v.ID {
			return FlowVersion{}, Invalidf("percent", "needs another version that is published for all")
		}
	}
	err = s.publish(ctx, v, Publication{Environment: r.Environment, Percent: r.Percent}, revision)
	if err == nil && s.Published != nil {
		s.Published(ctx, v)
	}
	return v, err
}

// composites refuses a version whose composites would find no flow. One that
// calls itself will be there.
func (s *Flows) composites(ctx context.Context, v FlowVersion, environment string) error {
	f, err := flow.Parse(v.Document)
	if err != nil {
		return err
	}
	g := &Graphs{Store: s.Store}
	for _, use := range f.Uses() {
		sub, err := g.named(ctx, use.Flow)
		if err == nil && sub.ID == v.Flow && use.Version == "" {
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

func (s *Flows) publish(ctx context.Context, v FlowVersion, p Publication, revision int) error {
	p.ID, p.Flow, p.Version, p.Number = NewID(), v.Flow, v.ID, v.Number
	p.By, p.At = ActorOf(ctx), time.Now().UTC()
	_, err := s.Changes.PublishFlow(ctx, p, revision)
	return err
}

// Rollback ends a canary; without one it publishes again what was published for
// all before, and was not taken back itself. ErrNotFound: there is none.
func (s *Flows) Rollback(ctx context.Context, id uuid.UUID, environment string, revision int) (FlowVersion, error) {
	f, err := s.Store.Flow(ctx, id)
	if err != nil {
		return FlowVersion{}, err
	}
	e := f.In(environment)
	if e.Published == uuid.Nil {
		return FlowVersion{}, ErrNotFound
	}
	p := Publication{Environment: e.Name, Percent: 100, Withdraws: e.Canary}
	to := e.Published
	if e.Canary == uuid.Nil {
		p.Withdraws = e.Published
		if to, err = s.before(ctx, id, e); err != nil {
			return FlowVersion{}, err
		}
	}
	v, err := s.Store.FlowVersion(ctx, to)
	if err != nil {
		return FlowVersion{}, err
	}
	return v, s.publish(ctx, v, p, revision)
}

// before finds what was published before what is.
func (s *Flows) before(ctx context.Context, id uuid.UUID, e Environment) (uuid.UUID, error) {
	withdrawn := map[uuid.UUID]bool{}
	for page := (Page{Limit: 200}); ; {
		list, err := s.Store.Publications(ctx, id, e.Name, page)
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
// the same for the same session. ErrNotFound: the flow is not published there.
func (s *Flows) Pick(ctx context.Context, flow uuid.UUID, environment string, session uuid.UUID) (uuid.UUID, error) {
	return pick(ctx, s.Store, flow, environment, session)
}

// pick reads the flow's row each time, so that what one process publishes holds
// in all of them at once; the document itself is compiled once.
func pick(ctx context.Context, store FlowStore, id uuid.UUID, environment string, session uuid.UUID) (uuid.UUID, error) {
	f, err := store.Flow(ctx, id)
	if err != nil {
		return uuid.Nil, err
	}
	e := f.In(environment)
	switch {
	case e.Published == uuid.Nil:
		return uuid.Nil, fmt.Errorf("flow %s is not published in %s: %w", id, e.Name, ErrNotFound)
	case e.Canary != uuid.Nil && drawn(id, session) < e.CanaryPercent:
		return e.Canary, nil
	}
	return e.Published, nil
}

// drawn is a number from 0 to 99 that a session draws in a flow.
func drawn(flow, session uuid.UUID) int {
	sum := sha256.Sum256(append(flow[:], session[:]...))
	return int(binary.BigEndian.Uint64(sum[:]) % 100)
}
