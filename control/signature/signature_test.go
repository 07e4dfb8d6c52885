package signature_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"parley/control/signature"
)

var sent = time.Unix(1_700_000_000, 0)

func TestSign(t *testing.T) {
	// From openssl dgst -sha256 -hmac whsec_a over `1700000000.{"a":1}`.
	const want = "t=1700000000,v1=a4b39d8bb2e6dfa1ea9f2ea037550b767cb1f592e0a81565c3a565232799943d"
	if got := signature.Sign(sent, []byte(`{"a":1}`), "whsec_a"); got != want {
		t.Errorf("Sign = %s, want %s", got, want)
	}
}

func TestVerify(t *testing.T) {
	body := []byte(`{"event_type":"node_changed"}`)
	both := signature.Sign(sent, body, "new", "old")
	tests := []struct {
		name, header, body, secret string
		now                        time.Time
		want                       error
	}{
		{"new-secret", both, string(body), "new", sent, nil},
		{"old-secret", both, string(body), "old", sent, nil},
		{"blanks", strings.ReplaceAll(both, ",", ", "), string(body), "new", sent, nil},
		{"future-version", both + ",v2=what", string(body), "new", sent, nil},
		{"other-secret", both, string(body), "other", sent, signature.ErrMismatch},
		{"other-body", both, string(body) + " ", "new", sent, signature.ErrMismatch},
		{"other-time", strings.Replace(both, "t=1700000000", "t=1700000001", 1), string(body), "new", sent, signature.ErrMismatch},
		{"as-late-as-it-may-be", both, string(body), "new", sent.Add(signature.Tolerance), nil},
		{"too-late", both, string(body), "new", sent.Add(signature.Tolerance + time.Second), signature.ErrTime},
		{"too-early", both, string(body), "new", sent.Add(-signature.Tolerance - time.Second), signature.ErrTime},
		{"empty", "", string(body), "new", sent, signature.ErrMalformed},
		{"no-time", "v1=00", string(body), "new", sent, signature.ErrMalformed},
		{"no-signature", "t=1700000000", string(body), "new", sent, signature.ErrMalformed},
		{"no-hex", "t=1700000000,v1=xyz", string(body), "new", sent, signature.ErrMalformed},
		{"a-thousand", "t=1700000000" + strings.Repeat(",v1=00", 1000), string(body), "new", sent, signature.ErrMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := signature.Verify(tt.header, []byte(tt.body), tt.now, signature.Tolerance, tt.secret)
			if !errors.Is(err, tt.want) {
				t.Errorf("Verify = %v, want %v", err, tt.want)
			}
		})
	}
}

func FuzzVerify(f *testing.F) {
	f.Add("t=1700000000,v1=00", []byte("{}"))
	f.Add(signature.Sign(sent, []byte("{}"), "guessed"), []byte("{}"))
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		if signature.Verify(header, body, sent, signature.Tolerance, "never guessed") == nil {
			t.Errorf("%q passes", header)
		}
		if err := signature.Verify(signature.Sign(sent, body, "s"), body, sent, 0, "s"); err != nil {
			t.Errorf("own signature of %q: %v", body, err)
		}
	})
}
