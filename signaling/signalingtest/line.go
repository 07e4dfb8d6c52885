package signalingtest

import (
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// A Line is one direction of a network: each message takes Delay, and up to
// Jitter more. Their order stands, as over TCP.
type Line struct {
	Delay, Jitter time.Duration

	// Loss is the share of 20 ms of audio, or of datagrams, that never arrives:
	// 0 to 1. A carrier's caller hears silence for it, and is heard as such.
	Loss float64

	// Seed makes jitter and loss the same in each run; 0: by chance.
	Seed uint64
}

func (l Line) random() *rand.Rand {
	if l.Seed == 0 {
		return rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	return rand.New(rand.NewPCG(l.Seed, l.Seed))
}

// A delayed line carries messages in order, each when its time has come. It
// keeps copies, in buffers that it uses again.
type delayed struct {
	line Line

	mu     sync.Mutex
	random *rand.Rand
	queue  []dueMessage
	first  int
	free   [][]byte
	last   time.Time // when the newest arrives
	wake   chan struct{}
}

type dueMessage struct {
	msg  []byte // nil: the end
	addr net.Addr
	due  time.Time
}

func newDelayed(l Line) *delayed {
	return &delayed{line: l, random: l.random(), wake: make(chan struct{}, 1)}
}

// push takes a copy of msg; nil is the end.
func (d *delayed) push(msg []byte) { d.pushTo(msg, nil) }

func (d *delayed) pushTo(msg []byte, addr net.Addr) {
	d.mu.Lock()
	due := time.Now().Add(d.line.Delay)
	if d.line.Jitter > 0 {
		due = due.Add(time.Duration(d.random.Int64N(int64(d.line.Jitter))))
	}
	if due.Before(d.last) {
		due = d.last
	}
	d.last = due
	if msg != nil {
		var buf []byte
		if n := len(d.free); n > 0 {
			buf, d.free = d.free[n-1], d.free[:n-1]
		}
		msg = append(buf[:0], msg...)
	}
	if d.first > 0 && len(d.queue) == cap(d.queue) {
		d.queue = d.queue[:copy(d.queue, d.queue[d.first:])]
		d.first = 0
	}
	d.queue = append(d.queue, dueMessage{msg, addr, due})
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// straight reports that a message would arrive at once and first, so that it
// need not be pushed.
func (d *delayed) straight() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.line.Delay == 0 && d.line.Jitter == 0 && d.first == len(d.queue) && !time.Now().Before(d.last)
}

// hold lets nothing that is pushed from now on arrive before t has passed.
func (d *delayed) hold(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if until := time.Now().Add(t); until.After(d.last) {
		d.last = until
	}
}

// lost draws whether 20 ms of audio are lost.
func (d *delayed) lost() bool {
	if d.line.Loss == 0 {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.random.Float64() < d.line.Loss
}

// next takes the first message if its time has come, else how long that takes.
func (d *delayed) next() (m dueMessage, wait time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.first == len(d.queue) {
		return m, time.Hour
	}
	if wait = time.Until(d.queue[d.first].due); wait > 0 {
		return m, wait
	}
	m = d.queue[d.first]
	d.queue[d.first].msg = nil
	if d.first++; d.first == len(d.queue) {
		d.queue, d.first = d.queue[:0], 0
	}
	return m, 0
}

func (d *delayed) recycle(msg []byte) {
	if msg == nil || cap(msg) > 8<<10 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.free = append(d.free, msg)
}

// run delivers until over is closed. deliver may use the message until it returns.
func (d *delayed) run(over <-chan struct{}, deliver func(dueMessage)) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		m, wait := d.next()
		if wait == 0 {
			deliver(m)
			d.recycle(m.msg)
			continue
		}
		timer.Reset(wait)
		select {
		case <-over:
			return
		case <-d.wake:
		case <-timer.C:
		}
	}
}
