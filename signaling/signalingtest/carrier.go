// Package signalingtest holds far ends for tests and for the terminal's caller:
// a carrier that speaks Twilio's side of a call with its REST API, a browser
// without a browser, and a load balancer.
package signalingtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// CarrierOptions describes a call to place through a simulated Twilio. One of
// URL and StreamURL is required.
type CarrierOptions struct {
	URL       string // of the gateway: "http://127.0.0.1:8080"
	PublicURL string // the address signed, where the gateway has another one than URL
	Webhook   string // asked first, under URL or absolute; default "/twilio/voice" and Agent
	Agent     string // in the path of the webhook; empty: To picks
	From, To  string // E.164
	Direction string // "inbound" (default) or "outbound-api"
	AuthToken string // signs webhooks and the upgrade; empty: unsigned

	// StreamURL, where not empty, is a media socket that is opened at once, for
	// gateways without our webhooks. No TwiML is asked for.
	StreamURL  string
	Parameters map[string]string // customParameters of that stream

	CallSID    string // default: a random one
	AccountSID string // default: "AC" and zeros

	// Fallback is what is done when TwiML cannot be had: an address to ask, or
	// a document that begins with "<". Empty: the call ends.
	Fallback string

	// RetryPause lies before each retry of a webhook; Twilio documents none.
	RetryPause time.Duration

	// Lost is what follows a media socket that ended without a close of 1000,
	// or could not be opened.
	Lost Lost

	// REST, where not nil, may redirect and end the call.
	REST *REST

	// Dial opens connections; default TCP. With net.Pipe the call runs in
	// virtual time.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Up and Down are the network from the caller to the gateway, and back.
	Up, Down Line

	// Source fills 20 ms of what the caller says, in µ-law, every 20 ms while
	// the stream is up. Nil is silence. It must not block.
	Source func(frame []byte)

	// Echo and Noise are added to what the caller says.
	Echo  Echo
	Noise Noise

	// Heard is called every 20 ms of the stream with what the caller hears, and
	// when its first sample sounds; frame is valid during the call. Nothing to
	// play is silence, and says so. It must not block.
	Heard func(at time.Time, frame []byte, played int)

	// Transfer is asked for the outcome of a <Dial>: "completed", "busy",
	// "no-answer", "failed". ctx ends with the <Dial>. Default "completed".
	Transfer func(ctx context.Context, d Dialed) string

	// Keys is what the called presses at a <Gather> that has said words; "" is
	// nothing. ctx ends with the call. Nil: nothing.
	Keys func(ctx context.Context, words string) string

	// Unanswered, where not empty, is how a call that is placed ends without an
	// answer: "busy", "no-answer", "failed".
	Unanswered string

	// Rings is how long a call that is placed rings before that, or before it is
	// answered; RingsOut, where not 0, when the carrier gives up ("no-answer").
	Rings, RingsOut time.Duration

	// StatusURL, where not empty, gets the call's last status; with Progress those
	// before it too. Loses, where not nil, tells which of them never arrive.
	StatusURL string
	Progress  bool
	Loses     func(status string) bool

	// AnsweredBy is what answering-machine detection finds, DetectAfter from the
	// answer, and tells at DetectURL: "human", "machine_end_beep". Empty: nothing.
	AnsweredBy, DetectURL string
	DetectAfter           time.Duration
}

// Lost is what a carrier does about a media socket that is gone. Which of the
// first two Twilio does is not documented.
type Lost int

// What a carrier may do about a lost media socket.
const (
	LostAsk  Lost = iota // go on at once, by <Connect action> or the next verb
	LostEnd              // end the call
	LostHold             // leave the caller on a silent line, until REST or the caller does something
)

// Dialed is a <Dial> that the gateway asked for.
type Dialed struct {
	Number, Sip, Client string
	Conference          string
	CallerID            string
	Timeout             string
}

// A CarrierEvent is something that happened in a call, as the carrier saw it.
type CarrierEvent struct {
	At time.Time
	// Kind is "webhook" (its TwiML), "retry", "fallback" (why), "stream",
	// "mark" (returned), "clear", "closed" (by whom or how), "dial", "pause",
	// "say", "play", "redirect", "verb" (one that is passed over), "reject",
	// "hangup", "error".
	Kind string
	Text string // TwiML, mark's name, number, …
}

// A CarrierCall is a call in progress.
type CarrierCall struct {
	SID string

	o      CarrierOptions
	client *http.Client
	cancel context.CancelFunc
	done   chan struct{}
	up     chan struct{} // closed when the first stream is up, or the call over
	once   sync.Once
	began  time.Time

	mu        sync.Mutex
	events    []CarrierEvent
	stream    *stream   // the one that is up
	stats     PlayStats // of streams that have ended
	status    string    // CallStatus
	moved     *step     // where REST sent the call
	interrupt context.CancelFunc
	err       error

	told       int // statuses so far
	answered   time.Time
	answeredBy string
}

