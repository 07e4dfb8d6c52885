package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/google/uuid"

	"parley/agent"
	"parley/control"
	"parley/media"
	"parley/signaling"
)

// What operators see, hear and do of calls in progress.

func (g *gateway) buildOperators(ring *control.Keyring) {
	g.calls.Commands, g.calls.Wake = g.db, g.redis
	g.calls.Hub = control.NewHub(g.redis, ring, g.calls.Node, g.log)
}

// obeys lets operators' commands reach a session.
func obeys(d *desk, v *control.Serving, commands chan agent.Command) {
	d.calls.Obey(v, func(c control.Command, settle func(string)) {
		select {
		case commands <- commandOf(c, settle):
		default:
			settle("the session takes no more commands at the moment: try again")
		}
	})
}

// commandOf is an operator's command in the words of sessions.
func commandOf(c control.Command, settle func(string)) agent.Command {
	out := agent.Command{Text: c.Words, Target: c.Target, Settle: settle}
	switch c.Kind {
	case control.CommandHangup:
		out.Do = agent.DoHangup
	case control.CommandTransfer:
		out.Do = agent.DoTransfer
	case control.CommandWhisper:
		out.Do = agent.DoNote
	case control.CommandSay:
		out.Do = agent.DoSay
	case control.CommandWarm:
		out.Do, out.Text = agent.DoHold, c.Aloud
		switch c.Stage {
		case control.StageAccepted:
			out.Do, out.Text, out.Target = agent.DoTransfer, "", control.ConferenceOf(c.ID)
		case control.StageOver:
			out.Do, out.Text = agent.DoReturn, returned(c.Reason)
		}
	}
	return out
}

// An earshot carries a call's two channels to its recording, and to whoever
// listens in. It implements [agent.Recording], and is of the ears' goroutine.
type earshot struct {
	tape *tape
	hub  *control.Hub
	to   string // its topic; "" where nobody may listen
	down [2]*media.Resampler
	rate int // of what is sent

	pcm   [2][]int16
	pairs []int16
}

// listenRate is the most that a listener gets: what is worth hearing of speech.
const listenRate = 16000

func newEarshot(hub *control.Hub, v *control.Serving, rate int, tape *tape, log *slog.Logger) *earshot {
	e := &earshot{tape: tape, hub: hub, rate: rate}
	if v.Agent.Settings.NoListening {
		return e
	}
	e.to = control.SoundTopic(v.Call.Tenant, v.Call.ID)
	if rate > listenRate {
		for i := range e.down {
			r, err := media.NewResampler(rate, listenRate)
			if err != nil {
				log.Warn("nobody can listen in on the call", "err", err)
				e.to = ""
				return e
			}
			e.down[i] = r
		}
		e.rate = listenRate
	}
	return e
}

// Write implements [agent.Recording].
func (e *earshot) Write(caller, agent []int16) error {
	e.tape.write(caller, agent)
	if e.to == "" || !e.hub.Wanted(e.to) {
		e.pairs = e.pairs[:0]
		return nil
	}
	sides := [2][]int16{caller, agent}
	for i, r := range e.down {
		if r != nil {
			e.pcm[i] = r.Process(e.pcm[i][:0], sides[i])
			sides[i] = e.pcm[i]
		}
	}
	for i := range min(len(sides[0]), len(sides[1])) {
		e.pairs = append(e.pairs, sides[0][i], sides[1][i])
	}
	if len(e.pairs) >= 2*e.rate/10 {
		b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(e.pairs)), uint32(e.rate))
		e.hub.Publish(e.to, control.Note{Type: "sound", Data: media.EncodePCMU(b, e.pairs)})
		e.pairs = e.pairs[:0]
	}
	return nil
}

// silent tells listeners that the call is over.
func (e *earshot) silent() {
	if e.to != "" && e.hub.Wanted(e.to) {
		e.hub.Publish(e.to, control.Note{Type: "end"})
	}
}

// MayConsult implements [control.Colleagues].
func (c *carriers) MayConsult(call control.Call) bool {
	return call.Carrier == control.CarrierTwilio && (call.Account != uuid.Nil || c.own != nil)
}

// Consult implements [control.Colleagues]: the colleague sees our own number.
func (c *carriers) Consult(ctx context.Context, call control.Call, to string, command uuid.UUID) (string, error) {
	from := call.To
	if call.Direction == "outbound" {
		from = call.From
	}
	rest, err := c.REST(control.WithTenant(ctx, call.Tenant), call.Account)
	if err != nil {
		return "", err
	}
	sid, err := rest.Consult(ctx, c.base, command.String(), from, to)
	return sid, refusalError(err)
}

// carrierError puts control's errors to those of an act on a carrier's call.
func carrierError(err error) error {
	if errors.Is(err, signaling.ErrEnded) {
		return fmt.Errorf("%w: %w", control.ErrEnded, err)
	}
	return refusalError(err)
}

// refusalError puts control's errors to those of the carrier's REST API. One that
// leaves open what the carrier has done stays as it is.
func refusalError(err error) error {
	r, sure := signaling.RefusalOf(err)
	switch {
	case !sure:
		return err
	case r.Kind == signaling.RefusedBusy:
		return fmt.Errorf("%w: %w", control.ErrBusy, err)
	case r.Kind == signaling.RefusedCredentials:
		return fmt.Errorf("%w: %w", control.ErrCredentials, err)
	case r.Foreign: // a carrier's own words may hold anything
		r.Reason = fmt.Sprintf("error %d of Twilio, see https://www.twilio.com/docs/api/errors/%d", r.Code, r.Code)
	}
	return fmt.Errorf("%w: %w", control.Refuse(control.ErrForbidden, "%s", r.Reason), err)
}

// colleagues are those who are asked by telephone, as signaling knows them.
type colleagues struct{ calls *control.Calls }

func colleagueError(err error) error {
	switch {
	case errors.Is(err, control.ErrEnded):
		return signaling.ErrEnded
	case errors.Is(err, control.ErrNotFound):
		return signaling.ErrNoAgent
	}
	return err
}

// Offer implements [signaling.Colleagues].
func (c colleagues) Offer(ctx context.Context, account, id, callSID string) (string, error) {
	of, err := readAccount(account)
	if err != nil {
		return "", err
	}
	words, err := c.calls.Offer(ctx, of, id, callSID)
	return words, colleagueError(err)
}

// Answer implements [signaling.Colleagues].
func (c colleagues) Answer(ctx context.Context, account, id string, accepted bool) (string, error) {
	of, err := readAccount(account)
	if err != nil {
		return "", err
	}
	room, err := c.calls.Answer(ctx, of, id, accepted)
	return room, colleagueError(err)
}

// Gone implements [signaling.Colleagues].
func (c colleagues) Gone(ctx context.Context, account, id, outcome string) error {
	of, err := readAccount(account)
	if err != nil {
		return err
	}
	return colleagueError(c.calls.ColleagueGone(ctx, of, id, outcome))
}
