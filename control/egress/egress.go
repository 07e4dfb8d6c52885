// Package egress is the one way out: the HTTP client of everything that flows,
// webhooks and other documents of tenants may name an address for.
//
// It reaches public addresses only, and what the operator's allowlist names. A
// name is resolved once for a connection, every address is checked, and the
// connection goes to the address that was checked: a name that changes its mind
// (DNS rebinding) gains nothing. Redirects are checked again.
package egress

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Defaults of [Options].
const (
	DefaultTimeout   = 30 * time.Second
	DefaultRequest   = 1 << 20
	DefaultResponse  = 2 << 20
	DefaultRedirects = 5
)

// Reasons of a [Refusal].
const (
	ReasonAddress   = "address"   // not on the public internet, and not listed
	ReasonHost      = "host"      // not on the tenant's list, see [WithHosts]
	ReasonURL       = "url"       // no http or https URL with a host, or one with a password
	ReasonMethod    = "method"    // CONNECT, TRACE or none
	ReasonRedirects = "redirects" // too many, or one that would send the body to another host
	ReasonRequest   = "request"   // the body is too large
	ReasonResponse  = "response"  // the body is too large
	ReasonBudget    = "budget"    // a [Budget] is used up
)

// A Refusal is a request that was not sent, or whose answer was not taken.
type Refusal struct {
	Reason string
	// Host is "name:port"; never a path or query, which may hold secrets.
	Host string
	// Addr is the address that is not allowed. It is for the audit, and no
	// part of the error's text: who may name hosts must not map our network.
	Addr netip.Addr
	// Budget is what was used up, for [ReasonBudget]: "tenant.calls".
	Budget string
}

func (r *Refusal) Error() string { return "egress: refused " + r.Host + ": " + r.Reason }

// A Resolver looks up the addresses of a name; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Options of a [Client]. The zero value is strict and has the defaults.
type Options struct {
	// Allow lists private targets as "host:port". A name on it may resolve to
	// private addresses, but to link-local ones only if it is that address.
	Allow []string
	// Timeout of a call with all its redirects. Default 30 s; a context may
	// shorten it.
	Timeout time.Duration
	// MaxRequest and MaxResponse bound bodies, in bytes after decompression.
	// Defaults 1 MiB and 2 MiB.
	MaxRequest, MaxResponse int64
	// MaxRedirects followed in a call. Default 5; negative for none.
	MaxRedirects int
	// Resolver for names. Nil: the system's.
	Resolver Resolver
	// TLS is cloned; its MinVersion is at least 1.2. Nil: the system's roots.
	TLS *tls.Config
	// Audit is told of every refusal, before Do returns, and may take a moment.
	Audit func(ctx context.Context, r *Refusal)
	// Proxy that connections to public addresses go through, by CONNECT; it may
	// hold a user and a password. Names are resolved and checked here all the
	// same. What Allow lists is reached directly. Nil: everything is.
	Proxy *url.URL
	// Dial opens a connection to an address that was checked. Nil: a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Client sends requests. It takes no proxy from the environment. It is safe
// for use by several goroutines.
type Client struct {
	o         Options
	allow     map[string]bool
	transport *http.Transport
}

// New returns a Client; its error names an entry of the allowlist that is no
// host:port.
func New(o Options) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxRequest <= 0 {
		o.MaxRequest = DefaultRequest
	}
	if o.MaxResponse <= 0 {
		o.MaxResponse = DefaultResponse
	}
	if o.MaxRedirects == 0 {
		o.MaxRedirects = DefaultRedirects
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	}
	if err := checkProxy(o.Proxy); err != nil {
		return nil, err
	}
	c := &Client{o: o, allow: map[string]bool{}}
	for _, entry := range o.Allow {
		host, port, err := net.SplitHostPort(strings.TrimSpace(entry))
		if err != nil || host == "" || port == "" {
			return nil, fmt.Errorf("egress: %q is not host:port", entry)
		}
		c.allow[net.JoinHostPort(canonical(host), port)] = true
	}
	secure := &tls.Config{}
	if o.TLS != nil {
		secure = o.TLS.Clone()
	}
	secure.MinVersion = max(secure.MinVersion, tls.VersionTLS12)
	c.transport = &http.Transport{
		Proxy: nil, DialContext: c.dial, TLSClientConfig: secure, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 5 * time.Second, IdleConnTimeout: 60 * time.Second,
		MaxIdleConns: 100, MaxIdleConnsPerHost: 8, MaxResponseHeaderBytes: 64 << 10,
	}
	return c, nil
}

// Close drops idle connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

