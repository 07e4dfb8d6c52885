package api

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"time"

	"parley/control"
	"parley/control/identity"
)

// second is how a sign-in goes on after its first step, and how a signed-in
// person gives their second factor anew.
func (s *Server) second() error {
	mfa := signing("/v1/auth/mfa")
	mfa.Body = 64 << 10
	passkey := signing("/v1/auth/passkey")
	passkey.Body = 64 << 10
	own := func(pattern string, body int64) Route {
		return Route{Method: "POST", Pattern: pattern, Class: Tenanted, Permission: control.SignedIn, Limit: Limit{30, time.Minute}, Body: body}
	}
	return errors.Join(
		operation(s, mfa, "finish-login", "Give the second factor that a sign-in waits for", 200, s.finishLogin),
		operation(s, signing("/v1/auth/mfa/begin"), "begin-login-passkey", "Ask the browser for a passkey, as second factor of a sign-in", 200, s.beginLoginPasskey),
		operation(s, signing("/v1/auth/passkey/begin"), "begin-passkey-login", "Ask the browser for a passkey to sign in with, without a password", 200, s.beginPasskeyLogin),
		operation(s, passkey, "passkey-login", "Sign in by a passkey alone", 200, s.passkeyLogin),
		operation(s, own("/v1/auth/step-up/begin", NoBody), "begin-step-up", "Ask the browser for a passkey, to give the second factor anew", 200, s.beginStepUp),
		operation(s, own("/v1/auth/step-up", 64<<10), "step-up", "Give your second factor anew, for what asks for it", 200, s.stepUp),
	)
}

// A FactorProof is a second factor, of which one of the three is sent; exported
// for huma, as is PasskeyAnswer.
type FactorProof struct {
	Code     string         `json:"code,omitempty" maxLength:"16" doc:"Of the authenticator app."`
	Recovery string         `json:"recovery_code,omitempty" maxLength:"64"`
	Passkey  *PasskeyAnswer `json:"passkey,omitempty"`
}

func (p FactorProof) proof() identity.Proof {
	out := identity.Proof{Code: p.Code, Recovery: p.Recovery}
	if p.Passkey != nil {
		a := p.Passkey.assertion()
		out.Passkey = &a
	}
	return out
}

// A dueJSON tells a sign-in's first step from its end.
type dueJSON struct {
	Ticket  string    `json:"ticket" doc:"For POST /v1/auth/mfa, with the second factor."`
	Expires time.Time `json:"expires_at"`
	Ways    []string  `json:"ways" doc:"Which second factors there are: totp, passkey, recovery_code."`
}

func newDueJSON(t *identity.Ticket) *dueJSON {
	if t == nil {
		return nil
	}
	return &dueJSON{t.Secret, t.ExpiresAt.Truncate(time.Second), t.Ways}
}

// ticketName is the cookie of a sign-in that waits for its second factor, where
// no program is there to be given the ticket.
const ticketName = "parley_ticket"

func (s *Server) finishLogin(ctx context.Context, in *struct {
	Way
	Body struct {
		FactorProof
		Ticket string `json:"ticket,omitempty" maxLength:"100" doc:"Without: the browser's cookie, which an issuer's sign-in leaves."`
	}
}) (*openedOut, error) {
	ticket := cmp.Or(in.Body.Ticket, in.cookies[ticketName])
	o, given, err := s.o.Users.Finish(ctx, ticket, in.Body.proof(), in.client)
	if err != nil {
		return nil, lateTicket(err)
	}
	out := s.newOpenedOut(o)
	if given.Kind == "recovery" {
		out.Body.Left = &given.Left
	}
	return out, nil
}

func lateTicket(err error) error {
	if errors.Is(err, control.ErrCredentials) {
		return newProblem(401, "ticket_expired", "the sign-in took longer than five minutes, or is done: begin again")
	}
	return err
}

func (s *Server) beginLoginPasskey(ctx context.Context, in *struct {
	Way
	Body struct {
		Ticket string `json:"ticket,omitempty" maxLength:"100"`
	}
}) (*reply[ceremonyJSON], error) {
	c, err := s.o.Users.TicketChallenge(ctx, cmp.Or(in.Body.Ticket, in.cookies[ticketName]))
	return newCeremony(c, lateTicket(err))
}

func (s *Server) beginPasskeyLogin(ctx context.Context, _ *struct{}) (*reply[ceremonyJSON], error) {
	return newCeremony(s.o.Factors.Passwordless(ctx))
}

func (s *Server) passkeyLogin(ctx context.Context, in *struct {
	Browser
	Body struct {
		Passkey PasskeyAnswer `json:"passkey"`
	}
}) (*openedOut, error) {
	o, err := s.o.Users.ByPasskey(ctx, in.Body.Passkey.assertion(), in.client)
	if errors.Is(err, identity.ErrFactor) || errors.Is(err, control.ErrCredentials) {
		return nil, newProblem(401, "unauthenticated", "this passkey opens nothing here: sign in by your password")
	}
	if err != nil {
		return nil, err
	}
	return s.newOpenedOut(o), nil
}

func (s *Server) beginStepUp(ctx context.Context, _ *struct{}) (*reply[ceremonyJSON], error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	return newCeremony(s.o.Factors.Challenge(ctx, p.User))
}

type steppedOut struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
	Body      struct {
		Until time.Time `json:"until" doc:"Until then nothing asks for it again."`
		Left  *int      `json:"recovery_codes_left,omitempty"`
	}
}

func (s *Server) stepUp(ctx context.Context, in *struct{ Body FactorProof }) (*steppedOut, error) {
	p, err := person(ctx)
	if err != nil {
		return nil, err
	}
	given, err := s.o.Factors.StepUp(ctx, p, in.Body.proof())
	if errors.Is(err, control.ErrForbidden) {
		return nil, newProblem(403, "no_session", "this is for signed-in browsers; a program signs in anew, and its tokens then have the factor")
	}
	if err != nil {
		return nil, err
	}
	cookie, err := s.o.Users.Rotate(ctx, p) // it may do more from now on
	if err != nil {
		return nil, err
	}
	out := new(steppedOut)
	out.SetCookie = s.cookie(cookieName, cookie, int(identity.SessionLife.Seconds()))
	out.Body.Until = time.Now().UTC().Add(control.StepUpLife).Truncate(time.Second)
	if given.Kind == "recovery" {
		out.Body.Left = &given.Left
	}
	return out, nil
}
