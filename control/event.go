package control

import (
	"cmp"
	"context"
	_ "embed" // the schema
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
)

// An Event is one change of a session, a call or a webhook. Storage writes it
// in the transaction of the change, and it never changes.
type Event struct {
	ID      int64     // stable; what receivers know the event by
	Session uuid.UUID // what it happened to: a session, a call (the ids are the same), or a webhook
	Seq     int64     // counts from 1 in its session, without a gap
	Type    string
	Flow    uuid.UUID // zero: none
	User    string
	Data    json.RawMessage // an object, as the event's schema says
	At      time.Time
	// Position is the event's place in its tenant's stream, in the order in
	// which events are read. In one session it grows with Seq.
	Position int64
}

// EventSchema describes events as receivers see them (JSON Schema, 2020-12).
//
//go:embed event.schema.json
var EventSchema string

// EventTypes are the types that the program itself writes. Flows report others.
func EventTypes() []string {
	return []string{"session_started", "node_changed", "session_status_changed", "session_updated", "session_deleted", "session_restored",
		"call_started", "call_status_changed", "call_turn", "call_ended",
		"call_summarized", "call_recording_failed", "webhook_disabled"}
}

// MarshalJSON writes the event as receivers see it; the same event is always
// the same text.
func (e Event) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID        string          `json:"id"`
		Type      string          `json:"event_type"`
		Timestamp float64         `json:"timestamp"` // seconds since 1970
		Session   uuid.UUID       `json:"session_id"`
		Seq       int64           `json:"sequence"`
		Flow      *uuid.UUID      `json:"flow_id"`
		User      *string         `json:"user_id"`
		Data      json.RawMessage `json:"data"`
	}{strconv.FormatInt(e.ID, 10), e.Type, float64(e.At.UnixMicro()) / 1e6, e.Session, e.Seq,
		some(e.Flow), some(e.User), e.Data})
}

// some is null for a zero value.
func some[T comparable](v T) *T {
	var zero T
	if v == zero {
		return nil
	}
	return &v
}

// An EventFilter narrows events; zero fields do not.
type EventFilter struct {
	Types   []string
	Flow    uuid.UUID
	Session uuid.UUID
}

// EventStore keeps events. LocateX look over all tenants.
type EventStore interface {
	// LocateUnpublished returns tenants with events that have no position yet,
	// and LocateBehind those where a reader has not read all; at most 200.
	LocateUnpublished(ctx context.Context) ([]Located, error)
	LocateBehind(ctx context.Context, reader string) ([]Located, error)
	// PublishEvents gives the oldest events without a position the next ones,
	// and tells every process that listens, after the commit. It returns how
	// many; 0 also where another process is at it.
	PublishEvents(ctx context.Context, most int) (int, error)
	// ReadEvents gives a reader the events after its cursor, in order, and moves
	// the cursor in the transaction in which do's own writes stand: all of both
	// is done, or nothing. The context that do gets is that transaction's; what
	// do does with it must be storage alone. It returns how many events do got;
	// 0 also where another process is at it.
	ReadEvents(ctx context.Context, reader string, most int, do func(context.Context, []Event) error) (int, error)
	// Events returns events with a position greater than after, in order, and
	// the position up to which it has looked.
	Events(ctx context.Context, f EventFilter, after int64, most int) ([]Event, int64, error)
	// SessionEvents returns a session's events with a number greater than after,
	// in order; those too that have no position yet.
	SessionEvents(ctx context.Context, session uuid.UUID, after int64, most int) ([]Event, error)
	// LastEvent returns the tenant's last position.
	LastEvent(ctx context.Context) (int64, error)
	// FirstEvent returns the first position after one whose event is kept; 0 if
	// none is.
	FirstEvent(ctx context.Context, after int64) (int64, error)
	// Written gets a value, without waiting, when this process may have written
	// an event.
	Written() <-chan struct{}
	// Listen calls wake when events were published, by whatever process, and
	// whenever something may have been missed. It returns when ctx ends.
	Listen(ctx context.Context, wake func()) error
}