// Do sends r, follows redirects and returns the answer with its whole body in
// memory; closing it is not needed. The body of r is read at once. Its error
// is a *[Refusal], the context's, or what the network said.
//
// On a redirect to another scheme, host or port all headers but Accept,
// Accept-Language and User-Agent are left behind, and a body is not sent there.
func (c *Client) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithTimeout(r.Context(), c.o.Timeout)
	defer cancel()
	res, err := c.follow(ctx, r)
	var refused *Refusal
	if errors.As(err, &refused) {
		if c.o.Audit != nil {
			c.o.Audit(ctx, refused)
		}
		return nil, refused
	}
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return res, err
}

func (c *Client) follow(ctx context.Context, r *http.Request) (*http.Response, error) {
	body, err := c.body(r)
	if err != nil {
		return nil, err
	}
	next := hop{method: r.Method, url: r.URL, header: r.Header.Clone(), body: body}
	if next.header == nil {
		next.header = http.Header{}
	}
	for n := 0; ; n++ {
		if err := next.check(); err != nil {
			return nil, err
		}
		if err := listed(ctx, hostPort(next.url)); err != nil {
			return nil, err
		}
		if err := spend(ctx, hostPort(next.url), int64(len(next.body))); err != nil {
			return nil, err
		}
		begun := time.Now()
		res, err := c.send(ctx, next)
		if err != nil {
			settle(ctx, 0, time.Since(begun))
			return nil, err
		}
		settle(ctx, res.ContentLength, time.Since(begun))
		to, redirected := next.redirect(res)
		if !redirected || c.o.MaxRedirects < 0 {
			return res, nil
		}
		if n >= c.o.MaxRedirects || to == nil {
			return nil, &Refusal{Reason: ReasonRedirects, Host: hostPort(next.url)}
		}
		next = *to
	}
}

// body reads the request's body, so that a redirect can send it again.
func (c *Client) body(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	defer r.Body.Close()
	b, err := io.ReadAll(io.LimitReader(r.Body, c.o.MaxRequest+1))
	if err != nil {
		return nil, fmt.Errorf("egress: read the request's body: %w", err)
	}
	if int64(len(b)) > c.o.MaxRequest {
		return nil, &Refusal{Reason: ReasonRequest, Host: hostPort(r.URL)}
	}
	return b, nil
}

func (c *Client) send(ctx context.Context, h hop) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, h.method, h.url.String(), bytes.NewReader(h.body))
	if err != nil {
		return nil, &Refusal{Reason: ReasonURL, Host: hostPort(h.url)}
	}
	if req.Header = h.header; len(h.body) == 0 {
		req.Body, req.ContentLength = http.NoBody, 0
	}
	res, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("egress: %s: %w", hostPort(h.url), err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(io.LimitReader(res.Body, c.o.MaxResponse+1))
	if err != nil {
		return nil, fmt.Errorf("egress: %s: read the answer: %w", hostPort(h.url), err)
	}
	if int64(len(b)) > c.o.MaxResponse {
		return nil, &Refusal{Reason: ReasonResponse, Host: hostPort(h.url)}
	}
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(b)), int64(len(b))
	return res, nil
}

// dial resolves a name once, checks every address it has, and connects to one
// that was checked.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &Refusal{Reason: ReasonURL, Host: address}
	}
	host = canonical(host)
	target := net.JoinHostPort(host, port)
	var addrs []netip.Addr
	literal, err := netip.ParseAddr(host)
	if err == nil {
		addrs = []netip.Addr{literal}
	} else if addrs, err = c.o.Resolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, fmt.Errorf("look up %s: %w", host, err)
	}
	ours := c.allow[target]
	for _, a := range addrs {
		if !Public(a) && (!ours || !listable(a) && !literal.IsValid()) {
			return nil, &Refusal{Reason: ReasonAddress, Host: target, Addr: a}
		}
	}
	err = fmt.Errorf("look up %s: it has no address", host)
	for _, a := range addrs {
		var conn net.Conn
		checked := net.JoinHostPort(a.Unmap().String(), port)
		if c.o.Proxy != nil && !ours {
			conn, err = c.tunnel(ctx, checked)
		} else {
			conn, err = c.o.Dial(ctx, network, checked)
		}
		if err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// hostPort is a URL's host with its port, for the allowlist and for messages.
func hostPort(u *url.URL) string {
	if u == nil {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return net.JoinHostPort(canonical(u.Hostname()), port)
}

// canonical is a host's name as names are compared.
func canonical(host string) string {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap().String()
	}
	return host
}
