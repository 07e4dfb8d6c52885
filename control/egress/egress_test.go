package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is a fake internet: names, and servers behind public addresses.
type world struct {
	mu      sync.Mutex
	names   map[string][][]netip.Addr // answers in turn; the last repeats
	lookups map[string]int
	dialed  []string
	behind  map[string]string // "ip:port" to a real listener
	audit   []*Refusal
}

func newWorld() *world {
	return &world{names: map[string][][]netip.Addr{}, lookups: map[string]int{}, behind: map[string]string{}}
}

func (w *world) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	answers := w.names[host]
	if len(answers) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	n := w.lookups[host]
	w.lookups[host]++
	return answers[min(n, len(answers)-1)], nil
}

func (w *world) dial(ctx context.Context, network, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dialed = append(w.dialed, address)
	to, ok := w.behind[address]
	w.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("nobody at %s", address)
	}
	return (&net.Dialer{}).DialContext(ctx, network, to)
}

// serve puts a handler behind a name, a public address and a port.
func (w *world) serve(t *testing.T, name, addr, port string, h http.HandlerFunc) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	w.names[name] = [][]netip.Addr{{netip.MustParseAddr(addr)}}
	w.behind[net.JoinHostPort(addr, port)] = s.Listener.Addr().String()
}

func (w *world) client(t *testing.T, o Options) *Client {
	t.Helper()
	o.Resolver, o.Dial = w, w.dial
	o.Audit = func(_ context.Context, r *Refusal) { w.audit = append(w.audit, r) }
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func request(t *testing.T, method, url, body string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func wantRefusal(t *testing.T, err error, reason string) *Refusal {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) || r.Reason != reason {
		t.Fatalf("error %v, want a refusal for %q", err, reason)
	}
	return r
}

func TestDo(t *testing.T) {
	w := newWorld()
	w.serve(t, "api.example.com", "93.184.215.14", "80", func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		fmt.Fprintf(rw, "%s %s %s %s", r.Method, r.Host, r.URL.RequestURI(), b)
	})
	res, err := w.client(t, Options{}).Do(request(t, "POST", "http://API.example.com./a%2Fb?q=1", "hi"))
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(res.Body)
	if got, want := string(b), "POST API.example.com. /a%2Fb?q=1 hi"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(w.dialed) != 1 || w.dialed[0] != "93.184.215.14:80" {
		t.Errorf("dialed %v, want the address that was looked up", w.dialed)
	}
}

func TestRefusedTargets(t *testing.T) {
	w := newWorld()
	w.names["inside.example"] = [][]netip.Addr{addrs("10.0.0.1")}
	w.names["mixed.example"] = [][]netip.Addr{addrs("93.184.215.14", "127.0.0.1")}
	w.names["meta.example"] = [][]netip.Addr{addrs("169.254.169.254")}
	// Forms that some resolvers read as an IPv4 address.
	for _, name := range []string{"decimal", "2130706433", "0177.0.0.1", "0x7f.1", "127.1"} {
		w.names[name] = [][]netip.Addr{addrs("127.0.0.1")}
	}
	c := w.client(t, Options{Allow: []string{"meta.example:80"}})
	tests := []struct{ url, reason string }{
		{"http://127.0.0.1/", ReasonAddress}, {"http://[::1]/", ReasonAddress}, {"http://[::ffff:10.0.0.1]/", ReasonAddress},
		{"http://169.254.169.254/latest/meta-data", ReasonAddress}, {"http://[fe80::1%25eth0]/", ReasonAddress},
		{"http://inside.example/", ReasonAddress}, {"http://mixed.example/", ReasonAddress}, {"http://decimal/", ReasonAddress},
		{"http://2130706433/", ReasonAddress}, {"http://0177.0.0.1/", ReasonAddress}, {"http://0x7f.1/", ReasonAddress}, {"http://127.1/", ReasonAddress},
		{"http://meta.example/", ReasonAddress}, // the list opens private addresses, not credentials
		{"ftp://example.com/", ReasonURL}, {"http://user:pw@example.com/", ReasonURL}, {"file:///etc/passwd", ReasonURL}, {"http:///x", ReasonURL},
	}
	for _, tt := range tests {
		_, err := c.Do(request(t, "GET", tt.url, ""))
		wantRefusal(t, err, tt.reason)
	}
	if len(w.dialed) != 0 {
		t.Errorf("dialed %v", w.dialed)
	}
	if len(w.audit) != len(tests) {
		t.Errorf("%d refusals in the audit, want %d", len(w.audit), len(tests))
	}
	_, err := c.Do(request(t, "GET", "http://inside.example/secret-path?token=x", ""))
	r := wantRefusal(t, err, ReasonAddress)
	if s := err.Error(); strings.Contains(s, "10.0.0.1") || strings.Contains(s, "secret-path") || strings.Contains(s, "token") {
		t.Errorf("the error tells too much: %s", s)
	}
	if r.Addr.String() != "10.0.0.1" || r.Host != "inside.example:80" {
		t.Errorf("%+v", r)
	}
	if _, err := c.Do(request(t, "CONNECT", "http://mixed.example/", "")); err == nil {
		t.Error("CONNECT was sent")
	}
}

