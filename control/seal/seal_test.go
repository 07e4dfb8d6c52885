package seal

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
)

func testKey(t testing.TB, n byte) *Key {
	t.Helper()
	secret := make([]byte, Size)
	for i := range secret {
		secret[i] = byte(i) + n
	}
	k, err := NewKey(uuid.UUID{15: n}, secret)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestText(t *testing.T) {
	k := testKey(t, 1)
	for _, text := range []string{"", "a", string(make([]byte, 70_000))} {
		sealed := k.Text("turns/1/2", []byte(text))
		if len(sealed) != len(text)+Overhead {
			t.Errorf("%d bytes sealed are %d, want %d more", len(text), len(sealed), Overhead)
		}
		if got, err := k.OpenText("turns/1/2", sealed); err != nil || string(got) != text {
			t.Errorf("opened %d bytes, %v", len(got), err)
		}
	}
	if bytes.Equal(k.Text("", []byte("a")), k.Text("", []byte("a"))) {
		t.Error("the same text is sealed to the same bytes twice")
	}
}

func TestTextRefuses(t *testing.T) {
	k := testKey(t, 1)
	sealed := k.Text("turns/1/2", []byte("my number is 7"))
	if _, err := k.OpenText("turns/1/3", sealed); !errors.Is(err, ErrDamaged) {
		t.Errorf("at another place: %v", err)
	}
	if _, err := testKey(t, 2).OpenText("turns/1/2", sealed); !errors.Is(err, ErrDamaged) {
		t.Errorf("under another key: %v", err)
	}
	// The same secret by another name is another key.
	other, _ := NewKey(uuid.UUID{1}, k.secret)
	forged := bytes.Clone(sealed)
	copy(forged[1:], other.id[:])
	if _, err := other.OpenText("turns/1/2", forged); !errors.Is(err, ErrDamaged) {
		t.Errorf("under another name: %v", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, err := k.OpenText("turns/1/2", bad); !errors.Is(err, ErrDamaged) {
			t.Errorf("with byte %d altered: %v", i, err)
		}
		if _, err := k.OpenText("turns/1/2", sealed[:i]); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
}

// A text of docs/encryption.md, computed by another program there.
func TestTextVector(t *testing.T) {
	k := testKey(t, 0)
	var nonce [24]byte
	for i := range nonce {
		nonce[i] = byte(0x40 + i)
	}
	got := k.sealText(nonce, "turns/1/2", []byte("What was heard."))
	if want := textVector; hex.EncodeToString(got) != want {
		t.Errorf("sealed to\n%x, want\n%s", got, want)
	}
}

func TestKeyPrintsNothing(t *testing.T) {
	k := testKey(t, 7)
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %s %v", k, k, k, struct{ K *Key }{k})} {
		if bytes.Contains([]byte(s), []byte("8 9 10")) || bytes.Contains([]byte(s), []byte("0x8, 0x9")) {
			t.Errorf("a key prints %q", s)
		}
	}
}

func FuzzOpenText(f *testing.F) {
	k := testKey(f, 1)
	f.Add(k.Text("p", []byte("hello")))
	f.Add([]byte{textVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		if text, err := k.OpenText("q", b); err == nil {
			t.Errorf("%x opens to %q", b, text)
		}
	})
}

func BenchmarkText200(b *testing.B) {
	k := testKey(b, 1)
	text := make([]byte, 200)
	sealed := k.Text("turns/1/2", text)
	b.Run("seal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			k.Text("turns/1/2", text)
		}
	})
	b.Run("open", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := k.OpenText("turns/1/2", sealed); err != nil {
				b.Fatal(err)
			}
		}
	})
}
