package egress

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

func TestListed(t *testing.T) {
	hosts := []string{"api.example.com", "*.example.org", "b.example:8443", "*.c.example:443", "93.184.215.14", "[2606:4700::1]:443"}
	for target, want := range map[string]bool{
		"api.example.com:443": true, "api.example.com:80": true, "x.api.example.com:443": false, "example.com:443": false,
		"evilapi.example.com:443": false, "a.example.org:443": true, "a.b.example.org:1": true, "example.org:443": false, "aexample.org:443": false,
		"b.example:8443": true, "b.example:443": false, "a.c.example:443": true, "a.c.example:80": false,
		"93.184.215.14:443": true, "93.184.215.15:443": false, "[2606:4700::1]:443": true, "[2606:4700::1]:80": false, "": false,
	} {
		if got := Listed(hosts, target); got != want {
			t.Errorf("%s: %v, want %v", target, got, want)
		}
	}
}

// Where a tenant lists hosts, no other is called: not by its name, its address,
// a redirect, or a name that differs in its case.
func TestHosts(t *testing.T) {
	w := newWorld()
	hits := map[string]int{}
	for name, addr := range map[string]string{"good.example": "93.184.215.14", "bad.example": "93.184.215.15"} {
		w.serve(t, name, addr, "80", func(rw http.ResponseWriter, r *http.Request) {
			hits[name]++
			if r.URL.Path == "/away" {
				http.Redirect(rw, r, "http://bad.example/", http.StatusFound)
			}
		})
	}
	c := w.client(t, Options{})
	ctx := WithHosts(t.Context(), []string{"good.example"})
	for _, address := range []string{"http://bad.example/", "http://good.example/away", "http://93.184.215.15/", "http://good.example.bad.example/"} {
		_, err := c.Do(request(t, "GET", address, "").WithContext(ctx))
		wantRefusal(t, err, ReasonHost)
	}
	if _, err := c.Do(request(t, "GET", "http://GOOD.example./", "").WithContext(ctx)); err != nil {
		t.Error(err)
	}
	if hits["good.example"] != 2 || hits["bad.example"] != 0 || len(w.audit) != 4 {
		t.Errorf("hits %v, %d refusals told", hits, len(w.audit))
	}
	if _, err := c.Do(request(t, "GET", "http://bad.example/", "").WithContext(WithHosts(t.Context(), nil))); err != nil {
		t.Errorf("without a list: %v", err)
	}
}

func TestGuard(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "http://127.0.0.1:9/", http.StatusFound)
			return
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 100))
	}))
	defer s.Close()
	var told []string
	g := &Guard{Next: http.DefaultTransport, Hosts: []string{strings.TrimPrefix(s.URL, "http://")}, MaxResponse: 50,
		Refused: func(_ context.Context, r *Refusal) { told = append(told, r.Host) }}
	client := &http.Client{Transport: g}
	defer client.CloseIdleConnections()
	for _, address := range []string{s.URL + "/away", "http://localhost:9/"} {
		_, err := client.Do(request(t, "GET", address, ""))
		wantRefusal(t, err, ReasonHost)
	}
	if len(told) != 2 || told[0] != "127.0.0.1:9" {
		t.Errorf("told of %v", told)
	}
	res, err := client.Do(request(t, "GET", s.URL, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if b, err := io.ReadAll(res.Body); err == nil || len(b) > 50 {
		t.Errorf("%d bytes, %v; want 50 and an error", len(b), err)
	}
}

// Through a proxy goes the address that was checked, never a name, and nothing
// that would not have gone without.
func TestProxy(t *testing.T) {
	w := newWorld()
	w.serve(t, "api.example", "93.184.215.14", "80", func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, r.Host) })
	w.serve(t, "ours.example", "10.0.0.5", "80", func(rw http.ResponseWriter, r *http.Request) { fmt.Fprint(rw, "ours") })
	w.names["inside.example"] = w.names["ours.example"]
	var asked, with []string
	answer := http.StatusOK
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		asked, with = append(asked, r.Method+" "+r.Host), append(with, r.Header.Get("Proxy-Authorization"))
		if answer != http.StatusOK {
			rw.WriteHeader(answer)
			return
		}
		to, err := w.dial(r.Context(), "tcp", r.Host)
		if err != nil {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		conn, _, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(to, conn); _ = to.Close() }()
		go func() { _, _ = io.Copy(conn, to); _ = conn.Close() }()
	}))
	defer proxy.Close()
	u, err := url.Parse("http://user:pass@proxy.test:3128")
	if err != nil {
		t.Fatal(err)
	}
	w.behind["proxy.test:3128"] = proxy.Listener.Addr().String()
	c := w.client(t, Options{Proxy: u, Allow: []string{"ours.example:80"}})
	get := func(address string) (string, error) {
		res, err := c.Do(request(t, "GET", address, ""))
		if err != nil {
			return "", err
		}
		b, err := io.ReadAll(res.Body)
		return string(b), err
	}
	if got, err := get("http://api.example/"); err != nil || got != "api.example" {
		t.Errorf("through the proxy: %q, %v", got, err)
	}
	if got, err := get("http://ours.example/"); err != nil || got != "ours" {
		t.Errorf("to what is listed: %q, %v", got, err)
	}
	_, err = get("http://inside.example/")
	wantRefusal(t, err, ReasonAddress)
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:pass"))
	if len(asked) != 1 || asked[0] != "CONNECT 93.184.215.14:80" || with[0] != want {
		t.Errorf("the proxy was asked %q with %q", asked, with)
	}
	c.Close()
	answer = http.StatusProxyAuthRequired
	if _, err := get("http://api.example/"); err == nil || strings.Contains(err.Error(), "pass") || !strings.Contains(err.Error(), "407") {
		t.Errorf("refused by the proxy: %v", err)
	}
	bad, _ := url.Parse("socks5://user:pass@proxy.test")
	if _, err := New(Options{Proxy: bad}); err == nil || strings.Contains(err.Error(), "pass") {
		t.Errorf("a proxy of another kind: %v", err)
	}
}
