package egress

import (
	"context"
	"sync"
)

// A Budget bounds what one piece of work, such as a conversation, may send and
// fetch in all. It is safe for use by several goroutines.
type Budget struct {
	mu       sync.Mutex
	requests int
	bytes    int64
}

// NewBudget allows so many requests, redirects included, and so many bytes of
// bodies both ways.
func NewBudget(requests int, bytes int64) *Budget { return &Budget{requests: requests, bytes: bytes} }

type budgetKey struct{}

// WithBudget returns a context whose requests are paid from b. When it is used
// up they are refused for [ReasonBudget].
func WithBudget(ctx context.Context, b *Budget) context.Context {
	return context.WithValue(ctx, budgetKey{}, b)
}

func (b *Budget) spend(requests int, bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests -= requests
	b.bytes -= bytes
	return b.requests >= 0 && b.bytes >= 0
}

// spend pays for a request before it is sent.
func spend(ctx context.Context, host string, bytes int64) error { return pay(ctx, host, 1, bytes) }

// spendBytes pays for an answer.
func spendBytes(ctx context.Context, host string, bytes int64) error { return pay(ctx, host, 0, bytes) }

func pay(ctx context.Context, host string, requests int, bytes int64) error {
	if b, ok := ctx.Value(budgetKey{}).(*Budget); ok && !b.spend(requests, bytes) {
		return &Refusal{Reason: ReasonBudget, Host: host}
	}
	return nil
}
