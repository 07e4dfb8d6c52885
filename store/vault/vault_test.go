package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/vault/api"

	"parley/agent/effect"
	"parley/control"
	"parley/store/vault/vaulttest"
)

const policy = `
path "kv/data/parley/tenants/*"     { capabilities = ["create", "read", "update"] }
path "kv/metadata/parley/tenants/*" { capabilities = ["read", "delete"] }
path "kv/destroy/parley/tenants/*"  { capabilities = ["update"] }
path "kv/delete/parley/tenants/*"   { capabilities = ["update"] }
path "kv/undelete/parley/tenants/*" { capabilities = ["update"] }
path "transit/encrypt/parley"       { capabilities = ["update"] }
path "transit/decrypt/parley"       { capabilities = ["update"] }
path "transit/datakey/plaintext/parley" { capabilities = ["update"] }`

// signedIn returns a client that Run keeps signed in. It is patient: a machine
// that stands still for a moment is no Vault that is away.
func signedIn(t testing.TB, s *vaulttest.Server, auth Auth, log *slog.Logger) *Client {
	t.Helper()
	return running(t, Options{Address: s.URL, Auth: auth, Timeout: time.Minute, Log: log})
}

// running returns a client that Run keeps signed in.
func running(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		c.Close()
	})
	return c
}

func byRole(t testing.TB, s *vaulttest.Server, ttl, max string) *AppRole {
	t.Helper()
	role, secret := s.AppRole(t, policy, ttl, max)
	return &AppRole{RoleID: role, SecretID: Fixed(secret)}
}

// until waits for what comes to hold in the real time of another process.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); !holds(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it never came to be: %s", what)
		}
	}
}

func ready(t testing.TB, c *Client) {
	t.Helper()
	until(t, "signed in", func() bool { return c.Ready() == nil })
}

func TestKV(t *testing.T) {
	s := vaulttest.Start(t)
	c := signedIn(t, s, byRole(t, s, "1h", "2h"), nil)
	ready(t, c)
	kv, path, ctx := KV{c, "kv"}, "parley/tenants/a/crm", t.Context()

	if _, _, err := kv.Get(ctx, path, 0); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("nothing is read: %v", err)
	}
	for i, want := range []int{1, 2, 3} {
		n, err := kv.Put(ctx, path, map[string]string{"value": fmt.Sprint("v", i+1)}, i)
		if err != nil || n != want {
			t.Fatalf("put %d: %d, %v", want, n, err)
		}
	}
	if _, err := kv.Put(ctx, path, map[string]string{"value": "late"}, 2); !errors.Is(err, control.ErrConflict) {
		t.Errorf("a put after a version that is not the newest: %v", err)
	}
	if f, n, err := kv.Get(ctx, path, 1); err != nil || n != 1 || f["value"] != "v1" {
		t.Errorf("version 1: %v, %d, %v", f, n, err)
	}
	if f, n, err := kv.Get(ctx, path, 0); err != nil || n != 3 || f["value"] != "v3" {
		t.Errorf("the newest: %v, %d, %v", f, n, err)
	}
	if err := kv.Delete(ctx, path, 3); err != nil {
		t.Fatal(err)
	}
	if _, _, err := kv.Get(ctx, path, 0); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("a deleted version is read: %v", err)
	}
	if err := kv.Undelete(ctx, path, 3); err != nil {
		t.Fatal(err)
	}
	if f, _, err := kv.Get(ctx, path, 3); err != nil || f["value"] != "v3" {
		t.Errorf("undeleted: %v, %v", f, err)
	}
	if err := kv.Destroy(ctx, path, 2); err != nil {
		t.Fatal(err)
	}
	if _, _, err := kv.Get(ctx, path, 2); !errors.Is(err, control.ErrNotFound) {
		t.Errorf("a destroyed version is read: %v", err)
	}
	list, err := kv.Versions(ctx, path)
	if err != nil || len(list) != 3 || list[0].Number != 3 || !list[1].Destroyed || list[2].Destroyed {
		t.Errorf("versions %+v, %v", list, err)
	}
	if err := kv.Forget(ctx, path); err != nil {
		t.Fatal(err)
	}
	if n, err := kv.Newest(ctx, path); n != 0 || err != nil {
		t.Errorf("after all is forgotten: %d, %v", n, err)
	}
	if _, _, err := kv.Get(ctx, "parley/other", 0); !errors.Is(err, ErrDenied) {
		t.Errorf("what the policy forbids: %v", err)
	}
}

