package flow

import (
	"fmt"
	"strconv"
	"time"
)

// Lint of calls. A caller bears a few seconds of silence; beyond maxDeadAir the
// flow should say something first.
const (
	maxDeadAir   = 8 * time.Second
	tooShort     = 100 * time.Millisecond // a timeout in milliseconds that was meant in seconds
	tooLong      = 5 * time.Minute        // one in seconds that was meant in milliseconds
	tooLongReset = time.Hour              // likewise of a breaker
)

// calls looks at the calls of a node: units that look wrong, and how long a
// caller may hear nothing.
func (k *checker) calls(n *node) {
	switch b := n.body.(type) {
	case *callSpec:
		k.call(b, n.at)
	case *actionBody:
		for i, a := range b.actions {
			if a.call != nil {
				k.call(a.call, n.at+"/actions/"+strconv.Itoa(i))
			}
		}
	}
}

func (k *checker) call(s *callSpec, ptr string) {
	switch {
	case s.timeout < tooShort:
		k.add("warning", ptr, "unit", fmt.Sprintf("the call is given up after %v", s.timeout), "the timeout of a webhook is in milliseconds")
	case s.timeout > tooLong:
		k.add("warning", ptr, "unit", fmt.Sprintf("the call may take %v", s.timeout), "the timeout of an api_call's config is in seconds")
	}
	if s.breaker != nil && s.breaker.Timeout > tooLongReset {
		k.add("warning", ptr+"/circuit_breaker/timeout", "unit", fmt.Sprintf("the circuit stays open for %v", s.breaker.Timeout), "the timeout of a circuit breaker is in seconds")
	}
	if worst := s.worst(); worst > maxDeadAir && len(s.sayWhile) == 0 && !s.async {
		k.add("warning", ptr, "dead-air", fmt.Sprintf("a caller may hear nothing for %v", worst), "add \"say_while\", or shorten timeout and retry")
	}
}

// worst is how long a call takes if every try fails as late as it can.
func (s *callSpec) worst() time.Duration {
	total, delay := time.Duration(0), s.retry.Delay
	for i := range s.retry.Attempts {
		if total += s.timeout; i == s.retry.Attempts-1 {
			break
		}
		if s.retry.Max > 0 {
			delay = min(delay, s.retry.Max)
		}
		total += delay
		if s.retry.Backoff > 1 {
			delay = time.Duration(min(float64(delay)*s.retry.Backoff, float64(time.Hour)))
		}
	}
	return total
}
