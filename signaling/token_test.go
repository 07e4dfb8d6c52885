package signaling

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func testTokens() *MediaTokens { return &MediaTokens{Key: []byte(strings.Repeat("k", 32))} }

func TestMediaToken(t *testing.T) {
	tokens := testTokens()
	token, err := tokens.Mint("CA1", "0b9c7f1e-0000-7000-8000-000000000001")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" || len(token) > 128 {
		t.Errorf("token %q does not fit a path", token)
	}
	c, err := tokens.Redeem(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if c.CallID != "0b9c7f1e-0000-7000-8000-000000000001" || !c.For("CA1") || c.For("CA2") {
		t.Errorf("claim = %+v, want call 0b9c… for CA1 alone", c)
	}
	if _, err := tokens.Redeem(t.Context(), token); !errors.Is(err, ErrToken) {
		t.Errorf("second use: %v, want ErrToken", err)
	}
}

func TestMediaTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tokens := testTokens()
		late, _ := tokens.Mint("CA1", "c")
		time.Sleep(TokenLife - 2*time.Second)
		if _, err := tokens.Redeem(t.Context(), late); err != nil {
			t.Errorf("within its life: %v", err)
		}
		late, _ = tokens.Mint("CA1", "c")
		time.Sleep(TokenLife + time.Second)
		if _, err := tokens.Redeem(t.Context(), late); !errors.Is(err, ErrToken) {
			t.Errorf("after its life: %v, want ErrToken", err)
		}
	})
}

func TestMediaTokenForged(t *testing.T) {
	tokens := testTokens()
	token, _ := tokens.Mint("CA1", "c")
	for i := range token {
		b := []byte(token)
		if b[i] == 'A' {
			b[i] = 'B'
		} else {
			b[i] = 'A'
		}
		if _, err := tokens.Redeem(t.Context(), string(b)); !errors.Is(err, ErrToken) {
			t.Fatalf("changed at %d: %v, want ErrToken", i, err)
		}
	}
	other := &MediaTokens{Key: []byte(strings.Repeat("o", 32))}
	if _, err := other.Redeem(t.Context(), token); !errors.Is(err, ErrToken) {
		t.Errorf("another key: %v, want ErrToken", err)
	}
	if _, err := tokens.Redeem(t.Context(), token); err != nil {
		t.Errorf("forgeries used the token up: %v", err)
	}
	if _, err := (&MediaTokens{Key: []byte("short")}).Mint("CA1", "c"); err == nil {
		t.Error("a short key signs")
	}
}

type usedFunc func() (bool, error)

func (f usedFunc) Use(context.Context, string, time.Duration) (bool, error) { return f() }

func TestMediaTokenShared(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first bool
		err   error
		good  bool
	}{
		{"first", true, nil, true},
		{"used-elsewhere", false, nil, false},
		{"away", false, errors.New("away"), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tokens := testTokens()
			tokens.Shared = usedFunc(func() (bool, error) { return tt.first, tt.err })
			token, _ := tokens.Mint("CA1", "c")
			if _, err := tokens.Redeem(t.Context(), token); (err == nil) != tt.good {
				t.Errorf("Redeem = %v, want good %v", err, tt.good)
			}
			if _, err := tokens.Redeem(t.Context(), token); err == nil {
				t.Error("the token opens twice on one node")
			}
		})
	}
}

func TestUsedHereIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var u UsedHere
		for i := range usedMax {
			if ok, _ := u.Use(t.Context(), string(rune(i))+"x", time.Minute); !ok && i < 0xd800 {
				t.Fatalf("id %d is refused", i)
			}
		}
		for i := 0; len(u.until) < usedMax; i++ { // runes beyond 0xd800 fall together
			u.Use(t.Context(), "y"+string(rune(i)), time.Minute)
		}
		if ok, _ := u.Use(t.Context(), "one more", time.Minute); ok {
			t.Error("a full memory takes one more")
		}
		time.Sleep(time.Minute + time.Second)
		if ok, _ := u.Use(t.Context(), "one more", time.Minute); !ok || len(u.until) != 1 {
			t.Errorf("after a minute: %v with %d ids, want true with 1", ok, len(u.until))
		}
	})
}

func FuzzRedeem(f *testing.F) {
	tokens := testTokens()
	good, _ := (&MediaTokens{Key: []byte(strings.Repeat("x", 32))}).Mint("CA1", "c")
	f.Add(good)
	f.Add("")
	f.Add(strings.Repeat("A", maxToken))
	f.Fuzz(func(t *testing.T, token string) {
		if _, err := tokens.Redeem(t.Context(), token); !errors.Is(err, ErrToken) {
			t.Errorf("Redeem(%q) = %v, want ErrToken", token, err)
		}
	})
}
