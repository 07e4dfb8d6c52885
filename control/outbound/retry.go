package outbound

import (
	"crypto/subtle"
	"slices"
	"strings"
	"time"
)

func equal(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// machine tells whether the carrier heard no person.
func machine(answeredBy string) bool {
	return strings.HasPrefix(answeredBy, "machine") || answeredBy == "fax"
}

// end closes an attempt by the carrier's last word.
func (a *Attempt) end(d *Dial, r Report, now time.Time) {
	a.Status, a.EndedAt, a.Outcome = Ended, now, outcomes[r.Status]
	a.Cost = 0
	if r.Status == "completed" {
		if a.AnsweredAt.IsZero() {
			a.AnsweredAt = now.Add(-r.Duration) // nobody told of it
		}
		talked := now.Sub(a.AnsweredAt)
		if r.Duration > 0 {
			talked = r.Duration
		}
		a.Cost = a.Price.Cost(talked)
	}
	if a.Outcome == OutcomeAnswered && machine(a.AnsweredBy) {
		a.Outcome = OutcomeMachine
		if d.Settings.Voicemail.Mode == LeaveMessage && a.AnsweredBy != "fax" {
			a.Outcome = OutcomeMessage
		}
	}
	if a.Outcome == OutcomeFailed || r.Code != "" {
		a.ErrorCode, a.Error = r.Code, carrierSaid(r.Status, r.Code)
	}
}

func carrierSaid(status, code string) string {
	text := "the carrier could not bring the call there (" + status + ")"
	if code != "" {
		text += ", error " + code
	}
	return text
}

// settle says what becomes of a dial whose attempt has ended. again moves it to
// where it may be tried next.
func (d *Dial) settle(a Attempt, now time.Time, again func(d *Dial, due time.Time) error) {
	canceled := d.Reason == ReasonCanceling
	d.Reason, d.MovedFrom = "", time.Time{}
	d.ErrorCode, d.Error = a.ErrorCode, a.Error
	switch {
	case canceled && a.AnsweredAt.IsZero():
		d.finish(Canceled, OutcomeCanceled, now)
	case a.Outcome == OutcomeAnswered, a.Outcome == OutcomeMessage, a.Outcome == OutcomeMachine:
		d.finish(Completed, a.Outcome, now)
	case d.mayRetry(a.Outcome):
		d.Status, d.Reason = Scheduled, ReasonRetry
		due := now.Add(d.Settings.Retry.pause(d.Attempts))
		if err := again(d, due); err != nil {
			d.DueAt = due // it is judged again then
		}
		if d.DueAt.After(d.ExpiresAt) {
			d.finish(Failed, a.Outcome, now)
		}
	default:
		d.finish(Failed, a.Outcome, now)
	}
}

func (d *Dial) finish(status, outcome string, now time.Time) {
	d.Status, d.Outcome, d.FinishedAt, d.Reason = status, outcome, now, ""
}

func (d *Dial) mayRetry(outcome string) bool {
	return d.Attempts < d.Settings.Retry.Attempts && slices.Contains(d.Settings.Retry.On, outcome)
}

// maxPause is the longest time between two attempts.
const maxPause = 24 * time.Hour

// pause is the time before the attempt after so many.
func (r Retry) pause(attempts int) time.Duration {
	d := time.Duration(r.BackoffSeconds) * time.Second
	for range min(attempts-1, 20) {
		d = min(2*d, maxPause)
	}
	return d
}

// undo takes an attempt back that the carrier never had.
func undo(d *Dial, a *Attempt, reason string, due time.Time) {
	a.Undone, a.Status, a.EndedAt = true, Ended, time.Now().UTC()
	d.Attempts = max(0, d.Attempts-1)
	if d.Reason == ReasonCanceling {
		d.finish(Canceled, OutcomeCanceled, a.EndedAt)
		return
	}
	d.Status, d.Reason, d.DueAt, d.MovedFrom = Scheduled, reason, due, time.Time{}
}
