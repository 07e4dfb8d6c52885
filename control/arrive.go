package control

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// EndClosed is the reason of a call that a number's message ended.
const EndClosed = "closed"

// answer finds what becomes of a call: the agent that is named answers, else as
// the number has it at this time. The context it returns has the tenant. What
// belongs to one account is out of reach for another's webhooks, whoever
// signed them: ErrForbidden.
func (s *Calls) answer(ctx context.Context, a Arrival) (context.Context, Destination, error) {
	if a.Agent != "" {
		return s.named(ctx, a)
	}
	at, err := s.Numbers.LocateNumber(ctx, a.To)
	if err != nil {
		return ctx, Destination{}, fmt.Errorf("number: %w", err)
	}
	ctx = WithTenant(ctx, at.Tenant)
	n, err := s.Numbers.Number(ctx, at.ID)
	if err != nil {
		return ctx, Destination{}, err
	}
	if n.Account != a.Account {
		return ctx, Destination{}, fmt.Errorf("the number is another account's: %w", ErrForbidden)
	}
	answer, err := n.At(time.Now())
	return ctx, answer, err
}

// named finds the agent that an address names. Behind a tenant's own account
// are that tenant's agents alone.
func (s *Calls) named(ctx context.Context, a Arrival) (context.Context, Destination, error) {
	ctx, agent, err := s.Agents.Find(ctx, a.Agent)
	if err == nil && a.Account != uuid.Nil {
		if _, gone := s.Accounts.CarrierAccount(ctx, a.Account); gone != nil {
			err = NotFoundIs(gone, fmt.Errorf("the agent is another tenant's: %w", ErrForbidden))
		}
	}
	return ctx, Destination{Route: -1, Agent: agent.ID, Account: a.Account}, err
}

// admit stores a call with what becomes of it.
func (s *Calls) admit(ctx context.Context, a Arrival, answer Destination) (Call, error) {
	c := Call{
		ID: NewID(), Agent: answer.Agent, Account: answer.Account, Carrier: a.Carrier, CarrierCallID: a.CarrierCallID,
		Direction: a.Direction, From: a.From, To: a.To, Status: CallArrived, StartedAt: time.Now().UTC(),
	}
	if c.Direction == "" {
		c.Direction = "inbound"
	}
	var err error
	if c.AgentVersion = a.AgentVersion; c.AgentVersion == uuid.Nil {
		if c.AgentVersion, err = s.Agents.Releases().Pick(ctx, c.Agent, Live, c.ID); err != nil {
			return Call{}, err
		}
	}
	if c, err = s.Store.InsertCall(ctx, c); err != nil {
		return c, err
	}
	return s.follow(ctx, c, answer)
}

// follow does with a call that has arrived what no agent does.
func (s *Calls) follow(ctx context.Context, c Call, answer Destination) (Call, error) {
	if c.Status != CallArrived { // its webhook came twice at once
		return c, open(c)
	}
	var err error
	switch {
	case answer.Transfer != "":
		if c, err = s.Changes.ClaimCall(ctx, c.ID, s.Node, s.lease()); err == nil {
			c, err = s.Changes.TransferCall(ctx, c.Hold(), answer.Transfer)
		}
	case answer.Message != "":
		c, err = s.Changes.EndCall(ctx, Hold{Call: c.ID}, EndClosed, time.Now().UTC())
		c.Say, c.SayLanguage = answer.Message, answer.Language
	}
	if err != nil {
		return c, err
	}
	if c.Say != "" {
		return c, nil
	}
	return c, open(c)
}

// told returns a call that a message ended, with the message: who asks again has
// not heard it. The number's routes say what it was.
func (s *Calls) told(ctx context.Context, c Call) Call {
	if c.EndReason != EndClosed {
		return c
	}
	at, err := s.Numbers.LocateNumber(ctx, c.To)
	if err != nil || at.Tenant != c.Tenant {
		return c
	}
	n, err := s.Numbers.Number(ctx, at.ID)
	if err != nil {
		return c
	}
	if answer, err := n.At(c.StartedAt); err == nil {
		c.Say, c.SayLanguage = answer.Message, answer.Language
	}
	return c
}

// Find returns a call, whosesoever where ctx has no tenant. ErrNotFound.
func (s *Calls) Find(ctx context.Context, callID string) (Call, error) {
	ctx, id, err := s.locate(ctx, callID)
	if err != nil {
		return Call{}, err
	}
	return s.Store.Call(ctx, id)
}

// AccountOf returns the account that a carrier's call is of, zero for the
// operator's. Of a session here it needs no storage. ErrNotFound: it was never
// taken in.
func (s *Calls) AccountOf(ctx context.Context, carrier, carrierCallID string) (uuid.UUID, error) {
	if carrierCallID == "" || len(carrierCallID) > 256 {
		return uuid.Nil, ErrNotFound
	}
	if v := s.servingCarrier(carrier, carrierCallID); v != nil {
		return v.Call.Account, nil
	}
	at, err := s.Store.LocateCarrierCall(ctx, carrier, carrierCallID)
	if err != nil {
		return uuid.Nil, err
	}
	c, err := s.Store.Call(WithTenant(ctx, at.Tenant), at.ID)
	return c.Account, err
}
