package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"parley/control/seal"
)

// Defaults of [DataKeys].
const (
	keyFresh = 5 * time.Minute // after which the provider is asked again
	keyStale = time.Hour       // past that, while it does not answer
	keyLimit = 4096            // in memory; one is about 1 KiB
	keyTry   = 2500 * time.Millisecond
	keyAgain = 5 * time.Second // after the provider did not answer
)

// DataKeys has the tenants' data keys: wrapped in the store, unwrapped in memory
// for a while. It makes a tenant's first key when it is needed. It implements
// [Sealer] and is safe for use by several goroutines.
//
// A key is had from the provider again after Fresh. While that does not answer,
// the one in memory serves for Stale longer, and without one the error wraps
// [ErrUnavailable]: writers queue, readers say so.
type DataKeys struct {
	Store    DataKeyStore
	Provider KeyProvider // of new keys
	// Providers returns another by its name, to unwrap what it has wrapped. Nil:
	// there is no other.
	Providers func(name string) (KeyProvider, error)
	Log       *slog.Logger

	Fresh, Stale time.Duration // defaults 5 minutes and 1 hour
	Limit        int           // keys in memory; default 4096
	// Noted is told of each turn to the provider: "ok", "stale" (it failed, and
	// the key in memory serves) or "failed". It may be nil.
	Noted func(outcome string)

	flight singleflight.Group
	mu     sync.Mutex
	kept   map[keyRef]keptKey
	epoch  int // counts Forget: what was asked for before it is not kept
}

var _ Sealer = (*DataKeys)(nil)

// keyRef names a key of a tenant; a zero id is the current one.
type keyRef struct{ tenant, id uuid.UUID }

// keptKey is a key in memory, or for a short while why there is none.
type keptKey struct {
	key   *seal.Key
	err   error
	since time.Time // when it was had
	until time.Time // from when on it is asked for again
}

// Seal implements [Sealer].
func (s *DataKeys) Seal(ctx context.Context, place string, text []byte) ([]byte, error) {
	key, err := s.Current(ctx)
	if err != nil {
		return nil, err
	}
	return key.Text(place, text), nil
}

// Open implements [Sealer].
func (s *DataKeys) Open(ctx context.Context, place string, sealed []byte) ([]byte, error) {
	id, err := seal.KeyOf(sealed)
	if err != nil {
		return nil, err
	}
	key, err := s.Key(ctx, id)
	if err != nil {
		return nil, err
	}
	return key.OpenText(place, sealed)
}

// Blind implements [Sealer].
func (s *DataKeys) Blind(ctx context.Context, words []string) ([]string, error) {
	key, err := s.Current(ctx)
	if err != nil {
		return nil, err
	}
	return blind(key, words), nil
}

// BlindAll implements [Sealer].
func (s *DataKeys) BlindAll(ctx context.Context, words []string) ([][]string, error) {
	list, err := s.Store.DataKeys(ctx)
	if err != nil {
		return nil, err
	}
	var all [][]string
	for _, k := range list {
		if k.Wrapped == nil {
			continue
		}
		key, err := s.Key(ctx, k.ID)
		if errors.Is(err, ErrErased) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, blind(key, words))
	}
	return all, nil
}

func blind(k *seal.Key, words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = k.Word(w)
	}
	return out
}

// Current returns the key that the tenant of ctx seals with now.
func (s *DataKeys) Current(ctx context.Context) (*seal.Key, error) { return s.Key(ctx, uuid.Nil) }

// Key returns a key of the tenant of ctx. Errors: ErrUnavailable, ErrErased, and
// seal.ErrDamaged for an id that the tenant does not have.
func (s *DataKeys) Key(ctx context.Context, id uuid.UUID) (*seal.Key, error) {
	tenant, ok := TenantOf(ctx)
	if !ok {
		return nil, errors.New("a data key is asked for without a tenant")
	}
	ref := keyRef{tenant, id}
	if k, ok := s.recall(ref); ok {
		return k.key, k.err
	}
	got, _, _ := s.flight.Do(tenant.String()+id.String(), func() (any, error) { return s.fetch(ctx, ref), nil })
	k := got.(keptKey)
	return k.key, k.err
}

// recall returns what is in memory and need not be asked for.
func (s *DataKeys) recall(ref keyRef) (keptKey, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.kept[ref]
	return k, ok && time.Now().Before(k.until)
}

