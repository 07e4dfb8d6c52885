package api

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/identity"
)

// factors is how people manage the second factors of their own.
func (s *Server) factors() error {
	own := func(method, pattern string, body int64) Route {
		return Route{Method: method, Pattern: "/v1/auth/factors" + pattern, Class: Tenanted, Permission: control.SignedIn,
			Limit: Limit{30, time.Minute}, Body: body}
	}
	dangerous := func(r Route) Route { r.StepUp = true; return r }
	reset := writes("DELETE", "/v1/users/{id}/factors", control.UsersManage, NoBody)
	reset.Class = Admin
	return errors.Join(
		operation(s, own("GET", "", NoBody), "list-factors", "List your second factors", 200, s.listFactors),
		operation(s, own("POST", "/totp", NoBody), "enrol-totp", "Begin with an authenticator app", 201, s.enrolTOTP),
		operation(s, own("POST", "/totp/confirm", 1<<10), "confirm-totp", "Confirm the authenticator app by a code", 200, s.confirmTOTP),
		operation(s, dangerous(own("DELETE", "/totp", NoBody)), "remove-totp", "Remove the authenticator app", 204, s.removeTOTP),
		operation(s, dangerous(own("POST", "/recovery-codes", NoBody)), "new-recovery-codes", "Make new recovery codes in the place of the old ones", 201, s.newCodes),
		operation(s, own("POST", "/passkey-challenge", NoBody), "begin-passkey", "Ask the browser for a new passkey", 201, s.beginPasskey),
		operation(s, own("POST", "/passkeys", 64<<10), "add-passkey", "Add the passkey that the browser made", 201, s.addPasskey),
		operation(s, own("PATCH", "/passkeys/{id}", 1<<10), "rename-passkey", "Call a passkey otherwise", 204, s.renamePasskey),
		operation(s, dangerous(own("DELETE", "/passkeys/{id}", NoBody)), "remove-passkey", "Remove a passkey", 204, s.removePasskey),
		operation(s, reset, "reset-factors", "Take all second factors of a member who has lost them", 204, s.resetFactors),
	)
}

// factorProblem is the answer to who lacks a second factor, or gives a wrong
// one; nil for other errors.
func factorProblem(err error) *Problem {
	switch {
	case errors.Is(err, control.ErrFactorMissing):
		return newProblem(403, "second_factor_required", "administering needs a second factor, and you have none: enrol one by POST /v1/auth/factors/totp or with a passkey")
	case errors.Is(err, control.ErrFactorOld):
		return newProblem(403, "second_factor_required", "administering needs your second factor of the last 12 hours: give it by POST /v1/auth/step-up")
	case errors.Is(err, control.ErrStepUp):
		return newProblem(403, "step_up_required", "this needs your second factor of the last 10 minutes: give it by POST /v1/auth/step-up, then ask again")
	case errors.Is(err, identity.ErrFactor):
		return newProblem(401, "wrong_factor", "the second factor does not hold, or was used already: wait for the next code, or take another factor")
	case errors.Is(err, identity.ErrNoPasskeys):
		return newProblem(409, "no_passkeys", "this server has no name that passkeys could belong to; use an authenticator app")
	}
	return nil
}

type passkeyJSON struct {
	ID         uuid.UUID  `json:"id"`
	Name       string     `json:"name"`
	CreatedAt  time.Time  `json:"created_at"`
	LastUsedAt *time.Time `json:"last_used_at"`
	Codes      []string   `json:"recovery_codes,omitempty" doc:"With the first factor: each lets you in once without it. Shown this once."`
}

func newPasskeyJSON(k identity.Passkey) passkeyJSON {
	return passkeyJSON{k.ID, k.Name, k.CreatedAt, when(k.LastUsedAt), nil}
}

type factorsJSON struct {
	TOTP     *time.Time    `json:"totp_since" doc:"Since when there is an authenticator app; null: there is none."`
	Passkeys []passkeyJSON `json:"passkeys"`
	Left     int           `json:"recovery_codes_left"`
}

func (s *Server) listFactors(ctx context.Context, _ *struct{}) (*reply[factorsJSON], error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	held, err := s.o.Factors.Held(ctx, p.User)
	if err != nil {
		return nil, err
	}
	out := factorsJSON{TOTP: when(held.ConfirmedAt), Passkeys: []passkeyJSON{}, Left: held.CodesLeft}
	for _, k := range held.Passkeys {
		out.Passkeys = append(out.Passkeys, newPasskeyJSON(k))
	}
	return &reply[factorsJSON]{out}, nil
}

// enrolling is person, who must give a factor first if they have one: who came
// by a stolen session must not add their own.
func enrolling(ctx context.Context) (control.Principal, error) {
	p, err := person(ctx)
	if err == nil {
		err = control.FactorEnrolled.Demand(p, false, true, time.Now())
	}
	return p, err
}

