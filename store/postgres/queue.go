package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"parley/control"
)

// A Queue works the jobs that all processes have ordered, on connections of its
// own. They must be direct: it listens, which no transaction pooler lets it.
type Queue struct {
	pool   *pgxpool.Pool
	client *river.Client[pgx.Tx]
	log    *slog.Logger
}

// QueueOptions tunes a Queue; zero fields have defaults.
type QueueOptions struct {
	Workers int           // jobs at once in this process; default 32
	Drain   time.Duration // how long jobs may go on when Run ends; default 5 s
	// Longest is when a job is given up, and its process taken for dead soon
	// after. Default 7 minutes: a task makes one call, which takes 5 at most.
	Longest time.Duration
	Log     *slog.Logger // nil: nobody is told
}

const (
	queueAgain  = time.Second     // before a job is looked at again that somebody else is at
	queueReopen = 2 * time.Second // between tries to start, while the database is away
)

// Workers do what was ordered. What they return and when they are asked again is
// said with their orders.
type Workers struct {
	Task      func(context.Context, control.Task) error
	Afterwork func(context.Context, control.AfterworkOrder) error
}

// OpenQueue returns a Queue that has do work. It connects with Run, and fails on
// a bad address only.
func OpenQueue(ctx context.Context, url string, do Workers, o QueueOptions) (*Queue, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("open the queue: the address is malformed") // the cause would repeat the password
	}
	cfg.MaxConns = 4 // fetching, completing, listening, and one to spare
	cfg.ConnConfig.ConnectTimeout = 3 * time.Second
	cfg.ConnConfig.RuntimeParams["application_name"] = "parley-queue"
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	workers := river.NewWorkers()
	river.AddWorker(workers, &taskWorker{do: do.Task})
	river.AddWorker(workers, &afterworkWorker{do: do.Afterwork})
	longest := orDefault(o.Longest, 7*time.Minute)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: orDefault(o.Workers, 32)}},
		Workers:           workers,
		FetchCooldown:     10 * time.Millisecond,
		FetchPollInterval: time.Second,
		JobTimeout:        longest, RescueStuckJobsAfter: longest + time.Minute,
		SoftStopTimeout: orDefault(o.Drain, 5*time.Second),
		// Indexes are the owner's to build again, whom the application is not.
		ReindexerSchedule: river.NeverSchedule(),
		Logger:            slog.New(warnings{o.Log.Handler()}),
	})
	if err != nil {
		pool.Close()
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	return &Queue{pool: pool, client: client, log: o.Log}, nil
}

// Run works until ctx ends, then lets jobs at work finish for a while, and
// closes the connections. A database that is away it waits for.
func (q *Queue) Run(ctx context.Context) error {
	defer q.Close()
	for warned := false; ; warned = true {
		err := q.client.Start(ctx)
		if err == nil {
			break
		}
		if ctx.Err() == nil && !warned {
			q.log.Warn("the queue of jobs does not start: asynchronous nodes are done where they are waited for", "error", problem(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(queueReopen):
		}
	}
	<-q.client.Stopped()
	return nil
}

// Close ends the connections of a Queue that does not run. Calling it twice
// does nothing.
func (q *Queue) Close() { q.pool.Close() }

// newOrders returns a client that only puts jobs into transactions.
func newOrders() (*river.Client[pgx.Tx], error) {
	return river.NewClient(riverpgxv5.New(nil), &river.Config{Logger: slog.New(slog.DiscardHandler),
		// Orders sooner after one another wake no worker: they wait for its next look.
		FetchCooldown: river.FetchCooldownMin})
}

// taskArgs are what a job of a task says: names alone, for the table has no
// walls between tenants.
type taskArgs control.Task

// Kind implements [river.JobArgs].
func (taskArgs) Kind() string { return "flow_task" }

// InsertOpts implements [river.JobArgsWithInsertOpts]: a task is ordered once.
func (taskArgs) InsertOpts() river.InsertOpts {
	return river.InsertOpts{MaxAttempts: 8, UniqueOpts: river.UniqueOpts{ByArgs: true}}
}

// taskWorker implements [river.Worker].
type taskWorker struct {
	river.WorkerDefaults[taskArgs]
	do func(context.Context, control.Task) error
}

// Work implements [river.Worker].
func (w *taskWorker) Work(ctx context.Context, job *river.Job[taskArgs]) error {
	err := w.do(ctx, control.Task(job.Args))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil: // the process ends, which is no failure of the job
		return river.JobSnooze(0)
	case errors.Is(err, control.ErrConflict):
		return river.JobSnooze(queueAgain)
	}
	return err
}

// warnings passes on what is worth an operator's eye; River tells much besides.
type warnings struct{ slog.Handler }

// Enabled implements [slog.Handler].
func (w warnings) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelWarn && w.Handler.Enabled(ctx, l)
}

// WithAttrs implements [slog.Handler].
func (w warnings) WithAttrs(a []slog.Attr) slog.Handler { return warnings{w.Handler.WithAttrs(a)} }

// WithGroup implements [slog.Handler].
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }
