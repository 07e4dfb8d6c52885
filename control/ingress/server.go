package ingress

import (
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

// Time and size that a request's head and body may take. A handler of a stream
// or a socket sets its own from there on.
const (
	HeadTime   = 5 * time.Second  // from the first byte, or from accept, to the end of the head
	BodyTime   = 20 * time.Second // to the end of the body
	AnswerTime = 40 * time.Second
	IdleTime   = 90 * time.Second // between requests
	HeadBytes  = 16 << 10
)

// MaxWaiting is how many connections of one client may wait with nothing said:
// after accept, or between requests. Browsers keep six.
const MaxWaiting = 100

// NewServer returns a server for h that nobody can hold up: with time and size
// limits on every part of a request, and with connections that say nothing
// counted by client. Exempt are those who speak for many, such as our proxies;
// nil: nobody. This machine always is.
func NewServer(h http.Handler, exempt func(netip.Addr) bool, log *slog.Logger) *http.Server {
	w := &waiting{exempt: exempt, by: map[netip.Prefix]int{}, conns: map[net.Conn]netip.Prefix{}}
	return &http.Server{Handler: handling(h), ConnContext: known, ReadHeaderTimeout: HeadTime, ReadTimeout: BodyTime, WriteTimeout: AnswerTime,
		IdleTimeout: IdleTime, MaxHeaderBytes: HeadBytes - 4096, // net/http adds 4096 of its own
		ConnState: w.changed, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}

// waiting counts connections that say nothing. Its memory is bounded by the
// connections there are.
type waiting struct {
	exempt func(netip.Addr) bool

	mu    sync.Mutex
	by    map[netip.Prefix]int
	conns map[net.Conn]netip.Prefix // those counted
}

// changed is http.Server's ConnState.
func (w *waiting) changed(c net.Conn, state http.ConnState) {
	if c, ok := c.(*conn); ok && state == http.StateIdle {
		c.handled.Store(false)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if from, ok := w.conns[c]; ok && state != http.StateNew && state != http.StateIdle {
		delete(w.conns, c)
		if w.by[from]--; w.by[from] <= 0 {
			delete(w.by, from)
		}
		return
	}
	if state != http.StateNew && state != http.StateIdle {
		return
	}
	if _, ok := w.conns[c]; ok {
		return
	}
	at, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return
	}
	if a := at.Addr().Unmap(); !a.IsLoopback() && (w.exempt == nil || !w.exempt(a)) {
		from := Network(a)
		if w.by[from] >= MaxWaiting {
			_ = c.Close() // net/http notices, and reports it closed
			return
		}
		w.conns[c] = from
		w.by[from]++
	}
}
