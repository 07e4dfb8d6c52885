package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent"
)

// States of the work after a call.
const (
	AfterworkPending = "pending" // ordered with the call's end
	AfterworkDone    = "done"
	AfterworkFailed  = "failed" // for good: see Afterwork.Failure
)

// An Afterwork is what a model makes of a call after its end.
type Afterwork struct {
	Call      uuid.UUID
	Status    string
	Failure   string          // why, in words for the tenant; while it is pending: why not yet
	Summary   string          // empty: none was asked for
	Outcome   string          // likewise
	Extracted json.RawMessage // an object; nil: none was asked for
	Partial   bool            // the call was too long to be read whole
	Attempts  int             // begun so far
	At        time.Time
}

// AfterworkStore keeps it, sealed as transcripts are. The end of a call orders
// it, where the agent's version asks for any.
type AfterworkStore interface {
	// BeginAfterwork counts an attempt at what is pending and returns which it
	// is, from 1. ErrNotFound: nothing is pending.
	BeginAfterwork(ctx context.Context, call uuid.UUID) (attempt int, err error)
	// DelayAfterwork notes why what is pending is not done yet.
	DelayAfterwork(ctx context.Context, call uuid.UUID, why string) error
	// PutAfterwork stores w, done or failed, and writes the event
	// call_summarized: both, once. ErrConflict: none is pending any more, and
	// nothing was written.
	PutAfterwork(ctx context.Context, w Afterwork) error
	// OrderAfterwork orders again what has failed, and notes so in the audit trail.
	// ErrNotFound: the call has none. ErrConflict: it is pending, or done.
	OrderAfterwork(ctx context.Context, call uuid.UUID) error
	// Afterwork returns ErrNotFound for a call that has none.
	Afterwork(ctx context.Context, call uuid.UUID) (Afterwork, error)
}

// An AfterworkOrder is a job: the call whose end ordered it.
type AfterworkOrder struct {
	Tenant     uuid.UUID `json:"tenant"`
	Call       uuid.UUID `json:"call"`
	Generation int       `json:"generation"`      // of the call as it ended
	Begun      int       `json:"begun,omitempty"` // attempts at the time of the order, which are not of it
	// Again tells orders that were asked for again apart: the queue takes what is
	// alike for one job, and would leave it out.
	Again uuid.UUID `json:"again,omitzero"`
	Last  bool      `json:"-"` // the queue does not try again
}

// ErrLater says that a job is to be looked at again after a while, which is no
// failure of it.
var ErrLater = errors.New("control: later")

const (
	afterworkTime     = 4 * time.Minute // of one attempt
	afterworkPatience = time.Minute     // until a model begins
	afterworkAttempts = 6
	afterworkTokens   = 1000
	// afterworkWait is how long a used-up budget is waited for.
	afterworkWait = 24 * time.Hour
	// maxTranscript bounds what of a call a model reads, in bytes: more than an
	// hour of talk.
	maxTranscript = 160 << 10
)

// Afterworks makes of calls what their agents ask for.
type Afterworks struct {
	Store  AfterworkStore
	Calls  CallStore
	Record RecordStore
	Agents *Agents
	// Models are those that a tenant has chosen; none chosen: the default.
	Models func(ctx context.Context, tenant uuid.UUID, choices []VendorChoice) ([]agent.Model, error)
	// Pay takes one request from the tenant's budgets, or says what is used up.
	// Nil: nothing binds.
	Pay func(ctx context.Context, tenant uuid.UUID, bytes int) error
	Log *slog.Logger
}

// Do is the worker. Models may be asked more than once for a call, such as by a
// process that died before it could store the answer; what is stored, and told
// by an event, is one answer. ErrLater; whatever else fails may be tried again,
// unless it was the last time.
func (s *Afterworks) Do(ctx context.Context, k AfterworkOrder) error {
	ctx = WithTenant(ctx, k.Tenant)
	err := s.do(ctx, k)
	if err == nil || errors.Is(err, ErrLater) || !k.Last || ctx.Err() != nil {
		return err
	}
	s.Log.Error("what a call's agent asks for is given up", "call", k.Call, "error", err)
	return errors.Join(err, s.fail(ctx, k.Call, "given up: this server could not do it; ask for it again"))
}

