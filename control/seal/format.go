package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/google/uuid"
)

// A sealed file is a header of 64 bytes and chunks of 64 KiB, the last of which
// may be shorter, each followed by its tag. It is the STREAM construction (Hoang,
// Reyhanitabar, Rogaway, Vizár: Online Authenticated-Encryption and its
// Nonce-Reuse Misuse-Resistance, 2015) over AES-256-GCM with a key of the file's
// own, as in Tink's AES-GCM-HKDF streaming.
const (
	// Chunk is how much of a file is sealed at once, in bytes: as much as has to
	// be read for any byte of it.
	Chunk = 64 << 10

	headerSize = 64
	tagSize    = 16
	sealedSize = Chunk + tagSize
	maxChunks  = 1 << 32
)

// magic begins a sealed file; its last byte is the format's version.
var magic = [8]byte{'P', 'A', 'R', 'L', 'E', 'Y', 'S', 1}

// Kinds of chunks, the last byte of their nonces. A file that ends with lastHead
// had its first bytes written again at the end, so that its first chunk is of
// kind head; the version of it that stood there meanwhile no longer opens.
const (
	kindMore     = 0 // another chunk follows
	kindLast     = 1
	kindHead     = 2 // the first chunk, as it was left at the end
	kindLastHead = 3
)

// A header is what a file begins with: magic, the key's id, a salt, the first
// seven bytes of all nonces, and the binary logarithm of the chunk's size.
type header [headerSize]byte

func newHeader(id uuid.UUID, salt [32]byte, prefix [7]byte) header {
	var h header
	copy(h[:], magic[:])
	copy(h[8:], id[:])
	copy(h[24:], salt[:])
	copy(h[56:], prefix[:])
	h[63] = 16
	return h
}

func (h *header) known() bool { return [8]byte(h[:8]) == magic && h[63] == 16 }

func (h *header) key() uuid.UUID { return uuid.UUID(h[8:24]) }

// chunks seals and opens the chunks of one file. Its nonce is a field, so that
// a chunk costs no allocation; one goroutine uses it at a time.
type chunks struct {
	aead  cipher.AEAD
	nonce [12]byte
}

// file derives the chunks' key, which depends on every bit of the header and on
// the place.
func (k *Key) file(h *header, place string) (*chunks, error) {
	derived, err := hkdf.Key(sha256.New, k.secret, h[24:56], "parley seal file 1\x00"+string(h[:])+place, Size)
	if err != nil {
		return nil, fmt.Errorf("seal: derive a file's key: %w", err)
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, fmt.Errorf("seal: derive a file's key: %w", err)
	}
	c := &chunks{}
	if c.aead, err = cipher.NewGCM(block); err != nil {
		return nil, fmt.Errorf("seal: derive a file's key: %w", err)
	}
	copy(c.nonce[:7], h[56:63])
	return c, nil
}

// seal encrypts plain in place; it must have room for the tag.
func (c *chunks) seal(index int64, kind byte, plain []byte) []byte {
	return c.aead.Seal(plain[:0], c.number(index, kind), plain, nil)
}

// open decrypts sealed into dst, which may be sealed[:0] but then loses it where
// it fails.
func (c *chunks) open(dst []byte, index int64, kind byte, sealed []byte) ([]byte, error) {
	plain, err := c.aead.Open(dst, c.number(index, kind), sealed, nil)
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

func (c *chunks) number(index int64, kind byte) []byte {
	binary.BigEndian.PutUint32(c.nonce[7:11], uint32(index))
	c.nonce[11] = kind
	return c.nonce[:]
}

// PlainSize returns how long a sealed file's contents are, by its own length;
// false if no file is of that length.
func PlainSize(sealed int64) (int64, bool) {
	body := sealed - headerSize
	whole, rest := body/sealedSize, body%sealedSize
	switch {
	case body < tagSize || whole > maxChunks || rest > 0 && rest < tagSize:
		return 0, false
	case rest == 0:
		return whole * Chunk, true
	}
	return whole*Chunk + rest - tagSize, true
}
