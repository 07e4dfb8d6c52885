package postgres

import (
	"cmp"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// A Migration is one step of the schema.
type Migration struct {
	Version int64
	Name    string
	Applied bool
}

// MigrateUp brings the schema to the newest version, as the role that owns it,
// over a direct connection. Many may run it at once: one does, the others wait.
func MigrateUp(ctx context.Context, url string) error {
	err := withGoose(url, func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return grantReading(ctx, url)
}

// MigrateDown takes the newest step back.
func MigrateDown(ctx context.Context, url string) error {
	return withGoose(url, func(p *goose.Provider) error {
		_, err := p.Down(ctx)
		return err
	})
}

// MigrateStatus lists all steps, oldest first.
func MigrateStatus(ctx context.Context, url string) ([]Migration, error) {
	var list []Migration
	err := withGoose(url, func(p *goose.Provider) error {
		all, err := p.Status(ctx)
		for _, m := range all {
			list = append(list, Migration{m.Source.Version, cmp.Or(m.Source.Path, "(jobs)"), m.State == goose.StateApplied})
		}
		return err
	})
	return list, err
}

func withGoose(url string, fn func(*goose.Provider) error) error {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return errors.New("migrate: the address is malformed")
	}
	db := sql.OpenDB(stdlib.GetConnector(*cfg))
	defer db.Close()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 120))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, sub, goose.WithSessionLocker(locker),
		goose.WithGoMigrations(goMigrations(url)...))
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	if err := fn(p); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// newestMigration is the version that this program was built for.
func newestMigration() int64 {
	entries, _ := migrations.ReadDir("migrations") // embedded: cannot fail
	newest := int64(jobsMigration)
	for _, e := range entries {
		v, err := goose.NumericComponent(e.Name())
		if err == nil {
			newest = max(newest, v)
		}
	}
	return newest
}

// An Unsafe database is one that the program refuses to work with.
type Unsafe struct{ Why, Cure string }

// Error implements error.
func (e *Unsafe) Error() string { return e.Why + "; " + e.Cure }

// withoutTenant lists tables that need no row security, each with the reason.
var withoutTenant = map[string]string{
	"goose_db_version":   "the schema's own version; the application may only read it",
	"river_job":          "jobs are fetched by whichever worker is free; they hold ids alone, their tenant's among them",
	"river_leader":       "which process looks after the queue",
	"river_migration":    "the queue's own version; the application may only read it",
	"river_notification": "wake-ups of workers; they hold names of queues",
	"river_queue":        "the queues by name",
	"signing_keys":       "from when on tokens are signed with which key, for all tenants; the keys are derived from the root and not in it",
}

// Verify refuses a database whose walls do not stand: a role that may step
// over row security or owns what it guards, a table without it, a schema of
// another version. The error is an [*Unsafe], or control.ErrUnavailable.
func (s *Store) Verify(ctx context.Context) error {
	if err := s.verifyRole(ctx); err != nil {
		return err
	}
	if err := s.verifyVersion(ctx); err != nil {
		return err
	}
	return s.verifyTables(ctx)
}

func (s *Store) verifyRole(ctx context.Context) error {
	const q = `
		SELECT current_user::text, r.rolsuper, r.rolbypassrls,
		       EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace
		               AND pg_has_role(current_user, c.relowner, 'MEMBER')),
		       EXISTS (SELECT FROM pg_roles o WHERE o.rolname IN ('parley_locate', 'parley_migrate')
		               AND pg_has_role(current_user, o.oid, 'MEMBER'))
		FROM pg_roles r WHERE r.rolname = current_user`
	var name string
	var super, bypass, owner, member bool
	if err := s.pool.QueryRow(ctx, q).Scan(&name, &super, &bypass, &owner, &member); err != nil {
		return fmt.Errorf("check the role: %w", problem(err))
	}
	cure := "connect as a role like parley_app: no superuser, no BYPASSRLS, owner of nothing"
	switch {
	case super:
		return &Unsafe{"the database role " + name + " is a superuser, whom row-level security does not bind", cure}
	case bypass:
		return &Unsafe{"the database role " + name + " has BYPASSRLS", cure}
	case owner:
		return &Unsafe{"the database role " + name + " owns tables, or may act as who does", cure}
	case member:
		return &Unsafe{"the database role " + name + " may act as parley_migrate or parley_locate", cure}
	}
	return nil
}

func (s *Store) verifyVersion(ctx context.Context) error {
	var have int64
	var there bool
	err := s.pool.QueryRow(ctx, `SELECT to_regclass('public.goose_db_version') IS NOT NULL`).Scan(&there)
	if err == nil && there {
		err = s.pool.QueryRow(ctx, `SELECT coalesce(max(version_id), 0) FROM goose_db_version WHERE is_applied`).Scan(&have)
	}
	if err != nil {
		return fmt.Errorf("check the schema's version: %w", problem(err))
	}
	switch want := newestMigration(); {
	case have < want:
		return &Unsafe{fmt.Sprintf("the schema is at version %d, this program needs %d", have, want), "run `parley migrate up`"}
	case have > want:
		return &Unsafe{fmt.Sprintf("the schema is at version %d, newer than this program's %d", have, want), "run the newer program, or `parley migrate down` with it"}
	}
	return nil
}

func (s *Store) verifyTables(ctx context.Context) error {
	const q = `
		SELECT c.relname FROM pg_class c
		WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')
		  AND NOT (c.relrowsecurity AND c.relforcerowsecurity
		           AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'tenant'))
		ORDER BY 1`
	r, err := s.pool.Query(ctx, q)
	if err != nil {
		return fmt.Errorf("check row-level security: %w", problem(err))
	}
	bare, err := pgx.CollectRows(r, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("check row-level security: %w", problem(err))
	}
	for _, table := range bare {
		if _, ok := withoutTenant[table]; !ok {
			return &Unsafe{"table " + table + " has no forced row-level security with a tenant's policy", "run `parley migrate up`, or take the table out of this database"}
		}
	}
	return nil
}
