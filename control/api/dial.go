package api

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"parley/control"
	"parley/control/outbound"
)

type consentJSON struct {
	Given  bool      `json:"given"`
	Source string    `json:"source,omitempty" maxLength:"200" doc:"Where it was given: web form, contract."`
	At     time.Time `json:"at,omitzero"`

	Recording bool `json:"recording,omitempty" doc:"To being recorded, too: see the agent's recording."`
}

type voicemailJSON struct {
	Mode    string `json:"mode" enum:"hang_up,leave_message"`
	Message string `json:"message,omitempty" maxLength:"1000" doc:"Spoken after the beep."`
}

type retryJSON struct {
	Attempts       int      `json:"attempts" minimum:"1" maximum:"10" doc:"In all."`
	BackoffSeconds int      `json:"backoff_seconds,omitempty" minimum:"30" maximum:"86400" doc:"Before the second; then doubled. Default 600."`
	On             []string `json:"on,omitempty" enum:"busy,no_answer,failed" doc:"Default all."`
}

// DialFields are an order to call; exported for huma.
type DialFields struct {
	Via         string         `json:"via,omitempty" enum:"phone,webrtc" doc:"Default phone. webrtc: nobody is called; the answer says how a browser joins."`
	AgentID     string         `json:"agent_id" maxLength:"100" doc:"The agent's id or name."`
	To          string         `json:"to,omitempty" maxLength:"20" doc:"E.164, with the plus."`
	From        string         `json:"from,omitempty" maxLength:"20" doc:"A number of yours."`
	At          *time.Time     `json:"at,omitempty" doc:"When; default now. Within 90 days."`
	Consent     *consentJSON   `json:"consent,omitempty" doc:"The callee's, for which you vouch."`
	QuietHours  string         `json:"quiet_hours,omitempty" enum:"keep,ignore" doc:"Default keep: a call that lies in the callee's quiet hours is moved behind them. ignore needs calls.any_hour."`
	Variables   map[string]any `json:"variables,omitempty" doc:"What the flow, or the prompt, knows from the start."`
	Voicemail   *voicemailJSON `json:"voicemail,omitempty" doc:"What a machine gets; default hang_up."`
	Retry       *retryJSON     `json:"retry,omitempty"`
	RingSeconds int            `json:"ring_seconds,omitempty" minimum:"5" maximum:"600" doc:"Default 30."`
	MaxSeconds  int            `json:"max_seconds,omitempty" minimum:"10" maximum:"14400" doc:"Of the conversation. Default 600."`
	Reference   string         `json:"reference,omitempty" maxLength:"200" doc:"Your own, to find the order by."`
	Origin      string         `json:"origin,omitempty" maxLength:"300" doc:"webrtc: of the page that will call, https://host; absent for programs."`
}

type dialJSON struct {
	ID           uuid.UUID      `json:"id"`
	Via          string         `json:"via" enum:"phone,webrtc"`
	AgentID      uuid.UUID      `json:"agent_id"`
	To           string         `json:"to,omitempty"`
	From         string         `json:"from,omitempty"`
	Status       string         `json:"status" enum:"scheduled,dialling,completed,failed,canceled,joinable"`
	DueAt        *time.Time     `json:"due_at" doc:"Of the next attempt, while it is scheduled."`
	MovedFrom    *time.Time     `json:"moved_from" doc:"When it was to be, before quiet hours moved it."`
	Reason       string         `json:"reason,omitempty" doc:"Why it was moved, or waits: quiet_hours, retry, concurrency, number_concurrency, rate, daily_spend, limits_unavailable, callee_is_called, blocked, carrier_busy, carrier_credentials, carrier_unavailable, canceling."`
	ExpiresAt    *time.Time     `json:"expires_at" doc:"It is not begun later."`
	Consent      *consentJSON   `json:"consent,omitempty"`
	QuietHours   string         `json:"quiet_hours,omitempty" enum:"keep,ignore"`
	Variables    map[string]any `json:"variables,omitempty"`
	Voicemail    *voicemailJSON `json:"voicemail,omitempty"`
	Retry        *retryJSON     `json:"retry,omitempty"`
	RingSeconds  int            `json:"ring_seconds,omitempty"`
	MaxSeconds   int            `json:"max_seconds,omitempty"`
	Reference    string         `json:"reference,omitempty"`
	AttemptsMade int            `json:"attempts_made"`
	Outcome      string         `json:"outcome,omitempty" doc:"answered, message, machine, busy, no_answer, failed, canceled, refused, expired."`
	ErrorCode    string         `json:"error_code,omitempty" doc:"Of the last attempt: the carrier's number, or policy."`
	Error        string         `json:"error,omitempty" doc:"The same in words."`
	CreatedAt    time.Time      `json:"created_at"`
	FinishedAt   *time.Time     `json:"finished_at"`
	Attempts     []tryJSON      `json:"attempts,omitempty" doc:"Of one dial alone."`
	Join         *joinJSON      `json:"join,omitempty" doc:"via webrtc: how to join."`
}

