package control

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"parley/control/seal"
)

// keyShelf is a [DataKeyStore] in memory, of one tenant.
type keyShelf struct {
	DataKeyStore
	mu    sync.Mutex
	keys  []DataKey
	err   error
	reads int
}

func (s *keyShelf) CurrentDataKey(context.Context) (DataKey, error) {
	return s.find(func(k DataKey) bool { return k.RetiredAt.IsZero() })
}

func (s *keyShelf) DataKey(_ context.Context, id uuid.UUID) (DataKey, error) {
	return s.find(func(k DataKey) bool { return k.ID == id })
}

func (s *keyShelf) find(is func(DataKey) bool) (DataKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	for _, k := range s.keys {
		if s.err == nil && is(k) {
			return k, nil
		}
	}
	if s.err != nil {
		return DataKey{}, s.err
	}
	return DataKey{}, ErrNotFound
}

func (s *keyShelf) DataKeys(context.Context) ([]DataKey, error) { return s.keys, nil }

func (s *keyShelf) InsertDataKey(_ context.Context, k DataKey, old uuid.UUID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, o := range s.keys {
		switch {
		case !o.RetiredAt.IsZero():
		case o.ID == old:
			s.keys[i].RetiredAt = time.Now()
		default:
			return ErrConflict
		}
	}
	s.keys = append(s.keys, k)
	return nil
}

func (s *keyShelf) RewrapDataKey(_ context.Context, k DataKey, was []byte) error {
	for i, o := range s.keys {
		if o.ID == k.ID && bytes.Equal(o.Wrapped, was) {
			s.keys[i] = k
			return nil
		}
	}
	return ErrConflict
}

func (s *keyShelf) DestroyDataKeys(_ context.Context, id uuid.UUID) (int, error) {
	for i := range s.keys {
		if id == uuid.Nil || s.keys[i].ID == id {
			s.keys[i].Wrapped, s.keys[i].DestroyedAt, s.keys[i].RetiredAt = nil, time.Now(), time.Now()
		}
	}
	return len(s.keys), nil
}

func (s *keyShelf) EraseClear(context.Context) (int, error) { return 3, nil }

// someProvider wraps by a version that stands before the key, and can be away.
type someProvider struct {
	LocalKeys
	name    string
	version byte
	mu      sync.Mutex
	err     error
	slow    time.Duration
	asked   int
}

func (p *someProvider) Name() string { return p.name }

func (p *someProvider) Wrap(ctx context.Context, place string, key []byte) ([]byte, error) {
	if err := p.wait(ctx); err != nil {
		return nil, err
	}
	b, err := p.LocalKeys.Wrap(ctx, place, key)
	return append([]byte{p.version}, b...), err
}

func (p *someProvider) Unwrap(ctx context.Context, place string, wrapped []byte) ([]byte, error) {
	if err := p.wait(ctx); err != nil {
		return nil, err
	}
	return p.LocalKeys.Unwrap(ctx, place, wrapped[1:])
}

func (p *someProvider) Rewrap(ctx context.Context, place string, wrapped []byte) ([]byte, error) {
	key, err := p.Unwrap(ctx, place, wrapped)
	if err != nil {
		return nil, err
	}
	return p.Wrap(ctx, place, key)
}

