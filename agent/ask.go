package agent

import (
	"context"
	"log/slog"
	"time"
)

// An Answer is what a model gave to a prompt outside a conversation.
type Answer struct {
	Text  string
	Calls []ToolCall
	Uses  []Use // of all models that were asked, also where none answered
}

// Ask has the first of list that answers do so, with nobody listening: each may
// take patience until it begins, and ctx bounds it all. Its error wraps one of
// the Err values of this package, or is ctx's.
func Ask(ctx context.Context, list []Model, p Prompt, patience time.Duration, log *slog.Logger) (Answer, error) {
	if len(list) == 0 {
		return Answer{}, errNoModels
	}
	m := newModels(list, log)
	m.meter, m.patience = &meter{}, patience
	text, calls, err := m.ask(ctx, p, nil)
	return Answer{text, calls, m.meter.take()}, err
}
