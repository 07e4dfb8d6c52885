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
	maxCompiled = 256 // versions kept compiled
	maxSubflows = 50  // of one flow, those of those included
)

// Graphs compiles versions of flows and keeps them: a version never changes,
// so that one compiled once is good for ever. The zero value of the rest is
// ready; it is safe for use by several goroutines.
type Graphs struct {
	Store FlowStore

	mu       sync.Mutex
	compiled map[uuid.UUID]*flow.Flow
}

// Pin compiles v with the published versions of the flows that it calls, and
// those that these call, each named by its id or name. It returns which they
// are: the session stays with them. A flow that is not there is left out, and
// the composite that calls it fails when it is reached.
func (g *Graphs) Pin(ctx context.Context, v FlowVersion) (*flow.Flow, map[string]uuid.UUID, error) {
	f, err := g.keep(v)
	if err != nil {
		return nil, nil, err
	}
	return g.withSubflows(ctx, f)
}

func (g *Graphs) withSubflows(ctx context.Context, f *flow.Flow) (*flow.Flow, map[string]uuid.UUID, error) {
	pins, subs := map[string]uuid.UUID{}, map[string]*flow.Flow{}
	for todo := f.Uses(); len(todo) > 0; todo = todo[1:] {
		name := todo[0]
		if _, done := subs[name]; done || len(pins) >= maxSubflows {
			continue
		}
		v, err := g.published(ctx, name)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		sub, err := g.keep(v)
		if err != nil {
			return nil, nil, err
		}
		pins[name], subs[name] = v.ID, sub
		todo = append(todo, sub.Uses()...)
	}
	return f.With(subs), pins, nil
}

func (g *Graphs) published(ctx context.Context, name string) (FlowVersion, error) {
	id, err := uuid.Parse(name)
	if err != nil {
		f, err := g.Store.FlowByName(ctx, name)
		if err != nil {
			return FlowVersion{}, err
		}
		id = f.ID
	}
	return g.Store.PublishedVersion(ctx, id)
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

func (g *Graphs) version(ctx context.Context, id uuid.UUID) (*flow.Flow, error) {
	g.mu.Lock()
	f := g.compiled[id]
	g.mu.Unlock()
	if f != nil {
		return f, nil
	}
	v, err := g.Store.FlowVersion(ctx, id)
	if err != nil {
		return nil, err
	}
	return g.keep(v)
}

// keep compiles v, if it is not yet, and forgets another if there are too many.
func (g *Graphs) keep(v FlowVersion) (*flow.Flow, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f := g.compiled[v.ID]; f != nil {
		return f, nil
	}
	f, err := flow.Parse(v.Document)
	if err != nil {
		return nil, fmt.Errorf("flow version %s: %w", v.ID, err)
	}
	if g.compiled == nil {
		g.compiled = map[uuid.UUID]*flow.Flow{}
	}
	if len(g.compiled) >= maxCompiled {
		for id := range g.compiled { // any: the order of a map is random
			delete(g.compiled, id)
			break
		}
	}
	g.compiled[v.ID] = f
	return f, nil
}
