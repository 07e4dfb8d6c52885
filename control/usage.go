package control

import (
	"context"
	"time"

	"github.com/google/uuid"

	"parley/agent"
)

// Kinds of use besides those of package agent.
const (
	UseCarried  = "carrier_ms"      // a call, from answer to end; the model is its direction
	UseRecorded = "recording_bytes" // of a recording, as it is downloaded
)

// Turns of entries that belong to none.
const (
	NoTurn        = -1 // of the call, or behind its last turn
	AfterCallTurn = -2 // of what was made of the call after its end: the generation counts attempts
)

// A UsageEntry is one line of the ledger: what a vendor did in a turn of a call.
type UsageEntry struct {
	agent.Use
	Call       uuid.UUID
	Generation int // of the hold under which it arose
	Turn       int // or NoTurn, AfterCallTurn
	Agent      uuid.UUID
	Cost       Money
	Price      string // which it was; "" for none
	At         time.Time
}

// Money is an amount in millionths of a currency's unit.
type Money struct {
	Currency string // ISO 4217; empty: there was no price
	Micros   int64
}

// Ways of adding usage up.
const (
	UsageByDay    = "day" // in UTC
	UsageByAgent  = "agent"
	UsageByVendor = "vendor" // and model
	UsageByKind   = "kind"
)

// A UsageQuery asks what was used from From until before To.
type UsageQuery struct {
	From, To time.Time
	By       []string // in this order of importance; always by currency too
	Agent    uuid.UUID
	Vendor   string
	After    string // the Key of the page's last row before
	Limit    int
}

// A UsageRow is one sum. Amount is of one unit only where rows are by kind; else
// it is 0.
type UsageRow struct {
	Day     time.Time // zero: not by day
	Agent   uuid.UUID
	Vendor  string
	Model   string
	Kind    string
	Amount  int64
	Entries int64
	Cost    Money
	Key     string // where the row stands, for paging
}

// UsageStore keeps the ledger, of the tenant of ctx. Entries are written with
// the turn or the ending that they belong to, once, at the price of their time.
type UsageStore interface {
	// Spent sums what entries cost from one time until before another, a
	// currency each. What calls in progress use is in it turn by turn; the
	// carrier's part comes when a call has ended.
	Spent(ctx context.Context, from, to time.Time) ([]Money, error)
	// CallCosts sums what calls cost, a currency each. Calls that cost nothing
	// are not in it.
	CallCosts(ctx context.Context, calls []uuid.UUID) (map[uuid.UUID][]Money, error)
	// CallUsage lists a call's entries, in order.
	CallUsage(ctx context.Context, call uuid.UUID) ([]UsageEntry, error)
	// Usage sums entries.
	Usage(ctx context.Context, q UsageQuery) ([]UsageRow, error)

	// InsertPrice adds a price; ErrConflict if there is one of that time.
	InsertPrice(ctx context.Context, p Price) error
	// OwnPrices lists the tenant's, the newest first.
	OwnPrices(ctx context.Context, p Page) ([]Price, error)
}

// Today returns the beginning of the day of t in UTC, and its end.
func Today(t time.Time) (from, to time.Time) {
	from = t.UTC().Truncate(24 * time.Hour)
	return from, from.AddDate(0, 0, 1)
}
