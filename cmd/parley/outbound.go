package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
	"parley/control/outbound"
	"parley/signaling"
)

// buildOutbound lets agents call. Without a carrier, orders are refused.
func (g *gateway) buildOutbound(ring *control.Keyring) error {
	prices := outbound.DefaultPrices()
	if g.settings.DialPrices != "" {
		f, err := os.Open(g.settings.DialPrices)
		if err != nil {
			return fmt.Errorf("PARLEY_DIAL_PRICES: %w", err)
		}
		defer f.Close()
		if prices, err = outbound.ParsePrices(f); err != nil {
			return fmt.Errorf("PARLEY_DIAL_PRICES: %w", err)
		}
	}
	risky := outbound.Prefixes(g.settings.DialRisky)
	for _, prefix := range risky {
		if !strings.HasPrefix(prefix, "+") {
			return errors.New("PARLEY_DIAL_RISKY lists prefixes with the plus: +883,+4470")
		}
	}
	fraud, err := g.fraudWatch(ring)
	if err != nil {
		return err
	}
	g.orders = &outbound.Orders{Store: g.db, Changes: g.db, Policies: g.db, Agents: g.agents, Risky: risky, Fraud: fraud}
	if g.settings.PublicURL == "" && !g.dev {
		return nil
	}
	base := g.publicBase()
	var phones *devPhones
	if g.dev && g.carriers.own == nil {
		var stop func()
		phones, stop = startDevPhones(base)
		g.closers = append(g.closers, stop)
	}
	g.dialler = &outbound.Dialler{Node: g.calls.Node, Store: g.db, Changes: g.db, Queue: g.db, Policies: g.db, Spend: g.db, Limits: g.redis,
		Carrier: func(ctx context.Context, account uuid.UUID) (outbound.Carrier, error) {
			if account == uuid.Nil && phones != nil {
				return phones.carrier(), nil
			}
			rest, err := g.carriers.REST(ctx, account)
			return dialCarrier{rest: rest, base: base}, err
		},
		Calls: lastWords{g.calls}, Prices: prices, Risky: risky, Fraud: fraud, Ring: ring, Log: g.log}
	g.orders.Places = func(account uuid.UUID) bool { return account != uuid.Nil || g.carriers.own != nil || phones != nil }
	g.orders.Wake, g.orders.Hangup = g.dialler.Wake, g.dialler.Hangup
	g.desk.dialler = g.dialler
	return nil
}

// publicBase is the address that the carrier reaches us by.
func (g *gateway) publicBase() string {
	if g.settings.PublicURL != "" {
		return g.settings.PublicURL
	}
	return "http://" + g.doors[0].listener.Addr().String()
}

// A dialCarrier is Twilio's REST API as outbound calls see a carrier.
type dialCarrier struct {
	rest *signaling.REST
	base string
}

// Place implements [outbound.Carrier].
func (c dialCarrier) Place(ctx context.Context, call outbound.Call) (string, error) {
	sid, err := c.rest.CreateCall(ctx, signaling.OutboundCall{From: call.From, To: call.To,
		Answer: signaling.VoiceWebhook(c.base, call.Agent.String(), call.Ref), Status: signaling.StatusWebhook(c.base, call.Ref),
		Ring: call.Ring, TimeLimit: call.Most, DetectMachine: true, AwaitMachine: call.Wait})
	if r, ok := signaling.RefusalOf(err); ok {
		code := ""
		if r.Code != 0 {
			code = strconv.Itoa(r.Code)
		}
		return "", &outbound.Refused{Code: code, Reason: r.Reason, Wait: map[string]string{signaling.RefusedBusy: outbound.ReasonCarrier,
			signaling.RefusedCredentials: outbound.ReasonCredentials, signaling.RefusedUnreachable: outbound.ReasonAway}[r.Kind]}
	}
	return sid, err
}

// Find implements [outbound.Carrier].
func (c dialCarrier) Find(ctx context.Context, from, to string, since time.Time) ([]outbound.Report, error) {
	calls, err := c.rest.FindCalls(ctx, from, to)
	var found []outbound.Report
	for _, call := range calls {
		// Twilio tells whole seconds.
		if call.Created.IsZero() || !call.Created.Before(since.Truncate(time.Second)) {
			found = append(found, reportOf(call))
		}
	}
	return found, err
}

// Look implements [outbound.Carrier].
func (c dialCarrier) Look(ctx context.Context, sid string) (outbound.Report, error) {
	call, err := c.rest.FetchCall(ctx, sid)
	if errors.Is(err, signaling.ErrEnded) {
		return outbound.Report{}, control.ErrNotFound
	}
	return reportOf(call), err
}

// Hangup implements [outbound.Carrier].
func (c dialCarrier) Hangup(ctx context.Context, sid string) error { return c.rest.HangUp(ctx, sid) }

func reportOf(c signaling.CallRecord) outbound.Report {
	return outbound.Report{SID: c.SID, Status: c.Status, AnsweredBy: c.AnsweredBy, Duration: c.Duration, At: c.Created}
}

// statusReport reads a callback about a call that we placed.
func statusReport(s signaling.CarrierStatus) outbound.Report {
	r := outbound.Report{SID: s.CarrierCallID, AnsweredBy: s.Detail["AnsweredBy"], At: time.Now().UTC()}
	if s.Kind == "call" {
		r.Status = s.Status
		r.Code = s.Detail["ErrorCode"]
		if r.Code == "" && s.Status == "failed" && s.Detail["SipResponseCode"] != "" {
			r.Code = "SIP " + s.Detail["SipResponseCode"]
		}
	}
	if n, err := strconv.Atoi(s.Detail["CallDuration"]); err == nil && n > 0 && n < 1e6 {
		r.Duration = time.Duration(n) * time.Second
	}
	return r
}

// lastWords has sessions leave messages.
type lastWords struct{ calls *control.Calls }

// Say implements [outbound.Calls].
func (l lastWords) Say(ctx context.Context, call uuid.UUID, message string) error {
	_, err := l.calls.Order(ctx, control.Command{Call: call, Kind: control.CommandHangup, Words: message}, control.AnyRevision)
	return err
}

// ordered completes the spec of a call that we placed: it waits for a hello, is
// no longer than was ordered, and knows what the order says.
func (d *desk) ordered(ctx context.Context, v *control.Serving, s *agent.Spec) (recorded bool, err error) {
	if d.dialler == nil || v.Call.Direction != "outbound" {
		return false, nil
	}
	dial, err := d.dialler.Of(ctx, v.Call.ID)
	if errors.Is(err, control.ErrNotFound) {
		return false, nil // it was not by an order
	}
	if err != nil {
		return false, fmt.Errorf("read the order of the call: %w", err)
	}
	s.AwaitHello = 2 * time.Second
	s.MaxDuration = min(s.MaxDuration, time.Duration(dial.Settings.MaxSeconds)*time.Second)
	if s.Flow != nil {
		s.Flow.Init.Variables = dial.Variables
		s.Flow.Init.Context["dial_id"], s.Flow.Init.Context["reference"] = dial.ID.String(), dial.Reference
	}
	if s.Prompt != nil {
		s.Prompt.System, s.Prompt.Greeting = outbound.Fill(s.Prompt.System, dial.Variables), outbound.Fill(s.Prompt.Greeting, dial.Variables)
	}
	consent := dial.Settings.Consent
	return consent != nil && consent.Given && consent.Recording, nil
}
