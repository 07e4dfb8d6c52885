package outbound

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

const (
	// maxAhead is how far ahead a call may be scheduled.
	maxAhead = 90 * 24 * time.Hour
	// expiry is how long after its time an order may still be begun.
	expiry = 24 * time.Hour

	maxVariables = 16 << 10 // bytes of JSON
	maxMessage   = 1000     // characters
	maxText      = 200
)

// Orders takes orders to call.
type Orders struct {
	Store    Store
	Changes  Changes
	Policies Policies
	Agents   AgentFinder
	Risky    Prefixes // the operator's list
	Fraud    *Watch   // nil: nobody watches for it
	// Places tells whether calls can be placed on an account, zero being the
	// operator's. Nil: on none.
	Places func(account uuid.UUID) bool
	// Wake is told of an order that is due. Nil: it is found within a second.
	Wake func()
	// Hangup ends the open attempt of a dial that is taken back. Nil: it rings out.
	Hangup func(ctx context.Context, a Attempt) error
}

// AgentFinder finds an agent of ctx's tenant by id or name.
type AgentFinder interface {
	Find(ctx context.Context, idOrName string) (context.Context, control.Agent, error)
}

// An Order is what a client asks for.
type Order struct {
	Agent     string // id or name
	To, From  string
	At        time.Time // zero: now
	Settings  Settings
	Variables map[string]any
	Reference string
	AnyHour   bool
}

// Create takes an order. It is due when it says, or when the callee's quiet
// hours are over. Errors: [*control.Invalid]; ErrForbidden with the reason for
// quiet hours that only [control.CallsAnyHour] steps over; [ErrStopped].
func (s *Orders) Create(ctx context.Context, o Order) (Dial, error) {
	now := time.Now().UTC()
	d := Dial{ID: control.NewID(), To: o.To, From: o.From, Status: Scheduled, Settings: o.Settings, Variables: o.Variables,
		Reference: o.Reference, AnyHour: o.AnyHour, CreatedBy: control.ActorOf(ctx), CreatedAt: now}
	if err := d.clean(); err != nil {
		return d, err
	}
	if o.AnyHour && control.Allow(control.PrincipalOf(ctx), control.CallsAnyHour, control.Object{}) != nil {
		return d, control.Refuse(control.ErrForbidden, "only who has %s may call in quiet hours; leave quiet_hours out", control.CallsAnyHour)
	}
	_, agent, err := s.Agents.Find(ctx, o.Agent)
	if errors.Is(err, control.ErrNotFound) {
		return d, control.Invalidf("agent_id", "must name an agent")
	}
	if err != nil {
		return d, err
	}
	d.Agent = agent.ID
	callee, p, err := s.check(ctx, d)
	if err != nil {
		return d, err
	}
	d.Country = callee.Destination()
	at := o.At.UTC()
	if o.At.IsZero() || at.Before(now) {
		at = now
	}
	if at.After(now.Add(maxAhead)) {
		return d, control.Invalidf("at", "must be within 90 days")
	}
	if err := p.moved(&d, callee, at); err != nil {
		return d, control.Invalidf("to", noHour)
	}
	d.ExpiresAt = d.DueAt.Add(expiry)
	if err := s.Store.InsertDial(ctx, d); err != nil {
		return d, fmt.Errorf("order a call: %w", err)
	}
	if s.Wake != nil && !d.DueAt.After(now) {
		s.Wake()
	}
	return d, nil
}

// noHour refuses a number of which nobody can say when it may be called.
const noHour = "lies in several time zones, and at no hour all of them may be called: have the quiet hours of the outbound policy shortened, or send quiet_hours ignore as who has calls.any_hour"

// errNoCarrier refuses orders that nobody would carry out.
var errNoCarrier = control.Refuse(control.ErrUnavailable, "no carrier is set up to call from this number: "+
	"put it on an account of yours (POST /v1/carrier-accounts), or have the operator set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN; PARLEY_PUBLIC_URL is needed either way")

// check holds an order against numbers, policy and signals of fraud.
func (s *Orders) check(ctx context.Context, d Dial) (Callee, Policy, error) {
	p, err := s.Policies.OutboundPolicy(ctx)
	if err != nil {
		return Callee{}, p, err
	}
	stop, err := s.Fraud.Stopped(ctx)
	if err != nil {
		return Callee{}, p, err
	}
	if stop.Holds() {
		tenant, _ := control.TenantOf(ctx)
		return Callee{}, p, stop.refusal(tenant)
	}
	callee, err := Inspect(d.To, s.Risky)
	if err != nil {
		return callee, p, err
	}
	account, err := s.Store.AccountOf(ctx, d.From)
	if errors.Is(err, control.ErrNotFound) {
		return callee, p, control.Invalidf("from", "must be a number of yours; see /v1/numbers")
	}
	if err != nil {
		return callee, p, err
	}
	if s.Places == nil || !s.Places(account) {
		return callee, p, errNoCarrier
	}
	from, _ := Inspect(d.From, nil) // for its country: the carrier may know more numbers than our tables
	if p.Consent && (d.Settings.Consent == nil || !d.Settings.Consent.Given) {
		return callee, p, control.Invalidf("consent", "the callee's consent is required: send given, source and at, or ask an administrator to change the outbound policy")
	}
	if err := s.Fraud.Refused(ctx, callee); err != nil {
		return callee, p, err
	}
	return callee, p, p.allows(callee, from)
}

// clean puts defaults where nothing is said.
func (d *Dial) clean() error {
	set := &d.Settings
	set.Voicemail.Mode = cmp.Or(set.Voicemail.Mode, HangUp)
	set.Retry.Attempts = cmp.Or(set.Retry.Attempts, 1)
	set.Retry.BackoffSeconds = cmp.Or(set.Retry.BackoffSeconds, 600)
	set.RingSeconds = cmp.Or(set.RingSeconds, 30)
	set.MaxSeconds = cmp.Or(set.MaxSeconds, 600)
	if len(set.Retry.On) == 0 {
		set.Retry.On = []string{OutcomeBusy, OutcomeNoAnswer, OutcomeFailed}
	}
	for _, on := range set.Retry.On {
		if !slices.Contains([]string{OutcomeBusy, OutcomeNoAnswer, OutcomeFailed}, on) {
			return control.Invalidf("retry.on", "must be of busy, no_answer, failed")
		}
	}
	for _, b := range []struct {
		field          string
		n, least, most int
	}{{"retry.attempts", set.Retry.Attempts, 1, 10}, {"retry.backoff_seconds", set.Retry.BackoffSeconds, 30, 86_400},
		{"ring_seconds", set.RingSeconds, 5, 600}, {"max_seconds", set.MaxSeconds, 10, 14_400}} {
		if b.n < b.least || b.n > b.most {
			return control.Invalidf(b.field, "must be %d to %d", b.least, b.most)
		}
	}
	switch v := set.Voicemail; {
	case v.Mode != HangUp && v.Mode != LeaveMessage:
		return control.Invalidf("voicemail.mode", "must be hang_up or leave_message")
	case v.Mode == LeaveMessage && v.Message == "":
		return control.Invalidf("voicemail.message", "must say what is left")
	case len([]rune(v.Message)) > maxMessage:
		return control.Invalidf("voicemail.message", "must be at most %d characters", maxMessage)
	}
	if c := set.Consent; c != nil && c.Given && (c.Source == "" || len(c.Source) > maxText || c.At.IsZero()) {
		return control.Invalidf("consent", "needs source, of at most %d bytes, and at: where and when it was given", maxText)
	}
	if len(d.Reference) > maxText {
		return control.Invalidf("reference", "must be at most %d bytes", maxText)
	}
	if text, err := json.Marshal(d.Variables); err != nil || len(text) > maxVariables {
		return control.Invalidf("variables", "must be at most %d bytes of JSON", maxVariables)
	}
	return nil
}

// Cancel takes a dial back. One that rings is hung up; [Canceled] is its state
// once the carrier says so. ErrEnded for one that is over, ErrConflict for one
// that was answered.
func (s *Orders) Cancel(ctx context.Context, id uuid.UUID) (Dial, error) {
	attempts, err := s.Store.AttemptsOf(ctx, id)
	if err != nil {
		return Dial{}, err
	}
	d, err := s.Changes.ChangeDial(ctx, id, func(d *Dial) error {
		switch {
		case !d.FinishedAt.IsZero():
			return control.ErrEnded
		case d.Status == Scheduled:
			d.finish(Canceled, OutcomeCanceled, time.Now().UTC())
		case len(attempts) > 0 && attempts[len(attempts)-1].Status == Answered:
			return control.Refuse(control.ErrConflict, "it is answered; hang up its call instead")
		default:
			d.Reason = ReasonCanceling
		}
		return nil
	})
	if err != nil || d.Status != Dialling || s.Hangup == nil || len(attempts) == 0 {
		return d, err
	}
	if last := attempts[len(attempts)-1]; last.SID != "" {
		err = s.Hangup(ctx, last)
	}
	return d, err
}
