package flow

import (
	"cmp"
	"time"
)

// Outcomes of a [Call]'s [Result] beside "success", "error" and "timeout".
const (
	// Cached: the call failed, and Data is an earlier answer.
	Cached = "cached"
	// Stale: the call was ordered at a revision that is past. It was not made,
	// or what it brought is not taken: the node takes "error".
	Stale = "stale"
	// OverBudget: a budget that the host keeps is used up, Error says which.
	// The conversation fails, as at a limit of its own.
	OverBudget = "over_budget"
)

// Spent is what calls have cost.
type Spent struct {
	Calls int           `json:"calls,omitempty"` // tries
	Bytes int64         `json:"bytes,omitempty"` // of bodies, both ways
	Time  time.Duration `json:"time,omitempty"`  // from sending to the answer
}

func (s Spent) plus(o Spent) Spent {
	return Spent{s.Calls + o.Calls, s.Bytes + o.Bytes, s.Time + o.Time}
}

// overspent names the limit of the conversation's own that leaves no room for
// another call, "" if there is room.
func (t *turn) overspent() string {
	s, most := t.s.System.Spent, t.f.limits.spend
	switch {
	case s.Calls >= most.Calls:
		return "calls"
	case s.Bytes >= most.Bytes:
		return "call_bytes"
	case s.Time >= most.Time:
		return "call_seconds"
	}
	return ""
}

// settle books what a call has cost. It reports false where that ended the
// conversation.
func (t *turn) settle(ev Result) bool {
	t.s.System.Spent = t.s.System.Spent.plus(ev.Spent)
	switch ev.Outcome {
	case OverBudget:
		t.limit(cmp.Or(cleanText(ev.Error), "budget"))
		return false
	case Stale:
		t.emit("task_stale", map[string]any{"id": cleanText(ev.ID)})
	}
	return true
}
