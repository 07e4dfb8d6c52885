package signaling

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// TelnyxSignature lets webhooks in that Telnyx signed: Ed25519 over
// "timestamp|body" (https://developers.telnyx.com/docs/voice/programmable-voice/voice-api-webhooks).
// TeXML callbacks are signed the same way. It is safe for concurrent use.
type TelnyxSignature struct {
	// Keys are the account's public keys: the current one, and while Telnyx
	// changes it, the next. None: nothing is let in.
	Keys []ed25519.PublicKey
	// Used remembers what has been let in, for all nodes.
	Used interface {
		// Use returns true for the first use of id within ttl.
		Use(ctx context.Context, id string, ttl time.Duration) (bool, error)
	}
}

const (
	telnyxSignatureHeader = "Telnyx-Signature-Ed25519" // base64 of 64 bytes
	telnyxTimestampHeader = "Telnyx-Timestamp"         // Unix seconds
	// telnyxTolerance is how far the clocks may be apart: that of Telnyx's SDKs.
	telnyxTolerance = 5 * time.Minute
	telnyxBody      = 64 << 10
)

// ParseTelnyxKey reads a public key as Mission Control shows it: base64 of 32
// bytes.
func ParseTelnyxKey(text string) (ed25519.PublicKey, error) {
	key, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("a Telnyx public key is base64 of %d bytes, as Mission Control shows it", ed25519.PublicKeySize)
	}
	return key, nil
}

// Guard serves a webhook with next if it is signed, and answers 403 if not. A
// request that came before is answered 200 and does nothing: Telnyx repeats what
// was not answered in time, anybody may repeat what he has seen.
func (s *TelnyxSignature) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, telnyxBody))
		if err != nil {
			http.Error(w, "the request cannot be read", bodyStatus(err))
			return
		}
		stamp, sig := r.Header.Values(telnyxTimestampHeader), r.Header.Values(telnyxSignatureHeader)
		if len(stamp) != 1 || len(sig) != 1 || !s.signed(stamp[0], sig[0], body, time.Now()) {
			http.Error(w, "forbidden", http.StatusForbidden)
			return
		}
		sum := sha256.Sum256(fmt.Appendf(nil, "%s|%s", stamp[0], body))
		first, err := s.Used.Use(r.Context(), hex.EncodeToString(sum[:]), 2*telnyxTolerance)
		if err != nil {
			http.Error(w, "try again", http.StatusServiceUnavailable)
			return
		}
		if !first {
			w.WriteHeader(http.StatusOK)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		next.ServeHTTP(w, r)
	})
}

func bodyStatus(err error) int {
	var long *http.MaxBytesError
	if errors.As(err, &long) {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// signed reports whether one of the keys signed the body at about now.
func (s *TelnyxSignature) signed(stamp, sig string, body []byte, now time.Time) bool {
	sec, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || strconv.FormatInt(sec, 10) != stamp {
		return false
	}
	if apart := now.Sub(time.Unix(sec, 0)); apart > telnyxTolerance || apart < -telnyxTolerance {
		return false
	}
	raw, err := base64.StdEncoding.DecodeString(sig)
	if err != nil || len(raw) != ed25519.SignatureSize {
		return false
	}
	text := append([]byte(stamp+"|"), body...)
	ok := false
	for _, key := range s.Keys {
		ok = len(key) == ed25519.PublicKeySize && ed25519.Verify(key, text, raw) || ok
	}
	return ok
}
