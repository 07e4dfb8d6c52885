package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// A roster is one call's list of the vendors of a kind, in the agent's order.
// It knows how each has done in this call, and so who is asked next.
type roster struct {
	kind  string // "stt", "llm", "tts"
	log   *slog.Logger
	list  []standing
	first int // whom to ask first: the agent's first, or who serves
}

// A standing is what a call knows of one vendor.
type standing struct {
	vendor   string
	breaker  *Breaker
	barred   bool      // it refused the key
	failures int       // in a row
	rest     time.Time // others go first until then
}

const (
	// restFirst is how long others are asked first after a failure: a model that
	// is known dead after seconds must not cost them at every turn.
	restFirst   = 15 * time.Second
	restLongest = 2 * time.Minute
	// retryPause stands before a vendor is asked again within a request, twice as
	// long each time.
	retryPause = 250 * time.Millisecond
	// retryLimit is the longest pause that a vendor may ask for and still be
	// asked again within a request: a caller waits.
	retryLimit = time.Second
	// retryWithin is how long after the request began a vendor may be asked again:
	// a second wait as long as the first would be silence.
	retryWithin = 1500 * time.Millisecond
)

// An attempt is one request's way through a roster: each vendor once, then each
// again after a pause. Nobody is asked for ever.
type attempt struct {
	roster *roster
	rounds int
	until  time.Time // nobody is asked again after that: a caller waits
	tries  []int
	pause  []time.Duration // before the vendor's next try
	errs   []error
}

// attempt begins one that asks nobody more than rounds times.
func (r *roster) attempt(rounds int) *attempt {
	return &attempt{roster: r, rounds: rounds, until: time.Now().Add(retryWithin), tries: make([]int, len(r.list)), pause: make([]time.Duration, len(r.list))}
}

// next returns who is asked now and after what pause. ok is false when nobody is
// left. Those with an open breaker, or at rest after a failure, come when no
// other is left.
func (a *attempt) next(now time.Time) (i int, pause time.Duration, ok bool) {
	r := a.roster
	for round := range a.rounds {
		willing := func(i int) bool {
			return a.tries[i] == round && !r.list[i].barred && a.pause[i] <= retryLimit && (round == 0 || now.Before(a.until))
		}
		last := -1
		for k := range r.list {
			i := (r.first + k) % len(r.list)
			if !willing(i) {
				continue
			}
			if s := &r.list[i]; !now.Before(s.rest) && s.breaker.Admit() {
				a.tries[i]++
				return i, a.pause[i], true
			}
			if last < 0 {
				last = i
			}
		}
		if last >= 0 {
			a.tries[last]++
			return last, a.pause[last], true
		}
	}
	return 0, 0, false
}

// others reports whether anybody besides i may still be asked.
func (a *attempt) others(i int) bool {
	for j, s := range a.roster.list {
		if j != i && !s.barred && a.tries[j] < a.rounds && a.pause[j] <= retryLimit {
			return true
		}
	}
	return false
}

// failed notes that i did not serve, and why.
func (a *attempt) failed(i int, err error, now time.Time) {
	r := a.roster
	s := &r.list[i]
	providerFailures.WithLabelValues(r.kind, s.vendor, failureWord(err)).Inc()
	r.log.Warn("vendor failed", "kind", r.kind, "vendor", s.vendor, "err", err)
	s.breaker.Report(err)
	s.barred = s.barred || errors.Is(err, ErrCredentials)
	s.rest = now.Add(min(restFirst<<min(s.failures, 4), restLongest))
	s.failures++
	a.pause[i] = retryPause << (a.tries[i] - 1)
	var refused *RefusedError
	if errors.As(err, &refused) {
		a.pause[i] = max(a.pause[i], refused.RetryAfter)
	}
	a.errs = append(a.errs, fmt.Errorf("%s: %w", s.vendor, err))
}

// served notes that i answers.
func (a *attempt) served(i int) {
	s := &a.roster.list[i]
	s.failures, s.rest = 0, time.Time{}
	s.breaker.Report(nil)
}

// dropped notes that i was given up for no fault of its own.
func (a *attempt) dropped(i int) { a.roster.list[i].breaker.Report(context.Canceled) }

// err says who failed, and how.
func (a *attempt) err() error {
	if len(a.errs) == 0 {
		return fmt.Errorf("%w: every vendor of %s has failed before", ErrUnavailable, a.roster.kind)
	}
	return fmt.Errorf("%w: no vendor of %s is left: %w", ErrUnavailable, a.roster.kind, errors.Join(a.errs...))
}

// failureWord names an error for a metric.
func failureWord(err error) string {
	switch {
	case errors.Is(err, errSlow):
		return "slow"
	case errors.Is(err, errDeaf):
		return "deaf"
	case errors.Is(err, ErrBusy):
		return "busy"
	case errors.Is(err, ErrCredentials):
		return "credentials"
	case errors.Is(err, ErrProtocol):
		return "protocol"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrUnavailable):
		return "unavailable"
	}
	return "other"
}

// after waits for d, or for the end of ctx.
func after(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
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
