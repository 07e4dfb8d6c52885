package postgrestest

import (
	"errors"
	"net"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
)

// A Proxy stands before a database on a TCP port, and can lose it: as a server
// that is down, or as a network that swallows everything.
type Proxy struct {
	AppURL string // the database's, through the proxy

	socket   string
	listener net.Listener
	done     sync.WaitGroup

	mu    sync.Mutex
	clear chan struct{} // closed while bytes may pass
	down  bool
	open  map[net.Conn]bool
}

// Proxy starts one, which ends with the test.
func (d Database) Proxy(t testing.TB) *Proxy {
	t.Helper()
	u, err := url.Parse(d.AppURL)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{socket: filepath.Join(u.Query().Get("host"), ".s.PGSQL."+u.Query().Get("port")),
		listener: l, clear: make(chan struct{}), open: map[net.Conn]bool{}}
	close(p.clear)
	p.AppURL = (&url.URL{Scheme: "postgres", User: u.User, Host: l.Addr().String(), Path: u.Path, RawQuery: "sslmode=disable"}).String()
	p.done.Go(p.serve)
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		p.done.Wait()
	})
	return p
}

// Cut closes all connections and refuses new ones, until Restore.
func (p *Proxy) Cut() { p.set(true, false) }

// Hang lets nothing pass, on connections that stand and on new ones, until
// Restore or Cut.
func (p *Proxy) Hang() { p.set(false, true) }

// Restore lets everything pass again.
func (p *Proxy) Restore() { p.set(false, false) }

func (p *Proxy) set(down, hung bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
	select {
	case <-p.clear:
		if hung {
			p.clear = make(chan struct{})
		}
	default:
		if !hung {
			close(p.clear)
		}
	}
	if down {
		for c := range p.open {
			_ = c.Close()
		}
	}
}

func (p *Proxy) gate() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clear
}

// enter notes a connection; false if the database is down.
func (p *Proxy) enter(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[c] = true
	return !p.down
}

func (p *Proxy) leave(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

func (p *Proxy) serve() {
	for {
		c, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			p.done.Go(func() { p.forward(c) })
		}
	}
}

func (p *Proxy) forward(client net.Conn) {
	defer p.leave(client)
	if !p.enter(client) {
		return
	}
	server, err := net.Dial("unix", p.socket)
	if err != nil {
		return
	}
	defer p.leave(server)
	if !p.enter(server) {
		return
	}
	var both sync.WaitGroup
	both.Go(func() { p.copy(server, client) })
	both.Go(func() { p.copy(client, server) })
	both.Wait()
}

// copy passes bytes on, when they may pass.
func (p *Proxy) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		<-p.gate()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
