package outbound

import (
	"context"

	"github.com/google/uuid"
)

// Fraud watches whom a tenant calls for the patterns of toll fraud: numbers that
// charge whoever rings, many at once, many countries, one number after the other.
type Fraud interface {
	// Stopped tells whether the outbound calls of ctx's tenant are stopped.
	Stopped(ctx context.Context) bool
	// Ordered tells that ctx's tenant wants a callee called, and returns whether
	// its outbound calls are stopped for it.
	Ordered(ctx context.Context, c Callee, dial uuid.UUID) (stopped bool)
}

// Block is the hundred numbers that the number is one of.
func (c Callee) Block() string { return c.Number[:max(0, len(c.Number)-2)] }
