package control

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// A warm transfer: a colleague is called and told of the caller, who waits with
// the agent, and the two meet in a conference of the carrier if the colleague
// takes the call. Until then nothing has happened to the caller's line, so that
// whatever fails leaves them with the agent.

// Colleagues rings those whom callers are handed to.
type Colleagues interface {
	// MayConsult tells whether the call's carrier can do it.
	MayConsult(c Call) bool
	// Consult rings to for a command, and returns the carrier's id of that call.
	// The carrier then asks [Calls.Offer]. It returns within 10 s.
	Consult(ctx context.Context, c Call, to string, command uuid.UUID) (leg string, err error)
}

// conference prefixes where a caller goes who meets a colleague.
const conference = "conference:"

// ConferenceOf is the target of a caller whose warm transfer was accepted.
func ConferenceOf(command uuid.UUID) string { return conference + command.String() }

// askTime bounds one question to the carrier, and what is written of it.
const askTime = 12 * time.Second

// consult rings the colleague behind the session's back, which has the caller
// hold meanwhile.
func (s *Calls) consult(ctx context.Context, v *Serving, c Command) {
	ctx = context.WithoutCancel(ctx)
	s.asks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, askTime)
		defer cancel()
		leg, err := s.Colleagues.Consult(ctx, v.Call, c.Target, c.ID)
		if err != nil {
			s.Log.Warn("a colleague could not be called", "call", c.Call, "error", err)
			s.unconsulted(context.WithoutCancel(ctx), c, carrierRefused(err))
			return
		}
		if _, err := s.Commands.StageCommand(ctx, c.ID, StageCalling, leg); err != nil && errors.Is(err, ErrEnded) {
			s.dropLeg(ctx, v.Call, leg) // the caller has left meanwhile
		} else if err != nil {
			s.Log.Error("note a call to a colleague", "call", c.Call, "error", err)
		}
	})
}

// unconsulted closes a warm transfer whose colleague could not be called. One who
// has picked up was called all the same: only the carrier's answer was lost.
func (s *Calls) unconsulted(ctx context.Context, c Command, reason string) {
	if now, err := s.Commands.Command(ctx, c.ID); err == nil && now.Stage != "" {
		return
	}
	s.consulted(ctx, c, reason)
}

// consulted closes a warm transfer that came to nothing, and has the session told.
func (s *Calls) consulted(ctx context.Context, c Command, reason string) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	if err := s.Commands.EndCommand(ctx, c.ID, reason, false); err != nil {
		s.Log.Error("close a warm transfer", "call", c.Call, "error", err)
	}
	s.rouse(ctx, c.Call)
}

// rouse has the process that serves a call look for commands.
func (s *Calls) rouse(ctx context.Context, call uuid.UUID) {
	if s.serving(call) != nil {
		s.obey(ctx, []uuid.UUID{call})
	} else if s.Wake != nil {
		_ = s.Wake.Announce(ctx, commandTopic, call.String()) // else it looks within seconds
	}
}

// command finds a command by its id, for an account at the carrier: it must be of a
// call of that one. It returns ctx with the command's tenant.
func (s *Calls) command(ctx context.Context, account uuid.UUID, id string) (context.Context, Command, error) {
	parsed, err := uuid.Parse(id)
	if err != nil || s.Commands == nil {
		return ctx, Command{}, ErrNotFound
	}
	at, err := s.Commands.LocateCommand(ctx, parsed)
	if err != nil {
		return ctx, Command{}, err
	}
	ctx = WithTenant(ctx, at.Tenant)
	c, err := s.Commands.Command(ctx, parsed)
	if err != nil {
		return ctx, c, err
	}
	call, err := s.Store.Call(ctx, c.Call)
	if err == nil && call.Account != account {
		err = fmt.Errorf("the call is another account's: %w", ErrNotFound)
	}
	return ctx, c, err
}

// Offer tells a colleague who has picked up whom it is about. account is the one that
// the carrier speaks for, here and below; leg is the carrier's id of their call.
// Errors: ErrNotFound; ErrEnded where the caller waits no more.
func (s *Calls) Offer(ctx context.Context, account uuid.UUID, command, leg string) (words string, err error) {
	ctx, c, err := s.command(ctx, account, command)
	if err != nil {
		return "", err
	}
	if c, err = s.Commands.StageCommand(ctx, c.ID, StageOffered, leg); err != nil {
		return "", err
	}
	if c.Words != "" {
		return c.Words, nil
	}
	return s.summary(ctx, c.Call), nil
}

// summary says what a call is about where no operator has: who calls, and their
// last words.
func (s *Calls) summary(ctx context.Context, id uuid.UUID) string {
	const turns, most = 8, 300
	words := "A caller is waiting for you."
	next, err := s.Records.NextTurn(ctx, id)
	if err != nil {
		return words
	}
	last, err := s.Records.Turns(ctx, id, next-turns-1, turns)
	if err != nil {
		return words
	}
	var said []string
	for _, t := range last {
		if t.Speaker == "caller" && t.Heard != "" {
			said = append(said, strings.TrimRight(t.Heard, ". ")+".")
		}
	}
	if len(said) == 0 {
		return words
	}
	text := strings.Join(said, " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[len(text)-most:], "")
	}
	return words + " They said: " + text
}