func (s *Afterworks) do(ctx context.Context, k AfterworkOrder) error {
	c, err := s.Calls.Call(ctx, k.Call)
	if errors.Is(err, ErrNotFound) { // gone, or in the trash
		return s.fail(ctx, k.Call, "the call was deleted before it could be read; restore it, and ask for this again")
	}
	if err != nil {
		return err
	}
	if c.Status != CallEnded || c.Generation != k.Generation {
		return nil // it came back: its next end has ordered anew
	}
	a, err := s.Agents.At(ctx, c.Agent, c.AgentVersion)
	if err != nil {
		return err
	}
	want := a.Settings.AfterCall
	if want == nil {
		return s.fail(ctx, c.ID, "the agent's version asks for nothing")
	}
	heard, partial, err := s.transcript(ctx, c.ID)
	if err != nil {
		return err
	}
	if heard == "" {
		return s.fail(ctx, c.ID, "nothing was said in the call")
	}
	if s.Pay != nil {
		if err := s.Pay(ctx, k.Tenant, len(heard)); err != nil {
			return s.wait(ctx, c, err)
		}
	}
	attempt, err := s.Store.BeginAfterwork(ctx, c.ID)
	if errors.Is(err, ErrNotFound) {
		return nil // done, or erased
	}
	if err != nil {
		return err
	}
	tries := attempt - k.Begun
	if tries > afterworkAttempts {
		return s.fail(ctx, c.ID, fmt.Sprintf("given up after %d attempts, none of which came to its end", afterworkAttempts))
	}
	w, err := s.make(ctx, Hold{c.ID, attempt}, a.Settings, heard)
	if err != nil {
		return s.again(ctx, c.ID, tries, err)
	}
	w.Call, w.Partial, w.At = c.ID, partial, time.Now().UTC()
	return s.put(ctx, w)
}

// put stores w, unless there is another by now.
func (s *Afterworks) put(ctx context.Context, w Afterwork) error {
	if err := s.Store.PutAfterwork(ctx, w); err != nil && !errors.Is(err, ErrConflict) {
		return err
	}
	return nil
}

func (s *Afterworks) fail(ctx context.Context, call uuid.UUID, why string) error {
	return s.put(ctx, Afterwork{Call: call, Status: AfterworkFailed, Failure: why, At: time.Now().UTC()})
}

// wait leaves the work until there is a budget for it, for a day.
func (s *Afterworks) wait(ctx context.Context, c Call, why error) error {
	if time.Since(c.EndedAt) > afterworkWait {
		return s.fail(ctx, c.ID, fmt.Sprintf("for a day there was no budget for it: %v", why))
	}
	if err := s.Store.DelayAfterwork(ctx, c.ID, fmt.Sprintf("waits for the tenant's budget: %v", why)); err != nil {
		return err
	}
	return ErrLater
}

// again notes why an attempt failed, and whether there is another.
func (s *Afterworks) again(ctx context.Context, call uuid.UUID, tries int, cause error) error {
	if ctx.Err() != nil { // the process ends
		return cause
	}
	why := modelTrouble(cause)
	if tries >= afterworkAttempts || errors.Is(cause, errNoFit) {
		return s.fail(ctx, call, why)
	}
	if err := s.Store.DelayAfterwork(ctx, call, why+"; it is tried again"); err != nil {
		return err
	}
	return fmt.Errorf("afterwork of call %s: %w", call, cause)
}

// errNoFit wraps why an answer was refused for good.
var errNoFit = errors.New("the model's answer was refused twice")

