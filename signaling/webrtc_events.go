package signaling

import (
	"encoding/json"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/pion/webrtc/v4"

	"parley/media"
)

const (
	rtcChannelName = "events"
	rtcMaxMessage  = 16 << 10  // bytes of an incoming message
	rtcMaxText     = 2000      // runes of typed text
	rtcMaxBuffered = 256 << 10 // bytes unsent, beyond which we drop
	rtcMaxHeld     = 32        // messages kept until the channel opens
	rtcMaxQueued   = 256       // events the leg's user has not taken

	rtcLastWords = 250 * time.Millisecond // for the last messages to arrive, once the leg has ended
)

// rtcWarning tells a page that its session will end if it goes on as it does.
const rtcWarning = `{"type":"warning","reason":"` + tooMany + `"}`

// rtcFlood is what a page may send on its data channel: some 5 reports of what
// it plays a second, and what a person types.
func rtcFlood() flood {
	return flood{messages: newAllowance(30, 150), bytes: newAllowance(32<<10, 128<<10)}
}

// rtcHello is the first message on the data channel.
type rtcHello struct {
	Type      string `json:"type"`
	ID        string `json:"id"`
	Secret    string `json:"secret"`
	Resume    string `json:"resume"`
	ResumeFor int    `json:"resume_for_s"`
}

// An rtcChannel sends messages to the page without ever blocking.
type rtcChannel struct {
	mu   sync.Mutex
	dc   *webrtc.DataChannel // nil until open
	held [][]byte            // until then; the first, the hello, stays
}

// send reports whether msg went out or is held, and nothing older was dropped.
func (c *rtcChannel) send(msg []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dc != nil {
		return c.dc.BufferedAmount() < rtcMaxBuffered && c.dc.SendText(string(msg)) == nil
	}
	c.held = append(c.held, append([]byte(nil), msg...))
	if len(c.held) > rtcMaxHeld {
		c.held = append(c.held[:1], c.held[2:]...)
		return false
	}
	return true
}

func (c *rtcChannel) open(dc *webrtc.DataChannel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dc != nil {
		return
	}
	c.dc = dc
	for _, m := range c.held {
		_ = dc.SendText(string(m)) // a channel that is gone already ends with the call
	}
	c.held = nil
}

// flush waits, for at most d, until the page has all that was sent: how the call
// ended is said last of all.
func (c *rtcChannel) flush(d time.Duration) {
	c.mu.Lock()
	dc := c.dc
	c.mu.Unlock()
	if dc == nil {
		return
	}
	late := time.NewTimer(d)
	defer late.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for dc.ReadyState() == webrtc.DataChannelStateOpen && dc.BufferedAmount() > 0 {
		select {
		case <-tick.C:
		case <-late.C:
			return
		}
	}
}

func (l *rtcLeg) onDataChannel(dc *webrtc.DataChannel) {
	if dc.Label() != rtcChannelName {
		return
	}
	dc.OnOpen(func() { l.data.open(dc) })
	dc.OnMessage(func(m webrtc.DataChannelMessage) { l.hear(m.Data, time.Now()) })
}

// hear takes one message of the page.
func (l *rtcLeg) hear(msg []byte, now time.Time) {
	if l.over() || l.flooded(len(msg), now) {
		return
	}
	if len(msg) > rtcMaxMessage {
		l.drop("oversized")
		return
	}
	var m struct {
		Type  string  `json:"type"`
		RTP   *uint32 `json:"rtp"`
		Text  string  `json:"text"`
		Digit string  `json:"digit"`
	}
	if err := json.Unmarshal(msg, &m); err != nil {
		l.drop("malformed")
		return
	}
	switch {
	case m.Type == "played" && m.RTP != nil:
		l.mu.Lock()
		l.played = true
		trip := l.trip
		l.mu.Unlock()
		if pos, ok := l.out.position(*m.RTP); ok {
			l.events.put(media.LegEvent{Kind: media.Played, At: now, Position: pos, Delay: trip})
		}
	case m.Type == "text" && m.Text != "" && utf8.RuneCountInString(m.Text) <= rtcMaxText:
		l.events.put(media.LegEvent{Kind: media.Typed, At: now, Text: m.Text})
	case m.Type == "dtmf" && len(m.Digit) == 1 && isDigit(m.Digit[0]):
		l.events.put(media.LegEvent{Kind: media.Digit, At: now, Digit: m.Digit[0]})
	case m.Type == "hangup":
		l.end("caller")
	case m.Type == "played", m.Type == "text", m.Type == "dtmf":
		l.drop("malformed")
	}
}

// flooded charges the page for a message. It warns, and ends the leg, where
// there are too many.
func (l *rtcLeg) flooded(bytes int, now time.Time) bool {
	l.mu.Lock()
	s := l.flood.charge(now, bytes, 0)
	l.mu.Unlock()
	what := ""
	switch s {
	case within:
		return false
	case beyond:
		what = "warned"
		l.Notify([]byte(rtcWarning))
	case out:
		what = "closed"
		l.end(tooMany)
		if l.w.o.Flooded != nil && l.who != "" {
			l.w.o.Flooded(l.who)
		}
	}
	if l.w.o.Metrics.Flooded != nil {
		l.w.o.Metrics.Flooded(what)
	}
	return s == out
}

// rtcEvents carries events to the leg's user. Putting never blocks: estimates
// replace each other, and a user who takes none of 256 others loses the newest.
type rtcEvents struct {
	out    chan media.LegEvent
	closed chan struct{}
	wake   chan struct{}
	stop   chan struct{}
	exited chan struct{}

	mu    sync.Mutex // guards queue
	queue []media.LegEvent
	last  bool // HungUp is in
}

func newRTCEvents() *rtcEvents {
	return &rtcEvents{
		out: make(chan media.LegEvent), closed: make(chan struct{}),
		wake: make(chan struct{}, 1), stop: make(chan struct{}), exited: make(chan struct{}),
	}
}

func (e *rtcEvents) put(ev media.LegEvent) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last {
		return
	}
	e.last = ev.Kind == media.HungUp
	estimate := ev.Kind == media.Played || ev.Kind == media.Delayed
	if n := len(e.queue); estimate && n > 0 && e.queue[n-1].Kind == ev.Kind {
		e.queue[n-1] = ev
		return
	}
	if len(e.queue) >= rtcMaxQueued && !e.last {
		return
	}
	e.queue = append(e.queue, ev)
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

func (e *rtcEvents) take() (media.LegEvent, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.queue) == 0 {
		return media.LegEvent{}, false
	}
	ev := e.queue[0]
	e.queue = e.queue[1:]
	return ev, true
}

// run hands events over until stop, and then what is left, for as long as
// somebody takes it within the teardown's time.
func (e *rtcEvents) run() {
	defer close(e.exited)
	for {
		ev, ok := e.take()
		if !ok {
			select {
			case <-e.wake:
				continue
			case <-e.stop:
				if ev, ok = e.take(); !ok {
					return
				}
			}
		}
		select {
		case e.out <- ev:
		case <-e.stop:
			if !e.deliver(ev) {
				return
			}
		}
	}
}

func (e *rtcEvents) deliver(ev media.LegEvent) bool {
	t := time.NewTimer(rtcTeardown / 2)
	defer t.Stop()
	select {
	case e.out <- ev:
		return true
	case <-t.C:
		return false
	}
}

// close ends run, waits for it and closes out. It is called once.
func (e *rtcEvents) close() {
	close(e.stop)
	<-e.exited
	close(e.out)
	close(e.closed)
}

// discard drops what is queued: nobody will take it.
func (e *rtcEvents) discard() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue, e.last = nil, true
}
