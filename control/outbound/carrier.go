package outbound

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// A Carrier places calls and tells of them. Each method returns within 10 s.
type Carrier interface {
	// Place has a call made, once. A [*Refused] says that there is none. Any
	// other error leaves open whether there is.
	Place(ctx context.Context, c Call) (sid string, err error)
	// Find returns the calls that we placed between two numbers since then.
	Find(ctx context.Context, from, to string, since time.Time) ([]Report, error)
	// Look tells how a call stands. control.ErrNotFound: there is no such call.
	Look(ctx context.Context, sid string) (Report, error)
	// Hangup ends a call, whether it rings or talks. One that is over is no error.
	Hangup(ctx context.Context, sid string) error
}

// A Call is what a carrier is asked for.
type Call struct {
	From, To string
	Agent    uuid.UUID
	Ref      string        // to come back in all that the carrier tells of the call
	Ring     time.Duration // at most
	Most     time.Duration // of the whole call, ringing left out
	// Wait has the carrier listen to a machine until it may be spoken to; else it
	// tells as soon as it knows that it is one.
	Wait bool
}

// A Report is what a carrier says of a call.
type Report struct {
	SID        string
	Status     string // Twilio's word: queued, initiated, ringing, in-progress, completed, busy, failed, no-answer, canceled; "" if it tells something else
	AnsweredBy string // Twilio's word, once it knows
	Duration   time.Duration
	Code       string // of what went wrong; "" for nothing
	At         time.Time
}

// Over tells whether the call has ended.
func (r Report) Over() bool { return outcomes[r.Status] != "" }

var outcomes = map[string]string{
	"completed": OutcomeAnswered, "busy": OutcomeBusy, "no-answer": OutcomeNoAnswer,
	"failed": OutcomeFailed, "canceled": OutcomeCanceled,
}

// stages are the states of an attempt that the carrier's words stand for.
var stages = map[string]string{
	"queued": Placed, "initiated": Placed, "ringing": Ringing, "in-progress": Answered,
	"completed": Ended, "busy": Ended, "no-answer": Ended, "failed": Ended, "canceled": Ended,
}

var ranks = map[string]int{Intended: 0, Placed: 1, Ringing: 2, Answered: 3, Ended: 4}

// A Refused says that a carrier made no call.
type Refused struct {
	Code   string // the carrier's number
	Reason string // for the operator: what is wrong, and what to do
	// Wait is why the dial waits and is tried again; "": it is refused for good.
	Wait string
}

// Error implements error.
func (r *Refused) Error() string {
	return fmt.Sprintf("the carrier refuses (%s): %s", r.Code, r.Reason)
}

// Calls is what the dialler needs to know of sessions.
type Calls interface {
	// Say has the session of a call say a last message and hang up, on whichever
	// node it is.
	Say(ctx context.Context, call uuid.UUID, message string) error
}

// Limits are leases on what a tenant may do at once. One that is not renewed is
// free within [Lease].
type Limits interface {
	// Acquire takes a slot for an attempt, if all bounds leave room for it.
	Acquire(ctx context.Context, s Slot, b Bounds) (Grant, error)
	// Confirm renews a slot that was acquired, and tells whether it stands, and
	// nothing was forgotten since.
	Confirm(ctx context.Context, s Slot, g Grant) (bool, error)
	// Release gives it back. What it cost counts on for [Remember].
	Release(ctx context.Context, s Slot, cost Money) error
	// Sync renews the slots of all open attempts of a tenant, and puts those of
	// them there that are missing. It reads them by open, which is called at most
	// once. It fails where slots were forgotten meanwhile.
	Sync(ctx context.Context, tenant uuid.UUID, open func(context.Context) ([]Slot, error)) error
}

const (
	// Lease is how long a slot stands without a word.
	Lease = 30 * time.Second
	// Remember is how long a slot that was released is known: longer than what
	// was read before may be used.
	Remember = time.Minute
)

// A Slot is an attempt's share of the limits.
type Slot struct {
	Tenant, Attempt uuid.UUID
	Number          string // that calls
	Cost            Money
}

// Bounds are those of a [Policy], and what is spent of the day.
type Bounds struct {
	Concurrency, OfNumber, PerMinute int
	DailySpend, Spent                Money
}

// A Grant is the answer to [Limits].Acquire.
type Grant struct {
	Refused string        // a reason why not, or Unsynced; "" for granted
	Wait    time.Duration // until it may be tried again, where that is known
	Epoch   string        // names what the limits know; it changes when they forget
}

// Unsynced refuses because the limits have forgotten, and must be told by
// [Limits].Sync what is open.
const Unsynced = "unsynced"

// Ref names an attempt to the carrier, which gives it back with all that it
// tells of the call. It cannot be forged.
func (s *Dialler) Ref(tenant, attempt uuid.UUID) string {
	body := tenant.String() + "." + attempt.String()
	return body + "." + fmt.Sprintf("%x", s.Ring.MAC(refPurpose, body)[:16])
}

const refPurpose = "outbound attempt"

var errRef = errors.New("outbound: not a name that we gave")

// parseRef is the way back: control.ErrNotFound for what is not ours.
func (s *Dialler) parseRef(ref string) (control.Located, error) {
	const id = 36
	if len(ref) != 2*id+2+32 {
		return control.Located{}, fmt.Errorf("%w: %w", control.ErrNotFound, errRef)
	}
	tenant, err := uuid.Parse(ref[:id])
	attempt, err2 := uuid.Parse(ref[id+1 : 2*id+1])
	if err != nil || err2 != nil || !equal(s.Ref(tenant, attempt), ref) {
		return control.Located{}, fmt.Errorf("%w: %w", control.ErrNotFound, errRef)
	}
	return control.Located{Tenant: tenant, ID: attempt}, nil
}
