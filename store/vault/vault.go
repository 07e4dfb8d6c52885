// Package vault keeps secrets in HashiCorp Vault: values in its KV engine
// (version 2), data keys wrapped by its Transit engine.
//
// A [Client] is built without I/O and signs in within [Client.Run], which keeps
// it signed in: the token is renewed at two thirds of its life, and when it can
// be renewed no more, or was revoked, the client signs in again. While Vault is
// away, sealed or not yet signed in to, every request fails at once or within
// [Options.Timeout] with an error that is [control.ErrUnavailable].
package vault

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"

	"parley/control"
)

// Options says where Vault is and who we are to it.
type Options struct {
	Address   string // "https://vault.example.com:8200"
	Namespace string // of Vault Enterprise; empty: none
	CAFile    string // PEM of who signed Vault's certificate; empty: the machine's own list
	Auth      Auth
	// Timeout bounds a request, a sign-in within it included. Default 2 s.
	Timeout time.Duration
	Log     *slog.Logger // default: discards
}

// A Client talks to one Vault. It is safe for use by several goroutines.
type Client struct {
	api  *api.Client
	auth Auth
	o    Options
	kick chan struct{} // tells Run that the lease has changed

	signing chan struct{} // holds one while nobody signs in

	mu    sync.Mutex
	lease lease
	why   error // why there is no lease; nil while there is one
}

// New returns a client that is not signed in. It fails on options that could
// never work.
func New(o Options) (*Client, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	if o.Auth == nil {
		return nil, errors.New("open vault: no way to sign in")
	}
	u, err := url.Parse(o.Address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errors.New("open vault: the address is not one such as https://vault.example.com:8200")
	}
	roots, err := authorities(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("open vault: the CA file: %w", err)
	}
	client, err := api.NewClient(&api.Config{Address: o.Address, Timeout: o.Timeout, HttpClient: &http.Client{Transport: transport(roots)},
		// Who asks has a deadline, and other places to go: it is not tried again here.
		MaxRetries: 0})
	if err != nil {
		return nil, fmt.Errorf("open vault: %w", err)
	}
	client.ClearToken() // the environment's, which the library takes by itself
	client.ClearNamespace()
	if o.Namespace != "" {
		client.SetNamespace(o.Namespace)
	}
	c := &Client{api: client, auth: o.Auth, o: o, kick: make(chan struct{}, 1), signing: make(chan struct{}, 1),
		why: errors.New("not signed in yet")}
	c.signing <- struct{}{}
	return c, nil
}

// authorities are those of a PEM file; nil, the machine's own, for no file. The
// library's own reader of such files does nothing on a transport without TLS
// settings, and says nothing of a file without a certificate.
func authorities(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New(file + " holds no certificate in PEM")
	}
	return pool, nil
}

func transport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		ForceAttemptHTTP2: true, MaxIdleConns: 64, MaxIdleConnsPerHost: 64, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: 2 * time.Second, ResponseHeaderTimeout: 10 * time.Second}
}

// Close ends the connections that are not in use.
func (c *Client) Close() { c.api.CloneConfig().HttpClient.CloseIdleConnections() }

// Ready returns nil while the client is signed in, else why it is not, in words
// for an operator.
func (c *Client) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return fmt.Errorf("vault: %w: %w", control.ErrUnavailable, c.why)
	}
	return nil
}

// ErrDenied says that the role's policy does not allow what was asked.
var ErrDenied = errors.New("vault: the policy of our role does not allow it")

// do makes a request within the client's time. One that is refused because its
// token was revoked is made again with a new one.
func (c *Client) do(ctx context.Context, what string, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.o.Timeout)
	defer cancel()
	number, err := c.signedIn()
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	err = request(ctx)
	if status(err) == http.StatusForbidden && c.revoked(ctx, number) {
		err = request(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, problem(ctx, err))
	}
	return nil
}

// signedIn returns the number of the sign-in that requests are made under.
func (c *Client) signedIn() (int, error) {
	if err := c.Ready(); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lease.number, nil
}

// status is the HTTP status of Vault's refusal; 0: it did not come to that.
func status(err error) int {
	var r *api.ResponseError
	if errors.As(err, &r) {
		return r.StatusCode
	}
	return 0
}

// problem maps the library's errors to the domain's, once. Vault's own words
// are kept: they name paths and parameters, never values.
func problem(ctx context.Context, err error) error {
	var r *api.ResponseError
	var network net.Error
	switch {
	case errors.Is(err, api.ErrSecretNotFound):
		return control.ErrNotFound
	case errors.As(err, &r):
		said := fmt.Errorf("status %d: %s", r.StatusCode, words(r.Errors))
		switch {
		case r.StatusCode == http.StatusNotFound:
			return control.ErrNotFound
		case r.StatusCode == http.StatusForbidden:
			return fmt.Errorf("%w: %w", ErrDenied, said)
		case r.StatusCode == http.StatusBadRequest && strings.Contains(said.Error(), "check-and-set"):
			return fmt.Errorf("%w: %w", control.ErrConflict, said)
		case r.StatusCode >= 500, r.StatusCode == http.StatusTooManyRequests, r.StatusCode == http.StatusPreconditionFailed,
			r.StatusCode == 472, r.StatusCode == 473: // a secondary of disaster recovery, a standby for reading
			return fmt.Errorf("%w: %w", control.ErrUnavailable, said)
		}
		return said
	case ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled):
		return context.Canceled
	case errors.As(err, &network), errors.Is(err, context.DeadlineExceeded), ctx.Err() != nil:
		return fmt.Errorf("%w: %w", control.ErrUnavailable, err)
	}
	return err
}

// words joins what Vault said to one short line.
func words(said []string) string {
	s := strings.Join(strings.Fields(strings.Join(said, " ")), " ")
	return s[:min(len(s), 300)]
}
