package identity

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/singleflight"

	"parley/control"
)

// How signing keys come and go.
const (
	// SigningPeriod is how long tokens are signed with one key.
	SigningPeriod = 30 * 24 * time.Hour
	// signingAhead is how long before its time a key is published: longer than
	// anybody should keep a copy of the key set.
	signingAhead = 24 * time.Hour
	// signingFresh is how long a node relies on what it has read of the keys.
	signingFresh = 30 * time.Second
	// ClockSkew is by how much clocks may differ.
	ClockSkew = time.Minute
)

// A SigningKey says from when on tokens are signed with a key. The key itself
// is derived from the program's root under ID: it is stored nowhere.
type SigningKey struct {
	ID        uuid.UUID
	ActiveAt  time.Time
	RevokedAt time.Time // zero: not revoked
}

// SigningStore keeps when which key signs.
type SigningStore interface {
	// SigningKeys lists the newest ten, the newest first.
	SigningKeys(ctx context.Context) ([]SigningKey, error)
	// InsertSigningKey adds k if newest (nil: none) is still the newest one.
	// Else somebody was faster, and nothing happens.
	InsertSigningKey(ctx context.Context, k SigningKey, newest uuid.UUID) error
	// RevokeSigningKeys revokes all keys but one.
	RevokeSigningKeys(ctx context.Context, but uuid.UUID, at time.Time) error
}

// Signer signs tokens with Ed25519 (RFC 8037) and knows the keys of all nodes.
// Keys follow each other on their own, as they are used; no restart is needed.
// While storage is away it goes on with what it has read.
type Signer struct {
	Store SigningStore
	Ring  *control.Keyring

	seen atomic.Pointer[keySet]
	told atomic.Int64 // how often [Signer.Changed] was called
	read singleflight.Group
}

// A keySet is what was read of the keys, the newest first.
type keySet struct {
	at   time.Time
	told int64 // when it began to be read
	keys []derivedKey
}

type derivedKey struct {
	SigningKey
	private ed25519.PrivateKey
	kid     string
	// until is when the last token that it signed has ended; zero: it signs now
	// or later.
	until time.Time
}

func (k derivedKey) public() ed25519.PublicKey { return k.private.Public().(ed25519.PublicKey) }

// A JWK is a public key (RFC 7517, RFC 8037 §2).
type JWK struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	ID        string `json:"kid"`
	Algorithm string `json:"alg"`
	Use       string `json:"use"`
}

// A JWKS is a set of keys (RFC 7517 §5).
type JWKS struct {
	Keys []JWK `json:"keys"`
}

// JWKS returns the keys of tokens that are, or soon will be, about: the one
// that signs, the next, and those before until their tokens have ended.
func (s *Signer) JWKS(ctx context.Context) (JWKS, error) {
	set, err := s.keys(ctx, signingFresh)
	if err != nil {
		return JWKS{}, err
	}
	out := JWKS{Keys: []JWK{}}
	for _, k := range set.keys {
		if k.good(time.Now()) {
			out.Keys = append(out.Keys, newJWK(k.public(), k.kid))
		}
	}
	return out, nil
}

func newJWK(public ed25519.PublicKey, kid string) JWK {
	return JWK{Type: "OKP", Curve: "Ed25519", X: base64.RawURLEncoding.EncodeToString(public), ID: kid, Algorithm: "EdDSA", Use: "sig"}
}

// good tells whether tokens of the key are taken, or will be.
func (k derivedKey) good(now time.Time) bool {
	return k.RevokedAt.IsZero() && (k.until.IsZero() || now.Before(k.until))
}