// An EventReader does something of its own for events, once for each: its
// writes and its cursor are one transaction. One that fails gets the same
// events again, and none after them.
type EventReader struct {
	Name  string   // of its cursor, for ever
	Types []string // that it wants; empty: all
	Read  func(ctx context.Context, events []Event) error
}

// Defaults of [Events].
const (
	eventBatch   = 200             // at most, in one transaction
	eventLook    = 2 * time.Second // between looks for what nobody told of
	eventTenants = 4               // at once
)

// Events publishes what was written, brings it to readers, and wakes those who
// follow. A process that dies between the three loses nothing: every other looks
// for what is left. Run must run in every process.
type Events struct {
	Store   EventStore
	Readers []EventReader
	Log     *slog.Logger
	// Noted is told how many events were published; nil: nobody is.
	Noted func(published int)
	// Batch is the most events of a transaction; default 200. Look is the time
	// between looks for what nobody told of; default 2 s.
	Batch int
	Look  time.Duration

	mu    sync.Mutex
	waits chan struct{} // closed at the next news; nil: nobody waits
}

// Changed returns a channel that is closed once there may be something new.
// Ask for it before you look, and wait on it after.
func (s *Events) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits == nil {
		s.waits = make(chan struct{})
	}
	return s.waits
}

func (s *Events) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waits != nil {
		close(s.waits)
		s.waits = nil
	}
}

// Run works until ctx ends.
func (s *Events) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return s.Store.Listen(ctx, s.wake) })
	g.Go(func() error { s.relay(ctx); return nil })
	return g.Wait()
}

func (s *Events) relay(ctx context.Context) {
	look := time.NewTicker(cmp.Or(s.Look, eventLook))
	defer look.Stop()
	away := false
	for all := true; ; {
		err := s.round(ctx, all)
		if ctx.Err() != nil {
			return
		}
		if err != nil && !(away && errors.Is(err, ErrUnavailable)) {
			s.Log.Error("events wait to be brought on", "error", err)
		}
		away = err != nil
		select {
		case <-ctx.Done():
			return
		case <-s.Store.Written():
			all = false
		case <-look.C:
			all = true
		}
	}
}

// round publishes what there is, and lets readers read it. all looks for what
// another process may have left behind too.
func (s *Events) round(ctx context.Context, all bool) error {
	found, err := s.Store.LocateUnpublished(ctx)
	if err != nil {
		return err
	}
	tenants := map[uuid.UUID]bool{}
	for _, l := range found {
		tenants[l.Tenant] = true
	}
	for _, r := range s.Readers {
		if !all {
			break
		}
		behind, err := s.Store.LocateBehind(ctx, r.Name)
		if err != nil {
			return err
		}
		for _, l := range behind {
			tenants[l.Tenant] = true
		}
	}
	if len(tenants) == 0 {
		return nil
	}
	defer s.wake()
	errs := make(chan error, len(tenants))
	var g errgroup.Group
	g.SetLimit(eventTenants)
	for t := range tenants {
		g.Go(func() error { errs <- s.tenant(WithTenant(ctx, t)); return nil })
	}
	_ = g.Wait()
	close(errs)
	for e := range errs {
		err = errors.Join(err, e)
	}
	return err
}

// tenant brings one tenant's events on, as far as they are written now.
func (s *Events) tenant(ctx context.Context) error {
	batch := cmp.Or(s.Batch, eventBatch)
	for ctx.Err() == nil {
		n, err := s.Store.PublishEvents(ctx, batch)
		if err != nil {
			return err
		}
		if n > 0 && s.Noted != nil {
			s.Noted(n)
		}
		if n < batch {
			break
		}
	}
	var errs error
	for _, r := range s.Readers {
		for ctx.Err() == nil {
			n, err := s.Store.ReadEvents(ctx, r.Name, batch, r.read)
			errs = errors.Join(errs, err)
			if err != nil || n < batch {
				break
			}
		}
	}
	return errs
}

// read hands on what the reader wants.
func (r EventReader) read(ctx context.Context, events []Event) error {
	if len(r.Types) > 0 {
		events = slices.DeleteFunc(events, func(e Event) bool { return !slices.Contains(r.Types, e.Type) })
	}
	if len(events) == 0 {
		return nil
	}
	return r.Read(ctx, events)
}
