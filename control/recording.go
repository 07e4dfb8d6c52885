package control

import (
	"context"
	"time"

	"github.com/google/uuid"
)

// A Recording is what a call's recording has come to.
type Recording struct {
	Key    string        `json:"key"` // of the blob
	Bytes  int64         `json:"bytes,omitempty"`
	Length time.Duration `json:"length,omitempty"`
	// Consent is how the caller's was had; "" where the agent asks for none.
	Consent string `json:"consent,omitempty"`
}

// RecordingChannels is how many a recording of a call has: the caller left, the
// agent right.
const RecordingChannels = 2

// How consent to a recording was had.
const (
	ConsentAnnounced = "announced" // the notice was heard to its end
	ConsentAnswered  = "answered"  // the flow asked, and the caller agreed
	ConsentOrdered   = "ordered"   // who ordered the call vouches for it
)

// A RecordedCall is a call with its recording.
type RecordedCall struct {
	Call
	Recording Recording
}

// Recordings are those of the tenant of ctx.
type Recordings interface {
	// Recordings lists recorded calls, newest first: of one call, of an agent, of
	// a time.
	Recordings(ctx context.Context, f RecordingFilter) ([]RecordedCall, error)
	// DeleteRecording takes the recording of an ended call out of sight, and the
	// keeper takes it for good when it can no longer be brought back.
	// ErrNotFound: there is none. ErrConflict, with a reason: the call goes on;
	// ErrHeld, likewise.
	DeleteRecording(ctx context.Context, call uuid.UUID) error
	// RestoreRecording brings it back. ErrNotFound: it was not deleted, or is
	// gone.
	RestoreRecording(ctx context.Context, call uuid.UUID) error
}

// A RecordingFilter narrows a list of recordings; zero fields do not.
type RecordingFilter struct {
	Page
	Call, Agent                 uuid.UUID
	StartedAfter, StartedBefore time.Time
}
