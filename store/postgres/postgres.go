// Package postgres keeps the control plane's rows in PostgreSQL.
//
// Every statement that touches a tenant's rows runs in a transaction that has
// set app.tenant from the context; row security, forced on every table, shows
// that tenant's rows and no other. Outside of it a query returns nothing. The
// functions locate_* look over all tenants and return ids only.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"

	"parley/control"
)

// A Store implements the storage interfaces of package control.
type Store struct {
	pool    *pgxpool.Pool
	direct  *pgx.ConnConfig       // of the connection that listens
	quiet   time.Duration         // of that connection
	written chan struct{}         // holds one: see Written
	order   *river.Client[pgx.Tx] // puts jobs into transactions

	prices      []control.Price // built in
	sealer      control.Sealer  // nil: texts are written in clear
	keysChanged []func()
}

// Options tunes the pool of connections; the zero value is good.
type Options struct {
	MaxConns int32         // default 20
	Connect  time.Duration // longest dial; default 3 s
	// Statement ends one that runs longer, in the server. Default 15 s.
	Statement time.Duration
	// Listen is the address for notifications, without a transaction pooler
	// between. Default: the Store's.
	Listen string
	// ListenQuiet is how long the connection for notifications may be silent
	// before it is asked whether it still stands. Default 20 s.
	ListenQuiet time.Duration
	// Tracer is told of every query; nil: nobody. It may implement
	// [pgx.BatchTracer] too.
	Tracer pgx.QueryTracer
}

// Open returns a Store that connects as the application role when it is
// needed. It fails on a bad address only; [Store.Ping] tells whether the
// server answers, [Store.Verify] whether it is safe to work with.
func Open(ctx context.Context, url string, o Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("open postgres: the address is malformed") // the cause would repeat the password
	}
	direct, err := pgx.ParseConfig(orDefault(o.Listen, url))
	if err != nil {
		return nil, errors.New("open postgres: the address for notifications is malformed")
	}
	direct.ConnectTimeout = orDefault(o.Connect, 3*time.Second)
	cfg.MaxConns = orDefault(o.MaxConns, 20)
	cfg.ConnConfig.ConnectTimeout = orDefault(o.Connect, 3*time.Second)
	cfg.ConnConfig.Tracer = o.Tracer
	rt := cfg.ConnConfig.RuntimeParams
	rt["application_name"] = "parley"
	rt["statement_timeout"] = fmt.Sprint(orDefault(o.Statement, 15*time.Second).Milliseconds())
	rt["jit"] = "off" // compiling our queries takes longer than running them
	rt["idle_in_transaction_session_timeout"] = "10000"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open postgres: %w", err)
	}
	order, err := newOrders()
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("open postgres: %w", err)
	}
	prices, err := control.BuiltInPrices()
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("open postgres: read the built-in prices: %w", err)
	}
	return &Store{prices: prices, pool: pool, direct: direct, quiet: orDefault(o.ListenQuiet, listenQuiet), written: make(chan struct{}, 1), order: order}, nil
}

func orDefault[T comparable](v, d T) T {
	var zero T
	if v == zero {
		return d
	}
	return v
}

// Ping asks the server for an answer.
func (s *Store) Ping(ctx context.Context) error { return s.pool.Ping(ctx) }

// Close ends all connections and waits for those in use.
func (s *Store) Close() { s.pool.Close() }

// problem maps the driver's errors to the domain's, once.
func problem(err error) error {
	var pg *pgconn.PgError
	var network net.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pgx.ErrNoRows):
		return control.ErrNotFound
	case errors.As(err, &pg):
		switch {
		case pg.Code == "23505": // unique_violation
			// No revision would let it pass, unlike a conflict without a reason.
			return fmt.Errorf("%s: %w", pg.ConstraintName, control.Refuse(control.ErrConflict, "there is one like it already: choose another name, or read it again"))
		case pg.Code == "40001", pg.Code == "40P01": // serialization_failure, deadlock_detected
			return fmt.Errorf("%w: %s", control.ErrConflict, pg.Code)
		case pg.Code[:2] == "08", pg.Code[:2] == "53", pg.Code[:3] == "57P", pg.Code == "57014": // connection, resources, shutdown, time limit
			return fmt.Errorf("%w: %w", control.ErrUnavailable, err)
		case pg.Code == "22P05", pg.Code == "22021", pg.Code == "22P02", pg.Code == "22003": // U+0000, half a character, no bounds
			return &control.Invalid{Field: "body", Reason: "holds a character or a number that cannot be stored"}
		}
		// The detail may hold a row's values; the code and the constraint say enough.
		return fmt.Errorf("postgres: %s (SQLSTATE %s) %s", pg.Message, pg.Code, pg.ConstraintName)
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &network), pgconn.SafeToRetry(err), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, new(*pgconn.ConnectError)),
		// A connection cut in the middle of an answer: what it was about may be
		// done or not, which is why all that is tried again is idempotent.
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return fmt.Errorf("%w: %w", control.ErrUnavailable, err)
	}
	return err
}

