package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/agent/effect"
	"parley/agent/flow"
)

// taskWait is how long a task may lie without a worker before a process does it
// itself.
const taskWait = 10 * time.Second

// A Task is the call of an asynchronous node of a chat. It is ordered in the
// transaction of the commit that wants it, and done beside the conversation,
// which may move on meanwhile.
type Task struct {
	Tenant       uuid.UUID `json:"tenant"`
	Conversation uuid.UUID `json:"conversation"`
	Revision     int       `json:"revision"` // at which it was ordered; at another it is stale
	Effect       string    `json:"effect"`   // the call's ID, which is its Idempotency-Key
}

// What becomes of tasks, for [Chats.Counted].
const (
	TaskDone      = "done"      // its result is in the conversation
	TaskDuplicate = "duplicate" // its result was there already
	TaskStale     = "stale"     // the conversation has moved on
	TaskInline    = "inline"    // no queue or no worker: done by who noticed
)

// ErrNoQueue says that a task cannot be ordered; nothing was written.
var ErrNoQueue = errors.New("control: the queue takes no tasks")

// TaskStore lets workers do tasks. Nobody's claim is in their way, nor theirs
// in anybody's: a conversation can be ended while its task is at work.
type TaskStore interface {
	// TakeTask holds the conversation's task for a worker, if it waits at that
	// revision and neither a turn nor another worker is at it. It returns the
	// conversation in any case.
	TakeTask(ctx context.Context, k Task, worker Claim) (c Conversation, taken bool, err error)
	// HoldTask makes the lease begin again. ErrConflict: it was lost.
	HoldTask(ctx context.Context, conversation uuid.UUID, worker Claim) error
	// LeaveTask gives it back, for another worker to take within wait.
	LeaveTask(ctx context.Context, conversation uuid.UUID, worker Claim, wait time.Duration) error
	// ReportStale writes the event task_stale, also of what has ended.
	ReportStale(ctx context.Context, k Task) error
}

// DoTask is the worker: it makes the call, unless the conversation has moved
// on, and goes on with the flow. ErrConflict: somebody else is at it, look
// again later. Whatever else fails may be tried again as well: the call goes
// out under the same key, and its result counts once.
func (s *Chats) DoTask(ctx context.Context, k Task) error {
	ctx = WithTenant(ctx, k.Tenant)
	worker := Claim{NewID(), s.lease()}
	c, taken, err := s.Tasks.TakeTask(ctx, k, worker)
	if errors.Is(err, ErrNotFound) {
		s.count(TaskStale)
		return nil
	}
	if err != nil {
		return fmt.Errorf("take a task: %w", err)
	}
	if !taken {
		if c.Revision == k.Revision && c.Status == flow.Active && c.Quarantined.IsZero() {
			return ErrConflict
		}
		return s.stale(ctx, k)
	}
	state, err := flow.DecodeState(c.State, c.Hash)
	if err != nil { // whoever claims it takes it out of service
		return errors.Join(err, s.Tasks.LeaveTask(ctx, c.ID, worker, 0))
	}
	call, ok := effect.Unfinished(state).(flow.Call)
	if !ok || call.ID != k.Effect {
		return s.stale(ctx, k)
	}
	r := s.callFor(ctx, c, call, worker)
	if ctx.Err() != nil { // this process ends: the result means nothing
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		return errors.Join(ctx.Err(), s.Tasks.LeaveTask(last, c.ID, worker, orDuration(s.TaskWait, taskWait)))
	}
	return s.answer(ctx, k, r)
}

// callFor makes a task's call while it holds the task. If the task is lost the
// call is given up.
func (s *Chats) callFor(ctx context.Context, c Conversation, call flow.Call, worker Claim) flow.Result {
	perform := s.Perform(tenantOf(ctx))
	ctx, cancel := context.WithTimeout(WithParty(ctx, c.party(tenantOf(ctx))), backgroundCall)
	defer cancel()
	return keeping(ctx, worker.Lease, func(ctx context.Context) error { return s.Tasks.HoldTask(ctx, c.ID, worker) },
		func(ctx context.Context) flow.Result { return perform(ctx, call) })
}

