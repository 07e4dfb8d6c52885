package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"parley/store/postgres"
	"parley/store/postgres/cluster"
)

// embeddedDatabase is the database of `parley dev` in its private cluster.
const embeddedDatabase = "parley"

// embeddedPostgres is the private database of `parley dev`.
type embeddedPostgres struct {
	cluster *cluster.Cluster
	Dir     string // where its files are
}

// startPostgres starts the private cluster in dataDir/pg, makes its database
// and roles, and returns when it answers. As root the server runs as another
// user, who may be unable to reach dataDir: then the cluster lives under
// /var/lib/parley, and the log says where. Its errors are sentences for people.
func startPostgres(ctx context.Context, dataDir string, log *slog.Logger) (*embeddedPostgres, error) {
	dir, err := postgresDir(dataDir, log)
	if err != nil {
		return nil, err
	}
	c, err := cluster.Start(ctx, cluster.Options{
		Dir: dir, Roles: []string{postgres.RoleMigrate, postgres.RoleApp}, Log: log,
	})
	if err != nil {
		return nil, err
	}
	e := &embeddedPostgres{cluster: c, Dir: dir}
	if err := e.prepare(ctx); err != nil {
		_ = c.Stop(context.WithoutCancel(ctx))
		return nil, err
	}
	return e, nil
}

func (e *embeddedPostgres) prepare(ctx context.Context) error {
	if err := postgres.CreateDatabase(ctx, e.SuperURL(), embeddedDatabase); err != nil {
		return err
	}
	super := e.cluster.URL("postgres", embeddedDatabase)
	if err := postgres.Bootstrap(ctx, super, postgres.Passwords{}); err != nil {
		return err
	}
	return postgres.MigrateUp(ctx, e.MigrateURL())
}

// SuperURL is the superuser's address of database postgres.
func (e *embeddedPostgres) SuperURL() string { return e.cluster.SuperURL() }

// MigrateURL is the address of the role that owns the schema.
func (e *embeddedPostgres) MigrateURL() string {
	return e.cluster.URL(postgres.RoleMigrate, embeddedDatabase)
}

// AppURL is the address of the role that the program works as.
func (e *embeddedPostgres) AppURL() string { return e.cluster.URL(postgres.RoleApp, embeddedDatabase) }

// Done is closed when the server has ended.
func (e *embeddedPostgres) Done() <-chan struct{} { return e.cluster.Done() }

// Stop ends the server within 3 s and leaves nothing of it running.
func (e *embeddedPostgres) Stop(ctx context.Context) error { return e.cluster.Stop(ctx) }

// postgresDir picks the cluster's folder and makes its parents.
func postgresDir(dataDir string, log *slog.Logger) (string, error) {
	dataDir, err := filepath.Abs(dataDir)
	if err != nil {
		return "", fmt.Errorf("find the data folder: %w", err)
	}
	if err := os.MkdirAll(dataDir, 0o700); err != nil {
		return "", fmt.Errorf("make the data folder: %w", err)
	}
	dir := filepath.Join(dataDir, "pg")
	if os.Geteuid() != 0 {
		return dir, nil
	}
	// The data folder itself is ours: let the server's user pass through it.
	// What lies in it keeps its own modes.
	if info, err := os.Stat(dataDir); err == nil && info.Mode().Perm()&1 == 0 {
		if err := os.Chmod(dataDir, info.Mode().Perm()|0o011); err != nil {
			return "", fmt.Errorf("open the data folder to the database's user: %w", err)
		}
	}
	if cluster.Passable(dir) {
		return dir, nil
	}
	elsewhere := postgresElsewhere(dataDir)
	if err := os.MkdirAll(elsewhere, 0o755); err != nil {
		return "", fmt.Errorf("make a folder for the database: %w", err)
	}
	log.Warn("the database's user cannot reach the data folder; its files are elsewhere", "folder", elsewhere)
	return filepath.Join(elsewhere, "pg"), nil
}

// postgresElsewhere is where the cluster of a data folder lives that the
// database's user cannot reach.
func postgresElsewhere(dataDir string) string {
	return filepath.Join("/var/lib/parley", fmt.Sprintf("%x", sha256.Sum256([]byte(dataDir)))[:12])
}

// databaseFlag says where a command finds the database.
type databaseFlag struct {
	DatabaseURL string `name:"database-url" env:"DATABASE_URL" help:"Postgres, as the application role; with a password in it, by the environment only. Default: the private one of a parley dev that runs on the data folder."`
	Data        string `name:"data" env:"PARLEY_DATA" default:".parley" help:"Data folder of the gateway."`
}

// url returns the database's address, or a usage error that says how to name it.
func (f databaseFlag) url() (string, error) {
	if f.DatabaseURL != "" {
		return f.DatabaseURL, nil
	}
	data, err := filepath.Abs(f.Data)
	if err != nil {
		return "", fmt.Errorf("find the data folder: %w", err)
	}
	for _, dir := range []string{data, postgresElsewhere(data)} {
		if u := cluster.RunningURL(filepath.Join(dir, "pg"), postgres.RoleApp, embeddedDatabase); u != "" {
			return u, nil
		}
	}
	return "", usageError{fmt.Errorf("set DATABASE_URL as the gateway has it, or --data to the folder of a parley dev that is running; none runs on %s", f.Data)}
}
