package ingress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// certEvery is how often a certificate's file is looked at, at most.
const certEvery = 10 * time.Second

// A Certificate is read from files, and again when they change: the next
// handshake after [certEvery] uses the new one. While what is in the files
// cannot be used, the old one serves. Make it with [LoadCertificate].
type Certificate struct {
	cert, key string
	log       *slog.Logger

	mu      sync.Mutex
	now     *tls.Certificate
	changed [2]time.Time
	looked  time.Time
}

// LoadCertificate reads a chain and its key, in PEM.
func LoadCertificate(cert, key string, log *slog.Logger) (*Certificate, error) {
	c := &Certificate{cert: cert, key: key, log: log}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c, c.load(time.Now())
}

// load is called under mu.
func (c *Certificate) load(now time.Time) error {
	c.looked = now
	var changed [2]time.Time
	for i, name := range []string{c.cert, c.key} {
		info, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("certificate: %w", err)
		}
		changed[i] = info.ModTime()
	}
	if c.now != nil && changed == c.changed {
		return nil
	}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", c.cert, err)
	}
	c.now, c.changed = &pair, changed
	return nil
}

// get is for tls.Config.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.looked) >= certEvery {
		if err := c.load(now); err != nil {
			c.log.Error("the new certificate cannot be used; the old one serves on", "err", err)
		}
	}
	return c.now, nil
}

// Config is for a listener: TLS 1.2 or later, with the ciphers and curves that
// Go takes for safe.
func (c *Certificate) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: []string{"h2", "http/1.1"}}
}

// Expires is when the certificate in use ends.
func (c *Certificate) Expires() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil || c.now.Leaf == nil {
		return time.Time{}
	}
	return c.now.Leaf.NotAfter
}

// RequireClients makes a listener take only clients with a certificate of the
// authorities in a PEM file.
func RequireClients(cfg *tls.Config, file string) error {
	pem, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("client authorities: %w", err)
	}
	cfg.ClientCAs = x509.NewCertPool()
	if !cfg.ClientCAs.AppendCertsFromPEM(pem) {
		return errors.New("client authorities: " + file + " holds no certificate in PEM")
	}
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	return nil
}
