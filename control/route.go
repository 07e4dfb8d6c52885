package control

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// MaxRoutes is how many a number may have.
const MaxRoutes = 50

// A Route says who answers a number at some times. Times are read on the
// clock on the wall in the number's time zone: an hour that a change of clocks
// leaves out never comes, and one that comes twice counts twice.
type Route struct {
	Name string `json:"name,omitempty" doc:"What you call it, such as night."`

	// When: all that is given must fit.
	Weekdays []string `json:"weekdays,omitempty" enum:"mon,tue,wed,thu,fri,sat,sun" doc:"Days of the week; none: every day."`
	From     string   `json:"from,omitempty" doc:"Time of day, 00:00 to 23:59, from which on it fits. With to, or not at all: the whole day."`
	To       string   `json:"to,omitempty" doc:"Time of day at which it fits no more. Before from, it is of the next day: the night belongs to the day on which it begins."`
	Dates    []string `json:"dates,omitempty" doc:"Days such as 2026-12-25; none: every day. Holidays are a route before the others."`

	// Who: exactly one.
	Agent    uuid.UUID `json:"agent_id,omitzero" doc:"The agent who answers."`
	Message  string    `json:"message,omitempty" doc:"What the caller is told, in the carrier's voice, before the call is ended."`
	Language string    `json:"language,omitempty" doc:"Of the message, as en-US, which is the default."`
	Transfer string    `json:"transfer_to,omitempty" doc:"Where the caller is connected at once: a +E.164 number, sip: address or client: name. Where nobody answers there, the number's agent does."`
}

// zone reads the name of a time zone. The machine's own is none.
func zone(name string) (*time.Location, error) {
	if name == "" {
		return time.UTC, nil
	}
	if strings.EqualFold(name, "local") {
		return nil, errors.New("the machine's own zone is no place")
	}
	return time.LoadLocation(name)
}

var weekdays = []string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"} // as time.Weekday counts

var timeOfDay = regexp.MustCompile(`^([01][0-9]|2[0-3]):[0-5][0-9]$`)

// validate reports what is wrong, in fields that begin with at.
func (r Route) validate(at string) error {
	for _, t := range []struct{ field, text string }{{"name", r.Name}, {"message", r.Message}, {"transfer_to", r.Transfer}} {
		if err := RefuseSecret(at+t.field, t.text); err != nil {
			return err
		}
	}
	for i, d := range r.Weekdays {
		if !slices.Contains(weekdays, d) {
			return Invalidf(fmt.Sprintf("%sweekdays[%d]", at, i), "must be one of mon, tue, wed, thu, fri, sat, sun")
		}
	}
	for i, d := range r.Dates {
		if _, err := time.Parse(time.DateOnly, d); err != nil {
			return Invalidf(fmt.Sprintf("%sdates[%d]", at, i), "must be a day such as 2026-12-25")
		}
	}
	does := 0
	for _, given := range []bool{r.Agent != uuid.Nil, r.Message != "", r.Transfer != ""} {
		if given {
			does++
		}
	}
	switch {
	case len(r.Name) > 100:
		return Invalidf(at+"name", "must be at most 100 bytes")
	case len(r.Dates) > 200:
		return Invalidf(at+"dates", "must be at most 200")
	case (r.From == "") != (r.To == ""):
		return Invalidf(at+"to", "goes with from: give both, or neither for the whole day")
	case r.From != "" && !timeOfDay.MatchString(r.From):
		return Invalidf(at+"from", "must be a time of day, 00:00 to 23:59")
	case r.To != "" && !timeOfDay.MatchString(r.To):
		return Invalidf(at+"to", "must be a time of day, 00:00 to 23:59")
	case r.From != "" && r.From == r.To:
		return Invalidf(at+"to", "must differ from from: leave both out for the whole day")
	case does != 1:
		return Invalidf(at+"agent_id", "give exactly one of agent_id, message and transfer_to")
	case len(r.Message) > 1000:
		return Invalidf(at+"message", "must be at most 1000 bytes")
	case r.Language != "" && !languageTag.MatchString(r.Language):
		return Invalidf(at+"language", "must be a language of BCP 47, such as en-US")
	case r.Transfer != "" && !transferTo.MatchString(r.Transfer):
		return Invalidf(at+"transfer_to", "must be a +E.164 number, a sip: address or a client: name")
	}
	return nil
}

// fits tells whether the route is of a local time.
func (r Route) fits(local time.Time) bool {
	day, clock := local, local.Format("15:04")
	switch {
	case r.From == "":
	case r.From < r.To:
		if clock < r.From || clock >= r.To {
			return false
		}
	case clock < r.To: // of the night that began yesterday
		year, month, d := local.Date()
		day = time.Date(year, month, d-1, 12, 0, 0, 0, time.UTC) // at noon there is no change of clocks
	case clock < r.From:
		return false
	}
	if len(r.Weekdays) > 0 && !slices.Contains(r.Weekdays, weekdays[day.Weekday()]) {
		return false
	}
	return len(r.Dates) == 0 || slices.Contains(r.Dates, day.Format(time.DateOnly))
}

// A Destination is what becomes of a call.
type Destination struct {
	Route     int       // which of the number's routes fits; -1: none
	Agent     uuid.UUID // who answers; of a transfer, where nobody does
	Message   string    // what the caller is told instead
	Language  string    // of Message
	Transfer  string    // where the caller is connected instead
	LocalTime time.Time // in the number's time zone
	Account   uuid.UUID // of the number
}

// At tells what becomes of a call at a time.
func (n Number) At(t time.Time) (Destination, error) {
	loc, err := zone(n.Timezone)
	if err != nil {
		return Destination{}, fmt.Errorf("time zone of number %s: %w", n.ID, err)
	}
	a := Destination{Route: -1, Agent: n.Agent, LocalTime: t.In(loc), Account: n.Account}
	for i, r := range n.Routes {
		if !r.fits(a.LocalTime) {
			continue
		}
		a.Route, a.Message, a.Language, a.Transfer = i, r.Message, r.Language, r.Transfer
		if r.Agent != uuid.Nil {
			a.Agent = r.Agent
		}
		break
	}
	return a, nil
}
