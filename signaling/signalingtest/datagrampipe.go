package signalingtest

import (
	"net"
	"sync"
	"time"
)

// Datagrams is a network of datagrams in memory, for virtual time: those who
// listen on it reach each other by their addresses.
type Datagrams struct {
	mu    sync.Mutex
	ends  map[string]*datagramEnd
	ports int
}

// Listen opens a socket on an address of its own.
func (n *Datagrams) Listen() net.PacketConn {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ends == nil {
		n.ends = map[string]*datagramEnd{}
	}
	n.ports++
	e := &datagramEnd{net: n, addr: &net.UDPAddr{IP: net.IPv4(10, 0, 0, byte(n.ports)), Port: 40000 + n.ports},
		in: make(chan datagram, datagramQueue), done: make(chan struct{})}
	n.ends[e.addr.String()] = e
	return e
}

type datagramEnd struct {
	net  *Datagrams
	addr *net.UDPAddr
	in   chan datagram
	done chan struct{}
	once sync.Once
}

// ReadFrom implements [net.PacketConn].
func (e *datagramEnd) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case m := <-e.in:
		return copy(p, *m.b), m.addr, nil
	case <-e.done:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements [net.PacketConn]. What nobody takes is lost.
func (e *datagramEnd) WriteTo(p []byte, addr net.Addr) (int, error) {
	e.net.mu.Lock()
	to := e.net.ends[addr.String()]
	e.net.mu.Unlock()
	if to == nil {
		return len(p), nil
	}
	b := append([]byte(nil), p...)
	select {
	case to.in <- datagram{&b, e.addr}:
	default:
	}
	return len(p), nil
}

// Close implements [net.PacketConn].
func (e *datagramEnd) Close() error {
	e.once.Do(func() {
		e.net.mu.Lock()
		delete(e.net.ends, e.addr.String())
		e.net.mu.Unlock()
		close(e.done)
	})
	return nil
}

// LocalAddr implements [net.PacketConn].
func (e *datagramEnd) LocalAddr() net.Addr { return e.addr }

// SetDeadline implements [net.PacketConn]: reads end by Close alone.
func (e *datagramEnd) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements [net.PacketConn], as SetDeadline.
func (e *datagramEnd) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements [net.PacketConn], as SetDeadline.
func (e *datagramEnd) SetWriteDeadline(time.Time) error { return nil }
