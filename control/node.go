package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

const (
	// drainTime is how long [Calls.Run] waits for records that are not yet
	// written when the program ends.
	drainTime = 5 * time.Second

	// reconnects is how many of a vanished process's calls are brought back at
	// once.
	reconnects = 16
)

// Run renews the leases of the calls served here, and takes up those of
// processes that have vanished, until ctx ends. Then it waits for what is still
// to be written, for 5 s at most, and spools the rest. End it after all
// sessions have ended.
func (s *Calls) Run(ctx context.Context) error {
	var loops sync.WaitGroup
	loops.Go(func() { every(ctx, s.lease()/renewals, s.renew) })
	loops.Go(func() { every(ctx, s.lease()/looks, (&watch{calls: s}).look) })
	loops.Go(func() { s.hearCommands(ctx) })
	loops.Wait()
	defer s.asks.Wait()
	return s.drain()
}

// every does something at once, and then again and again until ctx ends. Each
// time has a period's time.
func every(ctx context.Context, period time.Duration, do func(context.Context)) {
	t := time.NewTicker(period)
	defer t.Stop()
	for {
		turn, cancel := context.WithTimeout(ctx, period)
		do(turn)
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// renew says that this process lives and serves its calls. Those that another
// process has claimed since end here.
func (s *Calls) renew(ctx context.Context) {
	s.mu.Lock()
	byTenant := map[uuid.UUID][]Hold{}
	ids := make([]uuid.UUID, 0, len(s.served))
	for id, v := range s.served {
		byTenant[v.Call.Tenant] = append(byTenant[v.Call.Tenant], v.Call.Hold())
		ids = append(ids, id)
	}
	s.mu.Unlock()
	s.note(ctx, ids...)
	for tenant, holds := range byTenant {
		held, err := s.Changes.RenewCalls(WithTenant(ctx, tenant), s.Node, holds, s.lease())
		if err != nil {
			s.Log.Warn("renew the leases of calls", "error", err)
			return
		}
		s.drop(holds, held)
		s.bring(WithTenant(ctx, tenant), s.listening(held))
		s.obey(WithTenant(ctx, tenant), held)
		s.notePhases(WithTenant(ctx, tenant), held)
	}
}

// note tells the registry of live calls, which may be away.
func (s *Calls) note(ctx context.Context, ids ...uuid.UUID) {
	if s.Live == nil || len(ids) == 0 {
		return
	}
	if err := s.Live.SetLive(ctx, s.lease(), ids...); err != nil && ctx.Err() == nil {
		s.Log.Warn("note live calls", "error", err)
	}
	for _, id := range ids { // one that ended meanwhile would stay until it lapses
		if s.serving(id) == nil {
			_ = s.Live.Ended(ctx, id)
		}
	}
}

// drop ends the sessions of calls whose hold is lost.
func (s *Calls) drop(holds []Hold, held []uuid.UUID) {
	still := make(map[uuid.UUID]bool, len(held))
	for _, id := range held {
		still[id] = true
	}
	for _, h := range holds {
		if v := s.serving(h.Call); v != nil && v.Call.Generation == h.Generation && !still[h.Call] {
			v.Hangup("taken") // once it has ended by itself, this does nothing
		}
	}
}

// A watch looks for calls that dead processes left open.
type watch struct {
	calls *Calls
	sound time.Time // since when storage has answered; zero: it does not
}

// look takes up calls whose lease has lapsed. After storage was away, and after
// a start, it waits for a lease's time: others must renew theirs first.
func (w *watch) look(ctx context.Context) {
	s, now := w.calls, time.Now()
	if s.waits() {
		if err := s.Recover(ctx); err != nil {
			s.Log.Warn("records of an earlier process wait for storage", "error", err)
		}
	}
	lapsed, err := s.Store.LocateStaleCalls(ctx, now.UTC(), now.UTC().Add(-callMissed))
	if err != nil {
		w.sound = time.Time{}
		s.Log.Warn("look for calls of dead processes", "error", err)
		return
	}
	if w.sound.IsZero() {
		w.sound = now
	}
	if now.Sub(w.sound) < s.lease() {
		return
	}
	var back errgroup.Group
	back.SetLimit(reconnects)
	defer back.Wait() // its functions return no error
	for _, at := range lapsed {
		if s.serving(at.ID) != nil {
			continue
		}
		c, err := s.lapse(WithTenant(ctx, at.Tenant), at.ID)
		if err != nil {
			if !errors.Is(err, ErrConflict) && !errors.Is(err, ErrEnded) { // another was first
				s.Log.Warn("close a call of a dead process", "call", at.ID, "error", err)
			}
			continue
		}
		s.Log.Warn("closed a call that nobody serves", "call", c.ID, "reason", c.EndReason)
		if c.EndReason == "crashed" && c.CarrierCallID != "" && s.Carrier != nil {
			back.Go(func() error { s.reconnect(ctx, c); return nil })
		}
	}
}

// lapse closes one call that nobody serves.
func (s *Calls) lapse(ctx context.Context, id uuid.UUID) (Call, error) {
	c, err := s.Store.Call(ctx, id)
	if err != nil {
		return c, err
	}
	now := time.Now().UTC()
	switch c.Status {
	case CallActive:
		if s.Live != nil {
			if alive, err := s.Live.Alive(ctx, id); err == nil && alive {
				return c, fmt.Errorf("%w: its process lives, and does not reach the database", ErrConflict)
			}
		}
		return s.Changes.LapseCall(ctx, id, now)
	case CallArrived:
		return s.Changes.EndCall(ctx, Hold{Call: id}, "missed", now)
	case CallTransferring: // for a day
		return s.Changes.EndCall(ctx, Hold{Call: id}, "crashed", now)
	}
	return c, ErrEnded
}

// reconnect brings back a caller whose process has vanished without closing
// its sockets: nothing else would tell the carrier.
func (s *Calls) reconnect(ctx context.Context, c Call) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	switch err := insist(ctx, func(ctx context.Context) error { return s.Carrier.Reconnect(ctx, c) }); {
	case err != nil:
		s.Log.Error("a caller whose process vanished could not be brought back", "call", c.ID, "error", err)
	default:
		s.Log.Info("brought back a caller whose process vanished", "call", c.ID)
	}
}

// CloseAll closes all calls that are open: for a start that knows of no other
// process on this database. It returns how many it closed.
func (s *Calls) CloseAll(ctx context.Context) (int, error) {
	now := time.Now().UTC()
	open, err := s.Store.LocateStaleCalls(ctx, now.Add(time.Hour), now)
	if err != nil {
		return 0, fmt.Errorf("find open calls: %w", err)
	}
	for n, at := range open {
		ctx := WithTenant(ctx, at.Tenant)
		c, err := s.Store.Call(ctx, at.ID)
		if err != nil {
			return n, err
		}
		reason := "crashed"
		if c.Status == CallArrived {
			reason = "missed"
		}
		if _, err := s.Changes.EndCall(ctx, Hold{Call: at.ID}, reason, now); err != nil {
			return n, fmt.Errorf("close an open call: %w", err)
		}
	}
	return len(open), nil
}

// drain waits for the journals, and spools what they could not write.
func (s *Calls) drain() error {
	stop := time.AfterFunc(drainTime, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, v := range s.served {
			v.Journal.abandon()
		}
	})
	defer stop.Stop()
	s.journals.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.left) == 0 {
		return nil
	}
	if err := s.spool(s.left); err != nil {
		return err
	}
	s.Log.Warn("records of calls are kept in a file until the next start: storage is away", "file", s.Spool, "records", len(s.left))
	return nil
}