// modelTrouble is why no model has answered, in words for the tenant.
func modelTrouble(err error) string {
	switch {
	case errors.Is(err, errNoFit):
		return err.Error()
	case errors.Is(err, agent.ErrCredentials):
		return "the model's vendor refused the key"
	case errors.Is(err, agent.ErrBusy):
		return "the model's vendor is rate limiting"
	case errors.Is(err, agent.ErrProtocol):
		return "the model's vendor refused the request"
	case errors.Is(err, context.DeadlineExceeded):
		return "the model did not come to an end in time"
	}
	return "no model answered"
}

// make asks a model, and once more where its answer does not fit. What the
// vendors did is entered under the attempt, whatever comes of it.
func (s *Afterworks) make(ctx context.Context, attempt Hold, set AgentSettings, heard string) (w Afterwork, err error) {
	want := set.AfterCall
	schema, err := want.schema()
	if err != nil {
		return w, fmt.Errorf("%w: the version's schema: %w", errNoFit, err)
	}
	tenant := tenantOf(ctx)
	choices := want.LLM
	if len(choices) == 0 {
		choices = set.LLM
	}
	list, err := s.Models(ctx, tenant, choices)
	if err != nil {
		return w, err
	}
	asking, cancel := context.WithTimeout(ctx, afterworkTime)
	defer cancel()
	p := afterworkPrompt(want, schema, heard)
	var uses []agent.Use
	defer func() {
		entering, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if e := s.Record.WriteUsage(entering, attempt, AfterCallTurn, uses, time.Now().UTC()); e != nil {
			err = errors.Join(err, e)
		}
	}()
	for round := 0; ; round++ {
		answer, err := agent.Ask(asking, list, p, afterworkPatience, s.Log)
		uses = addUses(uses, answer.Uses)
		if err != nil {
			return w, err
		}
		text, call := answerOf(answer)
		w, misfit := schema.read(text)
		if misfit == nil {
			w.Status = AfterworkDone
			return w, nil
		}
		if round > 0 {
			return w, fmt.Errorf("%w: %w", errNoFit, misfit)
		}
		p.Messages = append(p.Messages, repair(call, text, misfit)...)
	}
}

// addUses sums what is of one kind, vendor and model.
func addUses(all, more []agent.Use) []agent.Use {
next:
	for _, u := range more {
		for i := range all {
			if w := &all[i]; w.Kind == u.Kind && w.Vendor == u.Vendor && w.Model == u.Model {
				w.Amount, w.Estimated = w.Amount+u.Amount, w.Estimated || u.Estimated
				continue next
			}
		}
		all = append(all, u)
	}
	return all
}

// transcript is what a call's parties said, a line of JSON each: nothing that is
// said ends a line. Of what is too long it leaves out the middle.
func (s *Afterworks) transcript(ctx context.Context, call uuid.UUID) (text string, partial bool, err error) {
	var lines []string
	size, spoke := 0, false
	for after := -1; ; {
		turns, err := s.Record.Turns(ctx, call, after, 500)
		if err != nil {
			return "", false, err
		}
		for _, t := range turns {
			after = t.Index
			if strings.TrimSpace(t.Heard) == "" {
				continue
			}
			b, err := json.Marshal(struct {
				Speaker string `json:"speaker"`
				Text    string `json:"text"`
			}{t.Speaker, t.Heard})
			if err != nil {
				return "", false, err
			}
			lines, spoke = append(lines, string(b)), spoke || t.Speaker == "caller"
			size += len(b) + 1
		}
		if len(turns) < 500 {
			break
		}
	}
	if !spoke {
		return "", false, nil
	}
	// The beginning says what it is about, the end what came of it.
	for size > maxTranscript && len(lines) > 2 {
		partial = true
		cut := cmp.Or(len(lines)/3, 1)
		size -= len(lines[cut]) + 1
		lines = append(lines[:cut:cut], lines[cut+1:]...)
	}
	return strings.Join(lines, "\n"), partial, nil
}