func (p *someProvider) wait(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked++
	if p.slow > 0 {
		select {
		case <-time.After(p.slow):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return p.err
}

func ringOf(t testing.TB, n byte) *Keyring {
	t.Helper()
	ring, err := NewKeyring(bytes.Repeat([]byte{n}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

type keyWorld struct {
	*DataKeys
	shelf    *keyShelf
	provider *someProvider
	ctx      context.Context
	outcomes []string
}

func newKeyWorld(t testing.TB) *keyWorld {
	w := &keyWorld{shelf: &keyShelf{}, provider: &someProvider{LocalKeys: LocalKeys{ringOf(t, 1)}, name: "some://key"}}
	w.ctx = WithTenant(t.Context(), uuid.New())
	w.DataKeys = &DataKeys{Store: w.shelf, Provider: w.provider, Noted: func(o string) { w.outcomes = append(w.outcomes, o) }}
	return w
}

func (w *keyWorld) opens(t testing.TB, sealed []byte, want string) {
	t.Helper()
	if got, err := w.Open(w.ctx, "p", sealed); err != nil || string(got) != want {
		t.Fatalf("opened %q, %v, want %q", got, err, want)
	}
}

func (w *keyWorld) seal(t testing.TB, text string) []byte {
	t.Helper()
	sealed, err := w.Seal(w.ctx, "p", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func TestDataKeysMakeOneKey(t *testing.T) {
	w := newKeyWorld(t)
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() { w.opens(t, w.seal(t, fmt.Sprint(i)), fmt.Sprint(i)) })
	}
	all.Wait()
	if len(w.shelf.keys) != 1 || w.provider.asked != 1 || w.shelf.reads != 1 {
		t.Errorf("%d keys, asked %d times, read %d times; want 1 each", len(w.shelf.keys), w.provider.asked, w.shelf.reads)
	}
	if _, err := w.Seal(t.Context(), "p", nil); err == nil {
		t.Error("a text is sealed for nobody")
	}
}

func TestDataKeysAreBound(t *testing.T) {
	w := newKeyWorld(t)
	sealed := w.seal(t, "a")
	if _, err := w.Open(w.ctx, "q", sealed); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("at another place: %v", err)
	}
	// The row of the key, given to another tenant, unwraps no more.
	other := WithTenant(t.Context(), uuid.New())
	if _, err := w.Open(other, "p", sealed); err == nil {
		t.Error("another tenant opens it by a copy of the key's row")
	}
	if _, err := w.Open(w.ctx, "p", []byte("hello")); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("what is not sealed: %v", err)
	}
	w.shelf.keys = nil
	w.Forget()
	if _, err := w.Open(w.ctx, "p", sealed); !errors.Is(err, seal.ErrDamaged) {
		t.Errorf("under a key that there is not: %v", err)
	}
}

func TestDataKeysGoStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeyWorld(t)
		sealed := w.seal(t, "a")
		w.provider.err = errors.New("403")
		time.Sleep(4 * time.Minute)
		w.opens(t, sealed, "a") // fresh
		time.Sleep(time.Hour)
		w.opens(t, sealed, "a") // stale
		w.opens(t, w.seal(t, "b"), "b")
		asked := w.provider.asked
		w.opens(t, sealed, "a")
		if w.provider.asked != asked {
			t.Error("a provider that fails is asked each time")
		}
		time.Sleep(2 * time.Minute)
		if _, err := w.Open(w.ctx, "p", sealed); !errors.Is(err, ErrUnavailable) {
			t.Errorf("an hour past: %v, want ErrUnavailable", err)
		}
		if _, err := w.Seal(w.ctx, "p", nil); !errors.Is(err, ErrUnavailable) {
			t.Errorf("sealing, an hour past: %v, want ErrUnavailable", err)
		}
		w.provider.err = nil
		time.Sleep(keyAgain)
		w.opens(t, sealed, "a")
	})
}

// Who first needs a key of a provider that hangs waits for a while; the others
// wait with them, and those that come after not at all.
func TestDataKeysWaitForASlowProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newKeyWorld(t)
		w.provider.slow = time.Minute
		began := time.Now()
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if _, err := w.Seal(w.ctx, "p", nil); !errors.Is(err, ErrUnavailable) {
					t.Errorf("sealed: %v, want ErrUnavailable", err)
				}
			})
		}
		all.Wait()
		if _, err := w.Seal(w.ctx, "p", nil); !errors.Is(err, ErrUnavailable) {
			t.Errorf("sealed: %v, want ErrUnavailable", err)
		}
		if took := time.Since(began); took != keyTry || w.provider.asked != 1 {
			t.Errorf("%v and %d questions, want %v and 1", took, w.provider.asked, keyTry)
		}
	})
}

