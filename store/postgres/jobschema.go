package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
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
	// riverEnum is the last version before those that use a value which it
	// added to a type: that takes a transaction of its own.
	riverEnum = 5

	// The application works jobs and cannot alter what they lie in.
	// A conversation's task is the worker that does its asynchronous effect.
	jobsUp = `
		GRANT SELECT, INSERT, UPDATE, DELETE ON river_job, river_leader, river_queue, river_notification TO parley_app;
		GRANT USAGE ON SEQUENCE river_job_id_seq, river_notification_id_seq TO parley_app;
		ALTER TABLE conversations ADD task uuid;`
	jobsDown = `ALTER TABLE conversations DROP task;`
)

// goMigrations are the steps that are no SQL file.
func goMigrations() []*goose.Migration {
	return []*goose.Migration{goose.NewGoMigration(jobsMigration,
		&goose.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error {
			err := withRiver(ctx, db, func(tx pgx.Tx, m *rivermigrate.Migrator[pgx.Tx]) error { return riverUp(ctx, tx, m, riverEnum) })
			if err != nil {
				return err
			}
			return withRiver(ctx, db, func(tx pgx.Tx, m *rivermigrate.Migrator[pgx.Tx]) error {
				if err := riverUp(ctx, tx, m, riverVersion); err != nil {
					return err
				}
				return execAll(ctx, tx, jobsUp)
			})
		}},
		&goose.GoFunc{RunDB: func(ctx context.Context, db *sql.DB) error {
			return withRiver(ctx, db, func(tx pgx.Tx, m *rivermigrate.Migrator[pgx.Tx]) error {
				if err := execAll(ctx, tx, jobsDown); err != nil {
					return err
				}
				_, err := m.MigrateTx(ctx, tx, rivermigrate.DirectionDown, &rivermigrate.MigrateOpts{TargetVersion: -1}) // all of it
				return err
			})
		}},
	)}
}

// riverUp brings River's schema to a version. What is there already stays.
func riverUp(ctx context.Context, tx pgx.Tx, m *rivermigrate.Migrator[pgx.Tx], version int) error {
	have, err := m.ExistingVersionsTx(ctx, tx)
	if err != nil || len(have) > 0 && have[len(have)-1].Version >= version {
		return err
	}
	_, err = m.MigrateTx(ctx, tx, rivermigrate.DirectionUp, &rivermigrate.MigrateOpts{TargetVersion: version})
	return err
}

// withRiver runs fn in one transaction of a connection of db.
func withRiver(ctx context.Context, db *sql.DB, fn func(pgx.Tx, *rivermigrate.Migrator[pgx.Tx]) error) error {
	m, err := rivermigrate.New(riverpgxv5.New(nil), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return fmt.Errorf("migrate the queue: %w", err)
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("migrate the queue: %w", err)
	}
	defer conn.Close()
	return conn.Raw(func(driver any) error {
		err := pgx.BeginFunc(ctx, driver.(*stdlib.Conn).Conn(), func(tx pgx.Tx) error { return fn(tx, m) })
		if err != nil {
			return fmt.Errorf("migrate the queue: %w", err)
		}
		return nil
	})
}

func execAll(ctx context.Context, tx pgx.Tx, statements string) error {
	for _, q := range strings.Split(statements, ";") {
		if strings.TrimSpace(q) == "" {
			continue
		}
		if _, err := tx.Exec(ctx, q); err != nil {
			return err
		}
	}
	return nil
}
