package main

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"parley/store/postgres"
)

func TestStartPostgresTwice(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "parley-data-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data := filepath.Join(dir, "data")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"first", "second"} {
		begin := time.Now()
		e, err := startPostgres(t.Context(), data, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatalf("%s start: %v", name, err)
		}
		t.Logf("%s start: %v", name, time.Since(begin).Round(time.Millisecond))
		s, err := postgres.Open(t.Context(), e.AppURL(), postgres.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Verify(t.Context()); err != nil {
			t.Errorf("%s start: Verify: %v", name, err)
		}
		s.Close()
		if at, err := (databaseFlag{Data: data}).url(); err != nil || at != e.AppURL() {
			t.Errorf("%s start: commands find the database at %q, %v; want %q", name, at, err, e.AppURL())
		}
		begin = time.Now()
		if err := e.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s stop: %v", name, time.Since(begin).Round(time.Millisecond))
		if at, err := (databaseFlag{Data: data}).url(); err == nil {
			t.Errorf("%s stop: commands still find the database at %q", name, at)
		}
	}
}

func TestEmbeddedRedisExpires(t *testing.T) {
	e, err := startRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Stop()
	opt, err := redis.ParseURL(e.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opt)
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Set(ctx, "k", "v", 300*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	for c.Exists(ctx, "k").Val() == 1 {
		if ctx.Err() != nil {
			t.Fatal("the key does not expire")
		}
	}
	if err := ctx.Err(); err != nil {
		t.Fatal(err)
	}
}
