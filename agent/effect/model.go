package effect

import (
	"context"
	"encoding/json"

	"parley/agent/flow"
)

// Models asks language models. What they propose is judged by the flow.
type Models interface {
	// Propose answers e. An error says that no model could, or that ctx ended.
	Propose(ctx context.Context, e flow.Model) (flow.Proposal, error)
}

// model has a model answer.
func (p *Performer) model(ctx context.Context, e flow.Model) flow.Result {
	if p.Models == nil {
		return flow.Result{ID: e.ID, Outcome: "error", Error: "this host has no language model for flows"}
	}
	begun := p.now()
	proposal, err := p.Models.Propose(ctx, e)
	log := p.log().With("node", e.Node, "kind", e.Kind, "took", p.now().Sub(begun))
	if err != nil {
		log.Warn("no model answers a flow", "error", err)
	}
	log.Debug("a model has answered", "tokens", proposal.Tokens)
	return Proposed(e.ID, proposal, err)
}

// Proposed is the result of a [flow.Model]: a proposal, or that there is none.
func Proposed(id string, p flow.Proposal, err error) flow.Result {
	r := flow.Result{ID: id, Outcome: "success"}
	if err == nil {
		r.Data, err = json.Marshal(p)
	}
	if err != nil {
		// A vendor's own words may hold what it was asked.
		return flow.Result{ID: id, Outcome: "error", Error: "no model answers"}
	}
	return r
}
