// Package signalingtest holds far ends for tests and for the terminal's caller:
// a carrier that speaks Twilio's side of a call.
package signalingtest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"parley/signaling"
)

// CarrierOptions describes a call to place through a simulated Twilio. URL is
// required.
type CarrierOptions struct {
	URL       string // of the gateway: "http://127.0.0.1:8080"
	PublicURL string // the address signed, where the gateway has another one than URL
	Agent     string // in the path of the webhook; empty: To picks
	From, To  string // E.164
	Direction string // "inbound" (default) or "outbound-api"
	AuthToken string // signs webhooks and the upgrade; empty: unsigned

	CallSID    string // default: a random one
	AccountSID string // default: "AC" and zeros

	// Dial opens connections; default TCP. With net.Pipe the call runs in
	// virtual time.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)

	// Up and Down are the network from the caller to the gateway, and back.
	Up, Down Line

	// Source fills 20 ms of what the caller says, in µ-law, every 20 ms while
	// the stream is up. Nil is silence. It must not block.
	Source func(frame []byte)

	// Heard is called every 20 ms of the stream with what the caller hears, and
	// when its first sample sounds; frame is valid during the call. Nothing to
	// play is silence, and says so. It must not block.
	Heard func(at time.Time, frame []byte, played int)

	// Transfer is asked for the outcome of a <Dial>: "completed", "busy",
	// "no-answer", "failed". Default "completed".
	Transfer func(d Dialed) string

	// StatusURL, where not empty, gets the call's last status.
	StatusURL string
}

// A Line is one direction of a network: each message takes Delay, and up to
// Jitter more; their order stands, as over TCP.
type Line struct {
	Delay, Jitter time.Duration
}

// Dialed is a <Dial> that the gateway asked for.
type Dialed struct {
	Number, Sip, Client string
	CallerID            string
	Timeout             string
}

// A CarrierEvent is something that happened in a call, as the carrier saw it.
type CarrierEvent struct {
	At   time.Time
	Kind string // "webhook", "stream", "mark", "clear", "closed", "dial", "reject", "hangup", "error"
	Text string // TwiML verb, mark's name, close code, number, …
}

// A CarrierCall is a call in progress.
type CarrierCall struct {
	SID string

	o      CarrierOptions
	client *http.Client
	cancel context.CancelFunc
	done   chan struct{}
	up     chan struct{} // closed when the first stream is up, or the call over

	mu     sync.Mutex
	events []CarrierEvent
	stream *stream // the one that is up
	err    error
	once   sync.Once
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
		cancel: cancel,
		done:   make(chan struct{}),
		up:     make(chan struct{}),
		client: &http.Client{
			Timeout:   15 * time.Second, // Twilio's own limit
			Transport: &http.Transport{DialContext: o.Dial, DisableKeepAlives: true},
		},
	}
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

// HangUp ends the call from the caller's side, and waits for it.
func (c *CarrierCall) HangUp() error {
	c.mu.Lock()
	s := c.stream
	c.mu.Unlock()
	if s != nil {
		s.hangUp()
	}
	c.cancel()
	return c.Wait()
}

// Digits presses keys, if a stream is up.
func (c *CarrierCall) Digits(keys string) {
	for _, k := range keys {
		c.send(fmt.Sprintf(`"dtmf","dtmf":{"track":"inbound_track","digit":%q}`, string(k)))
	}
}

// Raw sends a message of any kind to the gateway as it is.
func (c *CarrierCall) Raw(msg []byte) {
	if s := c.current(); s != nil {
		s.queueUp(msg)
	}
}

// Stall holds back everything the caller's side sends for d; it then comes at
// once.
func (c *CarrierCall) Stall(d time.Duration) {
	if s := c.current(); s != nil {
		s.stall(d)
	}
}

// Deafen stops reading the media socket.
func (c *CarrierCall) Deafen() {
	if s := c.current(); s != nil {
		s.deafen()
	}
}

// Mute stops the caller's audio, as a dead network would.
func (c *CarrierCall) Mute(on bool) {
	if s := c.current(); s != nil {
		s.mute.Store(on)
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

func (c *CarrierCall) send(event string) {
	if s := c.current(); s != nil {
		s.event(event)
	}
}

func (c *CarrierCall) note(kind, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, CarrierEvent{At: time.Now(), Kind: kind, Text: text})
}

// run is the call, from the webhook to its end.
func (c *CarrierCall) run(ctx context.Context) {
	defer close(c.done)
	defer c.isUp()
	defer c.cancel()
	path := "/twilio/voice"
	if c.o.Agent != "" {
		path += "/" + url.PathEscape(c.o.Agent)
	}
	err := c.perform(ctx, path)
	if ctx.Err() != nil {
		err = nil // the caller hung up
	}
	c.err = err
	if c.o.StatusURL != "" {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, err := c.post(ctx, c.o.StatusURL, url.Values{
			"CallStatus": {"completed"}, "CallbackSource": {"call-progress-events"}, "SequenceNumber": {"0"},
		})
		if err != nil && c.err == nil {
			c.err = err
		}
	}
}

func (c *CarrierCall) isUp() { c.once.Do(func() { close(c.up) }) }

// twiml is what we understand of a TwiML document: one verb.
type twiml struct {
	XMLName xml.Name `xml:"Response"`
	Connect *struct {
		Action string `xml:"action,attr"`
		Stream struct {
			URL            string `xml:"url,attr"`
			StatusCallback string `xml:"statusCallback,attr"`
		} `xml:"Stream"`
	} `xml:"Connect"`
	Dial *struct {
		Action   string `xml:"action,attr"`
		Timeout  string `xml:"timeout,attr"`
		CallerID string `xml:"callerId,attr"`
		Number   string `xml:"Number"`
		Sip      string `xml:"Sip"`
		Client   string `xml:"Client"`
	} `xml:"Dial"`
	Reject *struct {
		Reason string `xml:"reason,attr"`
	} `xml:"Reject"`
	Hangup *struct{} `xml:"Hangup"`
}

const maxVerbs = 50 // a call that goes round in circles ends

// perform asks address for TwiML and does it, and what comes after it.
func (c *CarrierCall) perform(ctx context.Context, address string) error {
	form := url.Values{"CallStatus": {"ringing"}}
	for range maxVerbs {
		doc, err := c.fetch(ctx, address, form)
		if err != nil {
			c.note("error", err.Error())
			return err
		}
		switch {
		case doc.Connect != nil:
			if err := c.connect(ctx, doc.Connect.Stream.URL, doc.Connect.Stream.StatusCallback); err != nil {
				c.note("error", err.Error())
				return err
			}
			if ctx.Err() != nil || c.callerLeft() {
				return nil
			}
			address, form = doc.Connect.Action, url.Values{"CallStatus": {"in-progress"}}
		case doc.Dial != nil:
			d := Dialed{doc.Dial.Number, doc.Dial.Sip, doc.Dial.Client, doc.Dial.CallerID, doc.Dial.Timeout}
			c.note("dial", d.Number+d.Sip+d.Client)
			outcome := "completed"
			if c.o.Transfer != nil {
				outcome = c.o.Transfer(d)
			}
			address, form = doc.Dial.Action, url.Values{"CallStatus": {"in-progress"}, "DialCallStatus": {outcome}}
		case doc.Reject != nil:
			c.note("reject", doc.Reject.Reason)
			return nil
		default:
			c.note("hangup", "")
			return nil
		}
		if address == "" {
			return nil // nothing follows: the call ends
		}
	}
	return errors.New("carrier: the call goes round in circles")
}

func (c *CarrierCall) callerLeft() bool {
	s := c.current()
	return s != nil && s.left.Load()
}

func (c *CarrierCall) fetch(ctx context.Context, address string, form url.Values) (*twiml, error) {
	body, err := c.post(ctx, address, form)
	if err != nil {
		return nil, err
	}
	var doc twiml
	if err := xml.Unmarshal(body, &doc); err != nil {
		return nil, fmt.Errorf("carrier: TwiML of %s: %w", route(address), err)
	}
	c.note("webhook", string(body))
	return &doc, nil
}

// post sends a signed webhook to a path of the gateway, or to an address that
// it gave.
func (c *CarrierCall) post(ctx context.Context, address string, form url.Values) ([]byte, error) {
	address, _, _ = strings.Cut(address, "#")
	uri := strings.TrimPrefix(strings.TrimPrefix(address, c.o.PublicURL), c.o.URL)
	form.Set("CallSid", c.SID)
	form.Set("AccountSid", c.o.AccountSID)
	form.Set("From", c.o.From)
	form.Set("To", c.o.To)
	form.Set("Direction", c.o.Direction)
	form.Set("ApiVersion", "2010-04-01")
	target := uri
	if strings.HasPrefix(uri, "/") {
		target = c.o.URL + uri
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, fmt.Errorf("carrier: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if c.o.AuthToken != "" {
		req.Header.Set("X-Twilio-Signature", signaling.TwilioSignature(c.o.AuthToken, c.o.PublicURL+uri, form))
	}
	res, err := c.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("carrier: post %s: %w", route(uri), err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("carrier: post %s: %w", route(uri), err)
	}
	if res.StatusCode >= 300 {
		return nil, fmt.Errorf("carrier: post %s: %s: %.100s", route(uri), res.Status, body)
	}
	return body, nil
}

// route returns an address without what may be secret in it.
func route(address string) string {
	if i := strings.Index(address, "/media/"); i >= 0 {
		return address[:i+len("/media/")] + "…"
	}
	return address
}

func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand
	return hex.EncodeToString(b[:])
}
