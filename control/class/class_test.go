package class

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"encoding/json"
	"testing/slogtest"
)

func TestWithin(t *testing.T) {
	for i, c := range All() {
		for j, most := range All() {
			if got := c.Within(most); got != (i <= j) {
				t.Errorf("%s within %s: %v", c, most, got)
			}
		}
	}
	if Class("").Within(Internal) || !Class("").Within(Personal) || Class("").Mask() != "[personal]" {
		t.Error("what is not labelled is not personal")
	}
}

// Secrets here are made up, in the forms of real ones.
func TestScrub(t *testing.T) {
	hex32 := strings.Repeat("0a1b", 8)
	tests := []struct{ in, want string }{
		{"plain words, 12 of them", "plain words, 12 of them"},
		{"dial tcp 10.0.0.1:443: connection refused", "dial tcp 10.0.0.1:443: connection refused"},
		{"call 0192f0c1-2345-7000-8000-000000000001", "call 0192f0c1-2345-7000-8000-000000000001"},
		{"key parley_abcdefghijkl_" + strings.Repeat("A", 43) + " is unknown", "key [secret] is unknown"},
		{"parley_call_abc.def-12345678", "[secret]"},
		{"jwt eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl!", "jwt [secret]!"},
		{"Authorization: Bearer abcdefgh12345", "Authorization: Bearer [secret]"},
		{"authorization: basic dXNlcjpwYXNz", "authorization: basic [secret]"},
		{"connect postgres://app:hunter2@db/parley", "connect postgres://[secret]@db/parley"},
		{`Get "https://a.example/x?token=abc&n=1": EOF`, `Get "https://a.example/x?token=[secret]&n=1": EOF`},
		{"host=db password=hunter2 user=x", "host=db password=[secret] user=x"},
		{"/twilio/media/" + strings.Repeat("t", 60), "/twilio/media/[secret]"},
		{"sk-proj-abcdefghijklmnop1234", "[secret]"},
		{"hvs.CAESIabcdefghijklmnop", "[secret]"},
		{"AKIAIOSFODNN7EXAMPLE", "[secret]"},
		{"account AC" + hex32 + " token " + hex32, "account [secret] token [secret]"},
		{"call CA" + hex32, "call CA" + hex32},
		{"deepgram " + strings.Repeat("0123456789", 4), "deepgram [secret]"},
		{"-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\nrest", "[secret]\nrest"},
		{"to ann.b@mail.example.com now", "to [personal] now"},
		{"from +15550001234.", "from [personal]."},
		{"card 4111 1111 1111 1111 was read", "card [personal] was read"},
		{"4111111111111112 is no card", "4111111111111112 is no card"},
	}
	for _, tt := range tests {
		if got := Scrub(tt.in); got != tt.want {
			t.Errorf("Scrub(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// A key of ours is never left whole, whatever stands around it.
func FuzzScrub(f *testing.F) {
	for _, s := range []string{"", "://@", "a=b", "Bearer ", "eyJ", "\xff+1", "-----BEGIN"} {
		f.Add(s, s)
	}
	key := "parley_abcdefghijkl_" + strings.Repeat("Ab1-", 11)
	f.Fuzz(func(t *testing.T, before, after string) {
		if got := Scrub(before + " " + key + " " + after); strings.Contains(got, key) {
			t.Errorf("%q leaves the key", got)
		}
	})
}

type nilError struct{}

func (e *nilError) Error() string { panic("of nil") }

func TestHandler(t *testing.T) {
	var out bytes.Buffer
	keys := map[string]Class{"id": Internal, "n": Public, "to": Personal, "key": Secret, "err": Internal, "list": Internal, "part": Internal, "request": Internal}
	h := NewHandler(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == slog.LevelKey {
			return slog.Attr{}
		}
		return a
	}}), keys, Internal, func(context.Context) []slog.Attr { return []slog.Attr{slog.String("request", "r1")} })
	log := slog.New(h)
	secret := "Bearer abcdefgh12345"
	tests := []struct {
		name string
		log  func()
		want string
	}{
		{"known", func() { log.Info("m", "id", "x", "n", 3) }, `msg=m id=x n=3 request=r1`},
		{"above", func() { log.Info("m", "to", "+15550001234", "key", "k") }, `msg=m to=[personal] key=[secret] request=r1`},
		{"unlabelled", func() { log.Info("m", "who", "ann") }, `msg=m who=[personal] request=r1`},
		{"error", func() { log.Info("m", "err", errors.New("sent "+secret)) }, `msg=m err="sent Bearer [secret]" request=r1`},
		{"nil-error", func() { log.Info("m", "err", (*nilError)(nil)) }, `msg=m err=<nil> request=r1`},
		{"message", func() { log.Info("sent " + secret) }, `msg="sent Bearer [secret]" request=r1`},
		{"structure", func() { log.Info("m", "id", struct{ Name string }{"ann"}) }, `msg=m id=[personal] request=r1`},
		{"bytes", func() { log.Info("m", "id", []byte("ann")) }, `msg=m id=[personal] request=r1`},
		{"list", func() { log.Info("m", "list", []string{"a", secret}) }, `msg=m list="[a Bearer [secret]]" request=r1`},
		{"with", func() { log.With("who", "ann", "id", secret).Info("m") }, `msg=m who=[personal] id="Bearer [secret]" request=r1`},
		{"group", func() { log.Info("m", slog.Group("g", "who", "ann", "id", "x")) }, `msg=m g.who=[personal] g.id=x request=r1`},
		{"in-group", func() { log.WithGroup("g").Info("m", "who", "ann") }, `msg=m g.who=[personal] g.request=r1`},
		{"own-request", func() { log.Info("m", "request", "r2") }, `msg=m request=r2`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out.Reset()
			tt.log()
			got := strings.TrimSpace(out.String())
			if got != tt.want {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

// It is a handler as the contract has it.
func TestHandlerContract(t *testing.T) {
	var out bytes.Buffer
	keys := map[string]Class{}
	for _, k := range []string{"k", "a", "b", "c", "d", "e", "f", "l", "G", "H", "H1"} {
		keys[k] = Public
	}
	err := slogtest.TestHandler(NewHandler(slog.NewJSONHandler(&out, nil), keys, Internal, nil), func() (all []map[string]any) {
		for line := range bytes.Lines(out.Bytes()) {
			var m map[string]any
			if err := json.Unmarshal(line, &m); err != nil {
				t.Fatal(err)
			}
			all = append(all, m)
		}
		return all
	})
	if err != nil {
		t.Error(err)
	}
}

func BenchmarkHandler(b *testing.B) {
	keys := map[string]Class{"request": Internal, "route": Internal, "method": Public, "status": Public, "bytes": Public, "ms": Public}
	for name, h := range map[string]slog.Handler{
		"plain":   slog.NewJSONHandler(discard{}, nil),
		"classed": NewHandler(slog.NewJSONHandler(discard{}, nil), keys, Internal, nil),
	} {
		b.Run(name, func(b *testing.B) {
			log := slog.New(h)
			for b.Loop() {
				log.Info("request", "request", "0123456789abcdef", "route", "GET /v1/calls/{id}/recording", "method", "GET", "status", 200, "bytes", 1234, "ms", 3)
			}
		})
	}
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
