package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"parley/agent/flow"
)

// A Proposer has language models answer for the nodes of one conversation's
// flow. It decides nothing: what a model proposes passes the flow's own guard.
// It is safe for use by several goroutines, which wait for each other.
type Proposer struct {
	// Models returns whom to ask, in order, for what a node names; where it names
	// none, the defaults.
	Models func(ctx context.Context, use []flow.ModelChoice) ([]Model, error)
	Log    *slog.Logger // nil: nobody is told

	mu     sync.Mutex
	chosen map[string]*models
	spent  int
	meter  *meter // nil: what is used is not counted by vendor
}

const (
	// proposeLimit bounds one answer of a model, other models' tries included.
	proposeLimit = 20 * time.Second
	// readLimit bounds it where the model only reads: the flow can do without.
	readLimit = 7 * time.Second
)

// errNoModels says that a host has no language model for a node.
var errNoModels = fmt.Errorf("%w: no language model is set up", ErrUnavailable)

// Propose asks for an answer to e. It implements the interface of that name in
// package effect. Its errors wrap one of the Err values of this package, or are
// ctx's.
func (p *Proposer) Propose(ctx context.Context, e flow.Model) (flow.Proposal, error) {
	return p.propose(ctx, e, nil)
}

// propose is Propose; what an agent node's model says goes to say as it comes.
// Where ctx ends, the proposal is what had been said by then.
func (p *Proposer) propose(ctx context.Context, e flow.Model, say func(line) error) (flow.Proposal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	limit := proposeLimit
	if e.Kind != "agent" {
		limit, say = readLimit, nil
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	m, err := p.models(ctx, e.Use)
	if err != nil {
		return flow.Proposal{}, err
	}
	before := m.tokens
	text, calls, err := m.ask(ctx, promptOf(e), say)
	cost := m.tokens - before
	p.spent += cost
	if err != nil {
		return flow.Proposal{Say: text, Spoken: say != nil, Cut: true, Tokens: cost}, err
	}
	out := proposalOf(e, text, calls)
	out.Tokens, out.Spoken = cost, say != nil && out.Say != ""
	return out, nil
}

// models are those that a node names. They are kept: what one conversation
// learns of them counts in its next turn.
func (p *Proposer) models(ctx context.Context, use []flow.ModelChoice) (*models, error) {
	key := fmt.Sprint(use)
	if m := p.chosen[key]; m != nil {
		return m, nil
	}
	if p.Models == nil {
		return nil, errNoModels
	}
	list, err := p.Models(ctx, use)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, errNoModels
	}
	log := p.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	m := newModels(list, log)
	m.meter = p.meter
	if p.chosen == nil {
		p.chosen = map[string]*models{}
	}
	p.chosen[key] = m
	return m, nil
}

// countBy has what its models use counted by a session's meter.
func (p *Proposer) countBy(m *meter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.meter = m
	for _, c := range p.chosen {
		c.meter = m
	}
}

// tokens counts what all models have taken in and given out so far.
func (p *Proposer) tokens() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.spent
}

// proposalOf reads a model's answer. Arguments that are not an object of JSON
// propose nothing; the flow judges the rest.
func proposalOf(e flow.Model, text string, calls []ToolCall) flow.Proposal {
	var out flow.Proposal
	if e.Kind == "agent" {
		out.Say = text
	} else if len(calls) == 0 {
		return written(e, text)
	}
	for _, c := range calls {
		var args map[string]any
		if c.Arguments != "" && json.Unmarshal([]byte(c.Arguments), &args) != nil {
			misbehaved.WithLabelValues("arguments").Inc()
			args = nil
		}
		word := func(k string) string { s, _ := args[k].(string); return s }
		switch c.Name {
		case flow.WishSlots:
			if out.Slots == nil {
				out.Slots = map[string]any{}
			}
			for k, v := range args {
				if v != nil && v != "" {
					out.Slots[k] = v
				}
			}
		case flow.WishExit:
			out.Exit = word("exit")
		case flow.WishChoice:
			out.Intent = word("name")
			if f, ok := args["confidence"].(float64); ok {
				out.Confidence = json.Number(fmt.Sprint(f))
			}
		default:
			out.Tools = append(out.Tools, flow.ToolUse{Name: c.Name, Args: args})
		}
	}
	return out
}

// written reads the answer of a server that knows no tools, and writes the
// arguments as text.
func written(e flow.Model, text string) flow.Proposal {
	var args map[string]any
	if json.Unmarshal([]byte(text), &args) != nil {
		return flow.Proposal{}
	}
	name := flow.WishSlots
	if _, ok := args["name"].(string); ok && len(e.Slots) == 0 {
		name = flow.WishChoice
	}
	return proposalOf(e, "", []ToolCall{{Name: name, Arguments: text}})
}
