// Package postgrestest gives tests a real PostgreSQL: one private cluster a
// test binary, one fresh database a test, cloned from a migrated template.
package postgrestest

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"parley/store/postgres"
	"parley/store/postgres/cluster"
)

const template = "parley_template"

// A Server runs a test binary's cluster. The zero value is ready; it starts
// with the first database and ends in Main.
type Server struct {
	once    sync.Once
	err     error
	dir     string
	cluster *cluster.Cluster
	made    atomic.Int64
}

// Main runs m and then ends the server. Call it from TestMain:
//
//	var server postgrestest.Server
//	func TestMain(m *testing.M) { os.Exit(server.Main(m)) }
func (s *Server) Main(m *testing.M) int {
	code := m.Run()
	if s.cluster != nil {
		_ = s.cluster.Stop(context.Background())
	}
	if s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
	return code
}

// A Database is one test's own.
type Database struct {
	Name                         string
	SuperURL, MigrateURL, AppURL string
}

// New returns a fresh database with the newest schema. It fails the test with
// what to install where the machine has no PostgreSQL.
func (s *Server) New(t testing.TB) Database {
	t.Helper()
	s.once.Do(func() { s.err = s.start() })
	if s.err != nil {
		t.Fatalf("this test needs a PostgreSQL: %v", s.err)
	}
	name := fmt.Sprintf("test_%d", s.made.Add(1))
	if err := s.run("CREATE DATABASE " + name + " TEMPLATE " + template); err != nil {
		t.Fatalf("clone the template database: %v", err)
	}
	return s.database(name)
}

// Store is New with an open Store, closed with the test.
func (s *Server) Store(t testing.TB) *postgres.Store {
	t.Helper()
	store, err := postgres.Open(t.Context(), s.New(t).AppURL, postgres.Options{MaxConns: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

func (s *Server) database(name string) Database {
	return Database{
		Name: name, SuperURL: s.cluster.URL("postgres", name),
		MigrateURL: s.cluster.URL(postgres.RoleMigrate, name), AppURL: s.cluster.URL(postgres.RoleApp, name),
	}
}

func (s *Server) start() error {
	ctx := context.Background()
	dir, err := os.MkdirTemp("/tmp", "parley-test-pg-")
	if err != nil {
		return err
	}
	s.dir = dir
	if err := os.Chmod(dir, 0o711); err != nil { // the server may run as another user
		return err
	}
	s.cluster, err = cluster.Start(ctx, cluster.Options{
		Dir: filepath.Join(dir, "pg"), Throwaway: true,
		Roles: []string{postgres.RoleMigrate, postgres.RoleApp},
	})
	if err != nil {
		return err
	}
	if err := s.run("CREATE DATABASE " + template); err != nil {
		return err
	}
	db := s.database(template)
	if err := postgres.Bootstrap(ctx, db.SuperURL, postgres.Passwords{}); err != nil {
		return err
	}
	return postgres.MigrateUp(ctx, db.MigrateURL)
}

func (s *Server) run(sql string) error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.cluster.SuperURL())
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, sql)
	return err
}