type enrolmentJSON struct {
	Secret string `json:"secret" doc:"For typing into the app. Shown this once."`
	URL    string `json:"url" doc:"otpauth address, for a QR code."`
}

func (s *Server) enrolTOTP(ctx context.Context, _ *struct{}) (*reply[enrolmentJSON], error) {
	p, err := enrolling(ctx)
	if err != nil {
		return nil, err
	}
	e, err := s.o.Factors.EnrolTOTP(ctx, p)
	if err != nil {
		return nil, err
	}
	return &reply[enrolmentJSON]{enrolmentJSON{e.Secret, e.URL}}, nil
}

type codesJSON struct {
	Codes []string `json:"recovery_codes,omitempty" doc:"Each lets you in once without your factor. Shown this once; keep them apart from it."`
}

func (s *Server) confirmTOTP(ctx context.Context, in *struct {
	Body struct {
		Code string `json:"code" maxLength:"16"`
	}
}) (*reply[codesJSON], error) {
	p, err := enrolling(ctx)
	if err != nil {
		return nil, err
	}
	codes, err := s.o.Factors.ConfirmTOTP(ctx, p, in.Body.Code)
	if err != nil {
		return nil, err
	}
	return &reply[codesJSON]{codesJSON{codes}}, nil
}

func (s *Server) removeTOTP(ctx context.Context, _ *struct{}) (*struct{}, error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	return nil, s.o.Factors.RemoveTOTP(ctx, p)
}

func (s *Server) newCodes(ctx context.Context, _ *struct{}) (*reply[codesJSON], error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	held, err := s.o.Factors.Held(ctx, p.User)
	if err == nil && !held.Any() {
		err = control.ErrFactorMissing
	}
	if err != nil {
		return nil, err
	}
	codes, err := s.o.Factors.NewCodes(ctx, p)
	if err != nil {
		return nil, err
	}
	return &reply[codesJSON]{codesJSON{codes}}, nil
}

type ceremonyJSON struct {
	Ceremony string `json:"ceremony" doc:"To be sent back with the answer; good once, for five minutes."`
	Options  any    `json:"options" doc:"What navigator.credentials.create or .get takes, in its JSON form."`
}

func newCeremony(c identity.Ceremony, err error) (*reply[ceremonyJSON], error) {
	if err != nil {
		return nil, err
	}
	return &reply[ceremonyJSON]{ceremonyJSON{c.Secret, c.Options}}, nil
}

// An PasskeyAnswer is a browser's answer to a ceremony.
type PasskeyAnswer struct {
	Ceremony   string         `json:"ceremony" maxLength:"100"`
	Credential map[string]any `json:"credential" doc:"What the browser's PublicKeyCredential.toJSON() gives."`
}

func (a PasskeyAnswer) assertion() identity.Assertion {
	raw, _ := json.Marshal(a.Credential) // was JSON a moment ago
	return identity.Assertion{Ceremony: a.Ceremony, Credential: raw}
}

func (s *Server) beginPasskey(ctx context.Context, _ *struct{}) (*reply[ceremonyJSON], error) {
	p, err := enrolling(ctx)
	if err != nil {
		return nil, err
	}
	return newCeremony(s.o.Factors.BeginPasskey(ctx, p))
}

func (s *Server) addPasskey(ctx context.Context, in *struct {
	Body struct {
		PasskeyAnswer
		Name string `json:"name" maxLength:"100"`
	}
}) (*reply[passkeyJSON], error) {
	p, err := enrolling(ctx)
	if err != nil {
		return nil, err
	}
	k, codes, err := s.o.Factors.AddPasskey(ctx, p, in.Body.Name, in.Body.assertion())
	if err != nil {
		return nil, err
	}
	out := newPasskeyJSON(k)
	out.Codes = codes
	return &reply[passkeyJSON]{out}, nil
}

func (s *Server) renamePasskey(ctx context.Context, in *struct {
	ID   uuid.UUID `path:"id"`
	Body struct {
		Name string `json:"name" maxLength:"100"`
	}
}) (*struct{}, error) {
	return nil, s.o.Factors.RenamePasskey(ctx, control.PrincipalOf(ctx), in.ID, in.Body.Name)
}

func (s *Server) removePasskey(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
}) (*struct{}, error) {
	return nil, s.o.Factors.RemovePasskey(ctx, control.PrincipalOf(ctx), in.ID)
}

func (s *Server) resetFactors(ctx context.Context, in *struct {
	ID uuid.UUID `path:"id"`
}) (*struct{}, error) {
	return nil, s.o.Factors.Reset(ctx, in.ID)
}
