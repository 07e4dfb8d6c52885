// Package cluster runs a private PostgreSQL server from the machine's own
// binaries: for `parley dev`, which needs nothing else running, and for tests.
//
// The server listens on a Unix socket in a folder that only its user may
// enter, never on TCP, and takes its peers by their user id: there is no
// password to keep.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Options says where a cluster lives and who may connect.
type Options struct {
	// Dir holds the cluster (PGDATA). It is made if it does not exist; its
	// parents must be there and passable for the server's user.
	Dir string
	// SocketDir holds the socket; made, and removed by Stop. At most 80 bytes.
	// Default: a fresh folder in the system's temporary one.
	SocketDir string
	// Roles may connect, beside the superuser postgres, as the user who runs
	// this process.
	Roles []string
	// Throwaway trades durability for speed: for tests.
	Throwaway bool
	Log       *slog.Logger // default: none
}

// A Cluster is a running server.
type Cluster struct {
	dir, socket string
	proc        *process
	lock        *os.File
}

// Errors whose text is for people: one sentence that says what to do.
var (
	ErrNoPostgres   = errors.New("no PostgreSQL server program found; install it with `apt install postgresql` or `brew install postgresql@16`")
	ErrInUse        = errors.New("the data folder is in use by another process; stop that one, or give this one its own --data")
	ErrOtherVersion = errors.New("the data folder was made by another PostgreSQL")
)

// Start brings the cluster up: makes it if it is not there, clears what a
// killed process left, and returns when it answers. It takes about a second
// the first time and a quarter of one after. The server ends with this process
// even if that is killed (on Linux by the kernel, elsewhere at the next Start).
func Start(ctx context.Context, o Options) (c *Cluster, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	bin, err := findBinaries(o.Dir)
	if err != nil {
		return nil, err
	}
	user, err := serverUser()
	if err != nil {
		return nil, err
	}
	lock, err := lockFile(o.Dir + ".lock")
	if err != nil {
		return nil, err
	}
	c = &Cluster{dir: o.Dir, lock: lock}
	defer func() {
		if err != nil {
			c.release()
		}
	}()
	if err := initialize(ctx, bin, o, user); err != nil {
		return nil, err
	}
	if err := clearLeftovers(ctx, o.Dir); err != nil {
		return nil, err
	}
	if c.socket, err = socketDir(o.SocketDir, user); err != nil {
		return nil, err
	}
	if err := writeAccess(o.Dir, o.Roles, user); err != nil {
		return nil, err
	}
	return c, c.run(ctx, bin, o, user)
}

// run starts the server, once more if memory of a killed one is still held.
func (c *Cluster) run(ctx context.Context, bin string, o Options, u *osUser) error {
	for try := 0; ; try++ {
		p, err := startProcess(exec.Command(filepath.Join(bin, "postgres"), c.arguments(o)...), u)
		if err != nil {
			return fmt.Errorf("start postgres: %w", err)
		}
		c.proc = p
		err = c.await(ctx)
		if err == nil {
			o.Log.Info("postgres is up", "dir", c.dir)
			return nil
		}
		held := strings.Contains(p.output(), "shared memory block")
		_ = p.stop(context.WithoutCancel(ctx), time.Second)
		c.proc = nil
		if !held || try == 20 {
			return fmt.Errorf("start postgres: %w: %s", err, lastLine(p.output()))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(250 * time.Millisecond):
		}
	}
}

func (c *Cluster) arguments(o Options) []string {
	set := []string{
		"listen_addresses=", "unix_socket_directories=" + c.socket, "unix_socket_permissions=0700",
		"port=5432", "max_connections=120", "shared_buffers=32MB", "jit=off",
		"wal_level=minimal", "max_wal_senders=0", "max_wal_size=256MB",
		"log_min_messages=warning", "log_statement=none", "log_min_error_statement=panic",
	}
	if o.Throwaway {
		set = append(set, "fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off")
	}
	args := []string{"-D", c.dir}
	for _, s := range set {
		args = append(args, "-c", s)
	}
	return args
}

// await returns nil once the server answers, and an error once it has ended.
func (c *Cluster) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second) // a long recovery after a kill
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, c.SuperURL())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-c.proc.done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(15 * time.Millisecond):
		}
	}
}

// SuperURL is the address of database postgres for the superuser.
func (c *Cluster) SuperURL() string { return c.URL("postgres", "postgres") }

// URL is the address of a database for a role.
func (c *Cluster) URL(role, database string) string { return socketURL(c.socket, role, database) }

// RunningURL returns the address of a role at the server that runs on the folder
// dir, be it another process's; "" where none does.
func RunningURL(dir, role, database string) string {
	text, err := os.ReadFile(filepath.Join(dir, "postmaster.pid"))
	// The fifth line is the socket's folder, the eighth the state.
	lines := strings.Split(string(text), "\n")
	if err != nil || len(lines) < 8 || lines[4] == "" || strings.TrimSpace(lines[7]) != "ready" {
		return ""
	}
	return socketURL(lines[4], role, database)
}

func socketURL(dir, role, database string) string {
	u := url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + database}
	u.RawQuery = url.Values{"host": {dir}, "port": {"5432"}}.Encode()
	return u.String()
}

// PID is the process id of the server, whose children its other processes are.
func (c *Cluster) PID() int { return c.proc.os.Pid }

// Done is closed when the server has ended, be it by Stop or by itself.
func (c *Cluster) Done() <-chan struct{} { return c.proc.done }

// Stop ends the server: politely, then at once when ctx ends or after 2 s.
// Nothing of it is left when Stop returns.
func (c *Cluster) Stop(ctx context.Context) error {
	err := c.proc.stop(ctx, 2*time.Second)
	c.release()
	return err
}

func (c *Cluster) release() {
	if c.socket != "" {
		_ = os.RemoveAll(c.socket)
	}
	_ = c.lock.Close() // releases the lock
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}
