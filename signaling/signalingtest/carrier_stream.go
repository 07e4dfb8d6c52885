package signalingtest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"parley/media"
	"parley/signaling"
)

const (
	frameBytes = 160  // 20 ms of µ-law
	silence    = 0xff // µ-law
)

// A stream is one media socket, from the carrier's side. Four goroutines run
// it: one reads the socket, one plays, one carries each direction's delay.
type stream struct {
	call *CarrierCall
	ws   *websocket.Conn
	net  net.Conn
	sid  string
	left atomic.Bool // the caller hung up
	mute atomic.Bool

	upward, downward *delayed
	over             chan struct{} // closed when the socket has ended
	once             sync.Once
	deaf             chan struct{} // closed by deafen
	deafOnce         sync.Once

	mu       sync.Mutex // below: what was sent and not yet heard
	buffer   []byte
	sounding int   // bytes being heard in this tick, before buffer[0]
	base     int64 // bytes heard before that
	marks    []pendingMark
	sequence int
}

type pendingMark struct {
	name string
	at   int64 // bytes of audio that come before it
}

// connect opens the media socket and runs it to its end.
func (c *CarrierCall) connect(ctx context.Context, address, callback string) error {
	s := &stream{
		call: c, sid: "MZ" + randomHex(),
		over: make(chan struct{}), deaf: make(chan struct{}),
		upward: newDelayed(c.o.Up), downward: newDelayed(c.o.Down),
	}
	if err := s.dial(ctx, address); err != nil {
		return err
	}
	c.note("stream", "started")
	c.callback(ctx, callback, s.sid, "stream-started")
	if err := s.greet(); err != nil {
		s.ws.Close()
		return err
	}
	c.mu.Lock()
	c.stream = s
	c.mu.Unlock()

	var wg sync.WaitGroup
	wg.Go(s.read)
	wg.Go(func() { s.upward.run(s.over, s.write) })
	wg.Go(func() { s.downward.run(s.over, s.take) })
	wg.Go(s.tick)
	c.isUp()
	select {
	case <-s.over:
	case <-ctx.Done():
		s.hangUp()
		<-s.over
	}
	s.ws.Close()
	wg.Wait()
	c.note("closed", "")
	c.callback(context.WithoutCancel(ctx), callback, s.sid, "stream-stopped")
	return nil
}

// callback posts a stream's status; Twilio does not mind how it is answered.
func (c *CarrierCall) callback(ctx context.Context, address, sid, event string) {
	if address == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := c.post(ctx, address, url.Values{"StreamSid": {sid}, "StreamEvent": {event}}); err != nil {
		c.note("error", err.Error())
	}
}

func (s *stream) dial(ctx context.Context, address string) error {
	o := s.call.o
	public := "ws" + strings.TrimPrefix(o.PublicURL, "http")
	target := address
	if rest, ok := strings.CutPrefix(address, public); ok {
		target = "ws" + strings.TrimPrefix(o.URL, "http") + rest
	}
	header := http.Header{}
	if o.AuthToken != "" {
		header.Set("X-Twilio-Signature", signaling.TwilioSignature(o.AuthToken, address, nil))
	}
	d := websocket.Dialer{
		HandshakeTimeout: 5 * time.Second,
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := o.Dial(ctx, network, addr)
			s.net = c
			return c, err
		},
	}
	ws, res, err := d.DialContext(ctx, target, header)
	if err != nil {
		if res != nil {
			res.Body.Close()
			return fmt.Errorf("carrier: open media socket: %s", res.Status)
		}
		return fmt.Errorf("carrier: open media socket: %w", err)
	}
	s.ws = ws
	return nil
}

