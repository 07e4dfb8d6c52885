package signalingtest

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Placed is what a [REST] keeps of a call that it was asked to place.
type Placed struct {
	SID, From, To string
	Status        string // queued, ringing, in-progress, completed, busy, no-answer, failed, canceled
	AnsweredBy    string // as answering-machine detection had it; "" for not yet
	Created       time.Time
	Duration      time.Duration // of the talk, once it is over
}

// maxPlaced is how many calls a REST remembers.
const maxPlaced = 10_000

// Note has the REST API know a call, or what has become of it. Calls with a REST
// in their options note themselves.
func (r *REST) Note(p Placed) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.placed, func(have Placed) bool { return have.SID == p.SID }); i >= 0 {
		r.placed[i] = p
		return
	}
	if len(r.placed) == maxPlaced {
		r.placed = slices.Delete(r.placed, 0, maxPlaced/10)
	}
	r.placed = append(r.placed, p)
}

// Placed returns the calls that are known, the first first.
func (r *REST) Placed() []Placed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.placed)
}

// Lookup returns a call that was placed; false for none.
func (r *REST) Lookup(sid string) (Placed, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.IndexFunc(r.placed, func(p Placed) bool { return p.SID == sid }); i >= 0 {
		return r.placed[i], true
	}
	return Placed{}, false
}

// Phones has telephones ring for the calls that are asked for, until ctx ends:
// phone returns who is called, URL, PublicURL and tokens among it; the rest is
// taken from the request; and whoever talks once the stream is up, or nil. An
// error refuses the call. wait returns when all calls have ended.
func (r *REST) Phones(ctx context.Context, phone func(form url.Values) (CarrierOptions, func(*CarrierCall), error)) (wait func()) {
	var calls sync.WaitGroup
	r.Place = func(form url.Values) (string, error) {
		o, talk, err := phone(form)
		if err != nil {
			return "", err
		}
		o.CallSID, o.AccountSID, o.Direction, o.REST = "CA"+randomHex(), form.Get("AccountSid"), "outbound-api", r
		o.From, o.To, o.Webhook = form.Get("From"), form.Get("To"), form.Get("Url")
		o.StatusURL, o.Progress = form.Get("StatusCallback"), len(form["StatusCallbackEvent"]) > 1
		o.DetectURL = form.Get("AsyncAmdStatusCallback")
		if s, err := strconv.Atoi(form.Get("Timeout")); err == nil && o.RingsOut == 0 {
			o.RingsOut = time.Duration(s) * time.Second
		}
		r.Note(Placed{SID: o.CallSID, From: o.From, To: o.To, Status: "queued", Created: time.Now()})
		calls.Go(func() {
			c, err := Call(ctx, o)
			if err != nil {
				return // what went wrong is among the call's events
			}
			if talk != nil {
				talk(c)
			}
			_ = c.Wait()
		})
		return o.CallSID, nil
	}
	return calls.Wait
}

// RoundTrip implements [http.RoundTripper]: requests are answered without a
// network. What breaks the connection breaks it here too.
func (r *REST) RoundTrip(req *http.Request) (res *http.Response, err error) {
	defer func() {
		if cause := recover(); cause == http.ErrAbortHandler { // as an HTTP server has it
			res, err = nil, io.ErrUnexpectedEOF
		} else if cause != nil {
			panic(cause)
		}
	}()
	answer := &heldAnswer{header: http.Header{}, status: http.StatusOK}
	r.ServeHTTP(answer, req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: answer.status, Header: answer.header, Request: req, ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(&answer.body), ContentLength: int64(answer.body.Len())}, nil
}

// ring lets a call that we place ring. It tells whether somebody answered.
func (c *CarrierCall) ring(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c.mu.Lock()
	c.interrupt = cancel
	c.mu.Unlock()
	c.progress(ctx, "initiated")
	c.progress(ctx, "ringing")
	rings := c.o.Rings
	if c.o.RingsOut > 0 && rings >= c.o.RingsOut {
		rings = c.o.RingsOut
	}
	if rings > 0 {
		pause(ctx, rings)
	}
	switch moved := c.takeMove(); {
	case moved != nil:
		c.setStatus("canceled")
	case ctx.Err() != nil:
		c.setStatus("no-answer")
	case c.o.Unanswered != "":
		c.setStatus(c.o.Unanswered)
	case c.o.RingsOut > 0 && c.o.Rings >= c.o.RingsOut:
		c.setStatus("no-answer")
	default:
		return true
	}
	return false
}

