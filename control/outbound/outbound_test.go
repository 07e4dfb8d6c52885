package outbound

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

func zone(t *testing.T, names ...string) (zones []*time.Location) {
	t.Helper()
	for _, n := range names {
		z, err := time.LoadLocation(n)
		if err != nil {
			t.Fatal(err)
		}
		zones = append(zones, z)
	}
	return zones
}

func TestQuietHours(t *testing.T) {
	night := Quiet{21 * 60, 8 * 60}
	tests := []struct {
		name  string
		quiet Quiet
		zones []string
		at    string
		want  string
	}{
		{"day", night, []string{"Europe/Berlin"}, "2026-01-15T12:00:00Z", "2026-01-15T12:00:00Z"},
		{"begins", night, []string{"Europe/Berlin"}, "2026-01-15T20:00:00Z", "2026-01-16T07:00:00Z"},
		{"before-it-begins", night, []string{"Europe/Berlin"}, "2026-01-15T19:59:59Z", "2026-01-15T19:59:59Z"},
		{"ends", night, []string{"Europe/Berlin"}, "2026-01-15T07:00:00Z", "2026-01-15T07:00:00Z"},
		{"after-midnight", night, []string{"Europe/Berlin"}, "2026-01-15T03:00:00Z", "2026-01-15T07:00:00Z"},
		{"summer", night, []string{"Europe/Berlin"}, "2026-07-15T03:00:00Z", "2026-07-15T06:00:00Z"},
		// New York may be called from 13:00 UTC, Los Angeles from 16:00 to 05:00.
		{"all-zones", night, []string{"America/New_York", "America/Los_Angeles"}, "2026-01-15T14:00:00Z", "2026-01-15T16:00:00Z"},
		{"east-is-asleep", night, []string{"America/New_York", "America/Los_Angeles"}, "2026-01-16T03:00:00Z", "2026-01-16T16:00:00Z"},
		// On 29 March 2026 Berlin's clock goes from 2:00 to 3:00, on 25 October back.
		{"spring", night, []string{"Europe/Berlin"}, "2026-03-28T22:00:00Z", "2026-03-29T06:00:00Z"},
		{"ends-in-the-gap", Quiet{1 * 60, 2*60 + 30}, []string{"Europe/Berlin"}, "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"},
		{"autumn", night, []string{"Europe/Berlin"}, "2026-10-24T22:00:00Z", "2026-10-25T07:00:00Z"},
		{"none", Quiet{}, []string{"Europe/Berlin"}, "2026-01-15T03:00:00Z", "2026-01-15T03:00:00Z"},
		{"no-zones", night, nil, "2026-01-15T03:00:00Z", "2026-01-15T03:00:00Z"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at, _ := time.Parse(time.RFC3339, tt.at)
			got, err := tt.quiet.Next(at, zone(t, tt.zones...))
			if err != nil {
				t.Fatal(err)
			}
			if got.Format(time.RFC3339) != tt.want {
				t.Errorf("called at %v, want %v", got, tt.want)
			}
			for _, z := range zone(t, tt.zones...) {
				if tt.quiet.at(got, z) {
					t.Errorf("it is quiet in %v then", z)
				}
			}
		})
	}
}

func TestNoHourIsLeft(t *testing.T) {
	q := Quiet{12 * 60, 11 * 60} // an hour a day
	if _, err := q.Next(time.Now(), zone(t, "Europe/Berlin", "America/New_York")); !errors.Is(err, ErrNeverQuiet) {
		t.Errorf("two zones without a common hour: %v", err)
	}
}