func TestAllowlist(t *testing.T) {
	w := newWorld()
	w.serve(t, "crm.internal", "10.1.2.3", "8080", func(rw http.ResponseWriter, _ *http.Request) { io.WriteString(rw, "in") })
	c := w.client(t, Options{Allow: []string{"CRM.internal:8080", "169.254.1.1:80"}})
	if _, err := c.Do(request(t, "GET", "http://crm.internal:8080/", "")); err != nil {
		t.Error(err)
	}
	for _, url := range []string{"http://crm.internal/", "http://10.1.2.3:8080/"} { // another port; the address without the name
		_, err := c.Do(request(t, "GET", url, ""))
		wantRefusal(t, err, ReasonAddress)
	}
	if _, err := c.Do(request(t, "GET", "http://169.254.1.1/", "")); err == nil || strings.Contains(err.Error(), "refused") {
		t.Errorf("a listed address: %v, want it dialed", err)
	}
	if _, err := New(Options{Allow: []string{"crm.internal"}}); err == nil {
		t.Error("an entry without a port was taken")
	}
}

func TestRebinding(t *testing.T) {
	w := newWorld()
	w.serve(t, "evil.example", "93.184.215.14", "80", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Connection", "close")
	})
	w.names["evil.example"] = [][]netip.Addr{addrs("93.184.215.14"), addrs("127.0.0.1")}
	c := w.client(t, Options{})
	if _, err := c.Do(request(t, "GET", "http://evil.example/", "")); err != nil {
		t.Fatal(err)
	}
	if n := w.lookups["evil.example"]; n != 1 || w.dialed[0] != "93.184.215.14:80" {
		t.Errorf("looked up %d times, dialed %v: the address that was checked must be the one dialed", n, w.dialed)
	}
	_, err := c.Do(request(t, "GET", "http://evil.example/", ""))
	wantRefusal(t, err, ReasonAddress)
}