type tryJSON struct {
	ID         uuid.UUID  `json:"id" doc:"Of the call too, once the carrier has it."`
	Number     int        `json:"number"`
	CallSID    string     `json:"carrier_call_id,omitempty"`
	Status     string     `json:"status" enum:"intended,placed,ringing,answered,ended"`
	StartedAt  time.Time  `json:"started_at"`
	AnsweredAt *time.Time `json:"answered_at"`
	EndedAt    *time.Time `json:"ended_at"`
	AnsweredBy string     `json:"answered_by,omitempty" doc:"The carrier's word: human, machine_end_beep, fax, unknown."`
	Outcome    string     `json:"outcome,omitempty"`
	ErrorCode  string     `json:"error_code,omitempty"`
	Error      string     `json:"error,omitempty"`
	Cost       float64    `json:"cost" doc:"By the operator's table; while it is open, what is set aside for it."`
}

type joinJSON struct {
	URL       string    `json:"url" doc:"POST the offer here, with the token as bearer."`
	Token     string    `json:"token"`
	ExpiresAt time.Time `json:"expires_at"`
}

func newDialJSON(d outbound.Dial) dialJSON {
	s := d.Settings
	out := dialJSON{ID: d.ID, Via: "phone", AgentID: d.Agent, To: d.To, From: d.From, Status: d.Status, Reason: d.Reason,
		MovedFrom: when(d.MovedFrom), ExpiresAt: when(d.ExpiresAt), QuietHours: "keep", Variables: d.Variables,
		Voicemail: &voicemailJSON{s.Voicemail.Mode, s.Voicemail.Message}, Retry: &retryJSON{s.Retry.Attempts, s.Retry.BackoffSeconds, s.Retry.On},
		RingSeconds: s.RingSeconds, MaxSeconds: s.MaxSeconds, Reference: d.Reference, AttemptsMade: d.Attempts, Outcome: d.Outcome,
		ErrorCode: d.ErrorCode, Error: d.Error, CreatedAt: d.CreatedAt, FinishedAt: when(d.FinishedAt)}
	if d.Status == outbound.Scheduled {
		out.DueAt = when(d.DueAt)
	}
	if d.AnyHour {
		out.QuietHours = "ignore"
	}
	if c := s.Consent; c != nil {
		out.Consent = &consentJSON{c.Given, c.Source, c.At, c.Recording}
	}
	return out
}

func newTryJSON(a outbound.Attempt) tryJSON {
	return tryJSON{a.ID, a.Number, a.SID, a.Status, a.StartedAt, when(a.AnsweredAt), when(a.EndedAt), a.AnsweredBy,
		a.Outcome, a.ErrorCode, a.Error, float64(a.Cost) / 1e6}
}

// order reads the fields of a telephone call.
func (f DialFields) order() outbound.Order {
	o := outbound.Order{Agent: f.AgentID, To: f.To, From: f.From, Variables: f.Variables, Reference: f.Reference, AnyHour: f.QuietHours == "ignore"}
	o.Settings.RingSeconds, o.Settings.MaxSeconds = f.RingSeconds, f.MaxSeconds
	if f.At != nil {
		o.At = *f.At
	}
	if c := f.Consent; c != nil {
		o.Settings.Consent = &outbound.Consent{Given: c.Given, Source: c.Source, At: c.At.UTC(), Recording: c.Recording}
	}
	if v := f.Voicemail; v != nil {
		o.Settings.Voicemail = outbound.Voicemail{Mode: v.Mode, Message: v.Message}
	}
	if r := f.Retry; r != nil {
		o.Settings.Retry = outbound.Retry{Attempts: r.Attempts, BackoffSeconds: r.BackoffSeconds, On: r.On}
	}
	return o
}

// DialPath names a dial in a route; exported for huma, which fills it.
type DialPath struct {
	ID uuid.UUID `path:"id" doc:"The dial's id."`
}

type dialsIn struct {
	PageQuery
	Status    string    `query:"status" enum:"scheduled,dialling,completed,failed,canceled"`
	To        string    `query:"to" maxLength:"20"`
	Reference string    `query:"reference" maxLength:"200"`
	Agent     uuid.UUID `query:"agent_id"`
}

