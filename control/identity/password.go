package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"strings"

	"golang.org/x/crypto/argon2"

	"parley/control"
)

// A Hasher makes and checks passwords by argon2id (RFC 9106), as many at once
// as it was made for: each takes 19 MiB (OWASP's parameters).
type Hasher struct{ slots chan struct{} }

// NewHasher returns a Hasher that works on n passwords at once.
func NewHasher(n int) *Hasher { return &Hasher{slots: make(chan struct{}, n)} }

const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonHead   = "$argon2id$v=19$m=19456,t=2,p=1$"
)

// Hash returns the PHC string of a password.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	sum, err := h.sum(ctx, password, salt)
	enc := base64.RawStdEncoding
	return argonHead + enc.EncodeToString(salt) + "$" + enc.EncodeToString(sum), err
}

// Verify tells whether the password is that of hash. With an empty hash it
// works as long and says no.
func (h *Hasher) Verify(ctx context.Context, password, hash string) (bool, error) {
	salt, want := make([]byte, 16), []byte(nil)
	if rest, ok := strings.CutPrefix(hash, argonHead); ok {
		a, b, _ := strings.Cut(rest, "$")
		salt, _ = base64.RawStdEncoding.DecodeString(a)
		want, _ = base64.RawStdEncoding.DecodeString(b)
	}
	got, err := h.sum(ctx, password, salt)
	return err == nil && len(want) == 32 && subtle.ConstantTimeCompare(got, want) == 1, err
}

func (h *Hasher) sum(ctx context.Context, password string, salt []byte) ([]byte, error) {
	if len(password) > 1024 {
		return nil, control.Invalidf("password", "must be at most 1024 bytes")
	}
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return argon2.IDKey([]byte(password), salt, argonTime, argonMemory, 1, 32), nil
}
