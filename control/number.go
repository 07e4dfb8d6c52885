package control

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
)

// A Number is a telephone number and the agent who answers it.
type Number struct {
	ID        uuid.UUID
	E164      string // with the plus; unique over all tenants
	Agent     uuid.UUID
	CreatedAt time.Time
}

// NumberStore keeps numbers.
type NumberStore interface {
	// LocateNumber returns the tenant and the agent's id of a number.
	LocateNumber(ctx context.Context, e164 string) (Located, error)
	Numbers(ctx context.Context, p Page) ([]Number, error)
	// InsertNumber fails with ErrConflict if the number has an agent, be it
	// another tenant's.
	InsertNumber(ctx context.Context, n Number) error
}

// Numbers is the service of numbers.
type Numbers struct {
	Store  NumberStore
	Agents AgentStore
}

var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// Create gives a number to an agent of the tenant.
func (s *Numbers) Create(ctx context.Context, number string, agent uuid.UUID) (Number, error) {
	if err := RefuseSecret("number", number); err != nil {
		return Number{}, err
	}
	if !e164.MatchString(number) {
		return Number{}, Invalidf("number", "must be E.164: a plus and 7 to 15 digits")
	}
	if _, err := s.Agents.Agent(ctx, agent); err != nil {
		return Number{}, Invalidf("agent_id", "must name an agent")
	}
	n := Number{ID: NewID(), E164: number, Agent: agent, CreatedAt: time.Now().UTC()}
	if err := s.Store.InsertNumber(ctx, n); err != nil {
		return Number{}, fmt.Errorf("create number: %w", err)
	}
	return n, nil
}