// Quiet hours hold in every zone that a number may be in; in the tenant's own
// where the number tells of none.
func TestQuietHoursOfUncertainZones(t *testing.T) {
	p := DefaultPolicy()
	p.Zone = "Asia/Tokyo"
	mobile, err := Inspect("+61412345678", nil) // anywhere in Australia
	if err != nil || len(mobile.Zones) < 2 {
		t.Fatalf("%+v, %v", mobile, err)
	}
	due := time.Date(2026, 7, 15, 11, 30, 0, 0, time.UTC) // 19:30 in Perth, 21:30 in Sydney, 20:30 in Tokyo
	for _, tt := range []struct {
		name   string
		callee Callee
		zone   string
		due    time.Time
		want   string // "" for later than due, and quiet in none of its zones
	}{
		{"several", mobile, p.Zone, due, ""},
		{"unknown", Callee{}, p.Zone, due, "2026-07-15T11:30:00Z"},
		{"unknown-later", Callee{}, p.Zone, due.Add(time.Hour), "2026-07-15T23:00:00Z"}, // 8:00 in Tokyo
		{"tenant-without", Callee{}, "", due.Add(10 * time.Hour), "2026-07-16T08:00:00Z"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := p
			p.Zone = tt.zone
			var d Dial
			if err := p.moved(&d, tt.callee, tt.due); err != nil {
				t.Fatal(err)
			}
			if got := d.DueAt.Format(time.RFC3339); tt.want != "" && got != tt.want || tt.want == "" && !d.DueAt.After(tt.due) {
				t.Errorf("called at %s, want %s", got, tt.want)
			}
			for _, z := range tt.callee.Zones {
				if p.Quiet.at(d.DueAt, z) {
					t.Errorf("it is quiet in %v at %v", z, d.DueAt)
				}
			}
		})
	}
}

// changes is storage of one dial.
type changes struct {
	Changes
	d Dial
}

func (c *changes) ChangeDial(_ context.Context, _ uuid.UUID, f func(*Dial) error) (Dial, error) {
	return c.d, f(&c.d)
}

// A dial that no hour is left for, since the policy was changed, is refused, not
// placed at night.
func TestDialWithoutAnHourIsRefused(t *testing.T) {
	now := time.Date(2026, 1, 15, 3, 0, 0, 0, time.UTC)
	p := DefaultPolicy()
	p.Quiet, p.Prefixes = Quiet{12 * 60, 11 * 60}, Prefixes{"+"} // an hour a day
	for _, any := range []bool{false, true} {
		c := &changes{d: Dial{To: "+61412345678", From: "+12025550199", Status: Scheduled, ExpiresAt: now.Add(time.Hour), AnyHour: any}}
		held, err := (&Dialler{Changes: c}).holds(t.Context(), c.d, p, now)
		if err != nil || held == any || (c.d.Status == Failed && c.d.Outcome == OutcomeRefused && strings.Contains(c.d.Error, "several time zones")) == any {
			t.Errorf("any hour %v: held %v, %v; it is %+v", any, held, err, c.d)
		}
	}
}

