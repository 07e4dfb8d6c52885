package signalingtest

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A verb of TwiML, or a noun inside one. https://www.twilio.com/docs/voice/twiml
type verb struct {
	XMLName xml.Name
	Attrs   []xml.Attr `xml:",any,attr"`
	Text    string     `xml:",chardata"`
	Nouns   []verb     `xml:",any"`
}

func (v *verb) attr(name string) string {
	for _, a := range v.Attrs {
		if a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// noun returns the first of a name, or an empty one.
func (v *verb) noun(name string) *verb {
	for i := range v.Nouns {
		if v.Nouns[i].XMLName.Local == name {
			return &v.Nouns[i]
		}
	}
	return &verb{}
}

func (v *verb) text() string { return strings.TrimSpace(v.Text) }

// A step is where a call goes on: an address to ask, or TwiML at hand.
type step struct {
	address string
	form    url.Values
	twiml   string // in place of address
	stream  *verb  // in place of both
}

// A document is TwiML, and where it came from.
type document struct {
	verbs []verb
	base  string
}

// maxDocuments ends a call that goes round in circles.
const maxDocuments = 100

// perform does one document after another until the call is over.
func (c *CarrierCall) perform(ctx context.Context) error {
	next := &step{address: c.o.Webhook}
	if c.o.StreamURL != "" {
		next = &step{stream: streamVerb(c.o.StreamURL, c.o.Parameters)}
	}
	for range maxDocuments {
		then, err := c.interruptible(ctx, next)
		if ctx.Err() != nil {
			return nil
		}
		if moved := c.takeMove(); moved != nil {
			then, err = moved, nil
		}
		if err != nil {
			c.note("error", err.Error())
			return err
		}
		if then == nil {
			return nil
		}
		next = then
	}
	return errors.New("carrier: the call goes round in circles")
}

// interruptible does a document, which REST may break off.
func (c *CarrierCall) interruptible(ctx context.Context, next *step) (*step, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.interrupt = cancel
	moved := c.moved != nil
	c.mu.Unlock()
	if moved {
		return nil, nil
	}
	doc, err := c.document(ctx, next)
	if err != nil {
		return nil, err
	}
	for i := range doc.verbs {
		then, over, err := c.do(ctx, &doc.verbs[i], doc.base)
		if over || err != nil || ctx.Err() != nil {
			return then, err
		}
	}
	c.note("hangup", "") // nothing follows
	return nil, nil
}

// move sends the call elsewhere, at once.
func (c *CarrierCall) move(to *step) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moved = to
	if c.interrupt != nil {
		c.interrupt()
	}
}

func (c *CarrierCall) takeMove() *step {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.moved
	c.moved = nil
	return m
}

// document fetches TwiML, or its fallback.
func (c *CarrierCall) document(ctx context.Context, s *step) (document, error) {
	switch {
	case s.stream != nil:
		return document{verbs: []verb{*s.stream}}, nil
	case s.twiml != "":
		c.note("webhook", s.twiml)
		return parseTwiML([]byte(s.twiml), "")
	}
	doc, err := c.fetch(ctx, s.address, s.form)
	var failed *webhookError
	if c.o.Fallback == "" || ctx.Err() != nil || !errors.As(err, &failed) {
		return doc, err
	}
	c.note("fallback", err.Error())
	if strings.HasPrefix(strings.TrimSpace(c.o.Fallback), "<") {
		return parseTwiML([]byte(c.o.Fallback), s.address)
	}
	asked, _, _ := strings.Cut(s.address, "#")
	return c.fetch(ctx, c.o.Fallback, url.Values{"ErrorCode": {failed.code()}, "ErrorUrl": {asked}})
}

// fetch posts a webhook and reads the TwiML of its answer.
func (c *CarrierCall) fetch(ctx context.Context, address string, form url.Values) (document, error) {
	if form == nil {
		form = url.Values{}
	}
	body, err := c.post(ctx, address, form)
	if err != nil {
		return document{}, err
	}
	doc, err := parseTwiML(body, address)
	if err == nil {
		c.note("webhook", string(body))
	}
	return doc, err
}

func parseTwiML(body []byte, address string) (document, error) {
	var root struct {
		XMLName xml.Name `xml:"Response"`
		Verbs   []verb   `xml:",any"`
	}
	if err := xml.Unmarshal(body, &root); err != nil {
		return document{}, &webhookError{"twiml", fmt.Errorf("TwiML of %s: %w", route(address), err)}
	}
	return document{root.Verbs, address}, nil
}

// resolve returns an address of a document, which may be relative to its own.
func resolve(base, ref string) string {
	b, err := url.Parse(base)
	if err != nil {
		return ref
	}
	r, err := b.Parse(ref)
	if err != nil {
		return ref
	}
	return r.String()
}

// speechChar is how long a character of <Say> takes.
const speechChar = 60 * time.Millisecond

// do performs one verb. over says that the document ends with it; then is where
// the call goes on, nil: it ends.
func (c *CarrierCall) do(ctx context.Context, v *verb, base string) (then *step, over bool, err error) {
	answered := true
	switch v.XMLName.Local {
	case "Connect":
		return c.connectVerb(ctx, v, base)
	case "Gather":
		then = c.gather(ctx, v, base)
		over = then != nil
	case "Dial":
		c.setStatus("in-progress")
		if room := v.noun("Conference"); room.XMLName.Local != "" {
			c.meet(ctx, room)
		}
		then = c.dial(ctx, v, base)
		over = then != nil
	case "Redirect":
		c.note("redirect", v.text())
		return &step{address: resolve(base, v.text())}, true, nil
	case "Pause":
		seconds, err := strconv.Atoi(v.attr("length"))
		if err != nil {
			seconds = 1
		}
		c.note("pause", strconv.Itoa(seconds))
		pause(ctx, time.Duration(seconds)*time.Second)
	case "Say":
		c.note("say", v.text())
		pause(ctx, time.Duration(len(v.text()))*speechChar)
	case "Play":
		c.note("play", v.text())
	case "Reject":
		c.note("reject", v.attr("reason"))
		c.setStatus("failed")
		if v.attr("reason") == "busy" {
			c.setStatus("busy")
		}
		return nil, true, nil
	case "Hangup":
		c.note("hangup", "")
		return nil, true, nil
	default:
		c.note("verb", v.XMLName.Local)
		answered = false
	}
	if answered {
		c.setStatus("in-progress")
	}
	return then, over, nil
}

// dial performs a <Dial>, and returns where its outcome is told; nil: nowhere.
func (c *CarrierCall) dial(ctx context.Context, v *verb, base string) *step {
	d := Dialed{v.noun("Number").text(), v.noun("Sip").text(), v.noun("Client").text(), v.noun("Conference").text(), v.attr("callerId"), v.attr("timeout")}
	if d.Number == "" {
		d.Number = v.text()
	}
	c.note("dial", d.Number+d.Sip+d.Client+d.Conference)
	outcome := "completed"
	if c.o.Transfer != nil && d.Conference == "" {
		outcome = c.o.Transfer(ctx, d)
	}
	if v.attr("action") == "" || ctx.Err() != nil {
		return nil
	}
	return &step{address: resolve(base, v.attr("action")), form: url.Values{"DialCallStatus": {outcome}}}
}

// streamVerb is a <Connect> to a stream.
func streamVerb(address string, parameters map[string]string) *verb {
	attr := func(name, value string) xml.Attr { return xml.Attr{Name: xml.Name{Local: name}, Value: value} }
	s := verb{XMLName: xml.Name{Local: "Stream"}, Attrs: []xml.Attr{attr("url", address)}}
	for k, p := range parameters {
		s.Nouns = append(s.Nouns, verb{XMLName: xml.Name{Local: "Parameter"}, Attrs: []xml.Attr{attr("name", k), attr("value", p)}})
	}
	return &verb{XMLName: xml.Name{Local: "Connect"}, Nouns: []verb{s}}
}

// connectVerb performs a <Connect>: a stream to its end.
func (c *CarrierCall) connectVerb(ctx context.Context, v *verb, base string) (then *step, over bool, err error) {
	s := v.noun("Stream")
	if s.XMLName.Local == "" {
		c.note("error", "<Connect> without <Stream>")
		return nil, false, nil
	}
	c.setStatus("in-progress")
	end, err := c.connect(ctx, s)
	if ctx.Err() != nil || end == endCaller {
		return nil, true, nil
	}
	action := v.attr("action")
	if end == endLost {
		switch {
		case c.o.Lost == LostHold:
			<-ctx.Done()
			return nil, true, nil
		case c.o.Lost == LostEnd, err != nil && action == "":
			return nil, true, err
		}
	}
	if action == "" {
		return nil, c.o.StreamURL != "", nil
	}
	return &step{address: resolve(base, action)}, true, nil
}
