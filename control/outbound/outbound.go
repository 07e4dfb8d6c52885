// Package outbound places calls: at once or on schedule, within what the
// tenant, the operator and the hour allow, and never twice for one order.
//
// A [Dial] is the order, an [Attempt] one try at it; an attempt that the carrier
// has is a call of the same id. [Orders] takes orders, [Dialler] carries them
// out, on every node at once.
package outbound

import (
	"context"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// States of a [Dial].
const (
	Scheduled = "scheduled" // waits for its time, or for room
	Dialling  = "dialling"  // an attempt is open
	Completed = "completed" // somebody, or a machine, has answered
	Failed    = "failed"    // nobody did, and it is not tried again
	Canceled  = "canceled"
)

// States of an [Attempt], in the order that they come in.
const (
	Intended = "intended" // written down; the carrier may have it or not
	Placed   = "placed"
	Ringing  = "ringing"
	Answered = "answered"
	Ended    = "ended"
)

// Outcomes of an attempt, and of the dial that it was the last of.
const (
	OutcomeAnswered = "answered" // by a person, or whoever it was
	OutcomeMessage  = "message"  // a machine was left the message
	OutcomeMachine  = "machine"  // a machine answered, and was hung up on
	OutcomeBusy     = "busy"
	OutcomeNoAnswer = "no_answer"
	OutcomeFailed   = "failed" // the network did not bring it there
	OutcomeCanceled = "canceled"
	OutcomeRefused  = "refused" // by the carrier or a rule, for good
	OutcomeExpired  = "expired" // its time was over before it could be called
)

// Reasons for which a dial waits, or was moved.
const (
	ReasonQuietHours  = "quiet_hours"
	ReasonRetry       = "retry"
	ReasonConcurrency = "concurrency"         // as many calls as the tenant may have
	ReasonNumber      = "number_concurrency"  // … of that number
	ReasonRate        = "rate"                // as many a minute as it may begin
	ReasonSpend       = "daily_spend"         // the day's money is spent, or set aside
	ReasonLimitsAway  = "limits_unavailable"  // nobody can say how many there are
	ReasonCallee      = "callee_is_called"    // by another order
	ReasonBlocked     = "blocked"             // outbound calls of the tenant are stopped, see [Stop]
	ReasonCarrier     = "carrier_busy"        // it takes no more at the moment
	ReasonCredentials = "carrier_credentials" // it refuses ours
	ReasonAway        = "carrier_unavailable" // it does not answer
	ReasonCanceling   = "canceling"           // it is hung up as soon as can be
)

// A Dial is an order to call somebody.
type Dial struct {
	ID, Agent  uuid.UUID
	To, From   string // E.164
	Country    string // of To, see [Callee.Destination]
	Status     string
	DueAt      time.Time // of the next attempt, while scheduled
	MovedFrom  time.Time // DueAt before quiet hours moved it; zero: they did not
	Reason     string    // why it was moved, or waits; "" for neither
	ExpiresAt  time.Time // it is not begun later
	Settings   Settings
	Variables  map[string]any // of the flow, or for the prompt
	Reference  string         // the client's own
	AnyHour    bool           // quiet hours do not hold for it
	Attempts   int            // that the carrier took, or refused for good
	Outcome    string         // "" while it goes on
	ErrorCode  string         // of the last attempt: the carrier's number, or a word of ours
	Error      string         // … in words for the operator
	CreatedBy  string         // "key:id"
	CreatedAt  time.Time
	FinishedAt time.Time // zero: it goes on
}

// Settings are what of a dial is chosen by who orders it.
type Settings struct {
	Consent     *Consent  `json:"consent,omitempty"`
	Voicemail   Voicemail `json:"voicemail"`
	Retry       Retry     `json:"retry"`
	RingSeconds int       `json:"ring_seconds"` // 5 to 600; default 30
	MaxSeconds  int       `json:"max_seconds"`  // of the conversation, 10 to 14,400; default 600
}

// Consent is the callee's, as the tenant vouches for it.
type Consent struct {
	Given  bool      `json:"given"`
	Source string    `json:"source"` // where: "web form", "contract 17"
	At     time.Time `json:"at"`
	// Recording: to being recorded, too.
	Recording bool `json:"recording,omitempty"`
}

// Modes of [Voicemail].
const (
	HangUp       = "hang_up"
	LeaveMessage = "leave_message"
)

// Voicemail is what a machine that answers gets.
type Voicemail struct {
	Mode    string `json:"mode"`              // default HangUp
	Message string `json:"message,omitempty"` // spoken after the beep
}

// Retry says when an attempt that reached nobody is made again.
type Retry struct {
	Attempts       int      `json:"attempts"`        // in all, 1 to 10; default 1
	BackoffSeconds int      `json:"backoff_seconds"` // before the second, then doubled; 30 to 86,400; default 600
	On             []string `json:"on"`              // of busy, no_answer, failed; default all
}

// An Attempt is one try at a dial.
type Attempt struct {
	ID, Dial   uuid.UUID // ID is the call's too
	Number     int       // from 1
	From       string
	Account    uuid.UUID // the tenant's at the carrier; zero: the operator's
	SID        string    // the carrier's name of the call; "" before it is known
	Status     string
	StartedAt  time.Time
	AnsweredAt time.Time // zero: nobody has
	EndedAt    time.Time // zero: it is open
	AnsweredBy string    // the carrier's word: "human", "machine_end_beep", …; "" if it has not said
	Outcome    string
	ErrorCode  string
	Error      string
	Price      Money // a minute
	Cost       Money // set aside while it is open; then what it came to, by Price
	CheckAt    time.Time
	Checks     int
	Undone     bool // the carrier never had it: storage forgets it
}

// Money is in millionths of the operator's currency.
type Money int64

// A Filter narrows a list of dials; zero fields do not.
type Filter struct {
	control.Page
	Status, To, Reference string
	Agent                 uuid.UUID
}

// Store keeps dials. All methods but LocateX are the context's tenant's.
type Store interface {
	InsertDial(ctx context.Context, d Dial) error
	Dial(ctx context.Context, id uuid.UUID) (Dial, error)
	Dials(ctx context.Context, f Filter) ([]Dial, error)
	// AttemptsOf returns a dial's attempts, the first first.
	AttemptsOf(ctx context.Context, dial uuid.UUID) ([]Attempt, error)
	// AccountOf returns the account at the carrier of a number of the tenant's,
	// zero being the operator's; ErrNotFound for another's number.
	AccountOf(ctx context.Context, e164 string) (uuid.UUID, error)
	// DialOf returns the dial whose attempt has the id; ErrNotFound for a call
	// that came otherwise.
	DialOf(ctx context.Context, attempt uuid.UUID) (Dial, error)
}

// Changes writes what becomes of dials. A dial and its attempts change under the
// dial's lock.
type Changes interface {
	// ClaimDial gives a due dial to one process until the lease ends. ErrConflict:
	// another has it, or it is not due any more.
	ClaimDial(ctx context.Context, id, node uuid.UUID, lease time.Duration) (Dial, error)
	// BeginAttempt writes a down, and that the dial is dialling, if node's claim
	// holds: else ErrTaken. ErrConflict: another order calls the same callee now.
	BeginAttempt(ctx context.Context, node uuid.UUID, a Attempt) (Attempt, error)
	// ChangeDial has f change a dial, which is unclaimed then. What f returns
	// leaves it as it was, and is returned.
	ChangeDial(ctx context.Context, id uuid.UUID, f func(*Dial) error) (Dial, error)
	// ChangeAttempt has f change an attempt and its dial. A sid that is new makes
	// the call; one that ends ends the call too, if no session has. ErrConflict:
	// another call has the sid.
	ChangeAttempt(ctx context.Context, id uuid.UUID, f func(*Dial, *Attempt) error) (Dial, Attempt, error)
	// ClaimAttempt returns an open attempt whose check is due, and puts the check
	// off until then. ErrConflict: it is not due, or over.
	ClaimAttempt(ctx context.Context, id uuid.UUID, until time.Time) (Attempt, error)
}

// Queue finds what is to be done, over all tenants.
type Queue interface {
	// LocateDueDials returns dials that are due, tenants taking turns, at most
	// each of one tenant.
	LocateDueDials(ctx context.Context, each, most int) ([]control.Located, error)
	LocateDueAttempts(ctx context.Context, most int) ([]control.Located, error)
	// LocateDialling returns the tenants that have open attempts.
	LocateDialling(ctx context.Context) ([]control.Located, error)
	// OpenAttempts returns those of ctx's tenant.
	OpenAttempts(ctx context.Context) ([]Attempt, error)
	// KnownCalls returns which of the carrier's calls are calls of ctx's tenant.
	KnownCalls(ctx context.Context, sids []string) ([]string, error)
}

// Spend tells what outbound calls have cost.
type Spend interface {
	// OutboundSpent returns what attempts of ctx's tenant that began since then and have
	// ended came to.
	OutboundSpent(ctx context.Context, since time.Time) (Money, error)
}
