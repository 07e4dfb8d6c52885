package identity

import (
	"crypto/hmac"
	"encoding/base64"
	"strings"

	"github.com/google/uuid"

	"parley/control"
)

// A marked token names a row and carries proof that we made it, so that forged
// ones are refused without a look into storage, and the row's tenant need not be
// searched for: HEAD, then tenant, id and 32 random bytes, then their MAC.
type marked struct {
	ring *control.Keyring
	head string // "parley_temp_"
}

const markedBody = 16 + 16 + 32

// mint returns a new token for a row, and its hash, for keeping.
func (m marked) mint(at control.Located) (string, []byte) {
	raw := append(append([]byte{}, at.Tenant[:]...), at.ID[:]...)
	body := base64.RawURLEncoding.EncodeToString(append(raw, control.RandomBytes(32)...))
	token := m.head + body + "." + base64.RawURLEncoding.EncodeToString(m.ring.MAC(m.head, body)[:16])
	return token, m.hash(token)
}

// hash is what is kept of a token.
func (m marked) hash(token string) []byte { return m.ring.MAC(m.head+"hash", token) }

// open returns the row that a token of ours is of; else control.ErrCredentials.
func (m marked) open(token string) (control.Located, error) {
	body, sum, ok := strings.Cut(strings.TrimPrefix(token, m.head), ".")
	got, err := base64.RawURLEncoding.Strict().DecodeString(sum)
	if !ok || err != nil || !hmac.Equal(got, m.ring.MAC(m.head, body)[:16]) {
		return control.Located{}, control.ErrCredentials
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(body)
	if err != nil || len(raw) != markedBody {
		return control.Located{}, control.ErrCredentials
	}
	return control.Located{Tenant: uuid.UUID(raw[:16]), ID: uuid.UUID(raw[16:32])}, nil
}
