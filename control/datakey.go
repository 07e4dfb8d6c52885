package control

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
)

// ErrErased says that what is asked for was sealed under a key that was
// destroyed: nobody can read it any more.
var ErrErased = errors.New("control: its key was destroyed")

// A KeyProvider wraps data keys under a key that never leaves it. What it wraps
// at a place it unwraps at the same place only. Implementations are safe for use
// by several goroutines, and return within the context's time.
type KeyProvider interface {
	// Name says which key of whom, as in PARLEY_KEY_PROVIDER: "local",
	// "vault-transit://transit/parley". It stands beside what is wrapped.
	Name() string
	Wrap(ctx context.Context, place string, key []byte) ([]byte, error)
	Unwrap(ctx context.Context, place string, wrapped []byte) ([]byte, error)
	// Rewrap returns what was wrapped under the newest version of the key.
	Rewrap(ctx context.Context, place string, wrapped []byte) ([]byte, error)
}

// A DataKey seals a tenant's texts and recordings. A tenant has one that is
// current, and those before it, which still open what they have sealed.
type DataKey struct {
	ID          uuid.UUID
	Wrapped     []byte // nil: destroyed
	Provider    string // the name of who wrapped it
	CreatedAt   time.Time
	RetiredAt   time.Time // zero: current
	DestroyedAt time.Time // zero: not
}

// DataKeyStore keeps data keys, of the tenant of ctx.
type DataKeyStore interface {
	// LocateDataKeys returns tenants that have a data key, after one, in the
	// order of their ids, at most 200.
	LocateDataKeys(ctx context.Context, after uuid.UUID) ([]Located, error)
	// CurrentDataKey returns ErrNotFound where there is none.
	CurrentDataKey(ctx context.Context) (DataKey, error)
	DataKey(ctx context.Context, id uuid.UUID) (DataKey, error)
	// DataKeys lists all, the newest first.
	DataKeys(ctx context.Context) ([]DataKey, error)
	// InsertDataKey makes k the current key and retires old, the current one so
	// far; zero for none. ErrConflict: another is current by now.
	InsertDataKey(ctx context.Context, k DataKey, old uuid.UUID) error
	// RewrapDataKey replaces what is wrapped, where it still is what it was.
	// ErrConflict: it is not.
	RewrapDataKey(ctx context.Context, k DataKey, was []byte) error
	// DestroyDataKeys forgets what is wrapped, for ever, of one key or with a
	// zero id of all, and returns how many. Every process is told.
	DestroyDataKeys(ctx context.Context, id uuid.UUID) (int, error)
	// EraseClear deletes what was said and remembered of the tenant and stands
	// in clear, some rows at a time, and returns how many. What counts and bills
	// stays.
	EraseClear(ctx context.Context) (int, error)
	// SealClear seals what stands in clear from before there were keys, some rows
	// at a time, and returns how many.
	SealClear(ctx context.Context) (int, error)
}

// A Sealer seals texts with the current key of the tenant of ctx. The place is
// where a text stands, and part of what is authenticated. Errors: ErrUnavailable
// while the key cannot be had, ErrErased, seal.ErrDamaged.
type Sealer interface {
	Seal(ctx context.Context, place string, text []byte) ([]byte, error)
	Open(ctx context.Context, place string, sealed []byte) ([]byte, error)
	// Blind returns how words are written for a search, each under the current
	// key; BlindAll under every key that the tenant still has, a list each.
	Blind(ctx context.Context, words []string) ([]string, error)
	BlindAll(ctx context.Context, words []string) ([][]string, error)
}

// LocalKeys wraps data keys under the program's own keyring, which is as safe as
// its key file.
type LocalKeys struct{ Ring *Keyring }

var _ KeyProvider = LocalKeys{}

// LocalProvider is the name of [LocalKeys].
const LocalProvider = "local"

// Name implements [KeyProvider].
func (LocalKeys) Name() string { return LocalProvider }

// Wrap implements [KeyProvider].
func (l LocalKeys) Wrap(_ context.Context, place string, key []byte) ([]byte, error) {
	return l.Ring.Seal("data-keys", place, key), nil
}

// Unwrap implements [KeyProvider].
func (l LocalKeys) Unwrap(_ context.Context, place string, wrapped []byte) ([]byte, error) {
	return l.Ring.Unseal("data-keys", place, wrapped)
}

// Rewrap implements [KeyProvider]. A key file has one version.
func (l LocalKeys) Rewrap(ctx context.Context, place string, wrapped []byte) ([]byte, error) {
	key, err := l.Unwrap(ctx, place, wrapped)
	if err != nil {
		return nil, err
	}
	return l.Wrap(ctx, place, key)
}
