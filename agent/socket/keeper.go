package socket

import (
	"context"
	"errors"
	"sync"
	"time"

	"parley/agent"
)

// A Keeper keeps one socket open, so that nobody waits for a dial: it dials at
// once, and again when the socket has ended. What is not used is given up after a
// few dials, until somebody asks.
type Keeper struct {
	dial func(ctx context.Context) (*Conn, error)
	stop context.CancelFunc
	done chan struct{}
	want chan struct{} // holds one token when somebody waits for a socket

	mu      sync.Mutex
	conn    *Conn
	err     error         // of the last dial
	at      time.Time     // of err
	changed chan struct{} // closed when conn or err was set
	unused  int           // dials since somebody asked
}

const (
	keptUnused = 3           // dials that nobody made use of
	keptPause  = time.Second // before dialing again, twice as long each time
	keptError  = time.Second // how long a failed dial is the answer to who asks
)

// Keep begins to keep a socket that dial opens, until Close or the end of life.
// dial's Conn must live within the context that it is given.
func Keep(life context.Context, dial func(context.Context) (*Conn, error)) *Keeper {
	ctx, stop := context.WithCancel(life)
	k := &Keeper{dial: dial, stop: stop, done: make(chan struct{}), want: make(chan struct{}, 1), changed: make(chan struct{})}
	go k.run(ctx)
	return k
}

// Close ends the socket and the keeping. It is safe to call twice.
func (k *Keeper) Close() {
	k.stop()
	<-k.done
}

func (k *Keeper) run(ctx context.Context) {
	defer close(k.done)
	for ctx.Err() == nil {
		conn, err := k.dial(ctx)
		k.set(conn, err)
		var ended <-chan struct{}
		if conn != nil {
			ended = conn.ended
			select {
			case <-ended:
			case <-ctx.Done():
			}
			conn.Close()
		}
		if !k.rest(ctx, err) {
			return
		}
	}
}

// set tells how a dial came out.
func (k *Keeper) set(conn *Conn, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.conn, k.err, k.at = conn, err, time.Now()
	k.unused++
	close(k.changed)
	k.changed = make(chan struct{})
}

// rest waits until it is time to dial again.
func (k *Keeper) rest(ctx context.Context, err error) bool {
	k.mu.Lock()
	unused := k.unused
	k.mu.Unlock()
	var again <-chan time.Time
	if unused < keptUnused && !errors.Is(err, agent.ErrCredentials) {
		t := time.NewTimer(keptPause << max(0, unused-1))
		defer t.Stop()
		again = t.C
	}
	select {
	case <-again:
	case <-k.want:
	case <-ctx.Done():
		return false
	}
	return true
}

// Take returns the open socket, or waits for one within ctx. It stays the
// Keeper's: who finds it broken closes it and asks again.
func (k *Keeper) Take(ctx context.Context) (*Conn, error) {
	for {
		k.mu.Lock()
		k.unused = 0
		conn, err, changed := k.conn, k.err, k.changed
		if conn != nil {
			select {
			case <-conn.ended:
				conn = nil
			default:
			}
		}
		if err != nil && time.Since(k.at) > keptError {
			err = nil
		}
		if err != nil {
			k.err = nil // told once
		}
		k.mu.Unlock()
		if conn != nil || err != nil {
			return conn, err
		}
		select {
		case k.want <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-k.done:
			return nil, context.Canceled
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
