// Package socket is the websocket to a vendor of speech, as every adapter needs
// it: dialed within a limit, read ahead, kept alive, and ended by what the vendor
// says of it in terms of package agent's Err values.
package socket

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"parley/agent"
)

const (
	writeLimit   = 5 * time.Second // a peer that stops reading is cut
	messageLimit = 4 << 20         // bytes: half a minute of speech in base64
	pingEvery    = 5 * time.Second // RFC 6455 §5.5.2; three without an answer are the end
	readAhead    = 16              // messages; then the vendor waits
)

// A Message is one of a vendor's.
type Message struct {
	Binary bool
	Data   []byte
}

// A Line is how a vendor is called.
type Line struct {
	Vendor string     // in errors
	Base   string     // address of http(s) or ws(s)
	Path   string     // under Base, unless Base has it already
	Query  url.Values // may be nil

	Header, Scheme string           // what carries the key: "Authorization", "Token "
	Key            agent.Credential // nil: none
	Limit          time.Duration    // for the vendor's answer to the call

	// Refused maps a handshake that failed by its status. Nil: by the status.
	Refused func(*http.Response) error
	// Keep is called every 5 s to keep the socket alive. Nil: a ping must do.
	Keep func(*Conn) error
	// Kind maps a close frame to one of agent's Err values. Nil: by its code.
	Kind func(code int, text string) error
}

// A Conn is an open socket. A goroutine reads it ahead of its user, and a timer
// keeps it alive. Both end with Close, or with the context that it lives in.
type Conn struct {
	In   <-chan Message // closed at the end
	Born time.Time

	line  Line
	conn  *websocket.Conn
	stop  context.CancelCauseFunc
	ended chan struct{}
	err   error      // once ended
	write sync.Mutex // one message at a time
	pulse pulse
}

// Dial opens a socket within ctx that lives within life. It returns an error that
// wraps one of agent's Err values, or the cause of ctx's end. Whoever dials must
// call Close.
func Dial(ctx, life context.Context, l Line) (*Conn, error) {
	address, err := address(l.Base, l.Path, l.Query)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", l.Vendor, agent.ErrProtocol, err)
	}
	limited, cancel := context.WithTimeout(ctx, l.Limit)
	defer cancel()
	header := http.Header{}
	key, err := l.Key.Read(limited)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.Vendor, err)
	}
	if key != "" {
		header.Set(l.Header, l.Scheme+key)
	}
	dialer := websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: l.Limit}
	conn, res, err := dialer.DialContext(limited, address, header)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case res == nil || res.StatusCode == http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("dial %s: %w: %w", l.Vendor, agent.ErrUnavailable, err)
	case l.Refused != nil:
		return nil, fmt.Errorf("dial %s: %w", l.Vendor, l.Refused(res))
	default:
		return nil, fmt.Errorf("dial %s: %w", l.Vendor, agent.Refused(res.StatusCode, res.Header, ""))
	}
	conn.SetReadLimit(messageLimit)
	own, stop := context.WithCancelCause(life)
	in := make(chan Message, readAhead)
	c := &Conn{In: in, Born: time.Now(), line: l, conn: conn, stop: stop, ended: make(chan struct{})}
	go c.run(own, in)
	return c, nil
}

func (c *Conn) run(ctx context.Context, in chan<- Message) {
	defer close(c.ended)
	defer c.stop(nil)
	// A read has no context: closing the socket ends it.
	defer context.AfterFunc(ctx, func() { c.conn.Close() })()
	c.pulse.begin(c.keepAlive)
	c.err = c.read(ctx, in)
	c.conn.Close() // a beat may be writing
	c.pulse.end()
	close(in)
}

