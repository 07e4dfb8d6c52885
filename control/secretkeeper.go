package control

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"parley/agent/effect"
)

// A SecretReader reads values behind references of one scheme. Errors:
// ErrNotFound where there is none; ErrUnavailable while the store does not
// answer. No error holds a value.
type SecretReader interface {
	// ReadSecret also returns the reference with the version that was read, of
	// stores that have versions.
	ReadSecret(ctx context.Context, r SecretRef) (effect.Secret, SecretRef, error)
}

// A SecretKeeper keeps values in versions: a new one does not disturb those
// before, which can be read until the store forgets them.
type SecretKeeper interface {
	SecretReader
	// WriteSecret adds a version and returns its reference. ErrConflict:
	// another was written meanwhile.
	WriteSecret(ctx context.Context, r SecretRef, value effect.Secret) (SecretRef, error)
	// SecretVersions lists what there is, the newest first; none is no error.
	SecretVersions(ctx context.Context, r SecretRef) ([]SecretVersion, error)
	// RetractSecret takes one version back, which nobody has used yet.
	RetractSecret(ctx context.Context, r SecretRef) error
	// ForgetSecret erases all versions for good.
	ForgetSecret(ctx context.Context, r SecretRef) error
}

// A SecretVersion is one value that a secret had, or has.
type SecretVersion struct {
	Version   string
	CreatedAt time.Time
	Readable  bool // false: deleted or destroyed
}

// SecretFiles reads file:///…, the whole text of a file without the line end.
// It is the operator's: a tenant's reference never leads here.
type SecretFiles struct{}

var _ SecretReader = SecretFiles{}

// ReadSecret implements [SecretReader].
func (SecretFiles) ReadSecret(_ context.Context, r SecretRef) (effect.Secret, SecretRef, error) {
	f, err := os.Open(r.Path)
	if os.IsNotExist(err) {
		return "", r, fmt.Errorf("the file of a secret, %s, is not there: %w", r.Path, ErrNotFound)
	}
	if err != nil {
		return "", r, fmt.Errorf("read the file of a secret: %w", err)
	}
	defer f.Close()
	b := make([]byte, maxSecretBytes+1)
	n := 0
	for n < len(b) {
		k, err := f.Read(b[n:])
		n += k
		if err != nil {
			break
		}
	}
	v := strings.TrimRight(string(b[:n]), "\r\n")
	if v == "" || n > maxSecretBytes {
		return "", r, fmt.Errorf("the file of a secret, %s, must hold 1 to %d bytes: %w", r.Path, maxSecretBytes, ErrNotFound)
	}
	return effect.Secret(v), r, nil
}

// SecretEnv reads env://NAME. It is the operator's, as [SecretFiles].
type SecretEnv func(name string) (string, bool)

var _ SecretReader = SecretEnv(nil)

// ReadSecret implements [SecretReader].
func (e SecretEnv) ReadSecret(_ context.Context, r SecretRef) (effect.Secret, SecretRef, error) {
	if v, ok := e(r.Path); ok && v != "" {
		return effect.Secret(v), r, nil
	}
	return "", r, fmt.Errorf("the variable %s is not set: %w", r.Path, ErrNotFound)
}
