// Package seal encrypts what a tenant's callers said: short texts beside the
// rows they stand in, and recordings in chunks that can be read from anywhere.
//
// The bytes are described in docs/encryption.md, so that another program can
// read them. Nothing in this package does I/O but through what it is given, and
// nothing starts a goroutine.
package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"golang.org/x/crypto/chacha20poly1305"
)

// Size is the length of a key's secret, in bytes.
const Size = 32

// ErrDamaged says that sealed bytes were altered, cut short, moved to another
// place, or sealed under another key. Which of these it was cannot be told.
var ErrDamaged = errors.New("seal: damaged, or sealed elsewhere")

// A Key seals and opens. It prints as nothing, and is safe for use by several
// goroutines.
type Key struct {
	id     uuid.UUID
	secret []byte
	text   cipher.AEAD
	word   []byte // of the MAC
}

// NewKey returns the key of a secret of [Size] random bytes, which it keeps.
func NewKey(id uuid.UUID, secret []byte) (*Key, error) {
	if len(secret) != Size {
		return nil, fmt.Errorf("seal: a key has %d bytes, not %d", Size, len(secret))
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "parley seal text 1", Size)
	if err != nil {
		return nil, fmt.Errorf("seal: derive a key: %w", err)
	}
	text, err := chacha20poly1305.NewX(derived)
	if err != nil {
		return nil, fmt.Errorf("seal: derive a key: %w", err)
	}
	word, err := hkdf.Key(sha256.New, secret, nil, "parley seal word 1", Size)
	if err != nil {
		return nil, fmt.Errorf("seal: derive a key: %w", err)
	}
	return &Key{id: id, secret: secret, text: text, word: word}, nil
}

// Word blinds a word for an index that is searched without being opened: the
// same word is the same text, in 16 hexadecimal digits. It is an
// HMAC-SHA-256, cut to 64 bits.
func (k *Key) Word(w string) string {
	mac := hmac.New(sha256.New, k.word)
	mac.Write([]byte(w))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// ID names the key in what it has sealed.
func (k *Key) ID() uuid.UUID { return k.id }

// String keeps the secret out of logs.
func (k *Key) String() string { return "[redacted]" }

// GoString keeps the secret out of logs.
func (k *Key) GoString() string { return "[redacted]" }

// A sealed text is version 1, the key's id, a nonce, and what
// XChaCha20-Poly1305 makes of it. Nonces of 24 random bytes never meet, however
// many texts a key seals.
const (
	textVersion = 1
	textHead    = 1 + 16 + chacha20poly1305.NonceSizeX

	// Overhead is how much longer a sealed text is, in bytes.
	Overhead = textHead + chacha20poly1305.Overhead
)

// Text seals a text, which opens only at the same place, such as the row it
// stands in.
func (k *Key) Text(place string, text []byte) []byte {
	var nonce [chacha20poly1305.NonceSizeX]byte
	_, _ = rand.Read(nonce[:]) // never fails (crypto/rand)
	return k.sealText(nonce, place, text)
}

func (k *Key) sealText(nonce [chacha20poly1305.NonceSizeX]byte, place string, text []byte) []byte {
	out := make([]byte, 0, len(text)+Overhead)
	out = append(out, textVersion)
	out = append(out, k.id[:]...)
	out = append(out, nonce[:]...)
	return k.text.Seal(out, nonce[:], text, textPlace(out[:17], place))
}

// textPlace is what is authenticated beside a text: its version and key, and
// where it stands.
func textPlace(head []byte, place string) []byte {
	return append(bytes.Clone(head), place...)
}

// KeyOf returns the id of the key that a text was sealed with; ErrDamaged for
// what is no sealed text.
func KeyOf(sealed []byte) (uuid.UUID, error) {
	if len(sealed) < Overhead || sealed[0] != textVersion {
		return uuid.Nil, ErrDamaged
	}
	return uuid.UUID(sealed[1:17]), nil
}

// OpenText returns a text, or ErrDamaged.
func (k *Key) OpenText(place string, sealed []byte) ([]byte, error) {
	if id, err := KeyOf(sealed); err != nil || id != k.id {
		return nil, ErrDamaged
	}
	text, err := k.text.Open(nil, sealed[17:textHead], sealed[textHead:], textPlace(sealed[:17], place))
	if err != nil {
		return nil, ErrDamaged
	}
	return text, nil
}
