package identity

import (
	"context"
	"log/slog"
	"time"

	"parley/control"
)

const (
	lapseEvery = time.Hour
	lapseKeep  = 30 * 24 * time.Hour // after their time; the audit trail keeps more
)

// Run deletes sessions, invitations and links that are long past, until ctx
// ends. One process or many may run it.
func (s *Users) Run(ctx context.Context, log *slog.Logger) error {
	tick := time.NewTicker(lapseEvery)
	defer tick.Stop()
	for {
		if err := s.Clean(ctx, time.Now().Add(-lapseKeep)); err != nil && ctx.Err() == nil {
			log.Warn("old sessions stay for another hour", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Clean deletes what expired before.
func (s *Users) Clean(ctx context.Context, before time.Time) error {
	at, err := s.Sessions.LapsedPeople(ctx, before.UTC())
	for _, l := range at {
		if err == nil {
			err = s.Sessions.DeleteLapsed(control.WithTenant(ctx, l.Tenant), before.UTC())
		}
	}
	return err
}
