package control

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"
)

// A Number is a telephone number and who answers it.
type Number struct {
	ID          uuid.UUID
	E164        string // with the plus; unique over all tenants
	DisplayName string
	Agent       uuid.UUID // who answers where no route fits
	// Account is the tenant's at the carrier that the number belongs to; zero:
	// the operator's.
	Account   uuid.UUID
	Timezone  string  // IANA, that routes are read in; "" is UTC
	Routes    []Route // the first that fits counts
	Revision  int     // counts from 1 with every change
	CreatedAt time.Time
	UpdatedAt time.Time
}

// NumberStore keeps numbers.
type NumberStore interface {
	// LocateNumber returns the tenant and the id of a number.
	LocateNumber(ctx context.Context, e164 string) (Located, error)
	Number(ctx context.Context, id uuid.UUID) (Number, error)
	Numbers(ctx context.Context, p Page) ([]Number, error)
	// InsertNumber fails with ErrConflict if the number is there, be it
	// another tenant's.
	InsertNumber(ctx context.Context, n Number) error
	// UpdateNumber writes all but the number itself over n.Revision; else
	// ErrConflict.
	UpdateNumber(ctx context.Context, n Number) (Number, error)
	// DeleteNumber deletes one of a revision, or 0; else ErrConflict.
	DeleteNumber(ctx context.Context, id uuid.UUID, revision int) error
}

// Numbers is the service of numbers.
type Numbers struct {
	Store    NumberStore
	Agents   AgentStore
	Accounts CarrierAccountStore
}

var e164 = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)

// Create gives a number to an agent of the tenant. Errors: [Invalid],
// ErrConflict.
func (s *Numbers) Create(ctx context.Context, n Number) (Number, error) {
	if err := RefuseSecret("number", n.E164); err != nil {
		return Number{}, err
	}
	if !e164.MatchString(n.E164) {
		return Number{}, Invalidf("number", "must be E.164: a plus and 7 to 15 digits")
	}
	n.ID, n.Revision, n.CreatedAt = NewID(), 1, time.Now().UTC()
	n.UpdatedAt, n.Timezone = n.CreatedAt, cmp.Or(n.Timezone, "UTC")
	if err := s.validate(ctx, n); err != nil {
		return Number{}, err
	}
	if err := s.Store.InsertNumber(ctx, n); err != nil {
		return Number{}, fmt.Errorf("create number: %w", err)
	}
	return n, nil
}

// Update validates and stores n over its revision.
func (s *Numbers) Update(ctx context.Context, n Number) (Number, error) {
	n.Timezone = cmp.Or(n.Timezone, "UTC")
	if err := s.validate(ctx, n); err != nil {
		return Number{}, err
	}
	return s.Store.UpdateNumber(ctx, n)
}

func (s *Numbers) validate(ctx context.Context, n Number) error {
	if err := RefuseSecret("display_name", n.DisplayName); err != nil {
		return err
	}
	if len(n.DisplayName) > 100 {
		return Invalidf("display_name", "must be at most 100 bytes")
	}
	if err := s.exists(ctx, "agent_id", n.Agent); err != nil {
		return err
	}
	if n.Account != uuid.Nil {
		if _, err := s.Accounts.CarrierAccount(ctx, n.Account); err != nil {
			return NotFoundIs(err, Invalidf("carrier_account_id", "must name one of your carrier accounts: make it first, by POST /v1/carrier-accounts"))
		}
	}
	if _, err := zone(n.Timezone); err != nil {
		return Invalidf("timezone", "must be a zone of the IANA database, such as Europe/Paris")
	}
	if len(n.Routes) > MaxRoutes {
		return Invalidf("routes", "must be at most %d", MaxRoutes)
	}
	for i, r := range n.Routes {
		at := fmt.Sprintf("routes[%d].", i)
		if err := r.validate(at); err != nil {
			return err
		}
		if r.Agent == uuid.Nil {
			continue
		}
		if err := s.exists(ctx, at+"agent_id", r.Agent); err != nil {
			return err
		}
	}
	return nil
}

func (s *Numbers) exists(ctx context.Context, field string, agent uuid.UUID) error {
	_, err := s.Agents.Agent(ctx, agent)
	return NotFoundIs(err, Invalidf(field, "must name an agent"))
}