// Answer takes a colleague's word. Accepted, it returns the conference where the
// caller will be. Errors: ErrNotFound, ErrEnded.
func (s *Calls) Answer(ctx context.Context, account uuid.UUID, command string, accepted bool) (room string, err error) {
	ctx, c, err := s.command(ctx, account, command)
	if err != nil {
		return "", err
	}
	if !accepted {
		s.consulted(context.WithoutCancel(ctx), c, "declined")
		return "", nil
	}
	if c, err = s.Commands.StageCommand(ctx, c.ID, StageAccepted, ""); err != nil {
		return "", err
	}
	s.rouse(ctx, c.Call)
	return c.ID.String(), nil
}

// ColleagueGone takes the carrier's last word about the call to a colleague:
// "completed", "busy", "no-answer", "failed", "canceled". A caller who has been
// sent to a conference that nobody is left in comes back to the agent.
func (s *Calls) ColleagueGone(ctx context.Context, account uuid.UUID, command, outcome string) error {
	ctx, c, err := s.command(ctx, account, command)
	if err != nil {
		return err
	}
	switch {
	case c.Stage == StageAccepted:
		s.bringBack(ctx, c)
		return nil
	case c.Status != CommandTaken:
		return nil
	case outcome == "completed":
		outcome = "declined" // picked up, and hung up
	}
	s.consulted(context.WithoutCancel(ctx), c, outcome)
	return nil
}

// reunion is how long the carrier may take to tell that a conference is over.
const reunion = 5 * time.Second

// bringBack has a caller back whom a colleague left before they met. Where the
// two have met, the conference has ended for both, which the carrier tells of by
// itself within moments.
func (s *Calls) bringBack(ctx context.Context, c Command) {
	ctx = context.WithoutCancel(ctx)
	s.asks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, reunion+insistence)
		defer cancel()
		look := time.NewTicker(reunion / 20)
		defer look.Stop()
		for deadline := time.Now().Add(reunion); ; <-look.C {
			call, err := s.Store.Call(ctx, c.Call)
			if err == nil && call.Status == CallTransferring && time.Now().After(deadline) {
				err = s.returnCaller(ctx, call)
			}
			if err != nil {
				s.Log.Error("bring a caller back from a conference", "call", c.Call, "error", err)
				return
			}
			if call.Status == CallEnded || time.Now().After(deadline) {
				return
			}
		}
	})
}

func (s *Calls) returnCaller(ctx context.Context, call Call) error {
	call, err := s.Changes.TransferEnded(ctx, call.ID, "no-answer", true, time.Now().UTC())
	if errors.Is(err, ErrConflict) || errors.Is(err, ErrEnded) {
		return nil // they are back already, or gone
	}
	if err != nil || s.Carrier == nil {
		return err
	}
	return insist(ctx, func(ctx context.Context) error { return s.Carrier.Reconnect(ctx, call) })
}

// insistence bounds how long a carrier is asked again for what somebody waits for
// in silence. It is less than the lease of a caller who comes back.
const insistence = 20 * time.Second

// insist asks the carrier until it does what it is asked, at growing distances,
// or ctx ends. A call that is over is fine.
func insist(ctx context.Context, ask func(context.Context) error) error {
	for pause := time.Second / 2; ; pause *= 2 {
		err := ask(ctx)
		if err == nil || errors.Is(err, ErrEnded) {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// met tells whether a call that has been sent away is with a colleague who took
// it: its end is then the end of a transfer that has worked.
func (s *Calls) met(ctx context.Context, call Call) bool {
	if s.Commands == nil {
		return false
	}
	last, err := s.Commands.Commands(ctx, call.ID, Page{Limit: maxCommands})
	if err != nil {
		s.Log.Warn("whether a caller met a colleague is not known", "call", call.ID, "error", err)
	}
	return slices.ContainsFunc(last, func(c Command) bool {
		return c.Kind == CommandWarm && c.Status == CommandTaken && c.Stage == StageAccepted
	})
}

// dropColleague hangs up on a colleague whose caller has left.
func (s *Calls) dropColleague(ctx context.Context, call Call) {
	if s.Commands == nil || s.Carrier == nil || s.Colleagues == nil {
		return
	}
	ctx = context.WithoutCancel(ctx)
	s.asks.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, insistence)
		defer cancel()
		last, err := s.Commands.Commands(ctx, call.ID, Page{Limit: maxCommands})
		if err != nil {
			s.Log.Warn("look for a colleague who may be waiting", "call", call.ID, "error", err)
			return
		}
		for _, c := range last {
			if c.Leg != "" { // one that is over is known to be gone
				s.dropLeg(ctx, call, c.Leg)
			}
		}
	})
}

func (s *Calls) dropLeg(ctx context.Context, call Call, leg string) {
	err := insist(ctx, func(ctx context.Context) error { return s.Carrier.Hangup(ctx, call, leg) })
	if err != nil {
		s.Log.Warn("a colleague was not hung up on", "call", call.ID, "error", err)
	}
}
