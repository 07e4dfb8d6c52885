package api

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// HoldFields say what a legal hold keeps; exported for huma.
type HoldFields struct {
	CallID    *uuid.UUID `json:"call_id,omitempty" doc:"One call."`
	SessionID *uuid.UUID `json:"session_id,omitempty" doc:"One session; that of a call is the call."`
	Caller    string     `json:"caller,omitempty" maxLength:"200" doc:"All calls from and to a number."`
	User      string     `json:"user_id,omitempty" maxLength:"200" doc:"All sessions with a user, in the words of your own program."`
	Tenant    bool       `json:"tenant,omitempty" doc:"All there is."`
	Reason    string     `json:"reason" minLength:"1" maxLength:"1000" doc:"Such as the number of the case."`
}

type holdJSON struct {
	ID        uuid.UUID  `json:"id"`
	SessionID *uuid.UUID `json:"session_id,omitempty" doc:"The call or session."`
	Caller    string     `json:"caller,omitempty"`
	User      string     `json:"user_id,omitempty"`
	Tenant    bool       `json:"tenant"`
	Reason    string     `json:"reason"`
	PlacedBy  string     `json:"placed_by"`
	PlacedAt  time.Time  `json:"placed_at"`
	LiftedBy  string     `json:"lifted_by,omitempty"`
	LiftedAt  *time.Time `json:"lifted_at" doc:"Null: it holds."`
}

func newHoldJSON(h control.LegalHold) holdJSON {
	all := h.Object == uuid.Nil && h.Caller == "" && h.User == "" && h.Reason != "[erased]"
	return holdJSON{h.ID, someID(h.Object), h.Caller, h.User, all, h.Reason, h.PlacedBy, h.PlacedAt, h.LiftedBy, when(h.LiftedAt)}
}

func (f HoldFields) hold() (h control.LegalHold, err error) {
	h = control.LegalHold{ID: control.NewID(), Caller: strings.TrimSpace(f.Caller), User: strings.TrimSpace(f.User), Reason: strings.TrimSpace(f.Reason)}
	given := 0
	for _, id := range []*uuid.UUID{f.CallID, f.SessionID} {
		if id != nil && *id != uuid.Nil {
			h.Object = *id
			given++
		}
	}
	for _, is := range []bool{h.Caller != "", h.User != "", f.Tenant} {
		if is {
			given++
		}
	}
	switch {
	case given != 1:
		return h, control.Invalidf("caller", "must be given, or else call_id, session_id, user_id or tenant: one of them")
	case h.Reason == "":
		return h, control.Invalidf("reason", "must say why")
	}
	return h, nil
}

// HoldPath names a legal hold in a route; exported for huma, which fills it.
type HoldPath struct {
	ID uuid.UUID `path:"id" doc:"The hold's id."`
}

func (s *Server) legalHolds() error {
	manage := control.RecordsManage
	lift := writes("DELETE", "/v1/holds/{id}", manage, NoBody)
	lift.StepUp = true
	return errors.Join(
		operation(s, writes("POST", "/v1/holds", manage, 64<<10), "place-hold", "Keep what may not be deleted, by nobody and no period", 201, s.placeHold),
		operation(s, reads("/v1/holds", manage), "list-holds", "List legal holds, newest first", 200, s.listHolds),
		operation(s, reads("/v1/holds/{id}", manage), "get-hold", "Get a legal hold", 200, s.getHold),
		operation(s, lift, "lift-hold", "Lift a legal hold: what it kept goes by its own time", 200, s.liftHold),
	)
}

func (s *Server) placeHold(ctx context.Context, in *struct{ Body HoldFields }) (*reply[holdJSON], error) {
	h, err := in.Body.hold()
	if err != nil {
		return nil, err
	}
	h.PlacedBy = control.ActorOf(ctx)
	if h, err = s.o.Keeper.Store.PlaceHold(ctx, h); err != nil {
		return nil, err
	}
	return &reply[holdJSON]{newHoldJSON(h)}, nil
}

func (s *Server) listHolds(ctx context.Context, in *PageQuery) (*listOut[holdJSON], error) {
	list, err := s.o.Keeper.Store.LegalHolds(ctx, in.page())
	if err != nil {
		return nil, err
	}
	return newList(*in, list, newHoldJSON, func(h control.LegalHold) uuid.UUID { return h.ID }), nil
}

func (s *Server) getHold(ctx context.Context, in *HoldPath) (*reply[holdJSON], error) {
	h, err := s.o.Keeper.Store.LegalHold(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return &reply[holdJSON]{newHoldJSON(h)}, nil
}

func (s *Server) liftHold(ctx context.Context, in *HoldPath) (*reply[holdJSON], error) {
	h, err := s.o.Keeper.Store.LiftHold(ctx, in.ID, control.ActorOf(ctx))
	if err != nil {
		return nil, err
	}
	return &reply[holdJSON]{newHoldJSON(h)}, nil
}
