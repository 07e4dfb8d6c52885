package agent

import (
	"errors"
	"sync"
	"time"
)

// A Breaker keeps a vendor that fails from being asked again and again: after a
// few failures in a row it is open, and says no; after a while it is half open
// and lets one request try, whose outcome closes it or opens it for longer. All
// calls of a tenant share it. It is safe for concurrent use, and a nil Breaker
// always says yes.
type Breaker struct {
	kind, vendor string // of its metrics

	mu sync.Mutex
	circuit
}

// Admit reports whether the vendor should be asked now. Whoever is admitted
// tells the outcome by Report.
func (b *Breaker) Admit() bool {
	if b == nil {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.count(b.state)
	return b.admit(time.Now())
}

// Report tells how a request came out; nil is success. An error that is none of
// this package's Err values says nothing of the vendor: it only gives the one
// try of a half-open breaker back.
func (b *Breaker) Report(err error) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.count(b.state)
	b.report(err, time.Now())
}

// count keeps the gauge of breakers that are not closed.
func (b *Breaker) count(before circuitState) {
	if b.state == before {
		return
	}
	if before != circuitClosed {
		breakersOpen.WithLabelValues(b.kind, b.vendor, before.String()).Dec()
	}
	if b.state != circuitClosed {
		breakersOpen.WithLabelValues(b.kind, b.vendor, b.state.String()).Inc()
	}
}

type circuitState int

const (
	circuitClosed circuitState = iota
	circuitOpen
	circuitHalfOpen
)

func (s circuitState) String() string {
	return [...]string{"closed", "open", "half_open"}[s]
}

const (
	// circuitFailures in a row within circuitWindow open a circuit.
	circuitFailures = 3
	circuitWindow   = time.Minute
	// An open circuit lets nobody through for circuitRest, twice as long each
	// time that its try fails, and longer after a refused key, which only a
	// person can mend.
	circuitRest    = 5 * time.Second
	circuitLongest = 2 * time.Minute
	keyRest        = time.Minute
	keyLongest     = 10 * time.Minute
	// circuitTry is when a try without an outcome is taken for lost.
	circuitTry = 30 * time.Second
)

// circuit is the state machine of a breaker. It is pure.
type circuit struct {
	state    circuitState
	failures int       // in a row, while closed
	first    time.Time // of them
	opened   int       // times since the last success
	until    time.Time // open: nobody before then; half open: the try is lost then
	trying   bool      // half open: by somebody
}

func (c *circuit) admit(now time.Time) bool {
	switch {
	case c.state == circuitClosed:
		return true
	case c.trying && now.Before(c.until), !c.trying && c.state == circuitOpen && now.Before(c.until):
		return false
	}
	c.state, c.trying, c.until = circuitHalfOpen, true, now.Add(circuitTry)
	return true
}

func (c *circuit) report(err error, now time.Time) {
	if err == nil {
		*c = circuit{}
		return
	}
	if !blames(err) {
		c.trying = false
		return
	}
	if c.state == circuitOpen {
		return // asked for want of another; the rest stands
	}
	if c.failures == 0 || now.Sub(c.first) > circuitWindow {
		c.failures, c.first = 0, now
	}
	c.failures++
	rest, longest := circuitRest, circuitLongest
	var refused *RefusedError
	switch {
	case errors.Is(err, ErrCredentials):
		rest, longest = keyRest, keyLongest
	case errors.As(err, &refused) && refused.RetryAfter > 0:
		rest = refused.RetryAfter
	case c.state == circuitClosed && c.failures < circuitFailures:
		return
	}
	rest = min(rest<<min(c.opened, 8), longest)
	*c = circuit{state: circuitOpen, opened: c.opened + 1, until: now.Add(rest)}
}

// blames reports whether err is the vendor's fault.
func blames(err error) bool {
	return errors.Is(err, ErrBusy) || errors.Is(err, ErrCredentials) || errors.Is(err, ErrUnavailable) || errors.Is(err, ErrProtocol)
}

// Breakers hold the breakers of a process. The zero value is ready; it is safe
// for concurrent use.
type Breakers struct {
	mu  sync.Mutex
	all map[breakerKey]*Breaker
}

type breakerKey struct{ tenant, kind, vendor, model string }

// maxBreakers bounds a process's breakers: tenants come and go.
const maxBreakers = 4096

// Of returns the breaker of a tenant's vendor. kind is "stt", "llm" or "tts";
// model is what of the vendor the agent chose: one may fail without the others.
func (b *Breakers) Of(tenant, kind, vendor, model string) *Breaker {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := breakerKey{tenant, kind, vendor, model}
	if br := b.all[k]; br != nil {
		return br
	}
	if len(b.all) >= maxBreakers {
		b.forget()
	}
	if b.all == nil {
		b.all = make(map[breakerKey]*Breaker)
	}
	br := &Breaker{kind: kind, vendor: vendor}
	b.all[k] = br
	return br
}

// forget drops the breakers that are closed, and have nothing to tell.
func (b *Breakers) forget() {
	for k, br := range b.all {
		br.mu.Lock()
		if br.state == circuitClosed {
			delete(b.all, k)
		}
		br.mu.Unlock()
	}
}
