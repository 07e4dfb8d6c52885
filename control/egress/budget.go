package egress

import (
	"context"
	"slices"
	"sync"
	"time"
)

// An Amount is what requests cost, redirects included: how many there were,
// bytes of bodies both ways, and time from sending to the whole answer. As a
// bound, a field that is zero does not bind.
type Amount struct {
	Calls, Bytes int64
	Time         time.Duration
}

// A Meter sums what is spent: calls, bytes and milliseconds.
type Meter interface {
	// Spend adds amounts to what was spent under key in a window of time, which
	// begins with the first, and returns the sums.
	Spend(ctx context.Context, key string, window time.Duration, amounts [3]int64) ([3]int64, error)
}

// A Budget bounds what all requests that are paid from it may cost in a window
// of time, in whatever process.
type Budget struct {
	Name   string // in refusals: "tenant"
	Key    string
	Window time.Duration
	Most   Amount
	Meter  Meter // one that fails binds nobody
}

type budgetKey struct{}

// WithBudgets returns a context whose requests are paid from all of budgets,
// besides those that ctx has. When one is used up they are refused for [ReasonBudget]. An answer that was
// paid for is never refused: it may overdraw.
func WithBudgets(ctx context.Context, budgets ...Budget) context.Context {
	had, _ := ctx.Value(budgetKey{}).([]Budget)
	return context.WithValue(ctx, budgetKey{}, slices.Concat(had, budgets))
}

// Pay takes from the budgets of ctx for a request that does not go out by a
// [Client]. Its error is a [*Refusal], for [ReasonBudget].
func Pay(ctx context.Context, host string, bytes int64) error { return spend(ctx, host, bytes) }

// spend pays for a request before it is sent.
func spend(ctx context.Context, host string, bytes int64) error {
	budgets, _ := ctx.Value(budgetKey{}).([]Budget)
	for _, b := range budgets {
		if what := b.spend(ctx, Amount{Calls: 1, Bytes: bytes}); what != "" {
			return &Refusal{Reason: ReasonBudget, Host: host, Budget: b.Name + "." + what}
		}
	}
	return nil
}

// settle pays for what came of a request.
func settle(ctx context.Context, bytes int64, took time.Duration) {
	budgets, _ := ctx.Value(budgetKey{}).([]Budget)
	for _, b := range budgets {
		b.spend(context.WithoutCancel(ctx), Amount{Bytes: bytes, Time: took})
	}
}

// spend returns what is used up, "" for nothing.
func (b Budget) spend(ctx context.Context, a Amount) string {
	sums, err := b.Meter.Spend(ctx, b.Key, b.Window, [3]int64{a.Calls, a.Bytes, a.Time.Milliseconds()})
	if err != nil {
		return ""
	}
	most := [3]int64{b.Most.Calls, b.Most.Bytes, b.Most.Time.Milliseconds()}
	for i, what := range [3]string{"calls", "bytes", "seconds"} {
		if most[i] > 0 && sums[i] > most[i] {
			return what
		}
	}
	return ""
}

// maxMetered bounds the keys of a [LocalMeter]; beyond, all is forgotten:
// rather too mild than without bound.
const maxMetered = 10_000

// A LocalMeter sums for one process, and for itself alone where Shared fails.
// The zero value is ready; it is safe for use by several goroutines.
type LocalMeter struct {
	Shared Meter // asked first; nil: none

	mu   sync.Mutex
	sums map[string]metered
}

type metered struct {
	sums  [3]int64
	until time.Time
}

// Spend implements [Meter]. It does not fail.
func (m *LocalMeter) Spend(ctx context.Context, key string, window time.Duration, amounts [3]int64) ([3]int64, error) {
	if m.Shared != nil {
		if sums, err := m.Shared.Spend(ctx, key, window, amounts); err == nil {
			return sums, nil
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	s, ok := m.sums[key]
	if !ok || !now.Before(s.until) {
		s = metered{until: now.Add(window)}
		if len(m.sums) >= maxMetered || m.sums == nil {
			m.sums = map[string]metered{}
		}
	}
	for i, n := range amounts {
		s.sums[i] += n
	}
	m.sums[key] = s
	return s.sums, nil
}
