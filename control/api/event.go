package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// Streams of events.
const (
	streamPage  = 100
	streamPause = 100 * time.Millisecond // between reads, however much happens
	streamBeat  = 15 * time.Second       // without an event, after which a comment is sent
	// streamSlow is how long a client may take to accept a page before it is told
	// to go, and streamStuck before it is cut off. It loses nothing: it comes
	// again with the id that it has seen last.
	streamSlow  = 5 * time.Second
	streamStuck = 10 * time.Second
	// streamMost is how many streams a process has open, and streamTenant of
	// them for one tenant.
	streamMost   = 256
	streamTenant = 32
	// streamLife bounds a stream; a client comes again by itself.
	streamLife = time.Hour
)

// streams counts those that are open.
type streams struct {
	mu   sync.Mutex
	all  int
	each map[uuid.UUID]int
}

func (s *streams) enter(tenant uuid.UUID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all >= streamMost || s.each[tenant] >= streamTenant {
		return false
	}
	if s.each == nil {
		s.each = map[uuid.UUID]int{}
	}
	s.all++
	s.each[tenant]++
	return true
}

func (s *streams) leave(tenant uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.each[tenant]--; s.each[tenant] == 0 {
		delete(s.each, tenant)
	}
}

func (s *Server) events() error {
	follow := Route{Method: "GET", Pattern: "/v1/events", Class: Tenanted, Permission: control.EventsRead,
		Limit: Limit{120, time.Minute}, Body: NoBody, Long: true, Summary: "Follow what happens, as server-sent events", Media: "text/event-stream"}
	described := Route{Method: "GET", Pattern: "/v1/events/schema", Class: Public, Permission: control.Anyone,
		Limit: Limit{120, time.Minute}, Body: NoBody, Summary: "The JSON Schema of events", Media: "application/schema+json"}
	return errors.Join(
		operation(s, reads("/v1/sessions/{id}/events", control.SessionsRead), "list-session-events", "What happened in a session, in order", 200, s.sessionEvents),
		operation(s, reads("/v1/calls/{id}/events", control.CallsRead), "list-call-events", "What happened in a call and its conversation, in order", 200, s.sessionEvents),
		s.Handle(follow, http.HandlerFunc(s.followEvents)),
		s.Handle(described, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/schema+json")
			_, _ = w.Write([]byte(control.EventSchema)) // the client is gone, or it is not
		})),
	)
}

// EventsQuery is how a session's events are asked for; exported for huma.
type EventsQuery struct {
	SessionPath
	After int64 `query:"after" minimum:"0" doc:"The sequence of the last event of the page before."`
	Limit int   `query:"limit" default:"50" minimum:"1" maximum:"200"`
}

// sessionEvents outlive the session; one that never was has none.
func (s *Server) sessionEvents(ctx context.Context, in *EventsQuery) (*listOut[any], error) {
	events, err := s.o.Events.Store.SessionEvents(ctx, in.ID, in.After, in.Limit)
	if err != nil {
		return nil, err
	}
	if len(events) == 0 && in.After == 0 {
		return nil, control.ErrNotFound
	}
	out := &listOut[any]{Body: list[any]{Items: make([]any, len(events))}}
	for i, e := range events {
		out.Body.Items[i] = e
	}
	if n := len(events); n == in.Limit {
		out.Body.Next = strconv.FormatInt(events[n-1].Seq, 10)
	}
	return out, nil
}

// followEvents answers GET /v1/events: server-sent events (WHATWG HTML, 9.2),
// whose ids are positions. Without Last-Event-ID it begins with what happens
// from now on.
func (s *Server) followEvents(w http.ResponseWriter, r *http.Request) {
	f, err := eventFilter(r)
	var at place
	if err == nil {
		at, err = s.streamFrom(r)
	}
	s.serveStream(w, r, at, err, func(ctx context.Context, st *stream) string { return s.follow(ctx, st, f) })
}

func eventFilter(r *http.Request) (f control.EventFilter, err error) {
	q := r.URL.Query()
	if f.Types = q["type"]; len(f.Types) > 50 {
		return f, &control.Invalid{Field: "type", Reason: "must be given at most 50 times"}
	}
	for name, to := range map[string]*uuid.UUID{"flow_id": &f.Flow, "session_id": &f.Session} {
		if v := q.Get(name); v != "" {
			if *to, err = uuid.Parse(v); err != nil {
				return f, &control.Invalid{Field: name, Reason: "is not an id"}
			}
		}
	}
	return f, nil
}

// A place is where a stream goes on from.
type place struct {
	at int64
	// gap is why what came before at is not told: "too_old" where it is kept no
	// longer, "unknown" where the id is of no event that there was.
	gap string
}

