package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

type numberJSON struct {
	ID        uuid.UUID `json:"id"`
	Number    string    `json:"number"`
	AgentID   uuid.UUID `json:"agent_id"`
	CreatedAt time.Time `json:"created_at"`
}

func newNumberJSON(n control.Number) numberJSON {
	return numberJSON{n.ID, n.E164, n.Agent, n.CreatedAt}
}

func (s *Server) numbers() error {
	return errors.Join(
		operation(s, reads("/v1/numbers", control.NumbersRead), "list-numbers", "List numbers", 200, s.listNumbers),
		operation(s, writes("POST", "/v1/numbers", control.NumbersWrite, 4<<10), "create-number", "Give a number to an agent", 201, s.createNumber),
	)
}

func (s *Server) listNumbers(ctx context.Context, in *PageQuery) (*listOut[numberJSON], error) {
	rows, err := s.o.Numbers.Store.Numbers(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, rows, newNumberJSON, func(n control.Number) uuid.UUID { return n.ID }), nil
}

func (s *Server) createNumber(ctx context.Context, in *struct {
	Body struct {
		Number  string    `json:"number" doc:"E.164, with the plus."`
		AgentID uuid.UUID `json:"agent_id"`
	}
}) (*reply[numberJSON], error) {
	n, err := s.o.Numbers.Create(ctx, in.Body.Number, in.Body.AgentID)
	if err != nil {
		return nil, err
	}
	return &reply[numberJSON]{newNumberJSON(n)}, nil
}