// progress tells of a stage before the last, where that was asked for.
func (c *CarrierCall) progress(ctx context.Context, status string) {
	if status != "initiated" {
		c.setStatus(status)
	}
	if !c.o.Progress || c.o.StatusURL == "" || c.o.Loses != nil && c.o.Loses(status) {
		return
	}
	form := url.Values{"CallStatus": {status}, "CallbackSource": {"call-progress-events"}, "SequenceNumber": {strconv.Itoa(c.told)}}
	c.told++
	if _, err := c.post(ctx, c.o.StatusURL, form); err != nil {
		c.note("error", err.Error())
	}
}

// detect tells who has answered, a while after it was answered.
func (c *CarrierCall) detect(ctx context.Context) {
	if c.o.AnsweredBy == "" || c.o.DetectURL == "" || !pause(ctx, c.o.DetectAfter) {
		return
	}
	c.mu.Lock()
	c.answeredBy = c.o.AnsweredBy
	c.mu.Unlock()
	c.o.REST.update(c)
	form := url.Values{"AnsweredBy": {c.o.AnsweredBy}, "MachineDetectionDuration": {strconv.FormatInt(c.o.DetectAfter.Milliseconds(), 10)}}
	if _, err := c.post(ctx, c.o.DetectURL, form); err != nil {
		c.note("error", err.Error())
	}
}

// update notes what has become of a call that was placed.
func (r *REST) update(c *CarrierCall) {
	if r == nil || c.o.Direction != "outbound-api" {
		return
	}
	p, ok := r.Lookup(c.SID)
	if !ok {
		p = Placed{SID: c.SID, From: c.o.From, To: c.o.To, Created: c.began}
	}
	c.mu.Lock()
	p.Status, p.AnsweredBy = c.status, c.answeredBy
	if c.status == "completed" && p.Duration == 0 {
		p.Duration = talked(c.answered)
	}
	c.mu.Unlock()
	r.Note(p)
}

// talked is a call's length as Twilio bills it: in whole seconds, begun ones too.
func talked(answered time.Time) time.Duration {
	if answered.IsZero() {
		return 0
	}
	return (time.Since(answered) + time.Second - 1).Truncate(time.Second)
}

// list answers GET Calls.json by From, To and PageSize.
func (r *REST) list(w http.ResponseWriter, q url.Values) {
	size, err := strconv.Atoi(q.Get("PageSize"))
	if err != nil {
		size = 50
	}
	calls := []map[string]any{}
	for _, p := range slices.Backward(r.Placed()) {
		if len(calls) < size && (q.Get("From") == "" || q.Get("From") == p.From) && (q.Get("To") == "" || q.Get("To") == p.To) {
			calls = append(calls, p.resource())
		}
	}
	writeREST(w, http.StatusOK, map[string]any{"calls": calls, "page": 0, "page_size": size, "start": 0, "end": max(0, len(calls)-1)})
}

// resource is a call as the API has it.
// https://www.twilio.com/docs/voice/api/call-resource#call-properties
func (p Placed) resource() map[string]any {
	m := map[string]any{"sid": p.SID, "status": p.Status, "from": p.From, "to": p.To, "direction": "outbound-api",
		"date_created": p.Created.UTC().Format(time.RFC1123Z), "answered_by": nil, "duration": nil}
	if p.AnsweredBy != "" {
		m["answered_by"] = p.AnsweredBy
	}
	if p.Status == "completed" {
		m["duration"] = strconv.Itoa(int(p.Duration / time.Second))
	}
	return m
}

// isOver tells whether a status is a call's last.
func isOver(status string) bool {
	return slices.Contains(strings.Fields("completed busy no-answer failed canceled"), status)
}
