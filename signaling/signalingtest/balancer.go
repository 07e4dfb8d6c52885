package signalingtest

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"time"
)

// A Balancer stands before several gateways, as a load balancer does: HTTP and
// websockets go to one that lives. A backend that refuses the connection, or
// does not answer within Patience, is passed over, and the request given to the
// next with the same body; the gateway's webhooks bear that. Backends may be
// taken out and put back at any time; connections that stand go on.
//
// It is a handler, safe for concurrent use. Set the fields before.
type Balancer struct {
	First    bool          // always the first that lives; else each in turn
	Patience time.Duration // for the head of an answer; default 2 s

	// Dial opens connections; default TCP.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	mu       sync.Mutex
	backends []string
	turn     int
	once     sync.Once
	proxy    http.RoundTripper
}

// Add puts a backend in: "http://127.0.0.1:8081".
func (b *Balancer) Add(backend string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = append(b.backends, backend)
}

// Remove takes a backend out.
func (b *Balancer) Remove(backend string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.backends = slices.DeleteFunc(b.backends, func(s string) bool { return s == backend })
}

// order returns the backends in the order in which a request tries them.
func (b *Balancer) order() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.backends)
	if n == 0 || b.First {
		return slices.Clone(b.backends)
	}
	b.turn = (b.turn + 1) % n
	return slices.Concat(b.backends[b.turn:], b.backends[:b.turn])
}

// ServeHTTP implements [http.Handler].
func (b *Balancer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.once.Do(b.prepare)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<20))
	if err != nil {
		http.Error(w, "body cannot be read", http.StatusBadRequest)
		return
	}
	host := r.Host
	proxy := httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.Host = host // the address that the gateway is called by
			p.Out.URL.Scheme, p.Out.URL.Host = "http", host
		},
		Transport:     retrying{b, body},
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, err.Error(), http.StatusBadGateway)
		},
	}
	proxy.ServeHTTP(w, r)
}

func (b *Balancer) prepare() {
	patience := b.Patience
	if patience <= 0 {
		patience = 2 * time.Second
	}
	dial := b.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: patience}).DialContext
	}
	b.proxy = &http.Transport{DialContext: dial, DisableKeepAlives: true, ResponseHeaderTimeout: patience}
}

// retrying tries a request on each backend until one answers.
type retrying struct {
	b    *Balancer
	body []byte
}

// RoundTrip implements [http.RoundTripper].
func (t retrying) RoundTrip(r *http.Request) (*http.Response, error) {
	var err error = net.ErrClosed // no backend at all
	for _, backend := range t.b.order() {
		var to *url.URL
		if to, err = url.Parse(backend); err != nil {
			continue
		}
		try := r.Clone(r.Context())
		try.URL.Scheme, try.URL.Host = to.Scheme, to.Host
		try.Body = io.NopCloser(bytes.NewReader(t.body))
		try.ContentLength = int64(len(t.body))
		var res *http.Response
		if res, err = t.b.proxy.RoundTrip(try); err == nil || r.Context().Err() != nil {
			return res, err
		}
	}
	return nil, err
}
