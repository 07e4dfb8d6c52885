package control

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// What is kept, by kind: each has a period of its own, and its own proofs.
const (
	KeepCalls       = "calls"       // calls' rows, with all below them
	KeepSessions    = "sessions"    // chats, with all below them
	KeepStates      = "states"      // a call's conversation alone: what its flow remembered
	KeepTranscripts = "transcripts" // what was said, and what a flow remembered of it
	KeepRecordings  = "recordings"
	KeepMessages    = "messages" // that callers left
	KeepEvents      = "events"   // with what was to be delivered of them
	KeepUsage       = "usage"
	KeepCredentials = "credentials" // that have expired
)

// Bounds and defaults of a [Retention].
const (
	MaxRetention       = 3650 // days
	DefaultRestore     = 30   // days
	DefaultEventsDays  = 400
	DefaultUsageDays   = 1100
	MinUsageDays       = 90 // a bill may be questioned for so long
	MinEventsDays      = 7  // deliveries are tried for days
	credentialKeepDays = 30 // after they expired
)

// A Retention says how long a tenant keeps what, in days from when it ended; 0:
// until somebody deletes it. The audit trail is kept for good: its entries are a
// chain, and name nobody.
type Retention struct {
	Recordings  int
	Messages    int
	Transcripts int // of chats: the whole of them
	Calls       int // with all that belongs to them but usage
	Events      int
	Usage       int
	Restore     int // how long what was deleted by hand can be brought back
	Revision    int // 0: nobody has said anything yet
	UpdatedAt   time.Time
}

// DefaultRetention is that of a tenant which has said nothing.
func DefaultRetention() Retention {
	return Retention{Events: DefaultEventsDays, Usage: DefaultUsageDays, Restore: DefaultRestore}
}

// Check returns an [*Invalid] for the first field that cannot be.
func (r Retention) Check() error {
	for _, f := range []struct {
		name       string
		days, from int
	}{
		{"recordings_days", r.Recordings, 1}, {"messages_days", r.Messages, 1}, {"transcripts_days", r.Transcripts, 1},
		{"calls_days", r.Calls, 1}, {"events_days", r.Events, MinEventsDays}, {"usage_days", r.Usage, MinUsageDays},
	} {
		if f.days != 0 && (f.days < f.from || f.days > MaxRetention) {
			return Invalidf(f.name, "must be %d to %d days, or null: until somebody deletes it", f.from, MaxRetention)
		}
	}
	if r.Restore < 0 || r.Restore > 365 {
		return Invalidf("restore_days", "must be 0 to 365 days")
	}
	for name, days := range map[string]int{"recordings_days": r.Recordings, "messages_days": r.Messages, "transcripts_days": r.Transcripts} {
		if r.Calls != 0 && days > r.Calls {
			return Invalidf(name, "must not be longer than calls_days: what belongs to a call goes with it")
		}
	}
	return nil
}

// Retentions keeps them, and brings back what was deleted by hand.
type Retentions interface {
	// Retention returns that of ctx's tenant, or the default.
	Retention(ctx context.Context) (Retention, error)
	// PutRetention replaces it, if its revision is as given; -1: whichever.
	// ErrConflict.
	PutRetention(ctx context.Context, r Retention, revision int) (Retention, error)

	// DeleteCall takes a call that has ended out of sight, with its
	// conversation. ErrConflict, with a reason: it goes on, or is held.
	DeleteCall(ctx context.Context, id uuid.UUID) error
	// RestoreCall brings it back. ErrNotFound: it was not deleted, or is gone.
	RestoreCall(ctx context.Context, id uuid.UUID) error
	// RestoreConversation brings a session back. ErrNotFound, as above.
	RestoreConversation(ctx context.Context, id uuid.UUID) error
	// Trash lists what can be brought back, newest first.
	Trash(ctx context.Context, p Page) ([]Trashed, error)
}

// Trashed is something that was deleted by hand.
type Trashed struct {
	Kind      string    // "call", "session", "recording"
	ID        uuid.UUID // of a recording: its call's
	DeletedAt time.Time
}

// A LegalHold keeps what may not be deleted, whatever else says so: one call or
// session, all of one caller or user, or, where none is set, the whole tenant.
type LegalHold struct {
	ID       uuid.UUID
	Object   uuid.UUID
	Caller   string
	User     string
	Reason   string
	PlacedBy string // as audit entries name people
	PlacedAt time.Time
	LiftedBy string
	LiftedAt time.Time // zero: it holds
}

// LegalHolds keeps them.
type LegalHolds interface {
	// PlaceHold keeps h from now on; when it returns, nothing that h is about
	// is being deleted. ErrConflict, with a reason, while something is.
	// ErrNotFound: there is no such call or session.
	PlaceHold(ctx context.Context, h LegalHold) (LegalHold, error)
	LegalHold(ctx context.Context, id uuid.UUID) (LegalHold, error)
	LegalHolds(ctx context.Context, p Page) ([]LegalHold, error)
	// LiftHold ends it. ErrEnded: it was lifted before.
	LiftHold(ctx context.Context, id uuid.UUID, by string) (LegalHold, error)
}

// Why something was deleted.
const (
	ByPeriod  = "period"
	ByHand    = "deleted"
	ByErasure = "erasure"
)

// A Deletion is the proof that something was deleted. It names calls and
// sessions by their ids, and nobody.
type Deletion struct {
	ID      uuid.UUID
	Class   string
	Reason  string
	Erasure uuid.UUID
	Objects []uuid.UUID // empty: by age
	Before  time.Time   // by age: what was older
	Rows    int64
	Blobs   int
	Bytes   int64
	// Hash is a MAC over all rows and the beginnings and lengths of all files,
	// as they stood, under the operator's key: the numbers in them cannot be
	// guessed from it.
	Hash       []byte
	BegunAt    time.Time
	FinishedAt time.Time // zero: it is under way, and proves nothing yet
	Counted    bool      // its files are in Blobs and Bytes
}

// States of an erasure.
const (
	ErasureRunning = "running"
	ErasureWaiting = "waiting" // for calls in progress, or just over
	ErasureHeld    = "held"    // a legal hold is in its way
	ErasureDone    = "done"
)

// An Erasure is the wish that all of one caller, or of one user, be forgotten:
// what there was when it was said.
type Erasure struct {
	ID          uuid.UUID
	Caller      string // one of the two, until it is done
	User        string
	Subject     []byte // MAC of it, for good
	Status      string
	RequestedBy string
	RequestedAt time.Time
	Waiting     int // sessions that must end first
	Held        int // sessions that legal holds keep
	Others      int64
	Answers     int // kept answers of requests that were emptied
	Cached      int // entries of shared memory that were dropped
	FinishedAt  time.Time

	// Of its proofs, so far.
	Sessions int
	Rows     int64
	Blobs    int
	Bytes    int64
}
