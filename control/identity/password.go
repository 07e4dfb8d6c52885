package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/text/unicode/norm"

	"parley/control"
)

// A Hasher makes and checks passwords by argon2id (RFC 9106), as many at once
// as it was made for: each takes 19 MiB (OWASP's parameters). Passwords are
// normalised first (NFKC, as NIST SP 800-63B advises), so that the same keys on
// another keyboard give the same password.
type Hasher struct {
	slots chan struct{}
	work  atomic.Int64 // computations, for tests
}

// NewHasher returns a Hasher that works on n passwords at once.
func NewHasher(n int) *Hasher { return &Hasher{slots: make(chan struct{}, n)} }

// cost is what argon2id is told.
type cost struct {
	memory, time uint32 // KiB, passes
	threads      uint8
}

var today = cost{19 << 10, 2, 1}

// What a hash from elsewhere may ask for at most, so that importing one cannot
// stop the sign-in of all.
const (
	mostMemory, mostTime, mostThreads = 256 << 10, 10, 8
	mostBcrypt                        = 14
	mostPassword                      = 1024 // bytes
)

func (c cost) head() string {
	return fmt.Sprintf("$argon2id$v=19$m=%d,t=%d,p=%d$", c.memory, c.time, c.threads)
}

// Current tells whether a hash has the form that Hash gives today.
func Current(hash string) bool { return strings.HasPrefix(hash, today.head()) }

// Hash returns the PHC string of a password.
func (h *Hasher) Hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, 16)
	_, _ = rand.Read(salt) // never fails (crypto/rand)
	sum, err := h.argon(ctx, password, salt, today, 32)
	enc := base64.RawStdEncoding
	return today.head() + enc.EncodeToString(salt) + "$" + enc.EncodeToString(sum), err
}

// Verify tells whether the password is that of hash: argon2id with any
// parameters, or bcrypt ($2a$, $2b$, $2y$). With any other, such as an empty
// one, it works as long as with today's parameters and says no.
func (h *Hasher) Verify(ctx context.Context, password, hash string) (bool, error) {
	if strings.HasPrefix(hash, "$2") {
		return h.verifyBcrypt(ctx, password, hash)
	}
	c, salt, want, err := parseHash(hash)
	if err != nil {
		_, err := h.argon(ctx, password, make([]byte, 16), today, 32)
		return false, err
	}
	got, err := h.argon(ctx, password, salt, c, uint32(len(want)))
	return err == nil && subtle.ConstantTimeCompare(got, want) == 1, err
}

var errHash = errors.New("no password hash of a known form")

// parseHash reads the PHC string format of argon2id.
func parseHash(hash string) (c cost, salt, sum []byte, err error) {
	parts := strings.Split(hash, "$") // "", argon2id, v=19, m=…,t=…,p=…, salt, sum
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != "v=19" {
		return c, nil, nil, errHash
	}
	if n, err := fmt.Sscanf(parts[3]+"\n", "m=%d,t=%d,p=%d\n", &c.memory, &c.time, &c.threads); n != 3 || err != nil {
		return c, nil, nil, errHash
	}
	salt, err1 := base64.RawStdEncoding.Strict().DecodeString(parts[4])
	sum, err2 := base64.RawStdEncoding.Strict().DecodeString(parts[5])
	switch {
	case err1 != nil || err2 != nil || len(salt) < 8 || len(salt) > 64 || len(sum) < 16 || len(sum) > 64:
		return c, nil, nil, errHash
	case c.time < 1 || c.time > mostTime || c.threads < 1 || c.threads > mostThreads || c.memory < 8*uint32(c.threads) || c.memory > mostMemory:
		return c, nil, nil, errHash
	}
	return c, salt, sum, nil
}

// verifyBcrypt takes the password as it came: whoever made the hash did not
// normalise it, and cut it after 72 bytes.
func (h *Hasher) verifyBcrypt(ctx context.Context, password, hash string) (bool, error) {
	if n, err := bcrypt.Cost([]byte(hash)); err != nil || n > mostBcrypt {
		_, err := h.argon(ctx, password, make([]byte, 16), today, 32)
		return false, err
	}
	free, err := h.slot(ctx, password)
	if err != nil {
		return false, err
	}
	defer free()
	return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password[:min(len(password), 72)])) == nil, nil
}

func (h *Hasher) argon(ctx context.Context, password string, salt []byte, c cost, size uint32) ([]byte, error) {
	free, err := h.slot(ctx, password)
	if err != nil {
		return nil, err
	}
	defer free()
	return argon2.IDKey([]byte(norm.NFKC.String(password)), salt, c.time, c.memory, c.threads, size), nil
}

// slot waits until one more password may be worked on.
func (h *Hasher) slot(ctx context.Context, password string) (free func(), err error) {
	if len(password) > mostPassword {
		return nil, control.Invalidf("password", "must be at most %d bytes", mostPassword)
	}
	select {
	case h.slots <- struct{}{}:
		h.work.Add(1)
		return func() { <-h.slots }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
