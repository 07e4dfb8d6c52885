package main

import (
	"context"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
	"parley/control/egress"
)

// afterworks makes of calls what their agents ask for, with the tenant's models.
func (g *gateway) afterworks() *control.Afterworks {
	return &control.Afterworks{Store: g.db, Calls: g.db, Record: g.db, Agents: g.agents, Log: g.log,
		Models: func(ctx context.Context, tenant uuid.UUID, choices []control.VendorChoice) ([]agent.Model, error) {
			return g.desk.vendors.readers(ctx, tenant.String(), choices)
		},
		Pay: func(ctx context.Context, tenant uuid.UUID, bytes int) error {
			ctx = egress.WithBudgets(ctx, g.desk.outside.bounds.budgets(ctx, tenant)...)
			return egress.Pay(ctx, "a model's vendor", int64(bytes))
		},
	}
}

// readerPatience is how long a model that nobody listens to may be silent. A
// form that it fills in comes all at once.
const readerPatience = 90 * time.Second

// readers are models for what nobody waits for on a line. They have breakers of
// their own: that one is slow with a form says nothing of it in a conversation.
func (v *vendors) readers(ctx context.Context, tenant string, choices []control.VendorChoice) ([]agent.Model, error) {
	list, err := v.modelsOf(ctx, tenant, choices, "after_call", readerPatience, v.log)
	if err == nil && len(list) == 0 {
		err = agent.ErrUnavailable
	}
	return list, err
}
