package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// initialize makes the cluster where there is none. It is built beside its
// place and renamed, so that a kill halfway leaves no half of one.
func initialize(ctx context.Context, bin string, o Options, u *osUser) error {
	if _, err := os.Stat(filepath.Join(o.Dir, "PG_VERSION")); err == nil {
		return nil
	}
	made := o.Dir + ".new"
	if err := os.RemoveAll(made); err != nil {
		return fmt.Errorf("clear a half-made cluster: %w", err)
	}
	if err := u.mkdir(made); err != nil {
		return err
	}
	args := []string{"-D", made, "-U", "postgres", "-E", "UTF8", "--locale=C",
		"--auth-local=peer", "--auth-host=reject", "--no-instructions"}
	if o.Throwaway {
		args = append(args, "--no-sync")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), args...)
	cmd.SysProcAttr, cmd.Dir, cmd.Env = u.attributes(), "/", environment()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the database cluster in %s: %w: %s", o.Dir, err, lastLine(string(out)))
	}
	if err := os.Rename(made, o.Dir); err != nil {
		return fmt.Errorf("put the database cluster in place: %w", err)
	}
	return nil
}

// environment is what the server's programs see: no PG variable of the user's
// may lead them elsewhere, and messages must be in English to be understood.
func environment() []string { return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"} }

// writeAccess lets the user of this process in as each role, by the socket's
// peer credentials, and nobody else.
func writeAccess(dir string, roles []string, u *osUser) error {
	var ident strings.Builder
	for _, r := range append([]string{"postgres"}, roles...) {
		fmt.Fprintf(&ident, "parley %q %s\n", u.self, r)
	}
	for name, text := range map[string]string{
		"pg_hba.conf":   "local all all peer map=parley\n",
		"pg_ident.conf": ident.String(),
	} {
		path := filepath.Join(dir, name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, []byte(text)) {
			continue
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// socketDir makes the folder of the socket. A socket's path is at most 103
// bytes on macOS and 107 on Linux (sockaddr_un).
func socketDir(dir string, u *osUser) (string, error) {
	if dir == "" {
		made, err := os.MkdirTemp("/tmp", "parley-pg-")
		if err != nil {
			return "", fmt.Errorf("make the socket's folder: %w", err)
		}
		return made, u.own(made)
	}
	if len(dir) > 80 {
		return "", fmt.Errorf("the socket's folder %s is longer than 80 bytes", dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("clear the socket's folder: %w", err)
	}
	return dir, u.mkdir(dir)
}

// clearLeftovers ends a server that outlived its killed parent, and removes
// the traces of one that did not. The caller holds the lock: whatever runs on
// dir is nobody's.
func clearLeftovers(ctx context.Context, dir string) error {
	path := filepath.Join(dir, "postmaster.pid")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	lines := strings.Split(string(text), "\n")
	pid, _ := strconv.Atoi(strings.TrimSpace(lines[0]))
	deadline := time.Now().Add(15 * time.Second)
	for sig := syscall.SIGINT; pid > 1 && isServer(ctx, pid, dir); sig = 0 {
		if time.Now().After(deadline) {
			sig = syscall.SIGQUIT
		}
		_ = syscall.Kill(pid, sig)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	if len(lines) > 4 && strings.HasPrefix(lines[4], "/tmp/parley-pg-") {
		_ = os.RemoveAll(lines[4]) // the dead server's socket
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove a stale %s: %w", path, err)
	}
	return nil
}

// isServer tells whether process pid is the postgres of dir, and not another
// program that got its number.
func isServer(ctx context.Context, pid int, dir string) bool {
	out, err := exec.CommandContext(ctx, "ps", "-ww", "-o", "command=", "-p", strconv.Itoa(pid)).Output()
	if err == nil {
		return bytes.Contains(out, []byte("postgres")) && bytes.Contains(out, []byte(dir))
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // a machine without ps
	return err == nil && bytes.Contains(line, []byte("postgres")) && bytes.Contains(line, []byte(dir))
}

// lockFile takes path for this process until the file is closed. The kernel
// lets go of it when the process dies.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the data folder's lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	return f, nil
}
