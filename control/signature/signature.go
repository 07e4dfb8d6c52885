// Package signature signs what webhooks send, and verifies it where it is
// received. A receiver written in Go can use it as it is.
//
// The header Parley-Signature is "t=<unix seconds>,v1=<hex>": HMAC-SHA-256
// under the webhook's secret over the time as it stands there, a dot, and the
// body, byte for byte. While a secret is being replaced there is a v1 of each.
package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Header is the name of the header.
const Header = "Parley-Signature"

// Tolerance is how far a sender's clock and ours may differ, for most: what is
// older may be a recording that somebody plays again.
const Tolerance = 5 * time.Minute

// Errors of [Verify].
var (
	ErrMalformed = errors.New("signature: the header is missing or malformed")
	ErrTime      = errors.New("signature: the time is too far from ours")
	ErrMismatch  = errors.New("signature: signed by nobody who has the secret")
)

// Sign returns the header's value for a body sent at t, signed with every
// secret that is live.
func Sign(t time.Time, body []byte, secrets ...string) string {
	at := strconv.FormatInt(t.Unix(), 10)
	var b strings.Builder
	b.WriteString("t=" + at)
	for _, s := range secrets {
		b.WriteString(",v1=" + hex.EncodeToString(sum(s, at, body)))
	}
	return b.String()
}

// Verify returns nil if body, as it came over the wire, was signed with one of
// the secrets at a time no further than tolerance from now. It takes as long
// for a wrong signature as for a right one.
func Verify(header string, body []byte, now time.Time, tolerance time.Duration, secrets ...string) error {
	at := ""
	var given [][]byte
	for part := range strings.SplitSeq(header, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case !ok:
			return ErrMalformed
		case name == "t":
			at = value
		case name == "v1":
			sig, err := hex.DecodeString(value)
			if err != nil {
				return ErrMalformed
			}
			given = append(given, sig)
		} // other versions are for other receivers
	}
	unix, err := strconv.ParseInt(at, 10, 64)
	if err != nil || len(given) == 0 || len(given) > 8 {
		return ErrMalformed
	}
	if age := now.Unix() - unix; age > int64(tolerance/time.Second) || -age > int64(tolerance/time.Second) {
		return ErrTime
	}
	for _, s := range secrets {
		want := sum(s, at, body)
		for _, sig := range given {
			if hmac.Equal(sig, want) {
				return nil
			}
		}
	}
	return ErrMismatch
}

func sum(secret, at string, body []byte) []byte {
	m := hmac.New(sha256.New, []byte(secret))
	m.Write([]byte(at + "."))
	m.Write(body)
	return m.Sum(nil)
}
