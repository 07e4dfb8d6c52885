package ingress

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A new certificate is used without a restart; one that cannot be used is told
// of, and the old one serves on.
func TestCertificateIsReadAgain(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	written := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	put := func(name string, text []byte) {
		t.Helper()
		written = written.Add(time.Second) // a time of its own, whatever the clock's grain
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, written, written); err != nil {
			t.Fatal(err)
		}
	}
	issue := func(serial int64) {
		t.Helper()
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
		raw, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
		if err != nil {
			t.Fatal(err)
		}
		secret, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		put(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}))
		put(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
	}
	issue(1)
	synctest.Test(t, func(t *testing.T) {
		var said strings.Builder
		c, err := LoadCertificate(cert, key, slog.New(slog.NewTextHandler(&said, nil)))
		if err != nil {
			t.Fatal(err)
		}
		serves := func(after time.Duration, want int64) {
			t.Helper()
			time.Sleep(after)
			got, err := c.Config().GetCertificate(nil)
			if err != nil || got.Leaf.SerialNumber.Int64() != want {
				t.Errorf("serves %v, %v, want number %d", got.Leaf.SerialNumber, err, want)
			}
		}
		serves(0, 1)
		issue(2)
		serves(certEvery/2, 1)
		serves(certEvery, 2)
		put(cert, []byte("half of it"))
		serves(certEvery, 2)
		if !strings.Contains(said.String(), "the old one serves on") {
			t.Error("nobody is told that the new certificate cannot be used")
		}
		if err := os.Remove(key); err != nil {
			t.Fatal(err)
		}
		serves(certEvery, 2)
		issue(3)
		serves(certEvery, 3)
	})
	if _, err := LoadCertificate(cert, cert, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a certificate is taken for a key")
	}
}
