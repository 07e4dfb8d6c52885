package tts

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
	"golang.org/x/sync/errgroup"

	"parley/agent"
)

const (
	socketWrite = 5 * time.Second // a peer that stops reading is cut
	socketLimit = 4 << 20         // bytes a message: half a minute of speech in base64
	socketPing  = 5 * time.Second // RFC 6455 §5.5.2; three without an answer are the end
	socketQueue = 16              // messages read ahead; then the vendor waits
)

// errStale tells of a socket that was open but no longer answers: another one
// may.
var errStale = errors.New("the kept connection is dead")

// A message is one of a vendor's.
type message struct {
	binary bool
	data   []byte
}

// A socket is a vendor's websocket, kept open from one clause to the next. One
// goroutine reads it ahead of the clause, another keeps it alive. Both end with
// close, or with the context that it was dialed to live in.
type socket struct {
	vendor string
	in     chan message // closed at the end, when err is set
	err    error
	born   time.Time

	kind  func(int, string) error // of a close frame
	conn  *websocket.Conn
	stop  context.CancelFunc
	ended chan struct{}
	write sync.Mutex // one message at a time
}

// A line is how a vendor is called.
type line struct {
	vendor  string
	address string
	header  http.Header
	limit   time.Duration // for its answer
	refused func(*http.Response) error
	keep    func(*socket) error     // every socketPing; nil: nothing but the ping
	kind    func(int, string) error // which Err a close frame is; nil: by its code
}

// dialSocket opens a socket within ctx that lives within life. A failure that
// is ctx's own comes as its cause.
func dialSocket(ctx, life context.Context, l line) (*socket, error) {
	limited, cancel := context.WithTimeout(ctx, l.limit)
	defer cancel()
	dialer := websocket.Dialer{Proxy: http.ProxyFromEnvironment, HandshakeTimeout: l.limit}
	conn, res, err := dialer.DialContext(limited, l.address, l.header)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case res == nil || res.StatusCode == http.StatusSwitchingProtocols:
		return nil, fmt.Errorf("dial %s: %w: %w", l.vendor, agent.ErrUnavailable, err)
	default:
		return nil, fmt.Errorf("dial %s: %w", l.vendor, l.refused(res))
	}
	conn.SetReadLimit(socketLimit)
	own, stop := context.WithCancel(life)
	s := &socket{
		vendor: l.vendor, kind: l.kind, conn: conn, stop: stop, born: time.Now(),
		in: make(chan message, socketQueue), ended: make(chan struct{}),
	}
	go s.run(own, l.keep)
	return s, nil
}

func (s *socket) run(ctx context.Context, keep func(*socket) error) {
	defer close(s.ended)
	defer s.stop()
	g, ctx := errgroup.WithContext(ctx)
	// A read has no context: closing the socket ends it.
	defer context.AfterFunc(ctx, func() { s.conn.Close() })()
	g.Go(func() error { return s.read(ctx) })
	g.Go(func() error { return s.keepAlive(ctx, keep) })
	s.err = g.Wait()
	s.conn.Close()
	close(s.in)
}

func (s *socket) read(ctx context.Context) error {
	alive := func(string) error { return s.conn.SetReadDeadline(time.Now().Add(3 * socketPing)) }
	s.conn.SetPongHandler(alive)
	for {
		_ = alive("")
		kind, b, err := s.conn.ReadMessage()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return s.broken(err)
		}
		select {
		case s.in <- message{kind == websocket.BinaryMessage, b}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *socket) keepAlive(ctx context.Context, keep func(*socket) error) error {
	tick := time.NewTicker(socketPing)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if err := s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(socketWrite)); err != nil {
			return s.broken(err)
		}
		if keep == nil {
			continue
		}
		if err := keep(s); err != nil {
			return err
		}
	}
}

// broken maps the end of a socket by what the vendor says of it.
func (s *socket) broken(err error) error {
	var end *websocket.CloseError
	if !errors.As(err, &end) {
		return fmt.Errorf("%s: %w: %w", s.vendor, agent.ErrUnavailable, err)
	}
	kind := agent.ErrUnavailable
	switch {
	case s.kind != nil:
		kind = s.kind(end.Code, end.Text)
	case end.Code == websocket.ClosePolicyViolation, end.Code == websocket.CloseUnsupportedData, end.Code == websocket.CloseMessageTooBig:
		kind = agent.ErrProtocol
	}
	return fmt.Errorf("%s: %w: close %d %q", s.vendor, kind, end.Code, plain(end.Text))
}

// sendJSON writes one message. It may be called by any goroutine.
func (s *socket) sendJSON(m any) error {
	s.write.Lock()
	defer s.write.Unlock()
	if err := s.conn.SetWriteDeadline(time.Now().Add(socketWrite)); err != nil {
		return s.broken(err)
	}
	if err := s.conn.WriteJSON(m); err != nil {
		return s.broken(err)
	}
	return nil
}

// close ends the socket and waits for its goroutines.
func (s *socket) close() {
	s.stop()
	<-s.ended
}

// socketURL gives the websocket's address under a base of http(s) or ws(s).
func socketURL(base, path string, query url.Values) (string, error) {
	u, err := url.Parse(strings.TrimRight(base, "/"))
	if err != nil {
		return "", errors.New("address is not a URL")
	}
	u.Scheme = map[string]string{"https": "wss", "http": "ws", "wss": "wss", "ws": "ws"}[u.Scheme]
	if u.Scheme == "" || u.Host == "" {
		return "", errors.New("address is not an http(s) or ws(s) URL")
	}
	u = u.JoinPath(path)
	u.RawQuery = query.Encode()
	return u.String(), nil
}

// authorize sets a header from the key, if there is one.
func authorize(ctx context.Context, h http.Header, name, scheme string, key agent.Credential) error {
	if key == nil {
		return nil
	}
	k, err := key(ctx)
	if err != nil {
		return fmt.Errorf("read key: %w: %w", agent.ErrCredentials, err)
	}
	if k != "" {
		h.Set(name, scheme+k)
	}
	return nil
}

// plain shortens what a vendor says of itself, and hides any word of it long
// enough to be a key, save a UUID.
func plain(s string) string {
	var out []string
	for w := range strings.FieldsSeq(s[:min(len(s), 200)]) {
		if len(w) > 20 && !(len(w) == 36 && strings.Count(w, "-") == 4) {
			w = "…"
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}
