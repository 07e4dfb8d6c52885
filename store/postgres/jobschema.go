package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/pressly/goose/v3"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Step 5 of the schema, the queue of jobs, is River's own migrations and what
// the application needs beside them. River's tables know no tenants; what they
// hold is ids, and each job names its tenant.
const (
	jobsMigration = 5
	// riverVersion is of River's schema. A newer River may need a further step
	// of ours.
	riverVersion = 8

	// The application works jobs and cannot alter what they lie in.
	// A conversation's task is the worker that does its asynchronous effect.
	jobsUp = `
		GRANT SELECT, INSERT, UPDATE, DELETE ON river_job, river_leader, river_queue, river_notification TO parley_app;
		GRANT USAGE ON SEQUENCE river_job_id_seq, river_notification_id_seq TO parley_app;
		ALTER TABLE conversations ADD COLUMN IF NOT EXISTS task uuid;`
	jobsDown = `ALTER TABLE conversations DROP COLUMN IF EXISTS task;`
)

// goMigrations are the steps that are no SQL file. Each may be run again after
// it was broken off.
func goMigrations(url string) []*goose.Migration {
	migrate := func(d rivermigrate.Direction, version int, ours string) *goose.GoFunc {
		return &goose.GoFunc{RunDB: func(ctx context.Context, _ *sql.DB) error { return migrateRiver(ctx, url, d, version, ours) }}
	}
	return []*goose.Migration{goose.NewGoMigration(jobsMigration,
		migrate(rivermigrate.DirectionUp, riverVersion, jobsUp),
		migrate(rivermigrate.DirectionDown, -1, jobsDown), // -1: all of it
	)}
}

// migrateRiver runs River's migrations up to a version, each in its own
// transaction as they must be, then ours.
func migrateRiver(ctx context.Context, url string, d rivermigrate.Direction, version int, ours string) error {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return fmt.Errorf("migrate the queue: %w", err)
	}
	defer pool.Close()
	m, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("migrate the queue: %w", err)
	}
	if _, err := m.Migrate(ctx, d, &rivermigrate.MigrateOpts{TargetVersion: version}); err != nil {
		return fmt.Errorf("migrate the queue: %w", err)
	}
	if _, err := pool.Exec(ctx, ours); err != nil {
		return fmt.Errorf("grant the queue: %w", err)
	}
	return nil
}
