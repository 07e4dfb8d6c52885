package signalingtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"parley/signaling"
)

// A stream is one media socket, from the carrier's side. Four goroutines run
// it: one reads the socket, one plays and speaks, one carries each direction's
// delay.
type stream struct {
	call *CarrierCall
	ws   *websocket.Conn
	net  net.Conn
	sid  string

	left atomic.Bool // the caller hung up, or REST sent the call elsewhere
	mute atomic.Bool // the caller's audio does not come
	dumb atomic.Bool // nothing is sent
	lost atomic.Bool // the socket ended without a proper close

	up, down *delayed
	over     chan struct{} // closed when the socket has ended
	once     sync.Once
	deaf     chan struct{} // closed by Deafen
	deafOnce sync.Once

	mu       sync.Mutex // below
	play     playout
	meter    playMeter
	sequence int
	out      []byte // a message being made
	in       []byte // a payload being taken
}

// How a stream ended.
type streamEnd int

const (
	endClosed streamEnd = iota // by the gateway, properly
	endCaller                  // the caller hung up
	endLost                    // any other way, or it was never opened
)

// connect opens the media socket and runs it to its end. Its error says why it
// could not be opened.
func (c *CarrierCall) connect(ctx context.Context, v *verb) (streamEnd, error) {
	s := &stream{
		call: c, sid: "MZ" + randomHex(),
		over: make(chan struct{}), deaf: make(chan struct{}),
		up: newDelayed(c.o.Up), down: newDelayed(c.o.Down), meter: playMeter{dry: -1},
	}
	callback := v.attr("statusCallback")
	if err := s.open(ctx, v); err != nil {
		if c.o.Lost == LostAsk && ctx.Err() == nil {
			c.note("error", err.Error())
		}
		c.callback(ctx, callback, s.sid, "stream-error")
		return endLost, err
	}
	c.note("stream", "started")
	c.callback(ctx, callback, s.sid, "stream-started")
	if err := s.greet(v); err != nil {
		s.ws.Close()
		return endLost, err
	}
	c.mu.Lock()
	c.stream = s
	c.mu.Unlock()
	c.isUp()
	s.run(ctx)
	c.mu.Lock()
	c.stream, c.stats = nil, c.stats.add(s.meter.PlayStats)
	c.mu.Unlock()
	c.callback(context.WithoutCancel(ctx), callback, s.sid, "stream-stopped")
	switch {
	case s.left.Load():
		c.note("closed", "caller")
		return endCaller, nil
	case s.lost.Load():
		c.note("closed", "lost")
		return endLost, nil
	}
	c.note("closed", "gateway")
	return endClosed, nil
}

// run returns when the socket has ended and nothing of the stream is left.
func (s *stream) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.ws.Close()
	wg.Go(s.read)
	wg.Go(func() { s.up.run(s.over, func(m dueMessage) { s.write(m.msg) }) })
	wg.Go(func() { s.down.run(s.over, func(m dueMessage) { s.take(m.msg) }) })
	wg.Go(s.tick)
	select {
	case <-s.over:
	case <-ctx.Done():
		s.hangUp()
		<-s.over
	}
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

func (s *stream) open(ctx context.Context, v *verb) error {
	o := s.call.o
	address := v.attr("url")
	target := address
	if o.URL != "" {
		if rest, ok := strings.CutPrefix(address, "ws"+strings.TrimPrefix(o.PublicURL, "http")); ok {
			target = "ws" + strings.TrimPrefix(o.URL, "http") + rest
		}
	}
	header := http.Header{}
	if o.AuthToken != "" {
		header.Set("X-Twilio-Signature", signaling.TwilioSignature(o.AuthToken, address, nil))
	}
	d := websocket.Dialer{
		HandshakeTimeout: 5 * time.Second,
		ReadBufferSize:   4 << 10, WriteBufferSize: 1 << 10,
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
func (s *stream) greet(v *verb) error {
	c := s.call
	parameters := map[string]string{}
	for i := range v.Nouns {
		if p := &v.Nouns[i]; p.XMLName.Local == "Parameter" {
			parameters[p.attr("name")] = p.attr("value")
		}
	}
	start, err := json.Marshal(map[string]any{
		"event": "start", "sequenceNumber": "1", "streamSid": s.sid,
		"start": map[string]any{
			"accountSid": c.o.AccountSID, "streamSid": s.sid, "callSid": c.SID,
			"tracks":           []string{"inbound"},
			"mediaFormat":      map[string]any{"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
			"customParameters": parameters,
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
	s.up.push(nil) // after all that was sent before
	t := time.NewTimer(2 * time.Second)
	defer t.Stop()
	select {
	case <-s.over:
	case <-t.C:
		s.end()
	}
}

// write is the upward line's end: the socket.
func (s *stream) write(msg []byte) {
	if s.dumb.Load() {
		return
	}
	_ = s.ws.SetWriteDeadline(time.Now().Add(5 * time.Second))
	if msg == nil {
		_ = s.ws.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
		return
	}
	_ = s.ws.WriteMessage(websocket.TextMessage, msg) // a dead socket ends read
}

// read takes what the gateway sends, and puts it on the downward line.
func (s *stream) read() {
	defer s.end()
	var msg []byte
	for {
		select {
		case <-s.deaf:
			<-s.over
			return
		default:
		}
		_, r, err := s.ws.NextReader()
		if err == nil {
			msg, err = readInto(msg, r)
		}
		if err != nil {
			s.closed(err)
			return
		}
		if s.down.straight() {
			s.take(msg)
		} else {
			s.down.push(msg)
		}
	}
}

// closed notes how the socket ended.
func (s *stream) closed(err error) {
	if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		return
	}
	s.lost.Store(true)
	var ce *websocket.CloseError
	if errors.As(err, &ce) && ce.Code != websocket.CloseAbnormalClosure {
		s.call.note("error", "gateway closed the media socket: "+strconv.Itoa(ce.Code))
	}
}