func (c *Conn) read(ctx context.Context, in chan<- Message) error {
	alive := func(string) error { return c.conn.SetReadDeadline(time.Now().Add(3 * pingEvery)) }
	c.conn.SetPongHandler(alive)
	for {
		_ = alive("")
		kind, b, err := c.conn.ReadMessage()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			return c.broken(err)
		}
		select {
		case in <- Message{kind == websocket.BinaryMessage, b}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// keepAlive is the pulse's beat. If it fails, the socket ends.
func (c *Conn) keepAlive() (goOn bool) {
	err := c.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeLimit))
	if err != nil {
		err = c.broken(err)
	} else if c.line.Keep != nil {
		err = c.line.Keep(c)
	}
	if err != nil {
		c.stop(err)
	}
	return err == nil
}

// broken maps the end of a socket by what the vendor says of it.
func (c *Conn) broken(err error) error {
	var end *websocket.CloseError
	if !errors.As(err, &end) {
		return fmt.Errorf("%s: %w: %w", c.line.Vendor, agent.ErrUnavailable, err)
	}
	kind := agent.ErrUnavailable
	switch {
	case c.line.Kind != nil:
		kind = c.line.Kind(end.Code, end.Text)
	case end.Code == websocket.ClosePolicyViolation, end.Code == websocket.CloseUnsupportedData, end.Code == websocket.CloseMessageTooBig:
		kind = agent.ErrProtocol
	}
	return &closedError{end.Code, fmt.Errorf("%s: %w: close %d %q", c.line.Vendor, kind, end.Code, Plain(end.Text))}
}

// A closedError tells the code of the vendor's close frame, without its words.
type closedError struct {
	code int
	err  error
}

func (e *closedError) Error() string { return e.err.Error() }
func (e *closedError) Unwrap() error { return e.err }

// Normal reports whether err is a vendor's normal closure (1000).
func Normal(err error) bool {
	var end *closedError
	return errors.As(err, &end) && end.code == websocket.CloseNormalClosure
}

// Send writes one message of text or of bytes. It may be called by any
// goroutine, and gives the vendor 5 s to take it.
func (c *Conn) Send(binary bool, b []byte) error {
	kind := websocket.TextMessage
	if binary {
		kind = websocket.BinaryMessage
	}
	return c.sent(func() error { return c.conn.WriteMessage(kind, b) })
}

// SendJSON writes one message of text.
func (c *Conn) SendJSON(m any) error { return c.sent(func() error { return c.conn.WriteJSON(m) }) }

func (c *Conn) sent(write func() error) error {
	c.write.Lock()
	defer c.write.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeLimit)) // a closed socket fails to write
	if err := write(); err != nil {
		return c.broken(err)
	}
	return nil
}

// Err returns why the socket ended, once In is closed. A normal closure is an
// error too: who asked for it knows. See [Normal].
func (c *Conn) Err() error { return c.err }

// Close ends the socket and waits for its goroutines. It is safe to call twice.
func (c *Conn) Close() {
	c.stop(nil)
	<-c.ended
}

// address gives the websocket's address under a base of http(s) or ws(s).
func address(base, path string, query url.Values) (string, error) {
	u, err := url.Parse(strings.TrimRight(base, "/"))
	if err != nil {
		return "", errors.New("address is not a URL")
	}
	u.Scheme = map[string]string{"https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}[u.Scheme]
	if u.Scheme == "" || u.Host == "" {
		return "", errors.New("address is not an http(s) or ws(s) URL")
	}
	if !strings.HasSuffix(u.Path, path) {
		u = u.JoinPath(path)
	}
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// Plain shortens what a vendor says of itself, and hides any word of it long
// enough to be a key, save a UUID.
func Plain(s string) string {
	var out []string
	for w := range strings.FieldsSeq(s[:min(len(s), 200)]) {
		if len(w) > 20 && !(len(w) == 36 && strings.Count(w, "-") == 4) {
			w = "…"
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

// DeepgramRefused is [Line.Refused] of Deepgram, whose two headers are what its
// support asks for.
func DeepgramRefused(res *http.Response) error {
	return fmt.Errorf("%w (dg-error %q, dg-request-id %q)", agent.Refused(res.StatusCode, res.Header, ""),
		Plain(res.Header.Get("dg-error")), Plain(res.Header.Get("dg-request-id")))
}
