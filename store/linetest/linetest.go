// Package linetest gives tests a line to a server that can be lost: cut as by a
// server that is down, hung as by a network that swallows everything, and slow.
package linetest

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// A Line forwards a TCP port of this machine to a server.
type Line struct {
	Addr string // host:port to connect to

	network, server string
	listener        net.Listener
	done            sync.WaitGroup

	mu    sync.Mutex
	clear chan struct{} // closed while bytes may pass
	delay time.Duration // of what is read, each way
	down  bool
	open  map[net.Conn]bool
}

// Start opens a line to a server, as [net.Dial] names it, which ends with the test.
func Start(t testing.TB, network, server string) *Line {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Line{Addr: l.Addr().String(), network: network, server: server, listener: l, clear: make(chan struct{}), open: map[net.Conn]bool{}}
	close(p.clear)
	p.done.Go(p.serve)
	t.Cleanup(func() {
		_ = l.Close()
		p.Cut()
		p.done.Wait()
	})
	return p
}

// Cut closes all connections and refuses new ones, until Restore.
func (p *Line) Cut() { p.set(true, false, 0) }

// Hang lets nothing pass, on connections that stand and on new ones, until
// Restore or Cut.
func (p *Line) Hang() { p.set(false, true, 0) }

// Slow holds back what is sent, each way, by d.
func (p *Line) Slow(d time.Duration) { p.set(false, false, d) }

// Restore lets everything pass again, at once.
func (p *Line) Restore() { p.set(false, false, 0) }

func (p *Line) set(down, hung bool, delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down, p.delay = down, delay
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

// pass waits until what was read may be sent on.
func (p *Line) pass() {
	p.mu.Lock()
	clear, delay := p.clear, p.delay
	p.mu.Unlock()
	<-clear
	if delay > 0 {
		<-time.After(delay)
	}
}

// enter notes a connection; false if the server is down.
func (p *Line) enter(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[c] = true
	return !p.down
}

func (p *Line) leave(c net.Conn) {
	_ = c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, c)
}

func (p *Line) serve() {
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

func (p *Line) forward(client net.Conn) {
	defer p.leave(client)
	if !p.enter(client) {
		return
	}
	server, err := net.Dial(p.network, p.server)
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
func (p *Line) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.pass()
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
