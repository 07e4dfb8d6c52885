package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.EventStore = (*Store)(nil)

const eventColumns = `id, session_id, seq, type, flow_id, coalesce(user_id, ''), data, at, coalesce(position, 0)`

func scanEvent(r pgx.CollectableRow) (control.Event, error) {
	var e control.Event
	var flow *uuid.UUID
	err := r.Scan(&e.ID, &e.Session, &e.Seq, &e.Type, &flow, &e.User, &e.Data, &e.At, &e.Position)
	e.Flow, e.At = orNil(flow), e.At.UTC()
	return e, err
}

// LocateUnpublished implements [control.EventStore].
func (s *Store) LocateUnpublished(ctx context.Context) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_unpublished()`)
}

// LocateBehind implements [control.EventStore].
func (s *Store) LocateBehind(ctx context.Context, reader string) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_behind($1)`, reader)
}

// publisher is the reader that gives positions; its cursor is the last.
const publisher = "publish"

// errElsewhere ends a transaction in which another process was first.
var errElsewhere = errors.New("postgres: another process is at it")

// lockCursor makes a reader's cursor and locks it, without waiting for who has
// it: the claim of all that lies behind it.
func lockCursor(ctx context.Context, tx pgx.Tx, reader string) (position int64, err error) {
	b := new(pgx.Batch)
	b.Queue(`INSERT INTO event_cursors (tenant_id, reader) SELECT current_tenant(), $1
		WHERE NOT EXISTS (SELECT FROM event_cursors WHERE tenant_id = current_tenant() AND reader = $1)
		ON CONFLICT DO NOTHING`, reader)
	b.Queue(`SELECT position FROM event_cursors WHERE tenant_id = current_tenant() AND reader = $1 FOR UPDATE SKIP LOCKED`, reader).
		QueryRow(func(r pgx.Row) error { return r.Scan(&position) })
	err = tx.SendBatch(ctx, b).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		err = errElsewhere
	}
	return position, err
}

// PublishEvents implements [control.EventStore]. Ids of one session are in the
// order of its sequence, and an event is not seen before the one ahead of it:
// both come from the lock of its stream. The cursor's row serializes tenants,
// one by one.
func (s *Store) PublishEvents(ctx context.Context, most int) (int, error) {
	const q = `
		WITH next AS (
			SELECT id, row_number() OVER (ORDER BY id) AS n FROM (
				SELECT id FROM events WHERE tenant_id = current_tenant() AND position IS NULL ORDER BY id LIMIT $2) e
		), placed AS (
			UPDATE events e SET position = $1 + next.n FROM next WHERE e.id = next.id RETURNING e.id
		), counted AS (
			UPDATE event_cursors SET position = $1 + (SELECT count(*) FROM next)
			WHERE tenant_id = current_tenant() AND reader = '` + publisher + `' AND EXISTS (SELECT FROM next)
			RETURNING pg_notify('` + channel + `', '')
		)
		SELECT (SELECT count(*) FROM placed)::int, (SELECT count(*) FROM counted)::int`
	var n int
	err := s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		last, err := lockCursor(ctx, tx, publisher)
		if err != nil {
			return err
		}
		return tx.QueryRow(ctx, q, last, most).Scan(&n, new(int))
	})
	if errors.Is(err, errElsewhere) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("publish events: %w", err)
	}
	return n, nil
}

