package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/agent/flow"
	"parley/control"
	"parley/control/outbound"
	"parley/media"
	"parley/signaling"
)

// desk joins signaling to agents: it takes calls in by package control and
// holds them by package agent. It implements [signaling.Desk].
type desk struct {
	calls      *control.Calls
	agents     *control.Agents
	blobs      control.Blobs
	vendors    *vendors
	cache      *agent.SpeechCache
	outside    *outside          // how flows reach the world
	beforehand *prerenderer      // nil: lines are made as they are needed
	weights    *media.VADWeights // nil: the operator named none
	log        *slog.Logger
	slots      *control.Admission
	noted      deskMetrics
	dialler    *outbound.Dialler // nil: no carrier places calls

	draining atomic.Bool
	mu       sync.Mutex
	live     map[string]chan agent.Command // by call id
}

// Arrive implements [signaling.Desk].
func (d *desk) Arrive(ctx context.Context, a signaling.Arrival) (signaling.Admitted, error) {
	if d.draining.Load() {
		return signaling.Admitted{}, signaling.ErrDraining
	}
	account, err := readAccount(a.Account)
	if err != nil {
		return signaling.Admitted{}, err
	}
	key := cmp.Or(a.CarrierCallID, uuid.NewString())
	c, err := d.admit(ctx, key, a.Dial, control.Arrival{Carrier: a.Carrier, CarrierCallID: a.CarrierCallID, Account: account,
		From: a.From, To: a.To, Agent: a.Agent, Direction: a.Direction, Resume: a.Resume})
	if err != nil {
		return signaling.Admitted{}, arrivalError(err)
	}
	d.log.Info("call arrived", "call", c.ID, "carrier", a.Carrier, "carrier_call", a.CarrierCallID, "agent", c.Agent)
	in := signaling.Admitted{CallID: c.ID.String(), Agent: c.Agent.String(), Say: c.Say, Language: c.SayLanguage}
	if c.Status == control.CallTransferring {
		in.Dial = c.TransferTo
	}
	if in.Say != "" || in.Dial != "" { // no agent is needed now
		d.slots.Gone(key)
	}
	return in, nil
}

// admit takes a call in if there is a place for it, which has the name key until
// the call has an id. dial names the order of a call that we placed.
func (d *desk) admit(ctx context.Context, key, dial string, a control.Arrival) (control.Call, error) {
	if a.Resume == "" {
		if why := d.slots.Reserve(key); why != "" {
			d.noted.refused.WithLabelValues(why).Inc()
			return control.Call{}, control.ErrBusy
		}
	}
	if dial != "" && d.dialler != nil {
		if err := d.dialler.Arrived(ctx, dial, a.CarrierCallID); err != nil {
			d.slots.Release(key)
			return control.Call{}, err
		}
	}
	c, err := d.calls.Arrive(ctx, a)
	if err != nil {
		d.slots.Release(key)
		return c, err
	}
	d.slots.Name(key, c.ID.String())
	return c, nil
}

func arrivalError(err error) error {
	switch {
	case errors.Is(err, control.ErrBusy):
		return signaling.ErrBusy
	case errors.Is(err, control.ErrNotFound), errors.Is(err, control.ErrSuspended): // outside, both are nobody
		return signaling.ErrNoAgent
	case errors.Is(err, control.ErrEnded):
		return signaling.ErrEnded
	case errors.Is(err, control.ErrForbidden):
		return fmt.Errorf("%w: %w", signaling.ErrForbidden, err)
	case errors.Is(err, control.ErrUnavailable):
		return fmt.Errorf("%w: %w", signaling.ErrUnavailable, err)
	}
	return err
}