// streamFrom is where to go on from.
func (s *Server) streamFrom(r *http.Request) (place, error) {
	asked := r.Header.Get("Last-Event-ID")
	if asked == "" {
		asked = r.URL.Query().Get("last_event_id") // for who cannot set headers
	}
	at, err := strconv.ParseInt(asked, 10, 64)
	if asked != "" && (err != nil || at < 0) {
		return place{}, &control.Invalid{Field: "Last-Event-ID", Reason: "is not an id of this stream"}
	}
	last, err := s.o.Events.Store.LastEvent(r.Context())
	switch {
	case err != nil || asked == "":
		return place{at: last}, err
	case at > last: // storage was put back, or it is of another tenant
		return place{last, "unknown"}, nil
	case at == last || at == 0: // 0 asks for all that there is
		return place{at: at}, nil
	}
	switch first, err := s.o.Events.Store.FirstEvent(r.Context(), at); {
	case err != nil:
		return place{}, err
	case first == 0:
		return place{last, "too_old"}, nil
	case first > at+1:
		return place{first - 1, "too_old"}, nil
	}
	return place{at: at}, nil
}

// follow sends events until ctx ends or the client is too slow, and says why it
// ends; "" where nobody is left to be told.
func (s *Server) follow(ctx context.Context, st *stream, f control.EventFilter) string {
	if st.write([]byte("retry: 1000\n\n")) != nil {
		return ""
	}
	beat := time.NewTimer(streamBeat)
	defer beat.Stop()
	pause := time.NewTicker(streamPause)
	defer pause.Stop()
	for {
		changed := s.o.Events.Changed()
		more, why := s.page(ctx, st, f)
		if why != "" {
			return why
		}
		if more {
			beat.Reset(streamBeat)
			continue
		}
		select {
		case <-ctx.Done():
			return "over"
		case <-beat.C:
			beat.Reset(streamBeat)
			if err := st.write([]byte(":\n\n")); err != nil {
				return ""
			}
		case <-changed:
			select { // what happens meanwhile comes with the next page
			case <-ctx.Done():
			case <-pause.C:
			}
		}
	}
}

// page sends what there is, and tells whether there may be more at once.
func (s *Server) page(ctx context.Context, st *stream, f control.EventFilter) (more bool, why string) {
	ask, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	events, at, err := s.o.Events.Store.Events(ask, f, st.at, streamPage)
	switch {
	case ctx.Err() != nil:
		return false, "over"
	case err != nil:
		s.o.Log.WarnContext(ctx, "a stream of events ends", "error", err)
		return false, "unavailable"
	case at == st.at:
		return false, ""
	}
	var b []byte
	for _, e := range events {
		text, err := json.Marshal(e)
		if err != nil {
			s.o.Log.ErrorContext(ctx, "an event cannot be written", "event", e.ID, "error", err)
			return false, "unavailable"
		}
		b = fmt.Appendf(b, "id: %d\nevent: %s\ndata: %s\n\n", e.Position, e.Type, text)
		st.over = st.over || e.Type == st.ends
	}
	if len(events) == 0 || events[len(events)-1].Position < at {
		b = fmt.Appendf(b, "id: %d\n\n", at) // seen, and not wanted: no event, but where to resume
	}
	if why := st.send(b); why != "" {
		return false, why
	}
	st.at = at
	return true, ""
}

// serveStream answers with the events that run sends, from a place on, unless err
// or too many streams refuse it. A client that has missed something is told first,
// so that it reads anew what it shows. It lasts until run says why it ends, "" where
// nobody is left to be told; run's ctx ends with the client, and after streamLife.
func (s *Server) serveStream(w http.ResponseWriter, r *http.Request, from place, err error, run func(ctx context.Context, st *stream) (why string)) {
	tenant, _ := control.TenantOf(r.Context())
	if err == nil && !s.streams.enter(tenant) {
		err = newProblem(503, "busy", "too many streams are open; close one")
	}
	if err != nil {
		s.problem(r.Context(), err).write(w)
		return
	}
	defer s.streams.leave(tenant)
	ctx, leave := s.whileAllowed(r, streamLife)
	defer leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for proxies that would hold it back
	st := &stream{w: w, to: http.NewResponseController(w), at: from.at}
	if from.gap != "" && st.write(fmt.Appendf(nil, "id: %d\nevent: gap\ndata: {\"reason\":%q}\n\n", from.at, from.gap)) != nil {
		return
	}
	why := run(ctx, st)
	if errors.Is(context.Cause(ctx), errWithdrawn) {
		why = "forbidden"
	}
	if why != "" && r.Context().Err() == nil || s.draining.Load() {
		_ = st.write(fmt.Appendf(nil, "event: end\ndata: {\"reason\":%q}\n\n", why)) // to whom still listens
	}
}

// A stream is one client's.
type stream struct {
	w  http.ResponseWriter
	to *http.ResponseController
	at int64

	ends string // the type of a kept event behind which nothing comes; "": none
	over bool   // it was read
}

// send is write, and tells whether the client is too slow to go on: "slow", or "".
func (s *stream) send(b []byte) (why string) {
	began := time.Now()
	if s.write(b) != nil || time.Since(began) > streamSlow {
		return "slow"
	}
	return ""
}

// write sends b, within streamStuck.
func (s *stream) write(b []byte) error {
	if err := s.to.SetWriteDeadline(time.Now().Add(streamStuck)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.to.Flush()
}
