package control

import (
	"bytes"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"parley/agent/effect"
)

func testRing(t *testing.T, b byte) *Keyring {
	t.Helper()
	r, err := NewKeyring(bytes.Repeat([]byte{b}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func to(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestSecretFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	f, err := OpenSecretFile(path, testRing(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	mine, other := WithTenant(t.Context(), NewID()), WithTenant(t.Context(), NewID())
	hosts := []string{"API.example.com", "http://10.0.0.7:9000"}
	if err := f.PutSecret(mine, SecretEntry{Key: "crm/token", Hosts: hosts}, "t0p-secret"); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		url string
		ok  bool
	}{
		{"https://api.example.com/x?y", true}, {"https://api.example.com:443", true}, {"https://API.example.com.", true}, {"http://10.0.0.7:9000/a", true},
		{"http://api.example.com/", false}, {"https://api.example.com:8443/", false}, {"https://evil.example/", false},
		{"https://api.example.com.evil.example/", false}, {"https://10.0.0.7:9000/", false}, {"http://10.0.0.7/", false}, {"/x", false},
	}
	for _, tt := range tests {
		s, err := f.Secret(mine, "crm/token", to(t, tt.url))
		if (err == nil) != tt.ok || tt.ok && string(s) != "t0p-secret" || !tt.ok && !errors.Is(err, effect.ErrNoSecret) {
			t.Errorf("%s: %q, %v", tt.url, string(s), err)
		}
	}
	if _, err := f.Secret(other, "crm/token", to(t, "https://api.example.com")); !errors.Is(err, effect.ErrNoSecret) {
		t.Errorf("another tenant: %v", err)
	}
	raw, _ := os.ReadFile(path)
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 || bytes.Contains(raw, []byte("t0p")) || bytes.Contains(raw, []byte("crm")) {
		t.Errorf("mode %v, contents %q", info.Mode(), raw)
	}
	again, err := OpenSecretFile(path, testRing(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.PutSecret(mine, SecretEntry{Key: "crm/token", Hosts: hosts}, "rotated"); err != nil {
		t.Fatal(err)
	}
	if s, _ := again.Secret(mine, "crm/token", to(t, "https://api.example.com")); string(s) != "rotated" {
		t.Errorf("another process sees %q after a rotation", string(s))
	}
	list, err := again.SecretEntries(mine)
	if err != nil || len(list) != 1 || list[0].Key != "crm/token" || list[0].UpdatedAt.IsZero() {
		t.Errorf("%+v, %v", list, err)
	}
	if err := f.DeleteSecret(mine, "crm/token"); err != nil {
		t.Error(err)
	}
	if err := f.DeleteSecret(mine, "crm/token"); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestSecretOfAllTenants(t *testing.T) {
	f, err := OpenSecretFile(filepath.Join(t.TempDir(), "secrets"), testRing(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	mine := WithTenant(t.Context(), NewID())
	at := to(t, "https://a.example")
	e := SecretEntry{Key: "k", Hosts: []string{"a.example"}}
	if err := errors.Join(f.PutSecret(t.Context(), e, "everyone's"), f.PutSecret(mine, e, "mine")); err != nil {
		t.Fatal(err)
	}
	if s, _ := f.Secret(mine, "k", at); string(s) != "mine" {
		t.Errorf("%q", string(s))
	}
	if s, _ := f.Secret(WithTenant(t.Context(), NewID()), "k", at); string(s) != "everyone's" {
		t.Errorf("%q", string(s))
	}
	// The tenant's own decides, also where it may go.
	if err := f.PutSecret(mine, SecretEntry{Key: "k", Hosts: []string{"b.example"}}, "mine"); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Secret(mine, "k", at); !errors.Is(err, effect.ErrNoSecret) {
		t.Errorf("%v", err)
	}
}

func TestSecretFileRefusals(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets")
	f, err := OpenSecretFile(path, testRing(t, 1))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []SecretEntry{{Key: "", Hosts: []string{"a.example"}}, {Key: "a b", Hosts: []string{"a.example"}}, {Key: "k"},
		{Key: "k", Hosts: []string{"*"}}, {Key: "k", Hosts: []string{"a.example/path"}}, {Key: "k", Hosts: []string{"ftp://a.example"}}} {
		if err := f.PutSecret(t.Context(), e, "v4lue"); err == nil || strings.Contains(err.Error(), "v4lue") {
			t.Errorf("%+v: %v", e, err)
		}
	}
	if err := f.PutSecret(t.Context(), SecretEntry{Key: "k", Hosts: []string{"a.example"}}, "v4lue"); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSecretFile(path, testRing(t, 2)); err == nil {
		t.Error("another key opened the file")
	}
	b, _ := os.ReadFile(path)
	b[len(b)-1] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSecretFile(path, testRing(t, 1)); err == nil {
		t.Error("a damaged file was opened")
	}
}
