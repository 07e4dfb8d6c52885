package ingress

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync/atomic"
)

// A Listener gives the answers of net/http itself the headers that every answer
// has (see [Harden]): to what is no HTTP, to a head that is too large, and to
// HTTP where TLS is spoken. Those are written before there is a request, and
// pass no handler. It serves [NewServer]'s servers. Under TLS it sees what is
// not encrypted alone: there net/http's own answers stay as they are.
type Listener struct {
	net.Listener
	Secure bool // answers travel by TLS, be it a proxy's
}

// Accept implements [net.Listener].
func (l Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, secure: l.Secure}, nil
}

// A conn is a connection that knows whether a handler has its word.
type conn struct {
	net.Conn
	secure  bool
	handled atomic.Bool // by a handler, since the last answer's end
}

type connKey struct{}

// known puts a connection into the context of its requests.
func known(ctx context.Context, c net.Conn) context.Context {
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// handling notes that what is written from here on is a handler's.
func handling(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(connKey{}).(*conn); ok {
			c.handled.Store(true)
		}
		h.ServeHTTP(w, r)
	})
}

// Write implements [net.Conn]. An answer of net/http's own comes in one piece,
// head first.
func (c *conn) Write(b []byte) (int, error) {
	if c.handled.Load() || !bytes.HasPrefix(b, []byte("HTTP/1.")) {
		return c.Conn.Write(b)
	}
	line, rest, ok := bytes.Cut(b, []byte("\r\n"))
	if !ok {
		return c.Conn.Write(b)
	}
	var out bytes.Buffer
	out.Write(line)
	out.WriteString("\r\n")
	h := http.Header{}
	Harden(h, c.secure)
	_ = h.Write(&out) // a buffer takes everything
	out.Write(rest)
	if _, err := c.Conn.Write(out.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}

// CloseWrite ends what is sent and goes on to read, where the connection can:
// net/http does so that a client reads why its request was refused.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
