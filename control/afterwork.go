package control

import (
	"context"
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"parley/agent"
)

// What became of the work after a call.
const (
	AfterworkDone   = "done"
	AfterworkFailed = "failed" // for good: see Afterwork.Failure
)

// An Afterwork is what a model made of a call after its end.
type Afterwork struct {
	Call      uuid.UUID
	Status    string          // done or failed
	Failure   string          // why, in words for the tenant
	Summary   string          // empty: none was asked for
	Extracted json.RawMessage // an object; nil: none was asked for
	At        time.Time
}

// AfterworkStore keeps it, sealed as transcripts are.
type AfterworkStore interface {
	// PutAfterwork stores w, with what making it has used, and writes the event
	// call_summarized: all of it, once. ErrConflict: there is one by now, and
	// nothing was written.
	PutAfterwork(ctx context.Context, w Afterwork, uses []agent.Use) error
	// Afterwork returns ErrNotFound for a call that has none.
	Afterwork(ctx context.Context, call uuid.UUID) (Afterwork, error)
}
