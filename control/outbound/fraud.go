package outbound

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// A Signal is a pattern over the calls of a tenant that looks like toll fraud:
// somebody with a stolen key has numbers called of whose charges they get a
// share. GSMA and CFCA call it international revenue share fraud; its marks are
// many countries at once, one number of a range after the other, many calls that
// are short, and money that goes faster than ever before.
type Signal string

// The signals. Each counts what a tenant did within [FraudWindow], or since its
// calls were last let go on.
const (
	// NewCountries: countries that it ordered calls to, and had to none of in the
	// 30 days before.
	NewCountries Signal = "new_countries"
	// NumberRange: different numbers of one hundred, the first after the other or
	// not. People who are called by chance seldom share their hundred.
	NumberRange Signal = "number_range"
	// ShortCalls: calls that were answered, by no machine that was noticed, and
	// took at most [ShortCall], to one ten thousand of numbers.
	ShortCalls Signal = "short_calls"
	// RiskyNumbers: different numbers that are never called (premium rate and its
	// like), and were ordered all the same. Counted in Redis: no call came of them.
	RiskyNumbers Signal = "risky_numbers"
	// SpendJump: money, as so many times what the dearest hour of the 14 days
	// before came to, or [LeastUsual] where that is more. A tenant's first day is
	// not judged: its daily bound holds it.
	SpendJump Signal = "spend"
)

// Signals lists all.
func Signals() []Signal {
	return []Signal{NewCountries, NumberRange, ShortCalls, RiskyNumbers, SpendJump}
}

const (
	// FraudWindow is the time that signals count over.
	FraudWindow = time.Hour
	// ShortCall is the longest call that is short.
	ShortCall = 10 * time.Second

	// LeastUsual is what anybody may be taken to spend in an hour.
	LeastUsual = Money(10 * 1e6)

	knownFor  = 30 * 24 * time.Hour // a country that was called
	usualOver = 14 * 24 * time.Hour // hours of spend are compared with
)

// Thresholds are from which count on a signal stops a tenant; 0: never.
type Thresholds map[Signal]int

// DefaultThresholds leave room for campaigns of some hundred calls an hour in
// one country, at prices that are usual for the tenant.
func DefaultThresholds() Thresholds {
	return Thresholds{NewCountries: 6, NumberRange: 20, ShortCalls: 30, RiskyNumbers: 10, SpendJump: 5}
}

// mostRisky is how far different risky numbers are counted: ingress.MaxSightings.
const mostRisky = 1000

// ParseThresholds reads "new_countries=10,spend=0"; what is not named has its
// default.
func ParseThresholds(text string) (Thresholds, error) {
	t := DefaultThresholds()
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		name, value, _ := strings.Cut(part, "=")
		n, err := strconv.Atoi(value)
		if _, ok := t[Signal(name)]; !ok || err != nil || n < 0 || n > 1_000_000 {
			return nil, fmt.Errorf("%q is not one such as number_range=20; there are %v", part, Signals())
		}
		if Signal(name) == RiskyNumbers && n > mostRisky {
			return nil, fmt.Errorf("%q is never reached: risky numbers are counted to %d; 0 is never", part, mostRisky)
		}
		t[Signal(name)] = n
	}
	return t, nil
}

// A Stop keeps a tenant's outbound calls from being begun, since they looked
// like fraud. Orders wait, calls in progress go on, until it is lifted.
type Stop struct {
	Signal    Signal
	Count     int    // that raised it
	Threshold int    // that it had reached
	About     string // the countries, the range, the prefix; "" for the whole tenant
	By        string // who ordered most of it: "key:id"; "" if that is not known
	At        time.Time
	Lifted    time.Time // zero: it holds
}

// Holds tells whether it keeps calls from being begun.
func (s Stop) Holds() bool { return !s.At.IsZero() && s.Lifted.IsZero() }

// Reason says in words what looked like fraud.
func (s Stop) Reason() string {
	by := ""
	if s.By != "" {
		by = ", most of them by " + s.By
	}
	switch s.Signal {
	case NewCountries:
		return fmt.Sprintf("calls to %d countries that had not been called before were ordered within an hour: %s%s", s.Count, s.About, by)
	case NumberRange:
		return fmt.Sprintf("calls to %d numbers that begin with %s were ordered within an hour%s", s.Count, s.About, by)
	case ShortCalls:
		return fmt.Sprintf("%d calls of at most %v to numbers that begin with %s within an hour%s", s.Count, ShortCall, s.About, by)
	case RiskyNumbers:
		return fmt.Sprintf("calls to %d numbers of kinds that are never called were ordered within an hour%s", s.Count, by)
	}
	return fmt.Sprintf("the calls of an hour cost %d times what is usual, or more%s", s.Count, by)
}

// ErrStopped refuses the orders of a tenant whose outbound calls are stopped; it
// is a control.ErrForbidden.
var ErrStopped = fmt.Errorf("%w: outbound calls are stopped", control.ErrForbidden)

// refusal answers an order.
func (s Stop) refusal(tenant uuid.UUID) error {
	return control.Refuse(ErrStopped, "outbound calls are stopped since %s, for they looked like toll fraud: %s. Orders that were taken wait, calls in progress go on. "+
		"Revoke the key if it was not you; whoever runs the service lets calls go on by POST /v1/tenants/%s/outbound/resume",
		s.At.UTC().Format(time.RFC3339), s.Reason(), tenant)
}

// Stops keeps them, one of a tenant: ctx's.
type Stops interface {
	// OutboundStop returns the last, lifted or not; zero for none.
	OutboundStop(ctx context.Context) (Stop, error)
	// PutOutboundStop reports whether it is new: of several who write one at the
	// same time, one hears so.
	PutOutboundStop(ctx context.Context, s Stop) (bool, error)
	// LiftOutboundStop lifts it. ErrConflict: none holds. ErrNotFound: there is no
	// such tenant.
	LiftOutboundStop(ctx context.Context) (Stop, error)
}

// A Tally is the most of something that was counted.
type Tally struct {
	Count     int
	About, By string // as in [Stop]
}

// Traffic counts what ctx's tenant ordered and called, by index: it is the same
// on every node and after any restart.
type Traffic interface {
	// NewCountries counts those ordered since then that were not since before.
	NewCountries(ctx context.Context, before, since time.Time) (Tally, error)
	// FullestRange counts the different numbers of the hundred with the most.
	FullestRange(ctx context.Context, since time.Time) (Tally, error)
	// ShortCalls counts calls of at most d to the ten thousand with the most.
	ShortCalls(ctx context.Context, since time.Time, d time.Duration) (Tally, error)
	// OutboundSpent is [Spend]'s.
	OutboundSpent(ctx context.Context, since time.Time) (Money, error)
	// DearestHour returns what the dearest hour of the clock between the two came
	// to; first is when the tenant's first call in it began, zero for none.
	DearestHour(ctx context.Context, since, until time.Time) (m Money, first time.Time, err error)
}

// Sightings remember what was seen with what, over all processes.
type Sightings interface {
	// Sight notes member under key, and returns how many different ones were in
	// the window, which begins with the first. Alone: only this process knows.
	Sight(ctx context.Context, key, member string, window time.Duration) (n int, fresh, alone bool)
}

// Destination is where a call to the callee goes: a country by ISO 3166-1, or
// the calling code of what belongs to none.
func (c Callee) Destination() string {
	if len(c.Country) == 2 && c.Country != "ZZ" {
		return c.Country
	}
	return fmt.Sprintf("+%d", cmp.Or(c.Code, 0))
}
