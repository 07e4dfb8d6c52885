package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"parley/control/ingress"
)

// What a listener takes has bounds: headers, and the time that they may take.
// What it answers by itself has the headers of every answer.
func TestListenerBounds(t *testing.T) {
	s := ingress.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "in") }), nil, slog.New(slog.DiscardHandler))
	if s.ReadHeaderTimeout <= 0 || s.ReadHeaderTimeout > 10*time.Second || s.ReadTimeout <= 0 || s.WriteTimeout <= 0 || s.IdleTimeout <= 0 {
		t.Errorf("a wait without end: %+v", s)
	}
	s.ReadHeaderTimeout /= 50 // the same, sooner
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ingress.Listener{Listener: l, Secure: true}) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	answer := func(request string) (status string, head http.Header) {
		t.Helper()
		c, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, request)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil { // it was cut
			return "", nil
		}
		defer resp.Body.Close()
		return strconv.Itoa(resp.StatusCode), resp.Header
	}
	const head = "GET / HTTP/1.1\r\nHost: a.example\r\n"
	for name, tt := range map[string][2]string{
		"good":         {head + "\r\n", "200"},
		"huge-header":  {head + "X-Big: " + strings.Repeat("x", 40<<10) + "\r\n\r\n", "431"},
		"many-headers": {head + many(2000) + "\r\n", "431"},
		"slow":         {head + "X-Slow: ", ""}, // never goes on
		"silent":       {"", ""},
		"no-http":      {"\x16\x03\x01\x02\x00\x01\r\n\r\n", "400"},
		"smuggled":     {"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\nabc", "501"},
	} {
		status, got := answer(tt[0])
		if status != tt[1] && (tt[1] != "" || status != "408") {
			t.Errorf("%s: %q, want %q", name, status, tt[1])
		}
		for _, h := range append(ingress.HardenedHeaders(), "Strict-Transport-Security") {
			if n := len(got.Values(h)); status != "" && status != "200" && n != 1 {
				t.Errorf("%s: %d of %s", name, n, h)
			}
		}
	}
}

// What a handler writes is its own, whatever it looks like; what follows it on
// the connection and is no HTTP is answered with the headers again.
func TestListenerLeavesHandlersAlone(t *testing.T) {
	const own = "HTTP/1.1 400 Mine\r\nContent-Type: text/plain\r\n\r\n"
	body := strings.Repeat(own, 1000)
	s := ingress.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body))) // each Write is one on the wire
		for i := 0; i < len(body); i += len(own) {
			_, _ = io.WriteString(w, body[i:i+len(own)])
			_ = http.NewResponseController(w).Flush()
		}
	}), nil, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ingress.Listener{Listener: l}) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	c, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	in := bufio.NewReader(c)
	for _, tt := range []struct {
		request, body string
		hardened      bool
	}{
		{"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", body, false},
		{"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", body, false},
		{"nonsense\r\n\r\n", "400 Bad Request", true},
	} {
		if _, err := io.WriteString(c, tt.request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != tt.body || (resp.Header.Get("X-Frame-Options") != "") != tt.hardened {
			t.Errorf("%q: %v, %d bytes, %v", tt.request, resp.Header, len(got), err)
		}
	}
}

// many is n headers.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-%d: %d\r\n", i, i)
	}
	return b.String()
}
