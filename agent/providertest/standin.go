package providertest

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// A standIn is what all stand-ins are: a server on the loopback interface, with
// the sockets that are open.
type standIn struct {
	manners
	URL string // http; what an adapter takes for its vendor's address

	server *httptest.Server
	open   sync.WaitGroup
	conns  map[*websocket.Conn]bool // under manners.mu
}

// start serves until Close.
func (s *standIn) start(m Manner, routes map[string]http.HandlerFunc) {
	s.manner, s.gone, s.conns = m, make(chan struct{}), map[*websocket.Conn]bool{}
	mux := http.NewServeMux()
	for route, f := range routes {
		mux.HandleFunc(route, func(w http.ResponseWriter, r *http.Request) {
			s.open.Add(1)
			defer s.open.Done()
			f(w, r)
		})
	}
	s.server = httptest.NewServer(mux)
	s.URL = s.server.URL
}

// Close stops the stand-in and cuts what is open.
func (s *standIn) Close() {
	close(s.gone)
	s.server.CloseClientConnections()
	s.Cut() // a hijacked socket is not the server's to close
	s.server.Close()
	s.open.Wait()
}

// Open returns how many sockets are open.
func (s *standIn) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Cut breaks every open socket without a word.
func (s *standIn) Cut() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.NetConn().Close()
	}
}

// A peer is one open socket of a stand-in.
type peer struct {
	s      *standIn
	conn   *websocket.Conn
	manner Manner
	query  url.Values
}

// accept answers the call of a websocket by the manner, and opens the socket if
// that is to be. header and scheme carry the key, "" takes any; ok says whether
// the vendor would take the query. The caller must hangUp what is not nil.
func (s *standIn) accept(w http.ResponseWriter, r *http.Request, header, scheme, key string, ok func(url.Values) bool) *peer {
	m, _ := s.note(Request{Path: r.URL.RequestURI()})
	if key != "" && r.Header.Get(header) != scheme+key {
		m = Refuses
	}
	r.Header.Set("Authorization", r.Header.Get(header)) // which refuse echoes
	q := r.URL.Query()
	switch {
	case s.refuse(w, r, m):
		return nil
	case !ok(q):
		http.Error(w, `{"detail":{"status":"invalid_request","message":""}}`, http.StatusBadRequest)
		return nil
	case m == Silent:
		s.stall(r)
		return nil
	}
	up := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	conn, err := up.Upgrade(w, r, nil)
	if err != nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[conn] = true
	select {
	case <-s.gone: // after Close has cut what it saw
		conn.Close()
	default:
	}
	return &peer{s: s, conn: conn, manner: m, query: q}
}

func (p *peer) hangUp() {
	p.conn.Close()
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	delete(p.s.conns, p.conn)
}

// read returns the next message. Texts are noted.
func (p *peer) read() (binary bool, b []byte, err error) {
	kind, b, err := p.conn.ReadMessage()
	if err == nil && kind == websocket.TextMessage {
		p.s.note(Request{Path: "message", Body: b})
	}
	return kind == websocket.BinaryMessage, b, err
}

// send sends a message as the vendor would, and notes it.
func (p *peer) send(m object) {
	p.text(string(p.s.answered(m)))
}

// text sends what no vendor would.
func (p *peer) text(s string) { _ = p.conn.WriteMessage(websocket.TextMessage, []byte(s)) }

func (p *peer) audio(b []byte) { _ = p.conn.WriteMessage(websocket.BinaryMessage, b) }

// end closes the socket with a code.
func (p *peer) end(code int, text string) {
	_ = p.conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(code, text))
}

// cut breaks the socket without a word.
func (p *peer) cut() { _ = p.conn.NetConn().Close() }

// pause waits; it is false when the stand-in is gone.
func (p *peer) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-p.s.gone:
		return false
	}
}