type dialOut struct {
	Location string `header:"Location"`
	Body     dialJSON
}

func (s *Server) dials() error {
	create := writes("POST", "/v1/calls", control.CallsStart, 64<<10)
	create.Limit = Limit{1200, time.Minute} // the tenant's own policy bounds what is called
	return errors.Join(
		operation(s, create, "create-call", "Have an agent call somebody, now or later", 202, s.createDial),
		operation(s, reads("/v1/dials", control.CallsRead), "list-dials", "List orders to call, newest first", 200, s.listDials),
		operation(s, reads("/v1/dials/{id}", control.CallsRead), "get-dial", "An order to call, with its attempts", 200, s.getDial),
		operation(s, writes("POST", "/v1/dials/{id}/cancel", control.CallsStart, NoBody), "cancel-dial", "Take an order back; what rings is hung up", 200, s.cancelDial),
		s.outboundPolicy(),
	)
}

// errNoOrders is the answer of a server that was built to place none.
var errNoOrders = control.Refuse(control.ErrUnavailable, "this server places no calls")

func (s *Server) createDial(ctx context.Context, in *struct{ Body DialFields }) (*dialOut, error) {
	if err := control.RefuseSecret("reference", in.Body.Reference); err != nil {
		return nil, err
	}
	if in.Body.Via == "webrtc" {
		return s.joinByBrowser(ctx, in.Body)
	}
	if s.o.Orders == nil {
		return nil, errNoOrders
	}
	d, err := s.o.Orders.Create(ctx, in.Body.order())
	if errors.Is(err, outbound.ErrStopped) {
		return nil, newProblem(403, "outbound_stopped", told(err, "outbound calls are stopped"))
	}
	if err != nil {
		return nil, err
	}
	return &dialOut{"/v1/dials/" + d.ID.String(), newDialJSON(d)}, nil
}

// joinByBrowser calls nobody: it says how a browser opens the call. Nothing is
// kept of it.
func (s *Server) joinByBrowser(ctx context.Context, f DialFields) (*dialOut, error) {
	_, a, err := s.o.Agents.Find(ctx, f.AgentID)
	if errors.Is(err, control.ErrNotFound) {
		return nil, control.Invalidf("agent_id", "must name an agent")
	}
	if err != nil {
		return nil, err
	}
	if f.Origin != "" && !control.IsOrigin(f.Origin) {
		return nil, control.Invalidf("origin", "must be a page's origin: https://host")
	}
	if len(f.Variables) > 0 || f.At != nil || f.To != "" {
		return nil, control.Invalidf("via", "webrtc takes no to, at or variables")
	}
	token, expires, err := s.o.Tokens.Mint(ctx, a.ID, f.Origin)
	if err != nil {
		return nil, err
	}
	url := s.o.PublicURL + "/webrtc/" + a.ID.String()
	return &dialOut{url, dialJSON{ID: control.NewID(), Via: "webrtc", AgentID: a.ID, Status: "joinable", Reference: f.Reference,
		CreatedAt: time.Now().UTC(), Join: &joinJSON{url, token, expires}}}, nil
}

func (s *Server) listDials(ctx context.Context, in *dialsIn) (*listOut[dialJSON], error) {
	rows, err := s.o.Dials.Dials(ctx, outbound.Filter{Page: in.page(), Status: in.Status, To: in.To, Reference: in.Reference, Agent: in.Agent})
	if err != nil {
		return nil, err
	}
	return newList(in.PageQuery, rows, newDialJSON, func(d outbound.Dial) uuid.UUID { return d.ID }), nil
}

func (s *Server) getDial(ctx context.Context, in *DialPath) (*reply[dialJSON], error) {
	d, err := s.o.Dials.Dial(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.wholeDial(ctx, d)
}

func (s *Server) wholeDial(ctx context.Context, d outbound.Dial) (*reply[dialJSON], error) {
	attempts, err := s.o.Dials.AttemptsOf(ctx, d.ID)
	if err != nil {
		return nil, err
	}
	out := newDialJSON(d)
	for _, a := range attempts {
		out.Attempts = append(out.Attempts, newTryJSON(a))
	}
	return &reply[dialJSON]{out}, nil
}

func (s *Server) cancelDial(ctx context.Context, in *DialPath) (*reply[dialJSON], error) {
	if s.o.Orders == nil {
		return nil, errNoOrders
	}
	d, err := s.o.Orders.Cancel(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	return s.wholeDial(ctx, d)
}