// Serve implements [signaling.Desk].
func (d *desk) Serve(ctx context.Context, callID string, leg media.Leg) error {
	d.slots.Begin(callID)
	defer d.slots.End(callID)
	commands := make(chan agent.Command, 20+control.MaxCallInbox)
	ctx, v, err := d.calls.Begin(ctx, callID, func(reason string) {
		if reason == "taken" {
			commands <- agent.Command{Do: "drop"}
			return
		}
		commands <- agent.Command{Do: "hangup"}
	})
	if err != nil {
		_ = leg.Close("refused")
		return fmt.Errorf("serve call %s: %w", callID, err)
	}
	d.enter(callID, commands)
	d.beforehand.serves(v)
	defer d.leave(callID, commands)
	log := d.log.With("call", v.Call.ID, "agent", v.Agent.Name, "carrier", v.Call.Carrier)
	log.Info("session began")
	hears(d, v, commands, log)
	obeys(d, v, commands)

	end, recording := d.hold(ctx, v, leg, commands, log)
	log.Info("session ended", "reason", end.Reason, "err", end.Err)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	if err := d.calls.Finish(ctx, v, end, recording); err != nil {
		log.Warn("the call's records are written later", "err", err)
	}
	return nil
}

// hold runs the session with its recording.
func (d *desk) hold(ctx context.Context, v *control.Serving, leg media.Leg, commands <-chan agent.Command, log *slog.Logger) (agent.Ending, string) {
	spec, err := d.spec(ctx, v, log)
	if err != nil {
		_ = leg.Close("vendor")
		return agent.Ending{Reason: "vendor", Err: err}, ""
	}
	agreed, err := d.ordered(ctx, v, &spec)
	if err != nil {
		_ = leg.Close("vendor")
		return agent.Ending{Reason: "vendor", Err: err}, ""
	}
	spec.Commands, spec.Observe = commands, d.calls.Hub.Observe(v.Call)
	tape := d.newTape(ctx, v, leg.Info().Rate, agreed, log)
	heard := newEarshot(d.calls.Hub, v, leg.Info().Rate, tape, log)
	defer heard.silent()
	spec.Recording, spec.Journal = heard, tape.watching(spec.Journal)
	end := agent.Run(ctx, leg, spec)
	return end, tape.close()
}

// spec says how the call's agent hears, thinks and speaks.
func (d *desk) spec(ctx context.Context, v *control.Serving, log *slog.Logger) (agent.Spec, error) {
	set := v.Agent.Settings
	s := agent.Spec{CallID: v.Call.ID.String(), Language: set.Language, MaxDuration: set.MaxDuration(),
		Journal: v.Journal, Cache: d.cache, Log: log, Returned: returned(v.Call.TransferOutcome),
		InBandDTMF: set.InBandDTMF, VADWeights: d.weights, Turns: v.FirstTurn, Elapsed: v.Elapsed,
		Idle:         time.Duration(set.Turns.IdleSeconds) * time.Second,
		Endpointing:  set.Turns.Endpointing(),
		Interruption: set.Turns.Interruption(),
		Speculation:  set.Turns.Speculation(),
	}
	var err error
	tenant := v.Call.Tenant.String()
	if s.Recognizers, err = d.vendors.recognizers(tenant, set.STT, set.Language, log); err != nil {
		return s, err
	}
	if s.Synthesizers, err = d.vendors.synthesizers(tenant, set.TTS, log); err != nil {
		return s, err
	}
	if set.Kind == control.KindFlow {
		if s.Flow = flowSpec(v); d.outside != nil {
			perform, party := d.outside.performer(v.Call.Tenant, log), v.Party()
			s.Flow.Perform = func(ctx context.Context, e flow.Effect) flow.Result {
				return perform(control.WithParty(ctx, party), e)
			}
		}
		s.Mailbox, s.Audio = messageBox{d.blobs, v.Call, log}, soundFiles(d.outside, v.Party())
		s.Flow.Models = d.vendors.proposer(tenant, set.LLM, log)
		return s, nil
	}
	s.Prompt = &agent.PromptSpec{System: set.Prompt, Greeting: set.Greeting, Transfers: map[string]string{}, Tools: set.Tools,
		IdlePrompts: set.Turns.IdlePrompts, MaxTokens: set.ReplyTokens, CallTokens: set.CallTokens}
	for _, t := range set.Transfers {
		s.Prompt.Transfers[t.Name] = t.To
	}
	if s.Prompt.Models, err = d.vendors.models(ctx, tenant, set.LLM, log); err != nil {
		return s, err
	}
	s.Prompt.History, err = d.calls.Records.Turns(ctx, v.Call.ID, -1, 200) // of a call that came back
	return s, err
}