func TestInspect(t *testing.T) {
	tests := []struct {
		number, risk, country string
		zones                 int // 0: not held to a number
		ok                    bool
	}{
		{"+12125550123", "", "US", 1, true},
		{"+4930123456", "", "DE", 1, true},
		{"+61291234567", "", "AU", 1, true}, // Sydney
		{"+61412345678", "", "AU", 8, true}, // a mobile's prefix is not a place
		{"+34612345678", "", "ES", 2, true},
		{"+19005550123", RiskPremium, "", 0, true},
		{"+881612345678", RiskSatellite, "", 0, true},
		{"+447012345678", RiskListed, "", 0, true},
		{"+1212", "", "", 0, false},
		{"12125550123", "", "", 0, false},
		{"+1 212 555 0123", "", "", 0, false},
		{"", "", "", 0, false},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.number, " ", "-"), func(t *testing.T) {
			c, err := Inspect(tt.number, Prefixes{"+4470"})
			if (err == nil) != tt.ok || c.Risk != tt.risk || tt.country != "" && c.Country != tt.country || tt.zones > 0 && len(c.Zones) != tt.zones {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}

func TestPrices(t *testing.T) {
	p, err := ParsePrices(strings.NewReader("# a table\n+ 0.5\n+1 0.014\n\n+1900 9 # dear\n"))
	if err != nil {
		t.Fatal(err)
	}
	for number, want := range map[string]Money{"+12125550123": 14_000, "+19005550123": 9_000_000, "+4930123456": 500_000} {
		if got := p.Minute(number); got != want {
			t.Errorf("%s costs %d, want %d", number, got, want)
		}
	}
	if got := Money(14_000).Cost(61 * time.Second); got != 28_000 {
		t.Errorf("61 s cost %d, want two minutes", got)
	}
	for _, bad := range []string{"", "+1 0.014", "+ x", "+ NaN", "+ -1", "1 2"} {
		if _, err := ParsePrices(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is taken for a table", bad)
		}
	}
}

func TestWhatBecomesOfADial(t *testing.T) {
	now := time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
	again := func(d *Dial, due time.Time) error { d.DueAt = due; return nil }
	tests := []struct {
		name     string
		status   string // the carrier's
		by       string
		mode     string
		attempts int
		answered bool
		cancel   bool
		want     string
		outcome  string
		in       time.Duration
	}{
		{name: "answered", status: "completed", answered: true, attempts: 1, want: Completed, outcome: OutcomeAnswered},
		{name: "machine", status: "completed", by: "machine_start", answered: true, attempts: 1, want: Completed, outcome: OutcomeMachine},
		{name: "message", status: "completed", by: "machine_end_beep", mode: LeaveMessage, answered: true, attempts: 1, want: Completed, outcome: OutcomeMessage},
		{name: "fax", status: "completed", by: "fax", mode: LeaveMessage, answered: true, attempts: 1, want: Completed, outcome: OutcomeMachine},
		{name: "busy-again", status: "busy", attempts: 1, want: Scheduled, in: 10 * time.Minute},
		{name: "busy-twice", status: "busy", attempts: 2, want: Scheduled, in: 20 * time.Minute},
		{name: "busy-thrice", status: "busy", attempts: 3, want: Failed, outcome: OutcomeBusy},
		{name: "not-asked-for", status: "failed", attempts: 1, want: Failed, outcome: OutcomeFailed},
		{name: "canceled", status: "canceled", attempts: 1, cancel: true, want: Canceled, outcome: OutcomeCanceled},
		{name: "canceled-as-busy", status: "busy", attempts: 1, cancel: true, want: Canceled, outcome: OutcomeCanceled},
		{name: "canceled-too-late", status: "completed", attempts: 1, answered: true, cancel: true, want: Completed, outcome: OutcomeAnswered},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := Dial{Status: Dialling, Attempts: tt.attempts, ExpiresAt: now.Add(24 * time.Hour), Settings: Settings{Voicemail: Voicemail{Mode: tt.mode},
				Retry: Retry{Attempts: 3, BackoffSeconds: 600, On: []string{OutcomeBusy, OutcomeNoAnswer}}}}
			a := Attempt{Status: Ringing, SID: "CA1", AnsweredBy: tt.by, Price: 1000}
			if tt.answered {
				a.Status, a.AnsweredAt = Answered, now.Add(-90*time.Second)
			}
			if tt.cancel {
				d.Reason = ReasonCanceling
			}
			if err := a.take(&d, Report{SID: "CA1", Status: tt.status}, now, again); err != nil {
				t.Fatal(err)
			}
			if d.Status != tt.want || d.Outcome != tt.outcome || tt.in > 0 && d.DueAt.Sub(now) != tt.in {
				t.Errorf("it is %s, %q, due in %v; want %s, %q, %v", d.Status, d.Outcome, d.DueAt.Sub(now), tt.want, tt.outcome, tt.in)
			}
			if want := map[bool]Money{true: 2000}[tt.answered]; a.Cost != want {
				t.Errorf("it cost %d, want %d", a.Cost, want)
			}
			before, beforeDial := a, d.Status
			for _, late := range []string{"ringing", "in-progress", tt.status, "queued"} {
				if err := a.take(&d, Report{SID: "CA1", Status: late}, now.Add(time.Second), again); err != nil || a != before || d.Status != beforeDial {
					t.Errorf("%s, late, changes it: %+v, %v", late, a, err)
				}
			}
			if err := a.take(&d, Report{SID: "CA2", Status: "in-progress"}, now, again); !errors.Is(err, errOther) {
				t.Errorf("another call for the same attempt: %v", err)
			}
		})
	}
}

func TestReferenceCannotBeForged(t *testing.T) {
	ring, err := control.NewKeyring([]byte(strings.Repeat("k", 32)))
	if err != nil {
		t.Fatal(err)
	}
	s := &Dialler{Ring: ring}
	tenant, attempt := control.NewID(), control.NewID()
	ref := s.Ref(tenant, attempt)
	if at, err := s.parseRef(ref); err != nil || at.Tenant != tenant || at.ID != attempt {
		t.Errorf("%v, %v", at, err)
	}
	other := s.Ref(control.NewID(), attempt)
	for _, bad := range []string{"", ref[1:], ref + "0", other[:37] + ref[37:], ref[:len(ref)-1] + "x"} {
		if _, err := s.parseRef(bad); !errors.Is(err, control.ErrNotFound) {
			t.Errorf("%q is taken: %v", bad, err)
		}
	}
}
