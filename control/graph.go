package control

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"parley/agent/flow"
)

const (
	maxCompiled = 256  // versions kept compiled
	maxResolved = 4096 // composites' ranges kept resolved
	maxSubflows = 50   // of one flow, those of those included
)

// Graphs compiles versions of flows and keeps them: a version never changes,
// so that one compiled once is good for ever. It also remembers which version
// a composite's range leads to, until something of that flow changes: what one
// process publishes holds in all of them for the next session. The zero value
// of the rest is ready; it is safe for use by several goroutines.
type Graphs struct {
	Store FlowStore
	Types flow.Types // the program's own node types; as of [Flows]

	mu       sync.Mutex
	compiled map[uuid.UUID]*flow.Flow
	resolved map[wanted]Version
}

// wanted is a range of a flow's versions, as the flow stood at a revision.
type wanted struct {
	flow        uuid.UUID
	revision    int
	environment string
	versions    string
}

// Pin compiles a version with the versions of the flows that it calls, and
// those that these call: what is published in the environment, else live, or
// what a range of versions leads to. It returns which they are: the session
// stays with them. A flow that is not there is left out, and the composite that
// calls it fails when it is reached.
func (g *Graphs) Pin(ctx context.Context, version uuid.UUID, environment string) (*flow.Flow, map[string]uuid.UUID, error) {
	f, err := g.version(ctx, version)
	if err != nil {
		return nil, nil, err
	}
	return g.withSubflows(ctx, f, environment)
}

func (g *Graphs) withSubflows(ctx context.Context, f *flow.Flow, environment string) (*flow.Flow, map[string]uuid.UUID, error) {
	pins, subs := map[string]uuid.UUID{}, map[string]*flow.Flow{}
	for todo := f.Uses(); len(todo) > 0; todo = todo[1:] {
		use := todo[0]
		if _, done := subs[use.Key()]; done || len(pins) >= maxSubflows {
			continue
		}
		id, err := g.resolve(ctx, use, environment)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		sub, err := g.version(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		pins[use.Key()], subs[use.Key()] = id, sub
		todo = append(todo, sub.Uses()...)
	}
	return f.With(subs), pins, nil
}

// resolve finds the version that a composite means. A flow that is not
// published in the environment is taken as it is live.
func (g *Graphs) resolve(ctx context.Context, use flow.Use, environment string) (uuid.UUID, error) {
	f, err := g.named(ctx, use.Flow)
	if err != nil {
		return uuid.Nil, err
	}
	if n, ok := use.Number(); ok {
		v, err := g.Store.NumberedVersion(ctx, SubjectFlow, f.ID, n)
		return v.ID, err
	}
	e := f.In(environment)
	if e.Published == uuid.Nil {
		e = f.In(Live)
	}
	if use.Version == "" {
		if e.Published == uuid.Nil {
			return uuid.Nil, fmt.Errorf("flow %s is not published: %w", f.ID, ErrNotFound)
		}
		return e.Published, nil
	}
	key := wanted{f.ID, f.Revision, e.Name, use.Version}
	g.mu.Lock()
	v, ok := g.resolved[key]
	g.mu.Unlock()
	if ok {
		return v.ID, nil
	}
	if v, err = g.newest(ctx, key); err != nil {
		return uuid.Nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.resolved == nil || len(g.resolved) >= maxResolved {
		g.resolved = map[wanted]Version{}
	}
	g.resolved[key] = v
	return v.ID, nil
}

// newest finds the newest version in a range.
func (g *Graphs) newest(ctx context.Context, w wanted) (best Version, err error) {
	in, err := flow.ParseRange(w.versions)
	if err != nil {
		return best, fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	list, err := g.Store.ReleasedVersions(ctx, SubjectFlow, w.flow, w.environment)
	if err != nil {
		return best, err
	}
	for _, v := range list { // the newest first, which wins among equals
		if in.Has(v.Label) && (best.ID == uuid.Nil || flow.Newer(v.Label, best.Label)) {
			best = v
		}
	}
	if best.ID == uuid.Nil {
		err = fmt.Errorf("flow %s has no version %s: %w", w.flow, w.versions, ErrNotFound)
	}
	return best, err
}

func (g *Graphs) named(ctx context.Context, name string) (Flow, error) {
	if id, err := uuid.Parse(name); err == nil {
		return g.Store.Flow(ctx, id)
	}
	return g.Store.FlowByName(ctx, name)
}

// Load compiles a version with the versions that a session is pinned to.
func (g *Graphs) Load(ctx context.Context, version uuid.UUID, pins map[string]uuid.UUID) (*flow.Flow, error) {
	f, err := g.version(ctx, version)
	if err != nil {
		return nil, err
	}
	subs := make(map[string]*flow.Flow, len(pins))
	for name, id := range pins {
		if subs[name], err = g.version(ctx, id); err != nil {
			return nil, err
		}
	}
	return f.With(subs), nil
}

// version returns a compiled version, from storage where it is not kept. Two
// that want the same at once may both compile it.
func (g *Graphs) version(ctx context.Context, id uuid.UUID) (*flow.Flow, error) {
	g.mu.Lock()
	f := g.compiled[id]
	g.mu.Unlock()
	if f != nil {
		return f, nil
	}
	v, err := g.Store.Version(ctx, SubjectFlow, id)
	if err != nil {
		return nil, err
	}
	if f, err = flow.Parse(v.Document, g.Types); err != nil {
		return nil, fmt.Errorf("flow version %s: %w", id, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.compiled == nil {
		g.compiled = map[uuid.UUID]*flow.Flow{}
	}
	if len(g.compiled) >= maxCompiled {
		for old := range g.compiled { // any: the order of a map is random
			delete(g.compiled, old)
			break
		}
	}
	g.compiled[id] = f
	return f, nil
}
