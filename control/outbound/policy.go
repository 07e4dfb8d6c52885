package outbound

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"parley/control"
)

// A Policy is what a tenant lets its outbound calls do.
type Policy struct {
	Quiet       Quiet
	Zone        string // IANA name, of numbers that tell of none
	Concurrency int    // calls at once
	OfNumber    int    // calls at once from one number
	PerMinute   int    // calls that begin
	DailySpend  Money  // a day of UTC, with what is set aside; 0: no bound
	// Prefixes of the numbers that may be called. Empty: those with the country
	// code of the number that calls.
	Prefixes Prefixes
	Consent  bool // a call needs the callee's
	Revision int  // 0: these are the defaults
	Updated  time.Time
}

// Bounds of a [Policy].
const (
	MaxConcurrency = 10_000
	MaxPerMinute   = 60_000
	maxPrefixes    = 300
	maxSpend       = Money(1e6 * 1e6)
)

// DefaultPolicy is careful: people are called from 8 to 21 of their clock, with
// consent, in the country that the call comes from.
func DefaultPolicy() Policy {
	return Policy{Quiet: Quiet{From: 21 * 60, Until: 8 * 60}, Zone: "UTC", Concurrency: 10, OfNumber: 5, PerMinute: 60,
		DailySpend: 50 * 1e6, Consent: true}
}

// Policies keeps them.
type Policies interface {
	// OutboundPolicy returns that of ctx's tenant, or [DefaultPolicy].
	OutboundPolicy(ctx context.Context) (Policy, error)
	// PutOutboundPolicy replaces it, if its revision is as given; 0 for none yet;
	// -1 for whichever. ErrConflict.
	PutOutboundPolicy(ctx context.Context, p Policy, revision int) (Policy, error)
}

var prefixForm = regexp.MustCompile(`^\+[0-9]{0,14}$`)

// ParseQuiet reads the bounds of quiet hours: "21:00" and "08:00".
func ParseQuiet(from, until string) (q Quiet, err error) {
	if q.From, err = parseClock(from); err != nil {
		return q, control.Invalidf("quiet_hours.from", "must be a time such as 21:00")
	}
	if q.Until, err = parseClock(until); err != nil {
		return q, control.Invalidf("quiet_hours.until", "must be a time such as 08:00")
	}
	return q, nil
}

// Clean returns the policy in the form that is kept, or an [*control.Invalid].
func (p Policy) Clean() (Policy, error) {
	if _, err := time.LoadLocation(p.Zone); err != nil || p.Zone == "" || p.Zone == "Local" {
		return p, control.Invalidf("quiet_hours.time_zone", "must be the name of a time zone, such as Europe/Berlin")
	}
	for _, bound := range []struct {
		field   string
		n, most int
	}{{"concurrency", p.Concurrency, MaxConcurrency}, {"number_concurrency", p.OfNumber, MaxConcurrency}, {"per_minute", p.PerMinute, MaxPerMinute}} {
		if bound.n < 0 || bound.n > bound.most {
			return p, control.Invalidf(bound.field, "must be 0 to %d", bound.most)
		}
	}
	if p.DailySpend < 0 || p.DailySpend > maxSpend {
		return p, control.Invalidf("daily_spend", "must be 0 to %d", maxSpend/1e6)
	}
	if len(p.Prefixes) > maxPrefixes {
		return p, control.Invalidf("prefixes", "must be at most %d", maxPrefixes)
	}
	list := make(Prefixes, 0, len(p.Prefixes))
	for i, prefix := range p.Prefixes {
		if prefix = strings.TrimSpace(prefix); !prefixForm.MatchString(prefix) {
			return p, control.Invalidf(fmt.Sprintf("prefixes[%d]", i), "must be the beginning of a number: +44, or + for all")
		}
		list = append(list, prefix)
	}
	slices.Sort(list)
	p.Prefixes = slices.Compact(list)
	return p, nil
}

// zones are those that quiet hours are held in for a callee.
func (p Policy) zones(c Callee) []*time.Location {
	if len(c.Zones) > 0 {
		return c.Zones
	}
	if zone, err := time.LoadLocation(p.Zone); err == nil {
		return []*time.Location{zone}
	}
	return []*time.Location{time.UTC}
}

// allows says why a callee may not be called from a number, or nil.
func (p Policy) allows(c Callee, from Callee) error {
	switch {
	case c.Risk != "":
		return control.Invalidf("to", "is of a kind that is not called from here (%s): its calls are charged to whoever rings", c.Risk)
	case len(p.Prefixes) == 0 && c.Code != from.Code:
		return control.Invalidf("to", "is in another country than from; list its prefix in the outbound policy to call it")
	case len(p.Prefixes) > 0 && !p.Prefixes.Has(c.Number):
		return control.Invalidf("to", "begins with no prefix that the outbound policy lists")
	}
	return nil
}

// moved puts a dial off to where it is quiet nowhere, and says so.
func (p Policy) moved(d *Dial, c Callee, due time.Time) error {
	d.DueAt = due.UTC()
	if d.AnyHour {
		return nil
	}
	next, err := p.Quiet.Next(due, p.zones(c))
	if err != nil {
		return err
	}
	if next.After(due) {
		d.MovedFrom, d.DueAt, d.Reason = due.UTC(), next, ReasonQuietHours
	}
	return nil
}