// Call places a call: it posts the webhook and does what the TwiML says. It
// returns when the media stream is up or the call has ended; [CarrierCall.Wait]
// waits for the end, and must be called.
func Call(ctx context.Context, o CarrierOptions) (*CarrierCall, error) {
	if o.CallSID == "" {
		o.CallSID = "CA" + randomHex()
	}
	if o.AccountSID == "" {
		o.AccountSID = "AC" + strings.Repeat("0", 32)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	if o.Direction == "" {
		o.Direction = "inbound"
	}
	if o.Webhook == "" {
		o.Webhook = "/twilio/voice"
		if o.Agent != "" {
			o.Webhook += "/" + url.PathEscape(o.Agent)
		}
	}
	o.URL = strings.TrimRight(o.URL, "/")
	if o.PublicURL = strings.TrimRight(o.PublicURL, "/"); o.PublicURL == "" {
		o.PublicURL = o.URL
	}
	if _, err := url.Parse(o.URL); err != nil {
		return nil, fmt.Errorf("place call: %w", err)
	}
	runCtx, cancel := context.WithCancel(ctx)
	c := &CarrierCall{
		SID:    o.CallSID,
		o:      o,
		client: webhookClient(o.Dial),
		cancel: cancel,
		done:   make(chan struct{}),
		up:     make(chan struct{}),
		began:  time.Now(),
		status: "ringing",
	}
	o.REST.add(c)
	go c.run(runCtx)
	<-c.up
	select {
	case <-c.done:
		return c, c.err
	default:
		return c, nil
	}
}

// Wait returns when the call is over, with what went wrong on the gateway's
// side, or nil.
func (c *CarrierCall) Wait() error {
	<-c.done
	return c.err
}

// Done is closed when the call is over.
func (c *CarrierCall) Done() <-chan struct{} { return c.done }

// Status returns the CallStatus: "ringing", "in-progress", "completed", "busy"
// or "failed".
func (c *CarrierCall) Status() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// HangUp ends the call from the caller's side, and waits for it.
func (c *CarrierCall) HangUp() error {
	if s := c.current(); s != nil {
		s.hangUp()
	}
	c.cancel()
	return c.Wait()
}

// Digits presses keys, if a stream is up.
func (c *CarrierCall) Digits(keys string) {
	s := c.current()
	for _, k := range keys {
		if s != nil {
			s.event(fmt.Sprintf(`"dtmf","dtmf":{"track":"inbound_track","digit":%q}`, string(k)))
		}
	}
}

// Raw sends a message of any kind to the gateway as it is.
func (c *CarrierCall) Raw(msg []byte) {
	if s := c.current(); s != nil {
		s.up.push(msg)
	}
}

// Stall holds back everything that either side sends for d; it then comes at
// once.
func (c *CarrierCall) Stall(d time.Duration) {
	if s := c.current(); s != nil {
		s.up.hold(d)
		s.down.hold(d)
	}
}

// StallUp holds back what the caller's side sends for d; it then comes at once.
func (c *CarrierCall) StallUp(d time.Duration) {
	if s := c.current(); s != nil {
		s.up.hold(d)
	}
}

// StallDown holds back what the gateway sends for d; it then comes at once.
func (c *CarrierCall) StallDown(d time.Duration) {
	if s := c.current(); s != nil {
		s.down.hold(d)
	}
}

// Deafen stops reading the media socket, which stays open: half of it is dead.
func (c *CarrierCall) Deafen() {
	if s := c.current(); s != nil {
		s.deafOnce.Do(func() { close(s.deaf) })
	}
}

// Mute stops the caller's audio, as a dead network would. The rest of what is
// sent, marks among it, still comes.
func (c *CarrierCall) Mute(on bool) {
	if s := c.current(); s != nil {
		s.mute.Store(on)
	}
}

// Silence stops everything that the carrier sends on the media socket, which
// stays open: half of it is dead.
func (c *CarrierCall) Silence() {
	if s := c.current(); s != nil {
		s.dumb.Store(true)
	}
}

// Break cuts the media socket without a goodbye; the call then asks for what is
// next, as after any end of a stream.
func (c *CarrierCall) Break() {
	if s := c.current(); s != nil {
		s.net.Close()
	}
}

// Events returns what has happened so far.
func (c *CarrierCall) Events() []CarrierEvent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]CarrierEvent(nil), c.events...)
}

func (c *CarrierCall) current() *stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stream
}

func (c *CarrierCall) note(kind, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, CarrierEvent{At: time.Now(), Kind: kind, Text: text})
}

func (c *CarrierCall) setStatus(s string) {
	c.mu.Lock()
	c.status = s
	if s == "in-progress" && c.answered.IsZero() {
		c.answered = time.Now()
	}
	c.mu.Unlock()
	c.o.REST.update(c)
}

// isUp lets Call return.
func (c *CarrierCall) isUp() { c.once.Do(func() { close(c.up) }) }

// run is the call, from the webhook to its end.
func (c *CarrierCall) run(ctx context.Context) {
	defer c.isUp() // after done, by which Call knows a call that failed
	defer close(c.done)
	defer c.client.CloseIdleConnections()
	defer c.cancel()
	defer c.o.REST.remove(c)
	var detecting sync.WaitGroup
	defer detecting.Wait()
	var err error
	if placed := c.o.Direction == "outbound-api"; !placed || c.ring(ctx) {
		if placed {
			c.progress(ctx, "in-progress")
			detecting.Go(func() { c.detect(ctx) })
		}
		err = c.perform(ctx)
	}
	if ctx.Err() != nil {
		err = nil // the caller hung up
	}
	switch s := c.Status(); {
	case s == "in-progress", s == "ringing" && err == nil:
		c.setStatus("completed")
	case s == "ringing":
		c.setStatus("failed")
	}
	c.err = err
	if c.o.StatusURL == "" || c.o.Loses != nil && c.o.Loses(c.Status()) {
		return
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, err = c.post(last, c.o.StatusURL, url.Values{
		"CallStatus": {c.Status()}, "CallbackSource": {"call-progress-events"}, "SequenceNumber": {strconv.Itoa(c.told)},
		"CallDuration": {fmt.Sprint(int(talked(c.answered) / time.Second))},
	})
	c.err = errors.Join(c.err, err)
}

func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return hex.EncodeToString(b[:])
}
