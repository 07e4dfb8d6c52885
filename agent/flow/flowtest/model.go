package flowtest

import (
	"context"
	"errors"

	"parley/agent/flow"
)

// answers stands in for language models. It implements [effect.Models].
type answers struct{ left []Answer }

var errNoAnswer = errors.New("no model answers")

// Propose implements [effect.Models]: the first answer that is for the node.
func (a *answers) Propose(_ context.Context, e flow.Model) (flow.Proposal, error) {
	for i, answer := range a.left {
		if answer.Node != "" && answer.Node != e.Node {
			continue
		}
		a.left = append(a.left[:i:i], a.left[i+1:]...)
		if answer.Error {
			break
		}
		answer.Spoken, answer.Cut = false, false // a host's word, not a model's
		return answer.Proposal, nil
	}
	return flow.Proposal{}, errNoAnswer
}
