package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestMain lets the test binary stand in for a process that runs a cluster and
// is killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CLUSTER_TEST_DIR"); dir != "" {
		c, err := Start(context.Background(), Options{Dir: dir, Throwaway: true})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(c.SuperURL())
		select {}
	}
	os.Exit(m.Run())
}

// folder is a temporary one that the server's user can pass.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "parley-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "pg")
}

func start(t *testing.T, dir string) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), Options{Dir: dir, Throwaway: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(context.Background()) })
	return c
}

func exec1(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var s string
	if err := conn.QueryRow(t.Context(), sql).Scan(&s); err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
	return s
}

func TestClusterKeepsDataOverStopAndKill(t *testing.T) {
	dir := folder(t)

	c := start(t, dir)
	exec1(t, c.SuperURL(), "CREATE TABLE kept AS SELECT 'here'::text AS v")
	if _, err := Start(t.Context(), Options{Dir: dir}); !errors.Is(err, ErrInUse) {
		t.Errorf("second Start on one folder: %v, want ErrInUse", err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	// A process that runs the cluster is killed.
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "CLUSTER_TEST_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	url := strings.TrimSpace(line)
	if !strings.HasPrefix(url, "postgres://") {
		_ = cmd.Process.Kill()
		t.Fatalf("helper says %q", line)
	}
	if got := exec1(t, url, "SELECT v FROM kept"); got != "here" {
		t.Errorf("in the second process: %q, want here", got)
	}
	_ = cmd.Process.Signal(syscall.SIGKILL)
	_ = cmd.Wait()

	c = start(t, dir)
	if got := exec1(t, c.SuperURL(), "SELECT v FROM kept"); got != "here" {
		t.Errorf("after a kill: %q, want here", got)
	}
}

func TestClusterOfAnotherVersion(t *testing.T) {
	dir := folder(t)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{Dir: dir})
	if !errors.Is(err, ErrOtherVersion) || !strings.Contains(err.Error(), "postgresql-9") {
		t.Errorf("Start on a cluster of version 9: %v, want ErrOtherVersion that names the package", err)
	}
}

func TestClusterSurvivesForeignPID(t *testing.T) {
	dir := folder(t)
	c := start(t, dir)
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The dead server's number belongs to another program now: this one.
	stale := fmt.Sprintf("%d\n%s\n", os.Getpid(), dir)
	if err := os.WriteFile(filepath.Join(dir, "postmaster.pid"), []byte(stale), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, dir)
}

func TestClusterRefusesOtherRoles(t *testing.T) {
	c := start(t, folder(t))
	if _, err := pgx.Connect(t.Context(), c.URL("stranger", "postgres")); err == nil {
		t.Error("a role that is not listed may connect")
	}
}

func TestStopLeavesNothing(t *testing.T) {
	c := start(t, folder(t))
	pid := c.proc.os.Pid
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	if _, err := os.Stat(c.socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("socket folder is still there: %v", err)
	}
}
