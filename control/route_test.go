package control_test

import (
	"testing"
	"time"
	_ "time/tzdata" // wherever the test runs

	"github.com/google/uuid"

	"parley/control"
)

// Routes are read on the clock on the wall, which clocks' changes move.
func TestNumberAt(t *testing.T) {
	desk, night := uuid.New(), uuid.New()
	routes := []control.Route{
		{Name: "holiday", Dates: []string{"2026-12-25"}, Message: "closed"},
		{Name: "night", From: "22:00", To: "06:00", Agent: night},
		{Name: "weekend", Weekdays: []string{"sat", "sun"}, Transfer: "+15550100"},
	}
	skipped := []control.Route{{Name: "skipped", From: "02:00", To: "03:00", Agent: night}, {Name: "after", From: "03:00", To: "04:00", Agent: night}}
	twice := []control.Route{{Name: "twice", From: "01:00", To: "02:00", Agent: night}}
	friday := []control.Route{{Name: "friday night", Weekdays: []string{"fri"}, From: "22:00", To: "06:00", Agent: night}}
	for _, tt := range []struct {
		name, at, want string
		routes         []control.Route
	}{
		{"day", "2026-06-10T15:00:00Z", "", routes},
		{"night-before-midnight", "2026-06-11T02:00:00Z", "night", routes}, // 22:00 in New York
		{"night-last-minute", "2026-06-10T09:59:00Z", "night", routes},
		{"morning", "2026-06-10T10:00:00Z", "", routes},
		{"first-wins", "2026-12-26T03:30:00Z", "holiday", routes}, // 22:30 on the 25th
		{"weekend", "2026-06-13T15:00:00Z", "weekend", routes},
		{"spring-forward-before", "2026-03-08T06:59:00Z", "", skipped}, // 01:59
		{"spring-forward-after", "2026-03-08T07:00:00Z", "after", skipped},
		{"spring-night-ends", "2026-03-08T10:00:00Z", "weekend", routes}, // 06:00, an hour sooner than the day before
		{"fall-back-first", "2026-11-01T05:30:00Z", "twice", twice},
		{"fall-back-again", "2026-11-01T06:30:00Z", "twice", twice},
		{"fall-back-over", "2026-11-01T07:00:00Z", "", twice},
		{"night-of-friday-on-saturday", "2026-06-13T09:00:00Z", "friday night", friday},
		{"night-of-saturday", "2026-06-14T09:00:00Z", "", friday},
		{"friday-morning", "2026-06-12T09:00:00Z", "", friday},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, tt.at)
			if err != nil {
				t.Fatal(err)
			}
			n := control.Number{Agent: desk, Timezone: "America/New_York", Routes: tt.routes}
			d, err := n.At(at)
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			if d.Route >= 0 {
				got = tt.routes[d.Route].Name
			}
			if got != tt.want {
				t.Errorf("at %s: route %q, want %q", d.LocalTime.Format(time.RFC3339), got, tt.want)
			}
			if got == "" && d.Agent != desk {
				t.Error("the number's own agent does not answer")
			}
		})
	}
	if _, err := (control.Number{Timezone: "Local"}).At(time.Now()); err == nil {
		t.Error("the machine's own zone is taken")
	}
}
