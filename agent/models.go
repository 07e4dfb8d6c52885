package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"time"
)

// A Model is a vendor's LLM.
type Model struct {
	Vendor  string
	Model   string   // the vendor's name of it, under which its use is counted
	Breaker *Breaker // nil: it is always asked
	LLM     LLM
}

// models are those of a conversation, in the order they are asked.
type models struct {
	list   []Model
	roster *roster
	tokens int // taken in and given out
	broken int // answers in a row that broke off
	meter  *meter
	// patience is what a model may take to its first word; 0: firstToken.
	patience time.Duration
}

func newModels(list []Model, log *slog.Logger) *models {
	m := &models{list: list, roster: &roster{kind: "llm", log: log}}
	for _, v := range list {
		m.roster.list = append(m.roster.list, standing{vendor: v.Vendor, breaker: v.Breaker})
	}
	return m
}

const (
	// firstToken is when a model without a word is given up for the next.
	firstToken = 2500 * time.Millisecond
	// llmRounds is how often each model is asked for a reply.
	llmRounds = 2
)

// ask streams one answer of the first model that gives one. Its words go to
// say as they come; with say nil nobody hears them, and another model may
// answer in place of one that broke off.
func (m *models) ask(ctx context.Context, p Prompt, say func(line) error) (string, []ToolCall, error) {
	heard := say != nil
	if !heard {
		say = func(line) error { return nil }
	}
	try := m.roster.attempt(llmRounds)
	for {
		i, pause, ok := try.next(time.Now())
		if !ok {
			return "", nil, try.err()
		}
		if err := after(ctx, pause); err != nil {
			try.dropped(i)
			return "", nil, err
		}
		text, calls, err := m.askOne(ctx, m.list[i], p, say)
		var mute sayError
		switch {
		case ctx.Err() != nil:
			try.dropped(i)
			return strings.TrimSpace(text), nil, ctx.Err()
		case errors.As(err, &mute):
			try.dropped(i)
			return strings.TrimSpace(text), nil, mute.err
		case err == nil:
			try.served(i)
			m.broken = 0
			return strings.TrimSpace(text), calls, nil
		}
		try.failed(i, err, time.Now())
		if heard && strings.TrimSpace(text) != "" { // it was half said: no other model can go on with it
			return m.breakOff(text, say, try.err())
		}
	}
}

// brokenOff tells the caller that an answer will not be finished.
const brokenOff = " Sorry, I lost the thread. Could you say that again?"

// breakOff ends an answer that its model has not ended. The second in a row is
// a failure.
func (m *models) breakOff(text string, say func(line) error, cause error) (string, []ToolCall, error) {
	if m.broken++; m.broken > 1 {
		return "", nil, fmt.Errorf("answers break off: %w", cause)
	}
	if err := say(line{text: brokenOff, fixed: true}); err != nil {
		return "", nil, err
	}
	return strings.TrimSpace(text + brokenOff), nil, nil
}

// sayError tells that it was not the model who failed.
type sayError struct{ err error }

func (e sayError) Error() string { return e.err.Error() }

// askOne streams one answer of one model.
func (m *models) askOne(ctx context.Context, model Model, p Prompt, say func(line) error) (_ string, _ []ToolCall, failure error) {
	var text strings.Builder
	var calls []ToolCall
	var usage *Usage
	defer func() {
		estimated := usage == nil
		if estimated { // it does not tell, or was cut off
			usage = &Usage{PromptTokens: tokensOf(p), CompletionTokens: tokens(text.Len())}
		}
		m.tokens += max(0, usage.PromptTokens) + max(0, usage.CompletionTokens)
		if !estimated || asked(failure, text.Len()) {
			m.meter.addTokens(model, *usage, estimated)
		}
	}()
	watch := guard{limit: charsPerToken * p.MaxTokens}
	for d, err := range firstBy(ctx, cmp.Or(m.patience, firstToken), model.LLM.Reply, p) {
		if err != nil {
			return text.String(), nil, err
		}
		if fault := watch.push(d.Text); fault != "" {
			// What is not a whole clause yet is not said.
			misbehaved.WithLabelValues(fault).Inc()
			if err := say(line{cut: true}); err != nil {
				return text.String(), nil, sayError{err}
			}
			break
		}
		if d.Text != "" {
			text.WriteString(d.Text)
			if err := say(line{text: d.Text}); err != nil {
				return text.String(), nil, sayError{err}
			}
		}
		if d.Call != nil {
			calls = append(calls, *d.Call)
		}
		if d.Usage != nil {
			usage = d.Usage
		}
	}
	return text.String(), calls, nil
}

// firstBy is a model's reply that fails if nothing of it has come in time.
func firstBy(ctx context.Context, limit time.Duration, reply func(context.Context, Prompt) iter.Seq2[Delta, error], p Prompt) iter.Seq2[Delta, error] {
	return func(yield func(Delta, error) bool) {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		late := time.AfterFunc(limit, func() { cancel(fmt.Errorf("%w: no word in %v", ErrUnavailable, limit)) })
		defer late.Stop()
		for d, err := range reply(ctx, p) {
			late.Stop()
			if !yield(d, orCause(ctx, err)) {
				return
			}
		}
	}
}
