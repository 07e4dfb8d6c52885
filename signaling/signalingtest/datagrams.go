package signalingtest

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// datagrams is a socket with a network's faults: what is sent takes the upward
// line, what comes the downward one. Two goroutines carry the delays and one
// reads the socket, until Close.
type datagrams struct {
	net.PacketConn
	up, down *delayed

	mute, deaf atomic.Bool // nothing is sent; nothing comes

	in    chan datagram
	done  chan struct{}
	once  sync.Once
	tasks sync.WaitGroup
	free  sync.Pool
}

type datagram struct {
	b    *[]byte
	addr net.Addr
}

const (
	datagramSize  = 2048 // bytes; above any of WebRTC's
	datagramQueue = 1024 // that have come and are not read
)

func newDatagrams(conn net.PacketConn, up, down Line) *datagrams {
	d := &datagrams{PacketConn: conn, up: newDelayed(up), down: newDelayed(down),
		in: make(chan datagram, datagramQueue), done: make(chan struct{})}
	d.free.New = func() any { b := make([]byte, 0, datagramSize); return &b }
	d.tasks.Go(d.read)
	d.tasks.Go(func() { d.up.run(d.done, d.send) })
	d.tasks.Go(func() { d.down.run(d.done, d.come) })
	return d
}

// read takes what comes until the socket is closed.
func (d *datagrams) read() {
	buf := make([]byte, datagramSize)
	for {
		n, addr, err := d.PacketConn.ReadFrom(buf)
		if err != nil {
			d.finish()
			return
		}
		if d.deaf.Load() || d.down.lost() {
			continue
		}
		d.down.pushTo(buf[:n], addr)
	}
}

// come is the downward line's end. A reader who is behind misses the newest.
func (d *datagrams) come(m dueMessage) {
	b := d.free.Get().(*[]byte)
	*b = append((*b)[:0], m.msg...)
	select {
	case d.in <- datagram{b, m.addr}:
	default:
		d.free.Put(b)
	}
}

// send is the upward line's end. A datagram that cannot be sent is lost.
func (d *datagrams) send(m dueMessage) { _, _ = d.PacketConn.WriteTo(m.msg, m.addr) }

// ReadFrom implements [net.PacketConn].
func (d *datagrams) ReadFrom(p []byte) (int, net.Addr, error) {
	select {
	case m := <-d.in:
		defer d.free.Put(m.b)
		return copy(p, *m.b), m.addr, nil
	case <-d.done:
		return 0, nil, net.ErrClosed
	}
}

// WriteTo implements [net.PacketConn].
func (d *datagrams) WriteTo(p []byte, addr net.Addr) (int, error) {
	select {
	case <-d.done:
		return 0, net.ErrClosed
	default:
	}
	if !d.mute.Load() && !d.up.lost() {
		d.up.pushTo(p, addr)
	}
	return len(p), nil
}

func (d *datagrams) finish() { d.once.Do(func() { close(d.done) }) }

// Close implements [net.PacketConn], and waits for the lines.
func (d *datagrams) Close() error {
	err := d.PacketConn.Close()
	d.finish()
	d.tasks.Wait()
	return err
}

// SetReadDeadline implements [net.PacketConn]: reads end by Close alone.
func (d *datagrams) SetReadDeadline(time.Time) error { return nil }

// SetDeadline implements [net.PacketConn], as SetReadDeadline.
func (d *datagrams) SetDeadline(time.Time) error { return nil }