// fetch asks the store and the provider, and keeps what comes of it. Several
// may wait for it: it goes on when the one who asked first has left.
func (s *DataKeys) fetch(ctx context.Context, ref keyRef) keptKey {
	s.mu.Lock()
	epoch := s.epoch
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keyTry)
	defer cancel()
	key, err := s.ask(ctx, ref.id)
	now := time.Now()
	k := keptKey{key: key, err: err, since: now, until: now.Add(cmp.Or(s.Fresh, keyFresh))}
	outcome := "ok"

	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.kept[ref]
	switch {
	case err == nil, errors.Is(err, ErrErased):
	case old.key != nil && errors.Is(err, ErrUnavailable) && now.Before(old.since.Add(cmp.Or(s.Fresh, keyFresh)+cmp.Or(s.Stale, keyStale))):
		k, outcome = old, "stale"
		k.until = now.Add(keyAgain)
	default:
		k.until, outcome = now.Add(keyAgain), "failed"
	}
	if s.Noted != nil {
		s.Noted(outcome)
	}
	if epoch == s.epoch {
		s.keep(ref, k)
	}
	return k
}

// keep puts a key into memory, and others out of it where there are too many.
func (s *DataKeys) keep(ref keyRef, k keptKey) {
	if s.kept == nil {
		s.kept = map[keyRef]keptKey{}
	}
	for other := range s.kept {
		if len(s.kept) < cmp.Or(s.Limit, keyLimit) {
			break
		}
		delete(s.kept, other)
	}
	s.kept[ref] = k
	if k.key != nil && ref.id == uuid.Nil { // what it seals is read as well
		s.kept[keyRef{ref.tenant, k.key.ID()}] = k
	}
}

// Forget drops all keys in memory, as when one was destroyed somewhere.
func (s *DataKeys) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kept = nil
	s.epoch++
}

// ask has a key from the store and the provider.
func (s *DataKeys) ask(ctx context.Context, id uuid.UUID) (*seal.Key, error) {
	var k DataKey
	var err error
	if id == uuid.Nil {
		if k, err = s.Store.CurrentDataKey(ctx); errors.Is(err, ErrNotFound) {
			return s.first(ctx)
		}
	} else {
		k, err = s.Store.DataKey(ctx, id)
		err = NotFoundIs(err, seal.ErrDamaged)
	}
	if err != nil {
		return nil, fmt.Errorf("data key: %w", err)
	}
	return s.unwrap(ctx, k)
}

// first makes a tenant's first key, or takes the one that somebody else makes
// at the same time.
func (s *DataKeys) first(ctx context.Context) (*seal.Key, error) {
	key, err := s.make(ctx, uuid.Nil)
	if !errors.Is(err, ErrConflict) {
		return key, err
	}
	k, err := s.Store.CurrentDataKey(ctx)
	if err != nil {
		return nil, fmt.Errorf("data key: %w", err)
	}
	return s.unwrap(ctx, k)
}

// make makes a key current in place of old.
func (s *DataKeys) make(ctx context.Context, old uuid.UUID) (*seal.Key, error) {
	secret := make([]byte, seal.Size)
	_, _ = rand.Read(secret) // never fails (crypto/rand)
	k := DataKey{ID: NewID(), Provider: s.Provider.Name()}
	var err error
	if k.Wrapped, err = s.Provider.Wrap(ctx, keyPlace(ctx, k.ID), secret); err != nil {
		return nil, away("wrap", k.Provider, err)
	}
	if err := s.Store.InsertDataKey(ctx, k, old); err != nil {
		return nil, fmt.Errorf("make a data key: %w", err)
	}
	return seal.NewKey(k.ID, secret)
}

func (s *DataKeys) unwrap(ctx context.Context, k DataKey) (*seal.Key, error) {
	secret, err := s.secret(ctx, k)
	if err != nil {
		return nil, err
	}
	return seal.NewKey(k.ID, secret)
}

// secret unwraps a key.
func (s *DataKeys) secret(ctx context.Context, k DataKey) ([]byte, error) {
	if !k.DestroyedAt.IsZero() {
		return nil, fmt.Errorf("data key %s: %w", k.ID, ErrErased)
	}
	by, err := s.provider(k.Provider)
	if err != nil {
		return nil, away("unwrap", k.Provider, err)
	}
	secret, err := by.Unwrap(ctx, keyPlace(ctx, k.ID), k.Wrapped)
	if err != nil {
		return nil, away("unwrap", k.Provider, err)
	}
	return secret, nil
}

func (s *DataKeys) provider(name string) (KeyProvider, error) {
	switch {
	case name == s.Provider.Name():
		return s.Provider, nil
	case s.Providers == nil:
		return nil, errors.New("this key provider is not set up here")
	}
	return s.Providers(name)
}

// away says that a key cannot be had. Whatever the reason, it may be cured by an
// operator, so that what waits for the key should go on waiting.
func away(what, provider string, err error) error {
	return fmt.Errorf("%s a data key by %s: %w: %w", what, provider, ErrUnavailable, err)
}

// keyPlace is what a data key is bound to where it is wrapped.
func keyPlace(ctx context.Context, id uuid.UUID) string {
	tenant, _ := TenantOf(ctx)
	return "data-key/" + tenant.String() + "/" + id.String()
}
