package identity

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"parley/control"
)

// A Doer sends requests with all bounds: of where they may go, of size, of time.
type Doer interface {
	Do(r *http.Request) (*http.Response, error)
}

// What is fetched of issuers is asked for again this often at most, however
// many tokens come with keys that nobody knows; and one that failed, too.
const (
	fetchLife  = 30 * time.Second
	fetchBound = 256 // addresses remembered
)

// A fetcher is how the library reaches issuers. What it gets by GET it
// remembers for a moment: somebody who sends tokens with invented key ids makes
// no request of ours each time.
type fetcher struct {
	doer Doer

	mu   sync.Mutex
	seen map[string]fetched
}

type fetched struct {
	at     time.Time
	status int
	body   []byte
	err    error
}

// RoundTrip implements [http.RoundTripper].
func (f *fetcher) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodGet {
		return f.doer.Do(r)
	}
	key := r.URL.String()
	f.mu.Lock()
	got, ok := f.seen[key]
	f.mu.Unlock()
	if !ok || time.Since(got.at) > fetchLife {
		got = f.get(r)
		f.remember(key, got)
	}
	if got.err != nil {
		return nil, got.err
	}
	return &http.Response{StatusCode: got.status, Status: http.StatusText(got.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader(got.body)),
		ContentLength: int64(len(got.body)), Request: r}, nil
}

func (f *fetcher) get(r *http.Request) fetched {
	got := fetched{at: time.Now()}
	res, err := f.doer.Do(r)
	if err != nil {
		got.err = err
		return got
	}
	defer res.Body.Close()
	got.status = res.StatusCode
	got.body, got.err = io.ReadAll(res.Body)
	return got
}

// remember keeps what was got, unless the one who asked gave up.
func (f *fetcher) remember(key string, got fetched) {
	if errors.Is(got.err, context.Canceled) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen == nil || len(f.seen) >= fetchBound {
		f.seen = map[string]fetched{}
	}
	f.seen[key] = got
}

// Issuers knows the issuers of identities and tokens: what they say of
// themselves, and their keys. It is safe for use by several goroutines.
type Issuers struct {
	client *http.Client

	mu    sync.Mutex
	known map[string]knownIssuer
}

type knownIssuer struct {
	at       time.Time
	provider *oidc.Provider
	keys     oidc.KeySet // of an address of keys alone
}

// issuerLife is how long what an issuer says of itself is believed; its keys
// are asked for anew when one is missing, and with it.
const (
	issuerLife  = time.Hour
	issuerBound = 256
)

// NewIssuers returns what reaches issuers by doer alone.
func NewIssuers(doer Doer) *Issuers {
	return &Issuers{client: &http.Client{Transport: &fetcher{doer: doer}}, known: map[string]knownIssuer{}}
}

// context returns ctx by which the libraries reach the network as we do.
func (s *Issuers) context(ctx context.Context) context.Context {
	return oidc.ClientContext(ctx, s.client)
}

// discover returns what an issuer says of itself (OpenID Connect Discovery 1.0);
// says is the name by which it does, where that is not its address. Errors wrap
// control.ErrUnavailable.
func (s *Issuers) discover(ctx context.Context, issuer, says string) (*oidc.Provider, error) {
	if k, ok := s.recall("issuer " + issuer); ok {
		return k.provider, nil
	}
	// The keys are fetched under this context later on, each time in bounds.
	long := s.context(context.WithoutCancel(ctx))
	if says != issuer {
		long = oidc.InsecureIssuerURLContext(long, says)
	}
	p, err := oidc.NewProvider(long, issuer)
	if err != nil {
		return nil, errors.Join(control.ErrUnavailable, err)
	}
	s.keep("issuer "+issuer, knownIssuer{provider: p})
	return p, nil
}

// keys returns the keys at an address, which are fetched when they are needed.
func (s *Issuers) keys(address string) oidc.KeySet {
	if k, ok := s.recall("keys " + address); ok {
		return k.keys
	}
	keys := oidc.NewRemoteKeySet(s.context(context.Background()), address) // each fetch is bounded by the Doer
	s.keep("keys "+address, knownIssuer{keys: keys})
	return keys
}

func (s *Issuers) recall(name string) (knownIssuer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.known[name]
	return k, ok && time.Since(k.at) < issuerLife
}

func (s *Issuers) keep(name string, k knownIssuer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.known) >= issuerBound {
		s.known = map[string]knownIssuer{}
	}
	k.at = time.Now()
	s.known[name] = k
}

// secureURL tells whether what goes to an address is encrypted, or stays on the
// machine.
func secureURL(address string) bool {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Fragment != "" {
		return false
	}
	if u.Scheme == "https" {
		return true
	}
	ip := net.ParseIP(u.Hostname())
	return u.Scheme == "http" && (ip != nil && ip.IsLoopback() || u.Hostname() == "localhost")
}
