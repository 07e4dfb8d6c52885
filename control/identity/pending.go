package identity

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"parley/control"
)

// A PendingStore keeps sign-ins half done, of people who may not be known yet:
// ctx needs no tenant. What is unknown, of another kind, or lapsed is
// control.ErrNotFound.
type PendingStore interface {
	// InsertPending also sweeps what has lapsed.
	InsertPending(ctx context.Context, hash []byte, kind string, sealed []byte, expires time.Time) error
	Pending(ctx context.Context, hash []byte, kind string) ([]byte, error)
	// TakePending returns it once: of many callers one gets it.
	TakePending(ctx context.Context, hash []byte, kind string) ([]byte, error)
}

// Pending keeps sign-ins half done behind secrets. In storage stand the
// secret's MAC and a sealed value, which only the holder of the secret can
// have opened.
type Pending struct {
	Store PendingStore
	Ring  *control.Keyring
}

// Kinds of what is pending.
const (
	pendingTicket   = "ticket"   // the first step is done, the second factor is not
	pendingRegister = "register" // a challenge to register a passkey
	pendingAssert   = "assert"   // a challenge to sign with one
	pendingOIDC     = "oidc"     // a way to an issuer and back
)

const pendingPurpose = "pending-sign-in"

// put keeps v for life and returns its secret.
func (p Pending) put(ctx context.Context, kind string, life time.Duration, v any) (string, error) {
	secret := control.RandomText(32)
	text, err := json.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("keep a sign-in: %w", err)
	}
	hash := p.hash(kind, secret)
	sealed := p.Ring.Seal(pendingPurpose, place(kind, hash), text)
	if err := p.Store.InsertPending(ctx, hash, kind, sealed, time.Now().UTC().Add(life)); err != nil {
		return "", fmt.Errorf("keep a sign-in: %w", err)
	}
	return secret, nil
}

// look reads what a secret stands for; control.ErrCredentials if nothing (any more).
func (p Pending) look(ctx context.Context, kind, secret string, v any) error {
	sealed, err := p.Store.Pending(ctx, p.hash(kind, secret), kind)
	return p.open(kind, secret, sealed, err, v)
}

// take is look, once.
func (p Pending) take(ctx context.Context, kind, secret string, v any) error {
	sealed, err := p.Store.TakePending(ctx, p.hash(kind, secret), kind)
	return p.open(kind, secret, sealed, err, v)
}

func (p Pending) open(kind, secret string, sealed []byte, err error, v any) error {
	if err != nil {
		return control.NotFoundIs(err, control.ErrCredentials)
	}
	text, err := p.Ring.Unseal(pendingPurpose, place(kind, p.hash(kind, secret)), sealed)
	if err != nil {
		return control.ErrCredentials
	}
	return json.Unmarshal(text, v)
}

func (p Pending) hash(kind, secret string) []byte { return p.Ring.MAC(pendingPurpose, kind+" "+secret) }

func place(kind string, hash []byte) string { return kind + " " + hex.EncodeToString(hash) }
