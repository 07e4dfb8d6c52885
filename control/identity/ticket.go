package identity

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// A Ticket stands for a sign-in whose first step is done and whose second is
// due. It opens nothing but that step.
type Ticket struct {
	Secret    string
	ExpiresAt time.Time
	Ways      []string // second factors that there are: "totp", "passkey", "recovery_code"
}

// A started sign-in is what a ticket stands for.
type started struct {
	User, Tenant uuid.UUID
	How          string
	Bound        bool
	Failed       int
	Ends         time.Time // of the session that it goes on from; zero: a new one
}

// due returns a ticket if the member has a second factor to give, else nil.
func (s *Users) due(ctx context.Context, st started) (*Ticket, error) {
	if s.Factors == nil {
		return nil, nil
	}
	held, err := s.Factors.Held(control.WithTenant(ctx, st.Tenant), st.User)
	if err != nil || !held.Any() {
		return nil, err
	}
	t := &Ticket{ExpiresAt: time.Now().UTC().Add(TicketLife)}
	if !held.ConfirmedAt.IsZero() {
		t.Ways = append(t.Ways, "totp")
	}
	if len(held.Passkeys) > 0 {
		t.Ways = append(t.Ways, "passkey")
	}
	if held.CodesLeft > 0 {
		t.Ways = append(t.Ways, "recovery_code")
	}
	t.Secret, err = s.Factors.Pending.put(ctx, pendingTicket, TicketLife, st)
	return t, err
}

// Finish gives the second factor that a ticket waits for and begins the session.
// A ticket lives through wrong factors, and ends with the right one. Errors:
// control.ErrCredentials for a ticket that is unknown, late or done, and those
// of [Factors.Check].
func (s *Users) Finish(ctx context.Context, ticket string, p Proof, c Client) (Opened, Given, error) {
	var st started
	if err := s.Factors.Pending.look(ctx, pendingTicket, ticket, &st); err != nil {
		return Opened{}, Given{}, err
	}
	given, err := s.Factors.Check(in(ctx, st.Tenant, st.User), st.User, p)
	if err != nil {
		return Opened{}, given, err
	}
	if err := s.Factors.Pending.take(ctx, pendingTicket, ticket, &st); err != nil {
		return Opened{}, given, err
	}
	o, err := s.SignIn(ctx, Entry{User: st.User, Tenant: st.Tenant, How: st.How + "+" + given.Kind, Bound: st.Bound,
		FactorAt: time.Now().UTC(), Ends: st.Ends, Client: c})
	o.Failed = st.Failed
	return o, given, err
}

// TicketChallenge asks the browser of a sign-in for a passkey.
func (s *Users) TicketChallenge(ctx context.Context, ticket string) (Ceremony, error) {
	var st started
	if err := s.Factors.Pending.look(ctx, pendingTicket, ticket, &st); err != nil {
		return Ceremony{}, err
	}
	return s.Factors.Challenge(in(ctx, st.Tenant, st.User), st.User)
}

// ByPasskey signs in by a passkey alone, which is both factors in one.
func (s *Users) ByPasskey(ctx context.Context, a Assertion, c Client) (Opened, error) {
	at, err := s.Factors.Recognise(ctx, a)
	if errors.Is(err, control.ErrNotFound) {
		err = ErrFactor
	}
	if err != nil {
		return Opened{}, err
	}
	return s.SignIn(ctx, Entry{User: at.ID, Tenant: at.Tenant, How: "passkey", FactorAt: time.Now().UTC(), Client: c})
}