// thumbprint names a public key by itself (RFC 7638, RFC 8037 appendix A.3).
func thumbprint(public ed25519.PublicKey) string {
	x := base64.RawURLEncoding.EncodeToString(public)
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// current returns the key to sign with.
func (s *Signer) current(ctx context.Context) (derivedKey, error) {
	set, err := s.keys(ctx, signingFresh)
	if err != nil {
		return derivedKey{}, err
	}
	now := time.Now()
	for _, k := range set.keys {
		if !k.ActiveAt.After(now) && k.RevokedAt.IsZero() {
			return k, nil
		}
	}
	return derivedKey{}, fmt.Errorf("%w: no key signs tokens", control.ErrUnavailable)
}

// public returns the key that tokens name by kid. One that is not known is
// looked for again, at most once a second: another node may have made it.
func (s *Signer) public(ctx context.Context, kid string) (ed25519.PublicKey, error) {
	for _, fresh := range []time.Duration{signingFresh, time.Second} {
		set, err := s.keys(ctx, fresh)
		if err != nil {
			return nil, err
		}
		for _, k := range set.keys {
			if k.kid == kid && k.good(time.Now()) {
				return k.public(), nil
			}
		}
	}
	return nil, control.ErrCredentials
}

// Rotate makes a new key and signs with it from now on. With revoke all others
// are refused at once, and what they have signed: people's programs refresh
// their tokens.
func (s *Signer) Rotate(ctx context.Context, revoke bool) error {
	set, err := s.load(ctx)
	if err != nil {
		return err
	}
	k := SigningKey{ID: control.NewID(), ActiveAt: time.Now().UTC().Truncate(time.Microsecond)}
	if err := s.Store.InsertSigningKey(ctx, k, set.newest().ID); err != nil {
		return fmt.Errorf("rotate the signing key: %w", err)
	}
	if set, err = s.load(ctx); err == nil && set.newest().ID != k.ID {
		return fmt.Errorf("rotate the signing key: %w", control.ErrConflict)
	}
	if err == nil && revoke {
		if err = s.Store.RevokeSigningKeys(ctx, k.ID, time.Now().UTC()); err == nil {
			_, err = s.load(ctx)
		}
	}
	return err
}

// Changed says that keys may have been revoked by another process: what was read
// before serves from now on only while storage is away.
func (s *Signer) Changed() { s.told.Add(1) }

// keys returns what was read at most fresh ago, or reads it. What it has read
// before serves while storage is away.
func (s *Signer) keys(ctx context.Context, fresh time.Duration) (*keySet, error) {
	seen := s.seen.Load()
	if seen != nil && seen.told == s.told.Load() && time.Since(seen.at) < fresh {
		return seen, nil
	}
	v, err, _ := s.read.Do("keys", func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 3*time.Second) // it is for all who wait
		defer cancel()
		return s.refresh(ctx)
	})
	switch {
	case err == nil:
		return v.(*keySet), nil
	case seen != nil && (errors.Is(err, control.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)):
		return seen, nil
	}
	return nil, err
}

// refresh reads the keys, and makes the next one when its time has come.
func (s *Signer) refresh(ctx context.Context) (*keySet, error) {
	set, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	newest := set.newest()
	next := SigningKey{ID: control.NewID()}
	switch {
	case newest.ID == uuid.Nil || !newest.RevokedAt.IsZero():
		next.ActiveAt = now
	case now.After(newest.ActiveAt.Add(SigningPeriod - signingAhead)):
		// Not before all nodes have read of it, however late this is.
		if next.ActiveAt = newest.ActiveAt.Add(SigningPeriod); next.ActiveAt.Before(now.Add(2 * signingFresh)) {
			next.ActiveAt = now.Add(2 * signingFresh)
		}
	default:
		return set, nil
	}
	if err := s.Store.InsertSigningKey(ctx, next, newest.ID); err != nil {
		return nil, fmt.Errorf("make the next signing key: %w", err)
	}
	return s.load(ctx)
}

func (s *Signer) load(ctx context.Context) (*keySet, error) {
	told := s.told.Load()
	rows, err := s.Store.SigningKeys(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the signing keys: %w", err)
	}
	set := &keySet{at: time.Now(), told: told}
	for i, r := range rows {
		k := derivedKey{SigningKey: r, private: ed25519.NewKeyFromSeed(s.Ring.Key("signing/" + r.ID.String()))}
		k.kid = thumbprint(k.public())
		if i > 0 {
			k.until = rows[i-1].ActiveAt.Add(AccessLife + 2*ClockSkew)
		}
		set.keys = append(set.keys, k)
	}
	s.seen.Store(set)
	return set, nil
}

func (s *keySet) newest() SigningKey {
	if len(s.keys) == 0 {
		return SigningKey{}
	}
	return s.keys[0].SigningKey
}
