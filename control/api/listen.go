package api

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"time"

	"parley/control"
	"parley/media"
)

// listenFirst is how long the first sound of a call may take: it is asked for at
// another process, and comes every 100 ms.
const listenFirst = 4 * time.Second

// errNoSound says that nothing carries a call's sound here.
var errNoSound = newProblem(503, "no_sound", "the call's sound does not come through: nobody serves it at this moment, or the process that does cannot be reached; try again")

// listen answers GET /v1/calls/{id}/listen with a WAV file without an end.
func (s *Server) listen(w http.ResponseWriter, r *http.Request) {
	tenant, _ := control.TenantOf(r.Context())
	c, err := s.callInProgress(r)
	if err == nil {
		err = s.mayListen(r.Context(), c)
	}
	if err == nil && !s.streams.enter(tenant) {
		err = newProblem(503, "busy", "too many streams are open; close one")
	}
	if err == nil {
		defer s.streams.leave(tenant)
		err = s.o.Audit.Note(r.Context(), control.AuditEntry{Action: "call.listen", Object: "call:" + c.ID.String()})
	}
	if err == nil {
		ctx, leave := s.whileAllowed(r, streamLife)
		defer leave()
		l := &listener{w: w, to: http.NewResponseController(w)}
		err = s.o.Calls.Hub.Follow(ctx, control.SoundTopic(c.Tenant, c.ID), func(f *control.Follower) error { return l.run(ctx, f) })
		if l.rate != 0 {
			return // the answer has begun: it just ends
		}
	}
	if err != nil {
		s.problem(r.Context(), err).write(w)
	}
}

// mayListen honours what the agent's settings say of its callers' consent.
func (s *Server) mayListen(ctx context.Context, c control.Call) error {
	switch {
	case s.o.Calls.Hub == nil:
		return control.ErrUnavailable
	case c.Status != control.CallActive:
		return control.Refuse(control.ErrConflict, "nobody talks to the caller here at this moment: listen when the call is active")
	}
	a, err := s.o.Agents.At(ctx, c.Agent, c.AgentVersion) // what the caller was told
	forbidden := a.Settings.NoListening
	if err == nil && !forbidden { // or what has been decided since
		a, err = s.o.Agents.Store.Agent(ctx, c.Agent)
		forbidden = a.Settings.NoListening
	}
	if err == nil && forbidden {
		err = control.Refuse(control.ErrForbidden, "this agent's settings let nobody listen in on its calls")
	}
	return err
}

// A listener is one client's stream of sound.
type listener struct {
	w    http.ResponseWriter
	to   *http.ResponseController
	rate int // 0: nothing was sent
}

// run sends sound until the call is over, the client is gone or too slow for it,
// or nothing comes any more.
func (l *listener) run(ctx context.Context, f *control.Follower) error {
	patience := time.NewTimer(listenFirst)
	defer patience.Stop()
	for {
		notes, lost := f.Take()
		for _, n := range notes {
			if n.Type == "end" {
				return nil
			}
			if n.Type != "sound" || len(n.Data) < 4 {
				continue
			}
			patience.Reset(streamStuck) // a call that changes its line comes back
			if err := l.send(n.Data, lost); err != nil {
				return err
			}
			lost = 0
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-patience.C:
			return errNoSound
		case <-f.News():
		}
	}
}

// send writes 100 ms of both sides; what was lost before is silence, so that the
// clock of the stream stays right.
func (l *listener) send(data []byte, lost int) error {
	rate, sound := int(binary.LittleEndian.Uint32(data)), data[4:]
	var b []byte
	if l.rate == 0 {
		l.rate = rate
		l.w.Header().Set("Content-Type", "audio/wav")
		l.w.Header().Set("Cache-Control", "no-store")
		b = media.AppendStreamHeader(b, rate, 2)
	}
	if rate != l.rate {
		return errors.New("the line has changed its rate")
	}
	const quiet = 0xff // µ-law for zero
	b = append(b, bytes.Repeat([]byte{quiet}, lost*len(sound))...)
	b = append(b, sound...)
	if err := l.to.SetWriteDeadline(time.Now().Add(streamStuck)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := l.w.Write(b); err != nil {
		return err
	}
	return l.to.Flush()
}
