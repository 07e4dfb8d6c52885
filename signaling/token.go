package signaling

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"
)

// TokenLife is how long a media token may wait for its socket. Twilio dials
// the stream within a second of reading the TwiML; the rest is for its retries.
const TokenLife = 60 * time.Second

// ResumeLife is how long a resume token is good for: the longest call, and the
// time to come back to it. Whether there is anything to come back to, Desk knows.
const ResumeLife = 5 * time.Hour

// ErrToken says that a token is forged, late, used, or for another call.
// Callers learn no more, so that a guess teaches nothing.
var ErrToken = errors.New("signaling: token is not good")

// MediaTokens makes and redeems the tokens that open a carrier's media socket.
// A token is bound to one carrier's call and one of ours, and opens one socket.
// Nothing of it is stored before it is used. It is safe for concurrent use.
//
// With another key and life they are a browser's resume tokens too; there the
// agent stands in the place of the carrier's call, and who began it behind ours.
type MediaTokens struct {
	// Key signs tokens (HMAC-SHA-256). At least 32 bytes, the same on all nodes.
	Key []byte

	// Life is how long a token is good for. Default [TokenLife].
	Life time.Duration

	// Shared remembers used tokens for all nodes. This node's own memory is
	// always asked first, and alone where Shared is nil or fails.
	Shared Used

	local UsedHere
}

// Used remembers which tokens were used.
type Used interface {
	// Use reports whether id is used for the first time, and remembers it for
	// at least ttl.
	Use(ctx context.Context, id string, ttl time.Duration) (first bool, err error)
}

// A MediaClaim is what a redeemed token says.
type MediaClaim struct {
	CallID  string // ours
	carrier [sidHash]byte
}

// A token is the base64url form of
// expiry (4 bytes, Unix seconds) | id (12) | hash of the CallSid (16) | CallID | tag (16).
const (
	idAt      = 4
	sidAt     = idAt + 12
	sidHash   = 16
	callAt    = sidAt + sidHash
	tagSize   = 16 // half of SHA-256: RFC 2104 §5 allows it, and it halves the path
	maxCallID = 64
	maxToken  = (callAt + maxCallID + tagSize + 2) / 3 * 4
)

// Mint returns a new token for a carrier's call (Twilio: CallSid) and ours.
func (t *MediaTokens) Mint(carrierCallID, callID string) (string, error) {
	if len(t.Key) < 32 {
		return "", errors.New("mint media token: the key is shorter than 32 bytes")
	}
	if callID == "" || len(callID) > maxCallID {
		return "", fmt.Errorf("mint media token: call id of %d bytes", len(callID))
	}
	b := make([]byte, callAt, callAt+len(callID)+tagSize)
	binary.BigEndian.PutUint32(b, uint32(time.Now().Add(cmp.Or(t.Life, TokenLife)).Unix()))
	if _, err := rand.Read(b[idAt:sidAt]); err != nil {
		return "", fmt.Errorf("mint media token: %w", err)
	}
	sid := hashSID(carrierCallID)
	copy(b[sidAt:], sid[:])
	b = append(b, callID...)
	b = append(b, t.tag(b)...)
	return base64.RawURLEncoding.EncodeToString(b), nil
}

// Redeem checks a token and uses it up. Its error is [ErrToken].
func (t *MediaTokens) Redeem(ctx context.Context, token string) (MediaClaim, error) {
	body, left, err := t.open(token)
	if err != nil || !t.first(ctx, string(body[idAt:sidAt]), left) {
		return MediaClaim{}, ErrToken
	}
	return claimOf(body), nil
}

// Look checks a token without using it up: it may be used already. Its error is
// [ErrToken].
func (t *MediaTokens) Look(token string) (MediaClaim, error) {
	body, _, err := t.open(token)
	if err != nil {
		return MediaClaim{}, err
	}
	return claimOf(body), nil
}

// open returns what a token says, and how long it is good for.
func (t *MediaTokens) open(token string) (body []byte, left time.Duration, err error) {
	if len(token) > maxToken || len(t.Key) < 32 {
		return nil, 0, ErrToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) <= callAt+tagSize {
		return nil, 0, ErrToken
	}
	body, tag := b[:len(b)-tagSize], b[len(b)-tagSize:]
	if !hmac.Equal(tag, t.tag(body)) {
		return nil, 0, ErrToken
	}
	if left = time.Until(time.Unix(int64(binary.BigEndian.Uint32(body)), 0)); left <= 0 {
		return nil, 0, ErrToken
	}
	return body, left, nil
}

func claimOf(body []byte) MediaClaim {
	c := MediaClaim{CallID: string(body[callAt:])}
	copy(c.carrier[:], body[sidAt:callAt])
	return c
}

// For reports whether the token was made for this carrier's call.
func (c MediaClaim) For(carrierCallID string) bool {
	h := hashSID(carrierCallID)
	return hmac.Equal(h[:], c.carrier[:])
}

func (t *MediaTokens) first(ctx context.Context, id string, ttl time.Duration) bool {
	if ok, _ := t.local.Use(ctx, id, ttl); !ok {
		return false
	}
	if t.Shared == nil {
		return true
	}
	ok, err := t.Shared.Use(ctx, id, ttl)
	return ok || err != nil
}

func (t *MediaTokens) tag(b []byte) []byte {
	m := hmac.New(sha256.New, t.Key)
	m.Write([]byte("parley media token 1\n")) // the key may sign other things too
	m.Write(b)
	return m.Sum(nil)[:tagSize]
}

func hashSID(s string) (h [sidHash]byte) {
	sum := sha256.Sum256([]byte(s))
	copy(h[:], sum[:])
	return h
}

// usedMax bounds [UsedHere]: a thousand sockets a second for [TokenLife], or four
// pages a second that come back for [ResumeLife].
const usedMax = 1 << 16

// UsedHere is a [Used] in this process's memory, bounded; when full it takes no
// new id until one has expired. The zero value is ready.
type UsedHere struct {
	mu    sync.Mutex
	until map[string]time.Time
	swept time.Time
}

// Use implements [Used]. It never fails.
func (u *UsedHere) Use(_ context.Context, id string, ttl time.Duration) (bool, error) {
	now := time.Now()
	u.mu.Lock()
	defer u.mu.Unlock()
	if until, ok := u.until[id]; ok && now.Before(until) {
		return false, nil
	}
	if u.until == nil {
		u.until = make(map[string]time.Time)
	}
	if now.Sub(u.swept) > time.Second {
		u.swept = now
		for k, t := range u.until {
			if !now.Before(t) {
				delete(u.until, k)
			}
		}
	}
	if len(u.until) >= usedMax {
		return false, nil
	}
	u.until[id] = now.Add(ttl)
	return true, nil
}