func TestDataKeysRotate(t *testing.T) {
	w := newKeyWorld(t)
	first := w.seal(t, "a")
	id, err := w.Rotate(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	second := w.seal(t, "b")
	if k, _ := seal.KeyOf(second); k != id || bytes.Equal(first[:17], second[:17]) {
		t.Errorf("sealed under %s, want %s", k, id)
	}
	w.opens(t, first, "a")
	w.opens(t, second, "b")
	if err := w.Destroy(w.ctx, id); !errors.Is(err, ErrConflict) {
		t.Errorf("the current key is destroyed: %v", err)
	}
	old, _ := seal.KeyOf(first)
	if err := w.Destroy(w.ctx, old); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Open(w.ctx, "p", first); !errors.Is(err, ErrErased) {
		t.Errorf("under a destroyed key: %v, want ErrErased", err)
	}
	w.opens(t, second, "b")
}

func TestDataKeysRewrap(t *testing.T) {
	w := newKeyWorld(t)
	first := w.seal(t, "a")
	if _, err := w.Rotate(w.ctx); err != nil {
		t.Fatal(err)
	}
	second := w.seal(t, "b")

	w.provider.version = 2 // the provider's key was rotated
	if n, err := w.Rewrap(w.ctx); n != 2 || err != nil {
		t.Fatalf("rewrapped %d, %v", n, err)
	}
	for _, k := range w.shelf.keys {
		if k.Wrapped[0] != 2 {
			t.Errorf("a key is still under version %d", k.Wrapped[0])
		}
	}

	old := w.provider // and then given up for another
	w.Provider = &someProvider{LocalKeys: LocalKeys{ringOf(t, 2)}, name: "other://key"}
	w.Forget()
	if _, err := w.Open(w.ctx, "p", first); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without the provider that wrapped it: %v", err)
	}
	w.Forget()
	w.Providers = func(string) (KeyProvider, error) { return old, nil }
	w.opens(t, first, "a")
	if n, err := w.Rewrap(w.ctx); n != 2 || err != nil {
		t.Fatalf("rewrapped %d, %v", n, err)
	}
	w.Providers = nil
	w.Forget()
	w.opens(t, first, "a")
	w.opens(t, second, "b")
}

// noBlobs are the files of a tenant.
type noBlobs struct{ deleted uuid.UUID }

func (b *noBlobs) DeleteTenant(_ context.Context, t uuid.UUID) error { b.deleted = t; return nil }

func TestDataKeysShred(t *testing.T) {
	w := newKeyWorld(t)
	sealed := w.seal(t, "a")
	var blobs noBlobs
	done, err := w.Shred(w.ctx, &blobs)
	tenant, _ := TenantOf(w.ctx)
	if err != nil || done != (Shredding{Keys: 1, Rows: 3}) || blobs.deleted != tenant {
		t.Errorf("%+v, %v, files of %s", done, err, blobs.deleted)
	}
	if _, err := w.Open(w.ctx, "p", sealed); !errors.Is(err, ErrErased) {
		t.Errorf("opened: %v, want ErrErased", err)
	}
	w.opens(t, w.seal(t, "b"), "b") // the tenant goes on, under a new key
}

func TestDataKeysAreBounded(t *testing.T) {
	w := newKeyWorld(t)
	w.Limit = 10
	for range 50 {
		w.shelf.keys = nil
		w.ctx = WithTenant(t.Context(), uuid.New())
		w.seal(t, "a")
	}
	if n := len(w.kept); n > 11 {
		t.Errorf("%d keys in memory, want 10 or so", n)
	}
}

func TestSpoolLineIsSealed(t *testing.T) {
	s := &Calls{Ring: ringOf(t, 1)}
	r := record{Tenant: uuid.New(), Recording: &Recording{Key: "my-canary"}}
	line, err := s.spoolLine(3, r)
	if err != nil || bytes.Contains(line, []byte("canary")) {
		t.Fatalf("%s, %v", line, err)
	}
	if got, err := s.readSpoolLine(3, line); err != nil || *got.Recording != *r.Recording || got.Tenant != r.Tenant {
		t.Errorf("read %+v, %v", got, err)
	}
	if _, err := s.readSpoolLine(4, line); err == nil {
		t.Error("a line is read in another's place")
	}
	clear, _ := (&Calls{}).spoolLine(0, r)
	if got, err := s.readSpoolLine(0, clear); err != nil || *got.Recording != *r.Recording {
		t.Errorf("a line in clear: %+v, %v", got, err)
	}
}