func TestRedirects(t *testing.T) {
	w := newWorld()
	var seen http.Header
	var query string
	w.serve(t, "other.example", "93.184.215.15", "80", func(_ http.ResponseWriter, r *http.Request) { seen, query = r.Header.Clone(), r.URL.RawQuery })
	var atHome http.Header
	var body string
	w.serve(t, "api.example", "93.184.215.14", "80", func(rw http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/home":
			atHome, body = r.Header.Clone(), r.Method+" "+string(b)
			return
		case "/loop":
			http.Redirect(rw, r, "/loop", http.StatusFound)
			return
		}
		status := http.StatusFound
		if r.URL.Path == "/keep" {
			status = http.StatusTemporaryRedirect
		}
		http.Redirect(rw, r, r.URL.Query().Get("to"), status)
	})
	c := w.client(t, Options{})
	do := func(method, url, body string) error {
		r := request(t, method, url, body)
		r.Header.Set("Authorization", "Bearer s3cret")
		r.Header.Set("X-Api-Key", "s3cret")
		r.Header.Set("Accept", "application/json")
		_, err := c.Do(r)
		return err
	}
	if err := do("GET", "http://api.example/go?to=http://other.example/&key=s3cret", ""); err != nil {
		t.Fatal(err)
	}
	if seen.Get("Accept") == "" || strings.Contains(fmt.Sprint(seen), "s3cret") || query != "" {
		t.Errorf("another host saw %v ?%s", seen, query)
	}
	if err := do("POST", "http://api.example/go?to=/home", "x"); err != nil || atHome.Get("X-Api-Key") != "s3cret" || body != "GET " {
		t.Errorf("%v, %q, %v: the same host gets the headers, 302 no body", err, body, atHome)
	}
	if err := do("POST", "http://api.example/keep?to=/home", "x"); err != nil || body != "POST x" {
		t.Errorf("%v, %q: 307 sends the body again", err, body)
	}
	wantRefusal(t, do("POST", "http://api.example/keep?to=http://other.example/", "x"), ReasonRedirects)
	wantRefusal(t, do("GET", "http://api.example/loop", ""), ReasonRedirects)
	wantRefusal(t, do("GET", "http://api.example/go?to=http://127.0.0.1/", ""), ReasonAddress)
	wantRefusal(t, do("GET", "http://api.example/go?to=gopher://other.example/", ""), ReasonURL)
}

func TestCaps(t *testing.T) {
	w := newWorld()
	w.serve(t, "api.example", "93.184.215.14", "80", func(rw http.ResponseWriter, r *http.Request) {
		io.WriteString(rw, strings.Repeat("a", len(r.URL.Query().Get("n"))*100))
	})
	c := w.client(t, Options{MaxRequest: 10, MaxResponse: 250})
	_, err := c.Do(request(t, "POST", "http://api.example/", "12345678901"))
	wantRefusal(t, err, ReasonRequest)
	if _, err := c.Do(request(t, "GET", "http://api.example/?n=xx", "")); err != nil {
		t.Error(err)
	}
	_, err = c.Do(request(t, "GET", "http://api.example/?n=xxx", ""))
	wantRefusal(t, err, ReasonResponse)
}

func TestTimeout(t *testing.T) {
	w := newWorld()
	w.serve(t, "slow.example", "93.184.215.14", "80", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := w.client(t, Options{Timeout: 30 * time.Millisecond})
	if _, err := c.Do(request(t, "GET", "http://slow.example/", "")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the deadline's", err)
	}
}

func TestTLS(t *testing.T) {
	for _, tt := range []struct {
		name string
		max  uint16
		ok   bool
	}{{"modern", tls.VersionTLS13, true}, {"old", tls.VersionTLS11, false}} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
			s.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tt.max}
			s.StartTLS()
			t.Cleanup(s.Close)
			w := newWorld()
			w.names["example.com"] = [][]netip.Addr{addrs("93.184.215.14")} // the test certificate's name
			w.behind["93.184.215.14:443"] = s.Listener.Addr().String()
			roots := x509.NewCertPool()
			roots.AddCert(s.Certificate())
			_, err := w.client(t, Options{TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS10}}).Do(request(t, "GET", "https://example.com/", ""))
			if (err == nil) != tt.ok {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestNoProxyFromEnvironment(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	w := newWorld()
	w.serve(t, "api.example", "93.184.215.14", "80", func(http.ResponseWriter, *http.Request) {})
	if _, err := w.client(t, Options{}).Do(request(t, "GET", "http://api.example/", "")); err != nil {
		t.Error(err)
	}
}
