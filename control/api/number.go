package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

type numberJSON struct {
	ID               uuid.UUID       `json:"id"`
	Number           string          `json:"number"`
	DisplayName      string          `json:"display_name"`
	AgentID          uuid.UUID       `json:"agent_id" doc:"Who answers where no route fits."`
	CarrierAccountID *uuid.UUID      `json:"carrier_account_id" doc:"Of yours, at the carrier; null: the operator's."`
	Timezone         string          `json:"timezone"`
	Routes           []control.Route `json:"routes"`
	Revision         int             `json:"revision"`
	CreatedAt        time.Time       `json:"created_at"`
	UpdatedAt        time.Time       `json:"updated_at"`
}

func newNumberJSON(n control.Number) numberJSON {
	return numberJSON{n.ID, n.E164, n.DisplayName, n.Agent, someID(n.Account), n.Timezone, append([]control.Route{}, n.Routes...),
		n.Revision, n.CreatedAt, n.UpdatedAt}
}

type numberOut struct {
	ETag string `header:"ETag"`
	Body numberJSON
}

func newNumberOut(n control.Number) *numberOut { return &numberOut{etag(n.Revision), newNumberJSON(n)} }

// NumberPath names a number in a route; exported for huma, which fills it.
type NumberPath struct {
	ID uuid.UUID `path:"id"`
}

func (s *Server) numbers() error {
	read, write := control.NumbersRead, control.NumbersWrite
	return errors.Join(
		operation(s, reads("/v1/numbers", read), "list-numbers", "List numbers", 200, s.listNumbers),
		operation(s, reads("/v1/numbers/{id}", read), "get-number", "Get a number", 200, s.getNumber),
		operation(s, writes("POST", "/v1/numbers", write, 64<<10), "create-number", "Give a number to an agent", 201, s.createNumber),
		operation(s, writes("PATCH", "/v1/numbers/{id}", write, 64<<10), "change-number", "Change who answers a number", 200, s.changeNumber),
		operation(s, writes("DELETE", "/v1/numbers/{id}", write, NoBody), "delete-number", "Take a number away", 204, s.deleteNumber),
		operation(s, reads("/v1/numbers/{id}/route", read), "route-number", "Say who would answer at a time, and why", 200, s.routeNumber),
	)
}

func (s *Server) listNumbers(ctx context.Context, in *PageQuery) (*listOut[numberJSON], error) {
	rows, err := s.o.Numbers.Store.Numbers(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newNumberJSON, func(n control.Number) uuid.UUID { return n.ID }), nil
}

func (s *Server) getNumber(ctx context.Context, in *NumberPath) (*numberOut, error) {
	n, err := s.o.Numbers.Store.Number(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return newNumberOut(n), nil
}

func (s *Server) createNumber(ctx context.Context, in *struct {
	Body struct {
		Number           string          `json:"number" doc:"E.164, with the plus."`
		DisplayName      string          `json:"display_name,omitempty" maxLength:"100"`
		AgentID          uuid.UUID       `json:"agent_id" doc:"Who answers where no route fits."`
		CarrierAccountID *uuid.UUID      `json:"carrier_account_id,omitempty" doc:"Of yours, whose token signs the number's webhooks; without, the operator's."`
		Timezone         string          `json:"timezone,omitempty" maxLength:"64" doc:"IANA, such as Europe/Paris, that routes are read in. Default UTC."`
		Routes           []control.Route `json:"routes,omitempty" maxItems:"50" doc:"The first that fits the time counts."`
	}
}) (*numberOut, error) {
	b := in.Body
	n := control.Number{E164: b.Number, DisplayName: b.DisplayName, Agent: b.AgentID, Timezone: b.Timezone, Routes: b.Routes}
	if b.CarrierAccountID != nil {
		n.Account = *b.CarrierAccountID
	}
	n, err := s.o.Numbers.Create(ctx, n)
	if err != nil {
		return nil, err
	}
	return newNumberOut(n), nil
}

func (s *Server) changeNumber(ctx context.Context, in *struct {
	NumberPath
	Match
	Body struct {
		DisplayName      *string          `json:"display_name,omitempty" maxLength:"100"`
		AgentID          *uuid.UUID       `json:"agent_id,omitempty"`
		CarrierAccountID *uuid.UUID       `json:"carrier_account_id,omitempty" doc:"00000000-0000-0000-0000-000000000000: the operator's."`
		Timezone         *string          `json:"timezone,omitempty" maxLength:"64"`
		Routes           *[]control.Route `json:"routes,omitempty" maxItems:"50" doc:"Replaces all routes."`
	}
}) (*numberOut, error) {
	n, err := s.o.Numbers.Store.Number(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	if err := in.onto(&n.Revision); err != nil {
		return nil, err
	}
	set(&n.DisplayName, in.Body.DisplayName)
	set(&n.Agent, in.Body.AgentID)
	set(&n.Account, in.Body.CarrierAccountID)
	set(&n.Timezone, in.Body.Timezone)
	set(&n.Routes, in.Body.Routes)
	if n, err = s.o.Numbers.Update(ctx, n); err != nil {
		return nil, in.matched(err)
	}
	return newNumberOut(n), nil
}

func (s *Server) deleteNumber(ctx context.Context, in *struct {
	NumberPath
	Match
}) (*struct{}, error) {
	revision, err := in.revision()
	if err != nil {
		return nil, err
	}
	return nil, in.matched(s.o.Numbers.Store.DeleteNumber(ctx, in.ID, revision))
}

type routeJSON struct {
	At        time.Time  `json:"at"`
	LocalTime string     `json:"local_time" doc:"In the number's time zone."`
	Route     *int       `json:"route" doc:"Which of the number's routes fits, counted from 0; null: none, and the number's agent answers."`
	Name      string     `json:"name,omitempty" doc:"Of that route."`
	AgentID   *uuid.UUID `json:"agent_id" doc:"Who answers; null where nobody does."`
	Message   string     `json:"message,omitempty" doc:"What the caller is told instead."`
	Transfer  string     `json:"transfer_to,omitempty" doc:"Where the caller is connected instead."`
}

func (s *Server) routeNumber(ctx context.Context, in *struct {
	NumberPath
	At time.Time `query:"at" doc:"Default now."`
}) (*reply[routeJSON], error) {
	n, err := s.o.Numbers.Store.Number(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	at := in.At
	if at.IsZero() {
		at = time.Now()
	}
	d, err := n.At(at)
	if err != nil {
		return nil, err
	}
	out := routeJSON{At: at.UTC(), LocalTime: d.LocalTime.Format(time.RFC3339), AgentID: someID(d.Agent), Message: d.Message, Transfer: d.Transfer}
	if d.Route >= 0 {
		out.Route, out.Name = &d.Route, n.Routes[d.Route].Name
	}
	if d.Message != "" || d.Transfer != "" {
		out.AgentID = nil
	}
	return &reply[routeJSON]{out}, nil
}
