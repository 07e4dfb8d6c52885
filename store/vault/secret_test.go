package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"parley/agent/effect"
	"parley/control"
	"parley/store/vault/vaulttest"
)

// rows keeps what is known of secrets in memory, a tenant apart from another.
type rows struct {
	mu sync.Mutex
	of map[string]control.SecretEntry
}

func at(ctx context.Context, key string) string {
	t, _ := control.TenantOf(ctx)
	return t.String() + " " + key
}

func (r *rows) StoredSecret(ctx context.Context, key string) (control.SecretEntry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e, ok := r.of[at(ctx, key)]; ok {
		return e, nil
	}
	return control.SecretEntry{}, control.ErrNotFound
}

func (r *rows) StoredSecrets(context.Context, string, int) ([]control.SecretEntry, error) {
	return nil, nil
}

func (r *rows) PutStoredSecret(ctx context.Context, e control.SecretEntry) (control.SecretEntry, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of[at(ctx, e.Key)].Revision != e.Revision {
		return e, control.ErrConflict
	}
	e.Revision++
	if r.of == nil {
		r.of = map[string]control.SecretEntry{}
	}
	r.of[at(ctx, e.Key)] = e
	return e, nil
}

func (r *rows) DeleteStoredSecret(ctx context.Context, key string, revision int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.of, at(ctx, key))
	return nil
}

func (r *rows) NoteSecretUse(context.Context, string, time.Time) error { return nil }

var place = control.SecretRef{Scheme: control.SchemeVault, Mount: "kv", Path: "parley/tenants"}

func service(c *Client, store control.SecretStore) *control.SecretService {
	keep := &Secrets{Client: c}
	return control.NewSecretService(control.SecretsOptions{Store: store, Keeper: keep, Place: place, Log: slog.New(slog.DiscardHandler),
		Readers: map[string]control.SecretReader{control.SchemeVault: keep}})
}

var crm = &url.URL{Scheme: "https", Host: "api.crm.example"}

// While values are put one after another, no reader goes without one, and each
// reads one that was put.
func TestRotationUnderLoad(t *testing.T) {
	s := vaulttest.Start(t)
	c := signedIn(t, s, byRole(t, s, "1h", "2h"), nil)
	ready(t, c)
	svc := service(c, &rows{})
	ctx := control.WithTenant(t.Context(), control.NewID())
	put := func(v string) {
		if _, err := svc.Put(ctx, control.SecretChange{Key: "crm", Value: effect.Secret(v), Hosts: []string{"api.crm.example"}}); err != nil {
			t.Error(err)
		}
	}
	put("value 0")
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		all.Go(func() {
			last := ""
			for {
				select {
				case <-stop:
					return
				default:
				}
				v, err := svc.Secret(ctx, "crm", crm)
				if err != nil {
					t.Errorf("a reader goes without: %v", err)
					return
				}
				if !strings.HasPrefix(string(v), "value ") || len(string(v)) < len(last) {
					t.Errorf("what is read was not put: it has %d bytes", len(string(v)))
					return
				}
				last = string(v)
			}
		})
	}
	for i := range 20 {
		put(fmt.Sprint("value ", i+1))
		until(t, "the new value is read", func() bool {
			v, _ := svc.Secret(ctx, "crm", crm)
			return string(v) == fmt.Sprint("value ", i+1)
		})
	}
	close(stop)
	all.Wait()
}

