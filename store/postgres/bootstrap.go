package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Roles of the database. Migrate owns the schema, App works in it, Locate owns
// the functions that look over all tenants and cannot log in. Read is for who
// reports: it is granted to a login of theirs.
const (
	RoleMigrate = "parley_migrate"
	RoleApp     = "parley_app"
	RoleLocate  = "parley_locate"
	RoleRead    = "parley_read"
)

// Passwords of the roles that log in; "" leaves a role as it is (peer
// authentication needs none).
type Passwords struct{ Migrate, App string }

// bootstrapLock is the advisory lock under which roles are made.
const bootstrapLock = 0x7061726c6579 // "parley"

// Bootstrap makes the roles and gives them their place in the database that
// superURL names. It may be run again, and by many at once. It does not touch
// the schema: [MigrateUp] as parley_migrate does.
func Bootstrap(ctx context.Context, superURL string, pw Passwords) error {
	conn, err := connect(ctx, superURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(bootstrapLock)); err != nil {
			return fmt.Errorf("wait for another start: %w", err)
		}
		for _, sql := range bootstrapSQL(pw, conn.Config().Database) {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return fmt.Errorf("make the database roles: %w", problem(err))
			}
		}
		return nil
	})
}

func bootstrapSQL(pw Passwords, database string) []string {
	db := pgx.Identifier{database}.Sanitize()
	// Attributes are set again each time: a role that somebody raised is lowered.
	const plain = ` NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION`
	sql := []string{
		makeRole(RoleLocate), `ALTER ROLE parley_locate NOLOGIN` + plain,
		makeRole(RoleMigrate), `ALTER ROLE parley_migrate LOGIN NOINHERIT` + plain,
		makeRole(RoleApp), `ALTER ROLE parley_app LOGIN` + plain,
		makeRole(RoleRead), `ALTER ROLE parley_read NOLOGIN` + plain,
		// Owners of functions are set by a member; NOINHERIT keeps the member
		// from seeing over the tenants' walls by it.
		`GRANT parley_locate TO parley_migrate`,
		`CREATE EXTENSION IF NOT EXISTS btree_gin WITH SCHEMA public`, // indexes of a tenant's texts
		`REVOKE CREATE ON SCHEMA public FROM PUBLIC`,
		`GRANT USAGE ON SCHEMA public TO parley_app, parley_read`,
		`GRANT USAGE, CREATE ON SCHEMA public TO parley_migrate, parley_locate`,
		`GRANT CONNECT ON DATABASE ` + db + ` TO parley_app, parley_migrate`,
		`ALTER DEFAULT PRIVILEGES FOR ROLE parley_migrate IN SCHEMA public GRANT SELECT ON TABLES TO parley_app`,
	}
	for role, password := range map[string]string{RoleMigrate: pw.Migrate, RoleApp: pw.App} {
		if password != "" {
			sql = append(sql, `ALTER ROLE `+role+` PASSWORD `+quote(password))
		}
	}
	return sql
}

func makeRole(name string) string {
	return `DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '` + name + `') THEN CREATE ROLE ` + name + `; END IF; END $$`
}

func quote(s string) string { return `'` + strings.ReplaceAll(s, `'`, `''`) + `'` }

// CreateDatabase makes a database if it does not exist.
func CreateDatabase(ctx context.Context, superURL, name string) error {
	conn, err := connect(ctx, superURL)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var there bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&there)
	if err == nil && !there {
		_, err = conn.Exec(ctx, `CREATE DATABASE `+pgx.Identifier{name}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("make database %s: %w", name, problem(err))
	}
	return nil
}

// IsSuperuser tells whether the address logs in as a superuser.
func IsSuperuser(ctx context.Context, url string) (bool, error) {
	conn, err := connect(ctx, url)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var super bool
	err = conn.QueryRow(ctx, `SELECT rolsuper FROM pg_roles WHERE rolname = current_user`).Scan(&super)
	return super, problem(err)
}

func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, errors.New("connect to postgres: the address is malformed")
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to postgres: %w", problem(err))
	}
	return conn, nil
}