// ReadEvents implements [control.EventStore].
func (s *Store) ReadEvents(ctx context.Context, reader string, most int, do func(context.Context, []control.Event) error) (int, error) {
	var n int
	err := s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		from, err := lockCursor(ctx, tx, reader)
		if err != nil {
			return err
		}
		r, err := tx.Query(ctx, `SELECT `+eventColumns+` FROM events
			WHERE tenant_id = current_tenant() AND position > $1 ORDER BY position LIMIT $2`, from, most)
		if err != nil {
			return err
		}
		events, err := pgx.CollectRows(r, scanEvent)
		if n = len(events); err != nil || n == 0 {
			return err
		}
		if err := s.openEvents(joined(ctx, tx), events); err != nil {
			return err
		}
		last := events[n-1].Position
		if err := do(joined(ctx, tx), events); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE event_cursors SET position = $2 WHERE tenant_id = current_tenant() AND reader = $1`, reader, last)
		return err
	})
	if errors.Is(err, errElsewhere) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("events for %s: %w", reader, err)
	}
	return n, nil
}

// Events implements [control.EventStore].
func (s *Store) Events(ctx context.Context, f control.EventFilter, after int64, most int) ([]control.Event, int64, error) {
	// What a filter leaves out is looked at as well, so that a seldom event
	// does not cost a read of all that lie between, again and again.
	const q = `
		SELECT ` + eventColumns + ` FROM (
			SELECT * FROM events WHERE tenant_id = current_tenant() AND position > $1 ORDER BY position LIMIT $2) e
		WHERE (cardinality($3::text[]) = 0 OR type = ANY ($3)) AND ($4::uuid IS NULL OR flow_id = $4)
		  AND ($5::uuid IS NULL OR session_id = $5)
		ORDER BY position`
	types := f.Types
	if types == nil {
		types = []string{}
	}
	last, err := s.LastEvent(ctx)
	if err != nil {
		return nil, after, err
	}
	got, err := rows(ctx, s, scanEvent, q, after, most, types, nullable(f.Flow), nullable(f.Session))
	if err == nil {
		err = s.openEvents(ctx, got)
	}
	if err != nil {
		return nil, after, fmt.Errorf("events after %d: %w", after, err)
	}
	seen := max(min(last, after+int64(most)), after)
	if n := len(got); n > 0 {
		seen = max(seen, got[n-1].Position)
	}
	return got, seen, nil
}

// SessionEvents implements [control.EventStore].
func (s *Store) SessionEvents(ctx context.Context, session uuid.UUID, after int64, most int) ([]control.Event, error) {
	const q = `SELECT ` + eventColumns + ` FROM events WHERE session_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`
	got, err := rows(ctx, s, scanEvent, q, session, after, most)
	if err != nil {
		return nil, err
	}
	return got, s.openEvents(ctx, got)
}

// LastEvent implements [control.EventStore].
func (s *Store) LastEvent(ctx context.Context) (int64, error) {
	return one(ctx, s, pgx.RowTo[int64], `SELECT coalesce(max(position), 0) FROM event_cursors
		WHERE tenant_id = current_tenant() AND reader = $1`, publisher)
}

// FirstEvent implements [control.EventStore].
func (s *Store) FirstEvent(ctx context.Context, after int64) (int64, error) {
	return one(ctx, s, pgx.RowTo[int64], `SELECT coalesce(min(position), 0) FROM events
		WHERE tenant_id = current_tenant() AND position > $1`, after)
}

// Written implements [control.EventStore].
func (s *Store) Written() <-chan struct{} { return s.written }

// wrote tells of a change that may have written an event.
func (s *Store) wrote() {
	select {
	case s.written <- struct{}{}:
	default: // told already
	}
}

// channel carries notifications of published events, without data.
const channel = "parley_events"

// Times of the listener.
const (
	listenQuiet = 20 * time.Second // default of Options
	listenAsk   = 5 * time.Second  // at most, for the answer of a quiet connection
	listenFirst = 100 * time.Millisecond
	listenMost  = 10 * time.Second // between attempts to connect
)

// Listen implements [control.EventStore], over one connection of its own. A
// connection that is lost is dialed again, later and later; once it stands,
// wake is called for what was missed.
func (s *Store) Listen(ctx context.Context, wake func()) error {
	wait := listenFirst
	for ctx.Err() == nil {
		began := time.Now()
		s.listen(ctx, wake)
		if time.Since(began) > listenMost {
			wait = listenFirst
		}
		again := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-again.C:
		}
		again.Stop()
		wait = min(2*wait, listenMost)
	}
	return nil
}

// listen listens until the connection is lost.
func (s *Store) listen(ctx context.Context, wake func()) {
	cfg := s.direct.Copy()
	cfg.RuntimeParams["application_name"] = "parley listen"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx)
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel+"; LISTEN "+keyChannel); err != nil {
		return
	}
	s.forgetKeys()
	wake()
	for {
		quiet, cancel := context.WithTimeout(ctx, s.quiet)
		told, err := conn.WaitForNotification(quiet)
		cancel()
		switch {
		case err == nil && told.Channel == keyChannel:
			s.forgetKeys()
		case err == nil:
			wake()
		case ctx.Err() != nil, !errors.Is(err, context.DeadlineExceeded) || conn.IsClosed():
			return
		default:
			ask, cancel := context.WithTimeout(ctx, min(listenAsk, s.quiet))
			err := conn.Ping(ask)
			cancel()
			if err != nil {
				return
			}
		}
	}
}

func (s *Store) forgetKeys() {
	for _, told := range s.keysChanged {
		told()
	}
}
