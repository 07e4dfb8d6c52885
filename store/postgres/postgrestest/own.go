package postgrestest

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"parley/store/postgres"
	"parley/store/postgres/cluster"
)

// An Own server is one test's alone, which it may kill and stop: unlike the
// shared one it keeps its word over a crash.
type Own struct {
	Database

	options cluster.Options
	running *cluster.Cluster
}

// NewOwn starts one, with the newest schema. It ends with the test.
func NewOwn(t testing.TB) *Own {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "parley-own-pg-")
	if err == nil {
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		err = os.Chmod(dir, 0o711) // the server may run as another user
	}
	if err != nil {
		t.Fatal(err)
	}
	o := &Own{options: cluster.Options{Dir: filepath.Join(dir, "pg"), SocketDir: filepath.Join(dir, "s"), Roles: []string{postgres.RoleMigrate, postgres.RoleApp}}}
	o.Revive(t)
	t.Cleanup(func() {
		o.signal(t, syscall.SIGCONT)
		_ = o.running.Stop(context.Background())
	})
	c := o.running
	o.Database = Database{Name: "postgres", SuperURL: c.SuperURL(), MigrateURL: c.URL(postgres.RoleMigrate, "postgres"), AppURL: c.URL(postgres.RoleApp, "postgres")}
	if err = postgres.Bootstrap(t.Context(), o.SuperURL, postgres.Passwords{}); err == nil {
		err = postgres.MigrateUp(t.Context(), o.MigrateURL)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Kill ends the server and all its processes at once, by SIGKILL.
func (o *Own) Kill(t testing.TB) {
	t.Helper()
	o.signal(t, syscall.SIGKILL)
	<-o.running.Done()
	_ = o.running.Stop(context.Background()) // lets go of the folder
}

// Revive starts a killed server again; it recovers first.
func (o *Own) Revive(t testing.TB) {
	t.Helper()
	var err error
	if o.running, err = cluster.Start(context.WithoutCancel(t.Context()), o.options); err != nil {
		t.Fatal(err)
	}
}

// Pause stops the server and all its processes, by SIGSTOP: connections stand,
// and nobody answers.
func (o *Own) Pause(t testing.TB) { t.Helper(); o.signal(t, syscall.SIGSTOP) }

// Resume lets them go on.
func (o *Own) Resume(t testing.TB) { t.Helper(); o.signal(t, syscall.SIGCONT) }

// signal sends to all processes. The server stands still meanwhile, so that it
// starts none.
func (o *Own) signal(t testing.TB, sig syscall.Signal) {
	t.Helper()
	server := o.running.PID()
	_ = syscall.Kill(server, syscall.SIGSTOP)
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(server)).Output()
	var none *exec.ExitError
	if err != nil && !errors.As(err, &none) {
		t.Errorf("list the processes of postgres: %v", err)
	}
	for _, line := range append(strings.Fields(string(out)), strconv.Itoa(server)) {
		if pid, err := strconv.Atoi(line); err == nil {
			_ = syscall.Kill(pid, sig) // it may have ended
		}
	}
}