// returned is a transfer's outcome in the words of flows.
func returned(carrier string) string {
	switch carrier {
	case "", "completed", "answered":
		return ""
	case "no-answer":
		return "no_answer"
	case "busy", "failed":
		return carrier
	case "canceled":
		return "declined"
	}
	return "failed"
}

// flowSpec loads the call's flow at its pinned version, with its state if the
// call came back.
func flowSpec(v *control.Serving) *agent.FlowSpec {
	env := map[string]any{} // what the flow reads as {env.name}
	for _, t := range v.Agent.Settings.Transfers {
		env[t.Name] = t.To
	}
	s := &agent.FlowSpec{Flow: v.Flow, Init: flow.Init{Env: env,
		ID: v.Call.ID.String(), Locale: v.Agent.Settings.Language,
		Context: map[string]any{"caller": v.Call.From, "called": v.Call.To, "call_id": v.Call.ID.String()}}}
	if v.Conversation != nil {
		s.State, s.Hash = v.Conversation.State, v.Conversation.Hash
	}
	return s
}

// Next implements [signaling.Desk].
func (d *desk) Next(ctx context.Context, carrier, carrierCallID string) (signaling.Next, error) {
	n, err := d.calls.Next(ctx, carrier, carrierCallID)
	if err == nil && n.Do == "connect" && d.draining.Load() {
		return signaling.Next{}, signaling.ErrDraining
	}
	return nextOf(n), arrivalError(err)
}

// TransferEnded implements [signaling.Desk].
func (d *desk) TransferEnded(ctx context.Context, carrier, carrierCallID, outcome string) (signaling.Next, error) {
	n, err := d.calls.TransferEnded(ctx, carrier, carrierCallID, outcome)
	return nextOf(n), arrivalError(err)
}

func nextOf(n control.Next) signaling.Next {
	next := signaling.Next{Do: n.Do, Dial: n.Dial}
	if n.Call != uuid.Nil {
		next.CallID = n.Call.String()
	}
	return next
}

// Status implements [signaling.Desk].
func (d *desk) Status(ctx context.Context, s signaling.CarrierStatus) error {
	if s.Dial != "" && d.dialler != nil && (s.Kind == "call" || s.Kind == "amd") {
		if err := d.dialler.Reported(ctx, s.Dial, statusReport(s)); err != nil && !errors.Is(err, control.ErrNotFound) {
			return err
		}
	}
	if s.Kind != "call" {
		d.log.Debug("carrier status", "kind", s.Kind, "status", s.Status)
		return nil
	}
	switch s.Status {
	case "completed", "busy", "failed", "no-answer", "canceled":
		d.slots.Gone(s.CarrierCallID)
	}
	err := d.calls.Status(ctx, s.Carrier, s.CarrierCallID, s.Status)
	if errors.Is(err, control.ErrNotFound) {
		return nil // a call that we have never taken in
	}
	return err
}

func (d *desk) enter(callID string, commands chan agent.Command) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.live[callID] = commands
	d.noted.live.Set(float64(len(d.live)))
}

func (d *desk) leave(callID string, commands chan agent.Command) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live[callID] == commands { // else the call is here again, on another line
		delete(d.live, callID)
	}
	d.noted.live.Set(float64(len(d.live)))
}

// drain takes no new calls, and waits for those in progress until the deadline;
// those left then are told to end politely.
func (d *desk) drain(ctx context.Context, patience time.Duration) {
	d.draining.Store(true)
	if d.waitIdle(ctx, 0) {
		return
	}
	if !d.waitIdle(ctx, patience) {
		d.mu.Lock()
		for _, c := range d.live {
			select {
			case c <- agent.Command{Do: "drain"}:
			default:
			}
		}
		d.mu.Unlock()
		d.waitIdle(ctx, farewellTime)
	}
	select {
	case <-time.After(lastQuestion):
	case <-ctx.Done():
	}
}

const (
	// farewellTime is what a polite end of a call may take.
	farewellTime = 7 * time.Second
	// lastQuestion is how long the carrier of the last call may take to ask what
	// is next, and to be told that it is over.
	lastQuestion = time.Second
)

func (d *desk) waitIdle(ctx context.Context, patience time.Duration) bool {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		d.mu.Lock()
		n := len(d.live)
		d.mu.Unlock()
		if n == 0 {
			return true
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}