// Of many who write at once, one is first at each version, and the others are told.
func TestPutRaces(t *testing.T) {
	s := vaulttest.Start(t)
	c := signedIn(t, s, byRole(t, s, "1h", "2h"), nil)
	ready(t, c)
	keep := &Secrets{Client: c}
	ref := control.SecretRef{Scheme: control.SchemeVault, Mount: "kv", Path: "parley/tenants/a/crm"}
	var all sync.WaitGroup
	var mu sync.Mutex
	seen, lost := map[string]string{}, 0
	for i := range 16 {
		all.Go(func() {
			got, err := keep.WriteSecret(t.Context(), ref, effect.Secret(fmt.Sprint("v", i)))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, control.ErrConflict):
				lost++
			case err != nil:
				t.Error(err)
			case seen[got.Version] != "":
				t.Errorf("two wrote version %s", got.Version)
			default:
				seen[got.Version] = fmt.Sprint("v", i)
			}
		})
	}
	all.Wait()
	if len(seen)+lost != 16 || len(seen) == 0 {
		t.Errorf("%d written, %d told of a conflict", len(seen), lost)
	}
	for version, want := range seen {
		if v, _, err := keep.ReadSecret(t.Context(), ref.At(version)); err != nil || string(v) != want {
			t.Errorf("version %s is not what its writer wrote: %v", version, err)
		}
	}
}

// A token of 3 s is renewed, and replaced when its greatest age is near: nobody notices.
func TestShortLease(t *testing.T) {
	s := vaulttest.Start(t)
	c := signedIn(t, s, byRole(t, s, "3s", "6s"), nil)
	ready(t, c)
	kv := KV{c, "kv"}
	if _, err := kv.Put(t.Context(), "parley/tenants/a/crm", map[string]string{"value": "v"}, 0); err != nil {
		t.Fatal(err)
	}
	first := c.api.Token()
	until(t, "signed in anew", func() bool {
		if _, _, err := kv.Get(t.Context(), "parley/tenants/a/crm", 0); err != nil {
			t.Fatal(err)
		}
		return c.api.Token() != first
	})
}

// A request that meets a revoked token signs in again and is answered.
func TestRevoked(t *testing.T) {
	s := vaulttest.Start(t)
	c := signedIn(t, s, byRole(t, s, "1h", "2h"), nil)
	ready(t, c)
	for range 3 {
		if err := s.Root.Auth().Token().RevokeTree(c.api.Token()); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := (KV{c, "kv"}).Newest(t.Context(), "parley/tenants/a/crm"); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
}

// Sealed, a standby, cut off or hanging, Vault is unavailable, within our time;
// and there again when it is.
func TestAway(t *testing.T) {
	s := vaulttest.Start(t)
	c := running(t, Options{Address: s.URL, Auth: byRole(t, s, "1h", "2h"), Timeout: time.Second})
	ready(t, c)
	get := func() error {
		_, err := KV{c, "kv"}.Newest(t.Context(), "parley/tenants/a/crm")
		return err
	}
	for _, tt := range []struct {
		name     string
		away, on func()
	}{
		{"sealed", func() { s.Seal(t) }, func() { s.Unseal(t) }},
		{"standby", func() { s.Answer(503) }, s.Restore},
		{"overloaded", func() { s.Answer(http.StatusTooManyRequests) }, s.Restore},
		{"cut", s.Cut, s.Restore},
		{"hanging", s.Hang, s.Restore},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.away()
			began := time.Now()
			if err := get(); !errors.Is(err, control.ErrUnavailable) {
				t.Errorf("%v, want ErrUnavailable", err)
			}
			if took := time.Since(began); took > time.Minute {
				t.Errorf("it took %v to find out", took)
			}
			tt.on()
			until(t, "answered", func() bool { return get() == nil })
		})
	}
}

// The program starts without Vault, and signs in when it is there.
func TestDownAtStart(t *testing.T) {
	s := vaulttest.Start(t)
	s.Cut()
	c := signedIn(t, s, byRole(t, s, "1h", "2h"), nil)
	if _, err := (KV{c, "kv"}).Newest(t.Context(), "parley/tenants/a/x"); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("%v, want ErrUnavailable", err)
	}
	if err := c.Ready(); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("ready: %v", err)
	}
	s.Restore()
	ready(t, c)
}