// greet sends connected and start.
func (s *stream) greet() error {
	c := s.call
	start, err := json.Marshal(map[string]any{
		"event": "start", "sequenceNumber": "1", "streamSid": s.sid,
		"start": map[string]any{
			"accountSid": c.o.AccountSID, "streamSid": s.sid, "callSid": c.SID,
			"tracks":           []string{"inbound"},
			"mediaFormat":      map[string]any{"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
			"customParameters": map[string]string{},
		},
	})
	if err != nil {
		return fmt.Errorf("carrier: %w", err)
	}
	s.sequence = 1
	for _, m := range [][]byte{[]byte(`{"event":"connected","protocol":"Call","version":"1.0.0"}`), start} {
		if err := s.ws.WriteMessage(websocket.TextMessage, m); err != nil {
			return fmt.Errorf("carrier: begin stream: %w", err)
		}
	}
	return nil
}

func (s *stream) end() { s.once.Do(func() { close(s.over) }) }

// hangUp sends stop and closes, as Twilio does when the caller leaves.
func (s *stream) hangUp() {
	if s.left.Swap(true) {
		return
	}
	s.event(fmt.Sprintf(`"stop","stop":{"accountSid":%q,"callSid":%q}`, s.call.o.AccountSID, s.call.SID))
	s.upward.push(nil) // after all that was sent before
	select {
	case <-s.over:
	case <-time.After(2 * time.Second):
		s.end()
	}
}

// event queues a message: its event and what follows.
func (s *stream) event(rest string) {
	s.mu.Lock()
	s.sequence++
	n := s.sequence
	s.mu.Unlock()
	s.queueUp(fmt.Appendf(nil, `{"sequenceNumber":"%d","streamSid":%q,"event":%s}`, n, s.sid, rest))
}

func (s *stream) queueUp(msg []byte)    { s.upward.push(msg) }
func (s *stream) stall(d time.Duration) { s.upward.hold(d) }
func (s *stream) deafen()               { s.deafOnce.Do(func() { close(s.deaf) }) }

// write is the upward line's end: the socket.
func (s *stream) write(msg []byte) {
	_ = s.ws.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if msg == nil {
		_ = s.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
		return
	}
	_ = s.ws.WriteMessage(websocket.TextMessage, msg) // a dead socket ends read
}

// read takes what the gateway sends, and puts it on the downward line.
func (s *stream) read() {
	for {
		select {
		case <-s.deaf:
			<-s.over
			return
		default:
		}
		_, b, err := s.ws.ReadMessage()
		if err != nil {
			var ce *websocket.CloseError
			if errors.As(err, &ce) && ce.Code != websocket.CloseNormalClosure && ce.Code != websocket.CloseAbnormalClosure {
				s.call.note("error", "gateway closed the media socket: "+strconv.Itoa(ce.Code))
			}
			s.end()
			return
		}
		s.downward.push(b)
	}
}

// take is the downward line's end: a message has reached the carrier.
func (s *stream) take(b []byte) {
	var m struct {
		Event     string `json:"event"`
		StreamSID string `json:"streamSid"`
		Media     struct {
			Payload string `json:"payload"`
		} `json:"media"`
		Mark struct {
			Name string `json:"name"`
		} `json:"mark"`
	}
	if err := json.Unmarshal(b, &m); err != nil || m.StreamSID != s.sid {
		s.call.note("error", fmt.Sprintf("31924: not a message of this stream: %.80s", b))
		return
	}
	switch m.Event {
	case "media":
		audio, err := base64.StdEncoding.DecodeString(m.Media.Payload)
		if err != nil || len(audio) == 0 {
			s.call.note("error", "media without audio")
			return
		}
		s.mu.Lock()
		s.buffer = append(s.buffer, audio...)
		s.mu.Unlock()
	case "mark":
		s.mu.Lock()
		ahead := s.sounding + len(s.buffer)
		wait := ahead > 0
		if wait {
			s.marks = append(s.marks, pendingMark{m.Mark.Name, s.base + int64(ahead)})
		}
		s.mu.Unlock()
		if !wait {
			s.returnMark(m.Mark.Name)
		}
	case "clear":
		s.call.note("clear", "")
		s.mu.Lock()
		s.buffer = s.buffer[:0]
		pending := s.marks
		s.marks = nil
		s.mu.Unlock()
		for _, p := range pending {
			s.returnMark(p.name)
		}
	default:
		s.call.note("error", "31924: unknown event "+strconv.Quote(m.Event))
	}
}

func (s *stream) returnMark(name string) {
	s.call.note("mark", name)
	s.event(fmt.Sprintf(`"mark","mark":{"name":%q}`, name))
}

// tick is the carrier's clock: every 20 ms it plays and records 20 ms.
func (s *stream) tick() {
	t := time.NewTicker(media.Ptime)
	defer t.Stop()
	said, heard := make([]byte, frameBytes), make([]byte, frameBytes)
	for chunk := 1; ; chunk++ {
		select {
		case <-s.over:
			return
		case <-t.C:
		}
		s.play(heard)
		for i := range said {
			said[i] = silence
		}
		if s.call.o.Source != nil {
			s.call.o.Source(said)
		}
		if s.mute.Load() || s.left.Load() {
			continue
		}
		s.event(fmt.Sprintf(`"media","media":{"track":"inbound","chunk":"%d","timestamp":"%d","payload":%q}`,
			chunk, chunk*int(media.Ptime/time.Millisecond), base64.StdEncoding.EncodeToString(said)))
	}
}

// play returns the marks that the last 20 ms passed, and starts the next 20 ms.
func (s *stream) play(frame []byte) {
	s.mu.Lock()
	s.base += int64(s.sounding)
	passed := 0
	for passed < len(s.marks) && s.marks[passed].at <= s.base {
		passed++
	}
	back := s.marks[:passed:passed]
	s.marks = s.marks[passed:]
	n := copy(frame, s.buffer)
	s.buffer = s.buffer[:copy(s.buffer, s.buffer[n:])]
	s.sounding = n
	s.mu.Unlock()
	for i := n; i < len(frame); i++ {
		frame[i] = silence
	}
	if s.call.o.Heard != nil {
		s.call.o.Heard(time.Now(), frame, n)
	}
	for _, p := range back {
		s.returnMark(p.name)
	}
}

// A delayed line carries messages in order, each when its time has come.
type delayed struct {
	line Line

	mu    sync.Mutex
	queue []dueMessage
	last  time.Time
	wake  chan struct{}
}

type dueMessage struct {
	msg []byte
	due time.Time
}

func newDelayed(l Line) *delayed { return &delayed{line: l, wake: make(chan struct{}, 1)} }

func (d *delayed) push(msg []byte) {
	d.mu.Lock()
	due := time.Now().Add(d.line.Delay)
	if d.line.Jitter > 0 {
		due = due.Add(rand.N(d.line.Jitter))
	}
	if due.Before(d.last) {
		due = d.last
	}
	d.last = due
	d.queue = append(d.queue, dueMessage{msg, due})
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// hold lets nothing that is pushed from now on arrive before t has passed.
func (d *delayed) hold(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = time.Now().Add(t)
}

func (d *delayed) run(over <-chan struct{}, deliver func([]byte)) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		d.mu.Lock()
		var next *dueMessage
		wait := time.Hour
		if len(d.queue) > 0 {
			if wait = time.Until(d.queue[0].due); wait <= 0 {
				m := d.queue[0]
				next = &m
				d.queue = d.queue[1:]
			}
		}
		d.mu.Unlock()
		if next != nil {
			deliver(next.msg)
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