var errNoTenant = errors.New("postgres: the context has no tenant")

// setTenant says, for the transaction, whose rows are seen, and what its audit
// entries say of who asked.
const setTenant = `SELECT set_config('app.tenant', $1, true), set_config('app.actor', $2, true), set_config('app.request', $3, true)`

// batch returns a batch that begins with setting the tenant of ctx. The
// server runs a batch as one transaction: nothing in it may begin or end one.
func batch(ctx context.Context) (*pgx.Batch, uuid.UUID, error) {
	t, ok := control.TenantOf(ctx)
	if !ok {
		return nil, t, errNoTenant
	}
	b := new(pgx.Batch)
	b.Queue(setTenant, t.String(), control.ActorOf(ctx), control.RequestOf(ctx))
	return b, t, nil
}

// A sender is the pool, or the transaction that a context is part of.
type sender interface {
	SendBatch(context.Context, *pgx.Batch) pgx.BatchResults
	Begin(context.Context) (pgx.Tx, error)
}

type txKey struct{}

// joined returns ctx for work that is part of tx.
func joined(ctx context.Context, tx pgx.Tx) context.Context {
	return context.WithValue(ctx, txKey{}, tx)
}

func (s *Store) sender(ctx context.Context) sender {
	if tx, ok := ctx.Value(txKey{}).(pgx.Tx); ok {
		return tx
	}
	return s.pool
}

// send runs b in one round trip and returns the first error.
func (s *Store) send(ctx context.Context, b *pgx.Batch) error {
	return problem(s.sender(ctx).SendBatch(ctx, b).Close())
}

// rows runs q as the tenant of ctx, in one round trip: set_config, then q.
func rows[T any](ctx context.Context, s *Store, scan pgx.RowToFunc[T], q string, args ...any) ([]T, error) {
	b, _, err := batch(ctx)
	if err != nil {
		return nil, err
	}
	var got []T
	b.Queue(q, args...).Query(func(r pgx.Rows) (err error) {
		got, err = pgx.CollectRows(r, scan)
		return err
	})
	if err := s.send(ctx, b); err != nil {
		return nil, err
	}
	return got, nil
}

// one is rows for exactly one; none is control.ErrNotFound.
func one[T any](ctx context.Context, s *Store, scan pgx.RowToFunc[T], q string, args ...any) (T, error) {
	got, err := rows(ctx, s, scan, q, args...)
	if err == nil && len(got) == 0 {
		err = control.ErrNotFound
	}
	if err != nil {
		var zero T
		return zero, err
	}
	return got[0], nil
}

// exec runs q as the tenant of ctx and returns how many rows it changed.
func exec(ctx context.Context, s *Store, q string, args ...any) (int64, error) {
	b, _, err := batch(ctx)
	if err != nil {
		return 0, err
	}
	var n int64
	b.Queue(q, args...).Exec(func(ct pgconn.CommandTag) error {
		n = ct.RowsAffected()
		return nil
	})
	return n, s.send(ctx, b)
}

// tx runs fn in one transaction of the tenant of ctx, for what takes several
// statements that depend on each other.
func (s *Store) tx(ctx context.Context, fn func(pgx.Tx, uuid.UUID) error) error {
	t, ok := control.TenantOf(ctx)
	if !ok {
		return errNoTenant
	}
	return problem(pgx.BeginFunc(ctx, s.sender(ctx), func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, setTenant, t.String(), control.ActorOf(ctx), control.RequestOf(ctx)); err != nil {
			return err
		}
		return fn(tx, t)
	}))
}

// locate calls one of the functions that look over all tenants.
func (s *Store) locate(ctx context.Context, q string, args ...any) (control.Located, error) {
	r, err := s.pool.Query(ctx, q, args...)
	if err != nil {
		return control.Located{}, problem(err)
	}
	l, err := pgx.CollectExactlyOneRow(r, pgx.RowToStructByPos[control.Located])
	return l, problem(err)
}

// locateAll is locate for a list.
func (s *Store) locateAll(ctx context.Context, q string, args ...any) ([]control.Located, error) {
	r, err := s.pool.Query(ctx, q, args...)
	if err != nil {
		return nil, problem(err)
	}
	l, err := pgx.CollectRows(r, pgx.RowToStructByPos[control.Located])
	return l, problem(err)
}

// limit keeps a page between 1 and 200 rows.
func limit(p control.Page) int { return min(max(orDefault(p.Limit, 50), 1), 200) }

// after is the id to go on from, or null for the first page.
func after(p control.Page) *uuid.UUID { return nullable(p.After) }

func nullable(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

func orNil(id *uuid.UUID) uuid.UUID {
	if id == nil {
		return uuid.Nil
	}
	return *id
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}

func nullTime(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