// A wrapped secret id opens once: for us, or for somebody else, which is an alarm.
func TestWrapped(t *testing.T) {
	s := vaulttest.Start(t)
	role, _ := s.AppRole(t, policy, "1h", "2h")
	wrapped := func(path string) string {
		s.Root.SetWrappingLookupFunc(func(string, string) string { return "60s" })
		defer s.Root.SetWrappingLookupFunc(nil)
		got, err := s.Root.Logical().Write(path, map[string]any{})
		if err != nil {
			t.Fatal(err)
		}
		return got.WrapInfo.Token
	}
	file := filepath.Join(t.TempDir(), "id")
	put := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(wrapped("auth/approle/role/parley/secret-id"))
	var log syncText
	c := signedIn(t, s, &AppRole{RoleID: role, SecretID: FromFile(file), Wrapped: true}, slog.New(slog.NewTextHandler(&log, nil)))
	ready(t, c)
	if err := s.Root.Auth().Token().RevokeTree(c.api.Token()); err != nil { // again, by the id in memory
		t.Fatal(err)
	}
	if _, err := (KV{c, "kv"}).Newest(t.Context(), "parley/tenants/a/x"); err != nil {
		t.Error(err)
	}
	for name, token := range map[string]string{"opened": func() string {
		tok := wrapped("auth/approle/role/parley/secret-id")
		if _, err := s.Root.Logical().Unwrap(tok); err != nil {
			t.Fatal(err)
		}
		return tok
	}(), "elsewhere": wrapped("sys/wrapping/wrap")} {
		put(token)
		auth := &AppRole{RoleID: role, SecretID: FromFile(file), Wrapped: true}
		if _, err := auth.signIn(t.Context(), c.api); !errors.Is(err, ErrIntercepted) {
			t.Errorf("%s: %v, want ErrIntercepted", name, err)
		}
	}
	if strings.Contains(log.String(), "hvs.") {
		t.Error("a token is logged")
	}
}

func TestTokens(t *testing.T) {
	s := vaulttest.Start(t)
	c := signedIn(t, s, Token(Fixed(s.Root.Token())), nil) // without an end
	ready(t, c)
	made, err := s.Root.Auth().Token().Create(&api.TokenCreateRequest{Policies: []string{"default"}, TTL: "1h"})
	if err != nil {
		t.Fatal(err)
	}
	got, err := Token(Fixed(made.Auth.ClientToken)).signIn(t.Context(), c.api)
	if err != nil || got.LeaseDuration < 3500 || !got.Renewable {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := Token(Fixed("hvs.none")).signIn(t.Context(), c.api); status(err) != 403 {
		t.Errorf("an unknown token: %v", err)
	}
}

func TestTransit(t *testing.T) {
	s := vaulttest.Start(t)
	s.Write(t, "transit/keys/parley", nil)
	c := signedIn(t, s, byRole(t, s, "1h", "2h"), nil)
	ready(t, c)
	tr, ctx := &Transit{Client: c, Key: "parley"}, t.Context()
	wrapped, err := tr.Wrap(ctx, "tenant a", []byte("key"))
	if err != nil || !strings.HasPrefix(string(wrapped), "vault:v1:") {
		t.Fatalf("%s, %v", wrapped, err)
	}
	if got, err := tr.Unwrap(ctx, "tenant a", wrapped); err != nil || string(got) != "key" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := tr.Unwrap(ctx, "tenant b", wrapped); err == nil || errors.Is(err, control.ErrUnavailable) {
		t.Errorf("opened at another place: %v", err)
	}
	s.Write(t, "transit/keys/parley/rotate", nil)
	again, err := tr.Rewrap(ctx, "tenant a", wrapped)
	if err != nil || !strings.HasPrefix(string(again), "vault:v2:") {
		t.Errorf("%s, %v", again, err)
	}
	key, sealed, err := tr.DataKey(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := tr.Open(ctx, sealed); err != nil || string(got) != string(key) {
		t.Errorf("a data key is opened as another: %v", err)
	}
	if _, err := (&Transit{Client: c, Key: "new"}).Wrap(ctx, "", []byte("x")); !errors.Is(err, ErrDenied) {
		t.Errorf("a key is made: %v", err)
	}
}

// A syncText is a log that is read while it is written.
type syncText struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncText) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
