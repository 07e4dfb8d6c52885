package signaling

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// seen remembers in a map, or fails.
type seen struct {
	ids map[string]bool
	err error
}

func (s *seen) Use(_ context.Context, id string, _ time.Duration) (bool, error) {
	first := !s.ids[id]
	s.ids[id] = true
	return first, s.err
}

// telnyxKey is the key of RFC 8032 §7.1, test 1.
func telnyxKey(t *testing.T) ed25519.PrivateKey {
	seed, err := hex.DecodeString("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
	if err != nil {
		t.Fatal(err)
	}
	return ed25519.NewKeyFromSeed(seed)
}

func telnyxSign(key ed25519.PrivateKey, stamp, body string) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(key, []byte(stamp+"|"+body)))
}

func TestTelnyxSignature(t *testing.T) {
	key := telnyxKey(t)
	pub, err := ParseTelnyxKey("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	if err != nil || !pub.Equal(key.Public()) {
		t.Fatalf("ParseTelnyxKey: %v", err)
	}
	const body = `{"data":{"id":"1","event_type":"call.initiated"}}`
	synctest.Test(t, func(t *testing.T) {
		at := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
		now := at(0)
		other := ed25519.NewKeyFromSeed(make([]byte, 32))
		tests := []struct {
			name, stamp, sig, body string
			want                   int
		}{
			{"good", now, telnyxSign(key, now, body), body, 200},
			{"early-by-5-min", at(-5 * time.Minute), telnyxSign(key, at(-5*time.Minute), body), body, 200},
			{"late", at(-301 * time.Second), telnyxSign(key, at(-301*time.Second), body), body, 403},
			{"from-the-future", at(301 * time.Second), telnyxSign(key, at(301*time.Second), body), body, 403},
			{"another-body", now, telnyxSign(key, now, body), body + " ", 403},
			{"another-time", at(time.Second), telnyxSign(key, now, body), body, 403},
			{"another-key", now, telnyxSign(other, now, body), body, 403},
			{"moved-bar", now[:9], telnyxSign(key, now, body), now[9:] + "|" + body, 403},
			{"no-signature", now, "", body, 403},
			{"no-time", "", telnyxSign(key, "", body), body, 403},
			{"padded-time", "+" + now, telnyxSign(key, "+"+now, body), body, 403},
			{"url-alphabet", now, strings.NewReplacer("+", "-", "/", "_").Replace(telnyxSign(key, now, body)) + "-", body, 403},
			{"empty-body", now, telnyxSign(key, now, ""), "", 200},
			{"too-long", now, telnyxSign(key, now, body), strings.Repeat("a", telnyxBody+1), 413},
		}
		for _, tt := range tests {
			got := ""
			s := &TelnyxSignature{Keys: []ed25519.PublicKey{other.Public().(ed25519.PublicKey)[:3], pub}, Used: &seen{ids: map[string]bool{}}}
			h := s.Guard(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				got += string(b) + ";"
			}))
			for range 2 { // the second is a repeat
				r := httptest.NewRequest("POST", "/telnyx/voice", strings.NewReader(tt.body))
				r.Header.Set("telnyx-timestamp", tt.stamp)
				r.Header.Set("telnyx-signature-ed25519", tt.sig)
				w := httptest.NewRecorder()
				h.ServeHTTP(w, r)
				if w.Code != tt.want {
					t.Errorf("%s: %d, want %d", tt.name, w.Code, tt.want)
				}
			}
			if want := map[bool]string{true: tt.body + ";"}[tt.want == 200]; got != want {
				t.Errorf("%s: handled %q, want %q: what is good once, and nothing else", tt.name, got, want)
			}
		}
	})
}

func TestTelnyxSignatureWithoutMemory(t *testing.T) {
	key := telnyxKey(t)
	now := fmt.Sprint(time.Now().Unix())
	s := &TelnyxSignature{Keys: []ed25519.PublicKey{key.Public().(ed25519.PublicKey)}, Used: &seen{map[string]bool{}, errors.New("away")}}
	r := httptest.NewRequest("POST", "/telnyx/voice", strings.NewReader("{}"))
	r.Header.Set(telnyxTimestampHeader, now)
	r.Header.Set(telnyxSignatureHeader, telnyxSign(key, now, "{}"))
	w := httptest.NewRecorder()
	s.Guard(http.NotFoundHandler()).ServeHTTP(w, r)
	if w.Code != 503 {
		t.Errorf("answered %d", w.Code)
	}
}

func FuzzTelnyxSignature(f *testing.F) {
	f.Add("1760000000", "AAAA", []byte("{}"))
	key := ed25519.NewKeyFromSeed(make([]byte, 32)).Public().(ed25519.PublicKey)
	s := &TelnyxSignature{Keys: []ed25519.PublicKey{key}}
	f.Fuzz(func(t *testing.T, stamp, sig string, body []byte) {
		if s.signed(stamp, sig, body, time.Unix(1760000000, 0)) {
			t.Error("let in without a signature")
		}
	})
}
