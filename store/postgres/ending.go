package postgres

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent"
	"parley/control"
)

// ending is change for what ends a call: what its line cost is entered, and what
// comes after the call is ordered, in the same transaction.
func (s *Store) ending(ctx context.Context, what string, h control.Hold, set string, args ...any) (c control.Call, err error) {
	err = s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) (err error) {
		in := joined(ctx, tx)
		if c, err = s.change(in, what, h, set, args...); err != nil {
			return err
		}
		if err := s.carried(in, c); err != nil {
			return err
		}
		return s.orderAfterwork(in, tx, c)
	})
	if err == nil {
		s.wrote() // before, nobody saw it
	}
	return c, err
}

// carried enters the time for which a call's line was open. A call that comes
// back and ends again has been longer.
func (s *Store) carried(ctx context.Context, c control.Call) error {
	if c.AnsweredAt.IsZero() || c.EndedAt.IsZero() {
		return nil
	}
	long := max(c.EndedAt.Sub(c.AnsweredAt), time.Millisecond)
	u := agent.Use{Kind: control.UseCarried, Vendor: c.Carrier, Model: c.Direction, Amount: long.Milliseconds()}
	return s.WriteUsage(ctx, control.Hold{Call: c.ID}, control.NoTurn, []agent.Use{u}, c.EndedAt)
}
