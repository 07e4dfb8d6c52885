package control

import (
	"cmp"
	"context"
	"time"

	"github.com/google/uuid"
)

// A CallNow is where a call in progress stands.
type CallNow struct {
	Node       uuid.UUID // the process that serves it
	Phase      string
	At         time.Time // since when
	FlowNode   string
	LastCaller string // what the caller said last
	// Transfer is what is under way; its id is zero where no operator asked for
	// it, and its Stage never empty.
	Transfer *Command
}

// Look tells where a call of the tenant of ctx stands: as its session sees it if
// that is here, else as its process noted it last, no longer ago than a renewal of
// leases.
func (s *Calls) Look(ctx context.Context, c Call) (now CallNow, err error) {
	now = s.Glance(c)
	if now.LastCaller == "" {
		if now.LastCaller, err = s.lastCaller(ctx, c.ID); err != nil {
			return now, err
		}
	}
	now.Transfer, err = s.transferOf(ctx, c)
	return now, err
}

// Glance is Look without what has to be read first: neither transfer nor words.
func (s *Calls) Glance(c Call) CallNow {
	now := CallNow{Node: c.Node, Phase: c.Phase, At: c.PhaseAt, FlowNode: c.FlowNode}
	if s.Hub != nil {
		if p, ok := s.Hub.phase(c.ID); ok {
			now.Node, now.Phase, now.At, now.FlowNode, now.LastCaller = s.Node, p.Phase, p.At, p.FlowNode, p.lastCaller
		}
	}
	return now
}

func (s *Calls) lastCaller(ctx context.Context, call uuid.UUID) (string, error) {
	const turns = 8
	next, err := s.Records.NextTurn(ctx, call)
	if err != nil {
		return "", err
	}
	last, err := s.Records.Turns(ctx, call, next-turns-1, turns)
	text := ""
	for _, t := range last {
		if t.Speaker == "caller" {
			text = cmp.Or(t.Heard, text)
		}
	}
	return text, err
}

// transferOf is the transfer of a call that is under way.
func (s *Calls) transferOf(ctx context.Context, c Call) (*Command, error) {
	if s.Commands == nil {
		return nil, nil
	}
	last, err := s.Commands.Commands(ctx, c.ID, Page{Limit: maxCommands})
	if err != nil {
		return nil, err
	}
	for _, o := range last {
		open := o.Status == CommandTaken || o.Status == CommandPending && time.Now().Before(o.ExpiresAt)
		if !open || o.Kind != CommandTransfer && o.Kind != CommandWarm {
			continue
		}
		o.Stage = cmp.Or(o.Stage, "asked")
		if c.Status == CallTransferring {
			o.Stage = "connected"
		}
		return &o, nil
	}
	if c.Status == CallTransferring { // the agent's own
		return &Command{Kind: CommandTransfer, Call: c.ID, Target: c.TransferTo, Stage: "connected"}, nil
	}
	return nil, nil
}

// notePhases tells other processes where calls served here stand.
func (s *Calls) notePhases(ctx context.Context, calls []uuid.UUID) {
	if s.Hub == nil {
		return
	}
	if changed := s.Hub.phases(calls); len(changed) > 0 {
		if err := s.Changes.NotePhases(ctx, changed); err != nil {
			s.Log.Warn("note where calls stand", "error", err)
		}
	}
}