// answer goes on with the flow, if it still is where the task was ordered.
func (s *Chats) answer(ctx context.Context, k Task, r flow.Result) error {
	t, err := s.claimSoon(ctx, k.Conversation)
	if errors.Is(err, ErrEnded) || errors.Is(err, ErrQuarantined) || errors.Is(err, ErrNotFound) {
		return s.stale(ctx, k)
	}
	if err != nil {
		return fmt.Errorf("bring a task's result: %w", err)
	}
	if t.conv.Revision != k.Revision {
		t.release()
		return s.stale(ctx, k)
	}
	defer t.release()
	if _, err = t.run(r); err == nil {
		s.count(TaskDone)
	}
	return err
}

// stale drops a task that the conversation has moved on from. If it waits for
// the task all the same (its state was changed from outside), the node fails.
func (s *Chats) stale(ctx context.Context, k Task) error {
	t, err := s.claimSoon(ctx, k.Conversation)
	switch {
	case err == nil:
		defer t.release()
	case errors.Is(err, ErrNotFound):
		s.count(TaskStale)
		return nil
	case errors.Is(err, ErrEnded), errors.Is(err, ErrQuarantined):
	default:
		return fmt.Errorf("look after a stale task: %w", err)
	}
	if done, err := s.answered(ctx, k); err != nil || done {
		if done {
			s.count(TaskDuplicate)
		}
		return err
	}
	s.count(TaskStale)
	s.Log.Info("a task is stale: the conversation has moved on", "conversation", k.Conversation, "revision", k.Revision)
	if t != nil {
		if call, ok := effect.Unfinished(t.state).(flow.Call); ok && call.ID == k.Effect {
			_, err := t.run(flow.Result{At: at(), ID: k.Effect, Outcome: flow.Stale, Error: "the conversation has moved on"})
			return err
		}
	}
	return s.Tasks.ReportStale(ctx, k)
}

// answered tells whether the conversation has had a result of the task.
func (s *Chats) answered(ctx context.Context, k Task) (bool, error) {
	for after := k.Revision; ; {
		page, err := s.Store.History(ctx, k.Conversation, after, 200)
		if err != nil || len(page) == 0 {
			return false, err
		}
		for _, e := range page {
			var ev struct{ Type, ID string }
			if json.Unmarshal(e.Event, &ev) == nil && ev.Type == "result" && ev.ID == k.Effect {
				return true, nil
			}
			after = e.Revision
		}
	}
}

// claimSoon is claim, after whoever holds the conversation for a moment.
func (s *Chats) claimSoon(ctx context.Context, id uuid.UUID) (*chatTurn, error) {
	patience := time.NewTimer(s.lease())
	defer patience.Stop()
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		t, err := s.claim(ctx, id, 0)
		if !errors.Is(err, ErrConflict) {
			return t, err
		}
		select {
		case <-time.After(pause):
		case <-patience.C:
			return nil, err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *Chats) count(what string) {
	if s.Counted != nil {
		s.Counted(what)
	}
}

// keeping does something while it keeps a lease, which it renews three times
// in its life. If the lease is lost, what is done is given up.
func keeping(ctx context.Context, lease time.Duration, renew func(context.Context) error, do func(context.Context) flow.Result) flow.Result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var renewing sync.WaitGroup
	defer renewing.Wait()
	done := make(chan struct{})
	defer close(done)
	renewing.Go(func() {
		tick := time.NewTicker(lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			try, stop := context.WithTimeout(ctx, lease/3)
			err := renew(try)
			stop()
			if errors.Is(err, ErrConflict) {
				cancel()
				return
			}
		}
	})
	return do(ctx)
}

func tenantOf(ctx context.Context) uuid.UUID {
	tenant, _ := TenantOf(ctx)
	return tenant
}
