package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"parley/control/ingress"
)

// What a listener takes has bounds: headers, and the time that they may take.
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
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close(); <-done })
	answer := func(request string) string {
		t.Helper()
		c, err := net.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(c, request)
		line, _ := bufio.NewReader(c).ReadString('\n') // empty: it was cut
		return strings.TrimSpace(line)
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
		_, status, _ := strings.Cut(answer(tt[0]), " ")
		if len(status) > 3 {
			status = status[:3]
		}
		if status != tt[1] && (tt[1] != "" || status != "408") {
			t.Errorf("%s: %q, want %q", name, status, tt[1])
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