// No reference leads a tenant out of its own place, by the API or by the row.
func TestEscapes(t *testing.T) {
	s := vaulttest.Start(t)
	c := signedIn(t, s, byRole(t, s, "1h", "2h"), nil)
	ready(t, c)
	store := &rows{}
	svc := service(c, store)
	mine, theirs := control.NewID(), control.NewID()
	ctx, other := control.WithTenant(t.Context(), mine), control.WithTenant(t.Context(), theirs)
	if _, err := svc.Put(other, control.SecretChange{Key: "crm", Value: "theirs", Hosts: []string{"api.crm.example"}}); err != nil {
		t.Fatal(err)
	}
	base := "parley/tenants/"
	for _, ref := range []string{
		"vault://kv/" + base + theirs.String() + "/crm", "vault:kv/data/" + base + theirs.String() + "/crm",
		"vault://kv/" + base + mine.String() + "/../" + theirs.String() + "/crm", "vault://kv/" + base + mine.String() + "/%2e%2e/" + theirs.String() + "/crm",
		"vault://kv/" + base + mine.String(), "vault://kv/" + base + mine.String() + "x/crm", "vault://sys/" + base + mine.String() + "/crm",
		"vault://kv/ready", "env://PATH", "file:///etc/passwd", "aws-sm://" + base + mine.String() + "/crm", "file://local/" + base + mine.String() + "/crm",
	} {
		_, err := svc.Put(ctx, control.SecretChange{Key: "x", Reference: ref, Hosts: []string{"api.crm.example"}})
		var invalid *control.Invalid
		if !errors.As(err, &invalid) || invalid.Field != "reference" {
			t.Errorf("%s: %v, want it refused", ref, err)
		}
		if r, err := control.ParseSecretRef(ref); err == nil { // somebody wrote the row
			store.of[at(ctx, "x")] = control.SecretEntry{Key: "x", Ref: r, Hosts: []string{"api.crm.example"}, Revision: 1}
			if v, err := service(c, store).Secret(ctx, "x", crm); !errors.Is(err, effect.ErrNoSecret) {
				t.Errorf("%s is followed: %d bytes, %v", ref, len(string(v)), err)
			}
			delete(store.of, at(ctx, "x"))
		}
	}
	for _, key := range []string{"../" + theirs.String() + "/crm", "a/b", "", ".", "..", "a%2fb"} {
		if _, err := svc.Put(ctx, control.SecretChange{Key: key, Value: "v", Hosts: []string{"api.crm.example"}}); err == nil {
			t.Errorf("the key %q is taken", key)
		}
	}
	if _, err := svc.Secret(ctx, "crm", crm); !errors.Is(err, effect.ErrNoSecret) {
		t.Errorf("another's secret by its name: %v", err)
	}
}

// Away, Vault leaves what is in memory; nothing is put; deleted is gone.
func TestServedWhileAway(t *testing.T) {
	s := vaulttest.Start(t)
	c := signedIn(t, s, byRole(t, s, "1h", "2h"), nil)
	ready(t, c)
	svc := service(c, &rows{})
	ctx := control.WithTenant(t.Context(), control.NewID())
	change := control.SecretChange{Key: "crm", Value: "v", Hosts: []string{"api.crm.example"}}
	e, err := svc.Put(ctx, change)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := svc.Secret(ctx, "crm", crm); err != nil || string(v) != "v" {
		t.Fatal(err)
	}
	s.Seal(t)
	if v, err := svc.Secret(ctx, "crm", crm); err != nil || string(v) != "v" {
		t.Errorf("while Vault is sealed: %v", err)
	}
	if _, err := svc.Put(ctx, change); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("put while Vault is sealed: %v", err)
	}
	if err := svc.Delete(ctx, "crm", 0); !errors.Is(err, control.ErrUnavailable) {
		t.Errorf("deleted while Vault is sealed: %v", err)
	}
	s.Unseal(t)
	until(t, "put again", func() bool { _, err = svc.Put(ctx, change); return err == nil })
	if err := svc.Delete(ctx, "crm", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := svc.Secret(ctx, "crm", crm); !errors.Is(err, effect.ErrNoSecret) {
		t.Errorf("a deleted secret: %v", err)
	}
	if n, err := (KV{c, "kv"}).Newest(ctx, e.Ref.Path); n != 0 || err != nil {
		t.Errorf("its value stays in Vault: %d, %v", n, err)
	}
}

// Reads of secrets against Vault, in a process beside this one.
func BenchmarkSecret(b *testing.B) {
	s := vaulttest.Start(b)
	c := signedIn(b, s, byRole(b, s, "1h", "2h"), nil)
	ready(b, c)
	svc := service(c, &rows{})
	ctx := control.WithTenant(b.Context(), control.NewID())
	e, err := svc.Put(ctx, control.SecretChange{Key: "crm", Value: "v", Hosts: []string{"api.crm.example"}})
	if err != nil {
		b.Fatal(err)
	}
	for name, read := range map[string]func() error{
		"cached":   func() error { _, err := svc.Secret(ctx, "crm", crm); return err },
		"uncached": func() error { _, _, err := (&Secrets{Client: c}).ReadSecret(ctx, e.Ref); return err },
	} {
		b.Run(name, func(b *testing.B) {
			took := make([]time.Duration, 0, 1<<20)
			for b.Loop() {
				began := time.Now()
				if err := read(); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "reads/s")
		})
	}
}

func TestMain(m *testing.M) {
	_ = os.Unsetenv("VAULT_TOKEN") // what the machine has is not ours
	os.Exit(m.Run())
}
