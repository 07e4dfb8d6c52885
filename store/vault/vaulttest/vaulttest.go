// Package vaulttest gives tests a Vault of their own: Vault's own code (with
// three edits, without which the published module does not compile) in a
// process beside the test, in memory. scripts/install.sh test builds the
// program, into the user's cache folder, once for each version.
package vaulttest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"
)

// A Server is a running, unsealed Vault with the KV engine at kv, Transit at
// transit, and the auth method approle.
type Server struct {
	// URL leads through a gate, which can be closed and slowed.
	URL string
	// Root may do everything, and goes past the gate.
	Root *api.Client

	unseal string
	gate   *gate
	proc   *os.Process
}

// Start starts one, which ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	cmd := exec.Command(program(t))
	in, err := cmd.StdinPipe() // the server ends when this does, even if we are killed
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
	})
	var said struct {
		Addr   string `json:"addr"`
		Token  string `json:"token"`
		Unseal string `json:"unseal_key"`
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &said)
	}
	if err != nil {
		t.Fatalf("vault did not start: %v", err)
	}
	s := &Server{Root: client(t, said.Addr, said.Token), unseal: said.Unseal, proc: cmd.Process}
	s.gate = newGate(t, said.Addr)
	s.URL = s.gate.url
	s.mount(t)
	return s
}

// program returns the server's executable, as its build script names it.
func program(t testing.TB) string {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	script := filepath.Join(filepath.Dir(here), "server", "build.sh")
	out, err := exec.Command(script).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		t.Fatalf("%s: %v\n%s", script, err, failed.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func client(t testing.TB, address, token string) *api.Client {
	t.Helper()
	c, err := api.NewClient(&api.Config{Address: address, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	c.SetToken(token)
	return c
}

func (s *Server) mount(t testing.TB) {
	t.Helper()
	sys := s.Root.Sys()
	err := errors.Join(
		sys.Mount("kv", &api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}),
		sys.Mount("transit", &api.MountInput{Type: "transit"}),
		sys.EnableAuthWithOptions("approle", &api.EnableAuthOptions{Type: "approle"}),
	)
	if err != nil {
		t.Fatal(err)
	}
	// The engine upgrades itself in the background before it takes a request.
	for deadline := time.Now().Add(time.Minute); ; {
		_, err := s.Root.KVv2("kv").Put(context.Background(), "ready", map[string]any{"a": "b"})
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		runtime.Gosched()
	}
}

// Write writes as root.
func (s *Server) Write(t testing.TB, path string, data map[string]any) *api.Secret {
	t.Helper()
	got, err := s.Root.Logical().Write(path, data)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// AppRole makes a role with a policy in HCL, whose tokens are good for ttl and
// at most max, as in "3s", and returns its ids.
func (s *Server) AppRole(t testing.TB, policy, ttl, max string) (role, secret string) {
	t.Helper()
	if err := s.Root.Sys().PutPolicy("parley", policy); err != nil {
		t.Fatal(err)
	}
	s.Write(t, "auth/approle/role/parley", map[string]any{"token_policies": "parley", "token_ttl": ttl, "token_max_ttl": max})
	id, err := s.Root.Logical().Read("auth/approle/role/parley/role-id")
	if err != nil {
		t.Fatal(err)
	}
	return id.Data["role_id"].(string), s.Write(t, "auth/approle/role/parley/secret-id", nil).Data["secret_id"].(string)
}

// Seal seals Vault, which answers 503 then.
func (s *Server) Seal(t testing.TB) {
	t.Helper()
	if err := s.Root.Sys().Seal(); err != nil {
		t.Fatal(err)
	}
}

// Unseal opens it again.
func (s *Server) Unseal(t testing.TB) {
	t.Helper()
	if _, err := s.Root.Sys().Unseal(s.unseal); err != nil {
		t.Fatal(err)
	}
}

// Pause stops the process, by SIGSTOP: it takes connections and answers none.
func (s *Server) Pause() { _ = s.proc.Signal(syscall.SIGSTOP) }

// Resume lets it go on.
func (s *Server) Resume() { _ = s.proc.Signal(syscall.SIGCONT) }

// Cut closes all connections through the gate and refuses new ones, until Restore.
func (s *Server) Cut() { s.gate.set(down) }

// Hang takes requests and answers none, until Restore or Cut.
func (s *Server) Hang() { s.gate.set(hung) }

// Answer has the gate answer every request with a status, as a standby node or
// a load balancer does, until Restore.
func (s *Server) Answer(status int) { s.gate.set(status) }

// Restore lets everything pass again.
func (s *Server) Restore() { s.gate.set(open) }

// Requests counts what came to the gate.
func (s *Server) Requests() int {
	s.gate.mu.Lock()
	defer s.gate.mu.Unlock()
	return s.gate.requests
}

// States of a gate; any other is a status that it answers.
const (
	open = -iota
	down
	hung
)

// A gate stands before a server.
type gate struct {
	url  string
	next http.Handler

	mu       sync.Mutex
	state    int
	changed  chan struct{}
	requests int
}

func newGate(t testing.TB, to string) *gate {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{url: "http://" + l.Addr().String(), next: httputil.NewSingleHostReverseProxy(u), changed: make(chan struct{})}
	server := &http.Server{Handler: g, ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		g.set(down)
		_ = server.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(fmt.Errorf("gate: %w", err))
		}
	})
	return g
}

func (g *gate) set(state int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.state = state
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.requests++
	for g.state == hung {
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
		g.mu.Lock()
	}
	state := g.state
	g.mu.Unlock()
	switch state {
	case open:
		g.next.ServeHTTP(w, r)
	case down:
		panic(http.ErrAbortHandler) // the connection ends without an answer
	default:
		w.WriteHeader(state)
		_, _ = io.WriteString(w, `{"errors":["Vault is a standby"]}`)
	}
}
