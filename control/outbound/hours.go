package outbound

import (
	"errors"
	"fmt"
	"time"
)

// Quiet are the hours of every day in which nobody is called, by the clock where
// the callee is, in minutes after midnight. They may span midnight; equal bounds
// are no quiet hours.
type Quiet struct{ From, Until int }

// ErrNeverQuiet says that somewhere in the callee's zones it is always quiet.
var ErrNeverQuiet = errors.New("outbound: at no hour may the number be called in all of its time zones")

// quietSteps bounds how often zones push a time on: each is left at most three
// times in the two days that a schedule is moved.
const quietSteps = 200

// at tells whether it is quiet at t where the clock is zone's.
func (q Quiet) at(t time.Time, zone *time.Location) bool {
	h, m, _ := t.In(zone).Clock()
	now := h*60 + m
	switch {
	case q.From == q.Until:
		return false
	case q.From < q.Until:
		return now >= q.From && now < q.Until
	}
	return now >= q.From || now < q.Until
}

// ends returns the first whole minute after t at which it is quiet no more.
func (q Quiet) ends(t time.Time, zone *time.Location) time.Time {
	local := t.In(zone)
	y, mo, d := local.Date()
	end := time.Date(y, mo, d, q.Until/60, q.Until%60, 0, 0, zone)
	if !end.After(t) {
		end = time.Date(y, mo, d+1, q.Until/60, q.Until%60, 0, 0, zone)
	}
	// A clock that is put on or back makes an hour that there is not, or twice.
	for q.at(end, zone) {
		end = end.Add(time.Minute)
	}
	return end
}

// Next returns t, or the first time after it at which it is quiet in none of the
// zones. Without zones that is t. It fails with [ErrNeverQuiet].
func (q Quiet) Next(t time.Time, zones []*time.Location) (time.Time, error) {
	latest := t.Add(48 * time.Hour)
	for range quietSteps {
		moved := false
		for _, z := range zones {
			if q.at(t, z) {
				t, moved = q.ends(t, z), true
			}
		}
		switch {
		case !moved:
			return t.UTC(), nil
		case t.After(latest):
			return t, ErrNeverQuiet
		}
	}
	return t, ErrNeverQuiet
}

// parseClock reads "21:00".
func parseClock(s string) (minutes int, err error) {
	t, err := time.Parse("15:04", s)
	if err != nil {
		return 0, fmt.Errorf("not a time such as 21:00: %w", err)
	}
	return t.Hour()*60 + t.Minute(), nil
}

// Clock writes minutes after midnight as "21:00".
func Clock(minutes int) string { return fmt.Sprintf("%02d:%02d", minutes/60, minutes%60) }
