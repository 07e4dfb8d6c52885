// Package effect does what flows want done besides speech: HTTP calls with
// secrets, retries, circuit breakers and kept answers, content, and waits. Every host
// uses it: voice, chat, terminal, test runner; each brings its own network,
// secrets and clock.
package effect

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"parley/agent/flow"
)

// A Request is one try of a call, complete and with its secrets.
type Request struct {
	Method string
	URL    *url.URL
	Header http.Header
	Body   []byte
	// Timeout bounds this try, redirects and body included.
	Timeout time.Duration
}

// A Response is an answer with its whole body.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// HTTP sends requests. An error that is [context.DeadlineExceeded] is a
// timeout; one that is [ErrRefused] is never tried again. Redirects are
// followed, without secrets to another host.
type HTTP interface {
	Send(ctx context.Context, r Request) (Response, error)
}

// ErrRefused says that a request may not be sent: its address is not allowed,
// or a budget is used up.
var ErrRefused = errors.New("effect: refused")

// An Overspent request does not fit in a budget. It is an [ErrRefused].
type Overspent struct{ Budget string } // "flow.calls"

// Error implements error.
func (e *Overspent) Error() string { return "effect: the budget " + e.Budget + " is used up" }

// Is tells that it is an ErrRefused.
func (e *Overspent) Is(target error) bool { return target == ErrRefused }

// A Secret prints as [redacted] wherever it may stray to; string(s) is its value.
type Secret string

const redacted = "[redacted]"

// String keeps the value out of messages.
func (Secret) String() string { return redacted }

// GoString keeps the value out of messages.
func (Secret) GoString() string { return redacted }

// LogValue implements [slog.LogValuer].
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps the value out of JSON.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Secrets looks up the secrets of the tenant of ctx. to is where the secret is
// about to be sent: one that is not bound to its host is [ErrNoSecret], as is
// one that does not exist.
type Secrets interface {
	Secret(ctx context.Context, key string, to *url.URL) (Secret, error)
}

// ErrNoSecret says that there is no such secret for that host.
var ErrNoSecret = errors.New("effect: no such secret for this host")

// Circuits keeps the state of circuit breakers; nodes may share one.
type Circuits interface {
	// Enter asks to send. It returns [ErrOpen] while the circuit is open;
	// after b.Timeout it lets one through as a probe, and no other until the
	// probe has left or b.Timeout has passed again.
	Enter(ctx context.Context, key string, at time.Time, b flow.Breaker) (probe bool, err error)
	// Leave reports how it went, and tells whether the circuit is open now.
	Leave(ctx context.Context, key string, at time.Time, b flow.Breaker, ok bool) (open bool)
}

// ErrOpen says that a circuit is open.
var ErrOpen = errors.New("effect: the circuit is open")

// Answers keeps good answers for the time of need. They may be forgotten.
type Answers interface {
	Keep(ctx context.Context, key string, at time.Time, ttl time.Duration, data []byte)
	Kept(ctx context.Context, key string, at time.Time) (data []byte, ok bool)
}

// A Performer does the effects of one conversation. It is safe for use by
// several goroutines.
type Performer struct {
	HTTP    HTTP    // nil: no call is made
	Secrets Secrets // nil: there are none
	Models  Models  // nil: nodes that a model helps do without
	// Contents is where flows find content. Nil: there is none, and flows say
	// their own texts.
	Contents Contents
	// Circuits and Answers are shared by all conversations. Nil: no circuit
	// opens, and nothing is kept.
	Circuits Circuits
	Answers  Answers
	// Tenant parts circuits and kept answers.
	Tenant string
	// Internal is what a URL that begins with "/" is appended to. Nil: such
	// calls fail.
	Internal *url.URL
	// Bearer makes the token by which such a call says whose it is. No header
	// of the flow stands in for it. Nil: such calls carry none.
	Bearer func(to *url.URL) (Secret, error)
	// Log is told of every try: the route as the author wrote it, host,
	// status and time. Nil: nobody.
	Log *slog.Logger

	// Now and Sleep are the clock. Nil: the real one. Sleep returns ctx's
	// error if that ends first.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
	// Jitter draws from 0 to 1: a pause between tries lasts half its time and
	// so much of the other half. Nil: at random.
	Jitter func() float64
}

// Perform does e and returns its result, with e's ID. For an effect from which
// nothing comes back the result has no ID. It does not fail: what cannot be
// done is a result with outcome "error" or "timeout", whose text never holds a
// secret. Waits last as long as they say.
func (p *Performer) Perform(ctx context.Context, e flow.Effect) flow.Result {
	var r flow.Result
	switch e := e.(type) {
	case flow.Call:
		r = p.call(ctx, e)
		r.ID = e.ID
	case flow.Fetch:
		r = p.fetch(ctx, e)
		r.ID = e.ID
	case flow.Wait:
		// No event reaches a host yet; without a time the wait would not end.
		r = flow.Result{ID: e.ID, Outcome: "timeout"}
		if err := p.sleep(ctx, e.After); err != nil {
			r.Outcome, r.Error = "error", "cancelled"
		}
	case flow.Record:
		r = flow.Result{ID: e.ID, Outcome: "empty", Error: "this host does not record messages"}
	case flow.Model:
		r = p.model(ctx, e)
	case flow.SendDigits:
		p.log().Warn("keys are not sent: this host cannot", "node", e.Node)
	case flow.SwitchLanguage:
		p.log().Warn("the language stays: this host cannot switch it", "node", e.Node)
	}
	r.At = flow.At{At: p.now()}
	return r
}

func (p *Performer) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

func (p *Performer) sleep(ctx context.Context, d time.Duration) error {
	if p.Sleep != nil {
		return p.Sleep(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *Performer) log() *slog.Logger {
	if p.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Log
}
