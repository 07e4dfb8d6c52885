package signaling

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"parley/media"
)

const (
	maxMessage   = 10 * frameBytes // of audio in a message out: 200 ms
	readLimit    = 64 << 10        // bytes of a message in
	idleTimeout  = 10 * time.Second
	writeTimeout = 5 * time.Second
	closeTimeout = time.Second // for each half of the closing handshake
	eventBuffer  = 32
	badMax       = 500 // unusable messages until the line is given up
)

// twilioFlood is what a media socket may send. Twilio sends a message of some
// 400 bytes every 20 ms, and returns marks; what was held up comes at once. The
// burst and as much again is the longest stall that idleTimeout lets live.
func twilioFlood() flood {
	return flood{
		messages: newAllowance(100, 600),
		bytes:    newAllowance(64<<10, 512<<10),
		audio:    audioAllowance(),
	}
}

// twilioLeg is a [media.Leg] on a Media Streams socket. The handler that made
// it runs read; all else is the session's.
type twilioLeg struct {
	conn    *websocket.Conn
	metrics *TwilioMetrics
	events  chan media.LegEvent
	closed  atomic.Bool   // by us or by the party
	closing chan struct{} // by us
	once    sync.Once
	done    chan struct{} // read has returned

	in    *frameQueue // read → ReadFrame
	time  timeline    // ReadFrame's
	timer *time.Timer
	again bool
	ulaw  [frameBytes]byte
	pcm   []int16

	audio []byte // read's, as the two that follow
	bad   int
	flood flood

	cut atomic.Pointer[string] // why the socket was cut from this side

	mu  sync.Mutex // of writes
	out streamWriter
}

var _ media.Leg = (*twilioLeg)(nil)

func newTwilioLeg(conn *websocket.Conn, streamSID string, metrics *TwilioMetrics) *twilioLeg {
	l := &twilioLeg{
		conn:    conn,
		metrics: metrics,
		events:  make(chan media.LegEvent, eventBuffer),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
		in:      newFrameQueue(),
		timer:   time.NewTimer(patience),
		flood:   twilioFlood(),
		pcm:     make([]int16, 0, frameBytes),
		out:     newStreamWriter(streamSID),
	}
	l.time.due = time.Now()
	return l
}

// Info implements [media.Leg].
func (l *twilioLeg) Info() media.LegInfo {
	return media.LegInfo{
		Carrier:  carrierTwilio,
		Rate:     rate,
		Encoding: media.PCMU,
		Lead:     300 * time.Millisecond,
		Marks:    true,
	}
}

// Events implements [media.Leg].
func (l *twilioLeg) Events() <-chan media.LegEvent { return l.events }

// Notify implements [media.Leg]; a telephone has no screen.
func (l *twilioLeg) Notify([]byte) {}

// ReadFrame implements [media.Leg].
func (l *twilioLeg) ReadFrame() (media.Frame, error) {
	if l.again {
		l.again = false
		return l.frame(), nil
	}
	for {
		ok, over := l.in.pop(&l.ulaw)
		if ok {
			l.pcm = media.DecodePCMU(l.pcm[:0], l.ulaw[:])
			switch l.time.arrived(time.Now(), quiet(l.pcm)) {
			case skip:
				l.count(l.metrics.Skipped)
				continue
			case overflow:
				l.drop("overflow")
				continue
			case giveTwice:
				l.again = true
			}
			return l.frame(), nil
		}
		if over {
			l.timer.Stop()
			return media.Frame{}, io.EOF
		}
		left := l.time.wait(time.Now())
		if left <= 0 {
			l.time.concealed()
			l.count(l.metrics.Concealed)
			l.pcm = l.pcm[:frameBytes]
			clear(l.pcm)
			return l.frame(), nil
		}
		select {
		case <-l.in.ready:
		case <-l.timer.C: // not reset for each frame: it may ring early
			l.timer.Reset(max(l.time.wait(time.Now()), time.Millisecond))
		}
	}
}

func (l *twilioLeg) frame() media.Frame { return media.Frame{Rate: rate, PCM: l.pcm} }

// Write implements [media.Leg]. It sends messages of up to 200 ms.
func (l *twilioLeg) Write(audio []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(audio) > 0 {
		n := min(len(audio), maxMessage)
		if err := l.send(l.out.media(audio[:n])); err != nil {
			return err
		}
		audio = audio[n:]
	}
	return nil
}

// Mark implements [media.Leg].
func (l *twilioLeg) Mark(id uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.send(l.out.mark(id))
}

// Flush implements [media.Leg].
func (l *twilioLeg) Flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.send(l.out.clear())
}

// send writes one message; l.mu is held. A peer that does not read for
// writeTimeout is cut.
func (l *twilioLeg) send(msg []byte) error {
	if l.closed.Load() {
		return media.ErrClosed
	}
	_ = l.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) // always nil
	err := l.conn.WriteMessage(websocket.TextMessage, msg)
	if err == nil {
		return nil
	}
	if l.closed.Load() {
		return media.ErrClosed
	}
	reason := "network"
	if timedOut(err) {
		reason = "peer-timeout"
	}
	l.cut.Store(&reason)
	l.closed.Store(true)
	l.conn.Close()
	return fmt.Errorf("write to twilio: %w", err)
}

// Close implements [media.Leg].
func (l *twilioLeg) Close(string) error {
	l.once.Do(func() {
		l.closed.Store(true)
		close(l.closing)
		l.in.end(true)
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = l.conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(closeTimeout)) // a dead line needs no goodbye
		// The far side answers with its own close, and read returns.
		timer := time.NewTimer(closeTimeout)
		defer timer.Stop()
		select {
		case <-l.done:
		case <-timer.C:
		}
		l.conn.Close()
	})
	<-l.done
	return nil
}

