package control

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
)

// A Keyring derives the program's own keys from one root secret, one for each
// purpose (HKDF-SHA-256, RFC 5869). It prints as nothing.
type Keyring struct{ root []byte }

// NewKeyring takes the root: at least 32 random bytes, kept by the operator.
func NewKeyring(root []byte) (*Keyring, error) {
	if len(root) < 32 {
		return nil, errors.New("the key file must hold at least 32 bytes")
	}
	return &Keyring{root: root}, nil
}

// Key returns the 32 bytes for a purpose.
func (k *Keyring) Key(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, k.root, nil, "parley/"+purpose, 32)
	if err != nil {
		panic(err) // lengths are constant: cannot fail
	}
	return key
}

// Password returns a printable secret for a purpose, such as a database role.
func (k *Keyring) Password(purpose string) string {
	return base64.RawURLEncoding.EncodeToString(k.Key("password/" + purpose))
}

// String keeps the root out of logs.
func (k *Keyring) String() string { return "[redacted]" }

// GoString keeps the root out of logs.
func (k *Keyring) GoString() string { return "[redacted]" }

// Seal encrypts text for storage (AES-256-GCM under the purpose's key); what
// is sealed opens only beside the same place, such as the row it stands in.
func (k *Keyring) Seal(purpose, place string, text []byte) []byte {
	aead := k.aead(purpose)
	nonce := make([]byte, aead.NonceSize())
	_, _ = rand.Read(nonce) // never fails (crypto/rand)
	return aead.Seal(nonce, nonce, text, []byte(place))
}

// Unseal returns what was sealed.
func (k *Keyring) Unseal(purpose, place string, sealed []byte) ([]byte, error) {
	aead := k.aead(purpose)
	n := aead.NonceSize()
	if len(sealed) < n {
		return nil, errors.New("unseal: too short")
	}
	text, err := aead.Open(nil, sealed[:n], sealed[n:], []byte(place))
	if err != nil {
		return nil, errors.New("unseal: damaged, or sealed under another key file")
	}
	return text, nil
}

func (k *Keyring) aead(purpose string) cipher.AEAD {
	block, err := aes.NewCipher(k.Key(purpose))
	if err != nil {
		panic(err) // the key's length is constant: cannot fail
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // AES has the block size of GCM: cannot fail
	}
	return aead
}

// MAC returns the HMAC-SHA-256 of text under the purpose's key.
func (k *Keyring) MAC(purpose string, text string) []byte {
	m := hmac.New(sha256.New, k.Key(purpose))
	m.Write([]byte(text))
	return m.Sum(nil)
}

// RandomBytes returns n random bytes.
func RandomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails (crypto/rand)
	return b
}

// RandomText returns n random bytes in unpadded base64url.
func RandomText(n int) string { return base64.RawURLEncoding.EncodeToString(RandomBytes(n)) }
