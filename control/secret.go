package control

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
	"time"

	"parley/agent/effect"
)

// A SecretEntry describes a secret of a tenant; never its value.
type SecretEntry struct {
	Key string
	// Hosts that it may be sent to: "api.example.com" or "api.example.com:8443"
	// over TLS, "http://10.0.0.7:9000" in clear. At least one.
	Hosts     []string
	UpdatedAt time.Time

	// Of those in rows alone:

	Ref        SecretRef // where the value stands, with its version if that is fixed
	Own        bool      // the value was put through us, and goes with the secret
	Revision   int       // counts from 1 with every change
	CreatedAt  time.Time
	UpdatedBy  string    // as audit entries name who did
	LastUsedAt time.Time // to the minute; zero: never
}

// Secrets keeps the secrets that flows name as {secret:key}. The tenant is in
// ctx; without one, a secret is every tenant's, unless a tenant has one of the
// same key. A new value is in force at once: nothing restarts to rotate one.
type Secrets interface {
	effect.Secrets
	// PutSecret stores or replaces a secret.
	PutSecret(ctx context.Context, e SecretEntry, value effect.Secret) error
	// DeleteSecret returns ErrNotFound where there is none.
	DeleteSecret(ctx context.Context, key string) error
	// SecretEntries lists the tenant's own, by key.
	SecretEntries(ctx context.Context) ([]SecretEntry, error)
}

const maxSecretBytes = 64 << 10

var secretKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./-]{0,254}$`)

func checkSecret(e SecretEntry, value effect.Secret) error {
	if !secretKey.MatchString(e.Key) {
		return Invalidf("key", "must begin with a letter or underscore, and go on with letters, digits, _ . / and -")
	}
	if value == "" || len(value) > maxSecretBytes {
		return Invalidf("value", "must hold 1 to %d bytes", maxSecretBytes)
	}
	return checkSecretHosts(e.Hosts)
}

// maxSecretHosts is how many hosts one secret may be sent to.
const maxSecretHosts = 20

func checkSecretHosts(hosts []string) error {
	if len(hosts) == 0 || len(hosts) > maxSecretHosts {
		return Invalidf("hosts", "name 1 to %d hosts that the secret may be sent to", maxSecretHosts)
	}
	for i, h := range hosts {
		if _, ok := parseSecretHost(h); !ok {
			return Invalidf(fmt.Sprintf("hosts[%d]", i), "is not a host such as api.example.com or http://10.0.0.7:9000")
		}
	}
	return nil
}

// parseSecretHost returns the origin that an entry stands for.
func parseSecretHost(entry string) (string, bool) {
	address := entry
	if !strings.Contains(entry, "://") {
		address = "https://" + entry
	}
	u, err := url.Parse(address)
	if err != nil || u.User != nil || strings.TrimRight(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", false
	}
	return origin(u)
}

// origin is a URL's scheme, host and port. A socket's is that of the request
// that opens it.
func origin(u *url.URL) (string, bool) {
	scheme := map[string]string{"http": "http", "ws": "http", "https": "https", "wss": "https"}[u.Scheme]
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	host := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if scheme == "" || host == "" || port == "" || strings.ContainsAny(host, "* ") {
		return "", false
	}
	return scheme + "://" + net.JoinHostPort(host, port), true
}

// bound tells whether a secret with these hosts may be sent to a URL.
func bound(hosts []string, to *url.URL) bool {
	want, ok := origin(to)
	if !ok {
		return false
	}
	for _, h := range hosts {
		if o, ok := parseSecretHost(h); ok && o == want {
			return true
		}
	}
	return false
}