// read carries what the party sends until it or we have closed. It is run once,
// by the handler, which waits for it.
func (l *twilioLeg) read() {
	defer close(l.done)
	defer close(l.events)
	reason := l.receive()
	if cut := l.cut.Load(); cut != nil {
		reason = *cut
	}
	l.in.end(false)
	switch first := !l.closed.Swap(true); {
	case reason == tooMany:
		refuseSocket(l.conn, reason)
	case first:
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = l.conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(closeTimeout))
	}
	l.conn.Close()
	select {
	case <-l.closing: // it was us
	default:
		l.tell(media.LegEvent{Kind: media.HungUp, Reason: reason})
	}
}

// receive reads messages until the end, and returns its reason.
func (l *twilioLeg) receive() string {
	var msg []byte
	var renewed time.Time
	now := time.Now()
	for {
		// The deadline is renewed once a second: each costs a lock in the poller.
		if now.Sub(renewed) >= time.Second {
			renewed = now
			_ = l.conn.SetReadDeadline(now.Add(idleTimeout + time.Second))
		}
		kind, r, err := l.conn.NextReader()
		if err == nil {
			msg, err = readInto(msg, r)
		}
		if err != nil {
			return endReason(err)
		}
		now = time.Now()
		if reason := l.take(kind, msg, now); reason != "" {
			return reason
		}
	}
}

// take handles one message of any kind, and returns why the stream ends, if it
// does.
func (l *twilioLeg) take(kind int, msg []byte, now time.Time) (end string) {
	l.audio = l.audio[:0]
	if kind != websocket.TextMessage {
		l.unusable("binary")
	} else if over := l.handle(msg); over {
		return "caller"
	}
	switch l.flood.charge(now, len(msg), float64(len(l.audio))/rate) {
	case beyond:
		l.warn()
	case out:
		l.flooded("closed")
		end := tooMany
		l.cut.CompareAndSwap(nil, &end)
		return end
	}
	if l.bad > badMax {
		return "protocol"
	}
	return ""
}

// warn tells the far side that it sends too much, by a mark: no other message
// to Twilio carries words. It comes back as one that is not ours.
func (l *twilioLeg) warn() {
	l.flooded("warned")
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.send(l.out.warning(tooMany)) // a dead socket ends read
}

func (l *twilioLeg) flooded(what string) {
	if l.metrics.Flooded != nil {
		l.metrics.Flooded(what)
	}
}

// handle takes one message; over tells that the stream has ended.
func (l *twilioLeg) handle(msg []byte) (over bool) {
	m, err := parseStreamMessage(msg)
	if err != nil {
		l.unusable("malformed")
		return false
	}
	switch string(m.event) {
	case "media":
		if len(m.track) > 0 && string(m.track) != "inbound" {
			l.drop("event")
			return false
		}
		if l.audio, err = decodePayload(l.audio[:0], m.payload); err != nil || len(l.audio) > maxChunk {
			l.unusable("size")
			return false
		}
		for range l.in.push(l.audio) {
			l.drop("overflow")
		}
	case "mark":
		id, err := strconv.ParseUint(string(m.name), 10, 64)
		if err != nil {
			l.drop("mark")
			return false
		}
		l.tell(media.LegEvent{Kind: media.Marked, Mark: id})
	case "dtmf":
		if len(m.digit) != 1 || !isDigit(m.digit[0]) {
			l.unusable("malformed")
			return false
		}
		l.tell(media.LegEvent{Kind: media.Digit, Digit: m.digit[0]})
	case "stop":
		return true
	case "connected", "start":
		l.unusable("order")
	default:
		l.drop("event")
	}
	return false
}

// tell hands an event over. Events are never dropped: a user who does not drain
// them holds the socket up, until it closes the leg.
func (l *twilioLeg) tell(e media.LegEvent) {
	e.At = time.Now()
	select {
	case l.events <- e:
		return
	default:
	}
	select {
	case l.events <- e:
	case <-l.closing:
	}
}

func (l *twilioLeg) unusable(what string) {
	l.bad++
	l.drop(what)
}

func (l *twilioLeg) drop(what string) {
	if l.metrics.Dropped != nil {
		l.metrics.Dropped(what)
	}
}

func (l *twilioLeg) count(f func()) {
	if f != nil {
		f()
	}
}

func isDigit(c byte) bool {
	return c >= '0' && c <= '9' || c == '*' || c == '#' || c >= 'A' && c <= 'D'
}

// readInto reads a message into buf, which it grows and returns.
func readInto(buf []byte, r io.Reader) ([]byte, error) {
	const usual, keep = 512, 4 << 10
	if cap(buf) == 0 || cap(buf) > keep {
		buf = make([]byte, 0, usual)
	}
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

// endReason names the end of a socket.
func endReason(err error) string {
	switch {
	case websocket.IsCloseError(err, websocket.CloseNormalClosure, websocket.CloseGoingAway, websocket.CloseNoStatusReceived):
		return "caller"
	case timedOut(err):
		return "peer-timeout"
	case errors.Is(err, websocket.ErrReadLimit), websocket.IsUnexpectedCloseError(err, websocket.CloseAbnormalClosure):
		return "protocol"
	}
	return "network"
}

// timedOut sees through the websocket library, which hides os.ErrDeadlineExceeded.
func timedOut(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}
