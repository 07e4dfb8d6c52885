package agent

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// admitted is how many of two requests are.
func admitted(c *circuit, now time.Time) (n int) {
	for range 2 {
		if c.admit(now) {
			n++
		}
	}
	return n
}

func TestCircuit(t *testing.T) {
	busy := &RefusedError{Status: 429, RetryAfter: 20 * time.Second, Err: ErrBusy}
	for _, tt := range []struct {
		name string
		errs []error
		rest time.Duration // how long nobody is admitted; 0: it stays closed
	}{
		{"success", []error{nil}, 0},
		{"two failures", []error{ErrUnavailable, ErrProtocol}, 0},
		{"three failures", []error{ErrUnavailable, ErrProtocol, fmt.Errorf("dial: %w", ErrBusy)}, circuitRest},
		{"a success between", []error{ErrUnavailable, ErrUnavailable, nil, ErrUnavailable}, 0},
		{"what is not the vendor's fault", []error{context.Canceled, context.Canceled, errors.New("x")}, 0},
		{"a refused key, at once and for long", []error{ErrCredentials}, keyRest},
		{"busy, for as long as it says", []error{busy}, 20 * time.Second},
	} {
		var c circuit
		now := time.Unix(1e9, 0)
		for _, err := range tt.errs {
			c.report(err, now)
		}
		if tt.rest == 0 {
			if admitted(&c, now) != 2 {
				t.Errorf("%s: the circuit is not closed: %+v", tt.name, c)
			}
			continue
		}
		if c.admit(now) || c.admit(now.Add(tt.rest-1)) {
			t.Errorf("%s: somebody is admitted before %v", tt.name, tt.rest)
		}
		now = now.Add(tt.rest)
		if admitted(&c, now) != 1 {
			t.Errorf("%s: after %v not one try is admitted, but none or more", tt.name, tt.rest)
		}
	}
}

func TestCircuitFailuresFarApartDoNotOpenIt(t *testing.T) {
	var c circuit
	now := time.Unix(1e9, 0)
	for range 10 {
		c.report(ErrUnavailable, now)
		if now = now.Add(circuitWindow/2 + time.Second); !c.admit(now) {
			t.Fatalf("the circuit is open: %+v", c)
		}
	}
}

func TestCircuitTryDecides(t *testing.T) {
	open := func() (*circuit, time.Time) {
		c, now := &circuit{}, time.Unix(1e9, 0)
		for range circuitFailures {
			c.report(ErrUnavailable, now)
		}
		return c, now.Add(circuitRest)
	}
	c, now := open()
	if !c.admit(now) {
		t.Fatal("no try is admitted")
	}
	c.report(nil, now)
	if admitted(c, now) != 2 {
		t.Error("a try that succeeds does not close the circuit")
	}

	c, now = open()
	c.admit(now)
	c.report(ErrUnavailable, now)
	if c.admit(now.Add(2*circuitRest-1)) || !c.admit(now.Add(2*circuitRest)) {
		t.Error("a try that fails does not open the circuit for twice as long")
	}

	c, now = open()
	c.admit(now)
	c.report(context.Canceled, now)
	if !c.admit(now) {
		t.Error("a try that was given up is not given to another")
	}
	if c.admit(now.Add(circuitTry-1)) || !c.admit(now.Add(circuitTry)) {
		t.Error("a try without an outcome is not given to another in time")
	}
	for range 20 {
		now = c.until
		c.admit(now)
		c.report(ErrUnavailable, now)
	}
	if got := c.until.Sub(now); got != circuitLongest {
		t.Errorf("after many failures it rests %v, want %v", got, circuitLongest)
	}
}

func TestBreakersAreByTenantAndVendor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all Breakers
		b := all.Of("a", "tts", "x", "m")
		b.Report(ErrCredentials)
		if b.Admit() || all.Of("a", "tts", "x", "m").Admit() {
			t.Error("a vendor that refused the key is asked again")
		}
		for _, other := range []*Breaker{all.Of("b", "tts", "x", "m"), all.Of("a", "stt", "x", "m"), all.Of("a", "tts", "y", "m"), all.Of("a", "tts", "x", "n"), nil} {
			if !other.Admit() {
				t.Error("another's breaker is open too")
			}
		}
		for i := range 2 * maxBreakers {
			all.Of(fmt.Sprint(i), "tts", "x", "m")
		}
		if len(all.all) > maxBreakers+1 {
			t.Errorf("%d breakers are held", len(all.all))
		}
		if all.Of("a", "tts", "x", "m").Admit() {
			t.Error("an open breaker was forgotten")
		}
		time.Sleep(keyRest)
		if !b.Admit() {
			t.Error("a refused key is never tried again")
		}
		b.Report(nil) // the gauge goes back to where it was
	})
}
