package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

const (
	// liveLook is how often the state of all calls is read again while other
	// processes are not heard, and liveCheck while they are, for what may have
	// been missed.
	liveLook  = 2 * time.Second
	liveCheck = 15 * time.Second
	// liveMost is how many calls a snapshot shows.
	liveMost = 1000
)

// callEvents are what streams of calls hold of what is kept: these can be resumed.
var callEvents = []string{"call_started", "call_status_changed", "call_turn", "call_ended"}

func (s *Server) live() error {
	stream := func(pattern, summary string) Route {
		return Route{Method: "GET", Pattern: pattern, Class: Tenanted, Permission: control.CallsRead,
			Limit: Limit{120, time.Minute}, Body: NoBody, Long: true, Summary: summary, Media: "text/event-stream"}
	}
	listen := stream("/v1/calls/{id}/listen", "Listen in on a call in progress: caller left, agent right")
	listen.Permission, listen.Media = control.CallsListen, "audio/wav"
	return errors.Join(
		s.Handle(stream("/v1/calls/live", "Follow all calls in progress: a snapshot, then changes, as server-sent events"), http.HandlerFunc(s.followCalls)),
		s.Handle(stream("/v1/calls/{id}/live", "Follow a call in progress with what is said, as server-sent events"), http.HandlerFunc(s.followCall)),
		s.Handle(listen, http.HandlerFunc(s.listen)),
	)
}

// A watching is one client's stream of live calls.
type watching struct {
	*stream
	s      *Server
	topic  string
	filter control.EventFilter
	// snapshot is how things stand; a text equal to the last is not sent again.
	snapshot func(ctx context.Context) (any, error)
	ends     string // see [stream]
	last     []byte
}

// followCalls answers GET /v1/calls/live.
func (s *Server) followCalls(w http.ResponseWriter, r *http.Request) {
	tenant, _ := control.TenantOf(r.Context())
	s.watch(w, r, watching{s: s, topic: control.CallsTopic(tenant), filter: control.EventFilter{Types: callEvents[:2:2]}, snapshot: s.allCalls})
}

// followCall answers GET /v1/calls/{id}/live.
func (s *Server) followCall(w http.ResponseWriter, r *http.Request) {
	c, err := s.callInProgress(r)
	if err != nil {
		s.problem(r.Context(), err).write(w)
		return
	}
	snapshot := func(ctx context.Context) (any, error) {
		now, err := s.o.Calls.Store.Call(ctx, c.ID)
		if err != nil {
			return nil, err
		}
		return s.liveCall(ctx, now)
	}
	s.watch(w, r, watching{s: s, topic: control.CallTopic(c.Tenant, c.ID), snapshot: snapshot, ends: "call_ended",
		filter: control.EventFilter{Types: callEvents, Session: c.ID}})
}

func (s *Server) callInProgress(r *http.Request) (control.Call, error) {
	id, err := uuid.Parse(r.PathValue("id"))
	if err != nil {
		return control.Call{}, control.ErrNotFound
	}
	c, err := s.o.Calls.Store.Call(r.Context(), id)
	if err == nil && c.Status == control.CallEnded {
		err = control.ErrEnded
	}
	return c, err
}

// allCalls is where all calls in progress stand.
func (s *Server) allCalls(ctx context.Context) (any, error) {
	open := false
	f := control.CallFilter{Ended: &open, Page: control.Page{Limit: 200}}
	all := []callJSON{}
	for len(all) < liveMost {
		page, err := s.o.Calls.Store.Calls(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, c := range page {
			now := s.o.Calls.Glance(c)
			out := newCallJSON(c)
			out.Live = &liveJSON{Node: some(now.Node), Phase: now.Phase, Since: when(now.At), FlowNode: now.FlowNode}
			all = append(all, out)
		}
		if len(page) < f.Limit {
			break
		}
		f.After = page[len(page)-1].ID
	}
	return struct {
		Calls []callJSON `json:"calls"`
	}{all}, nil
}

// watch streams until the client is gone, is too slow or has looked on for an
// hour. Ids are those of kept events, by which a client resumes: it then gets what
// it has missed of them, and how things stand. What is not kept has no id.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, v watching) {
	at, err := s.streamFrom(r)
	if err == nil && s.o.Calls.Hub == nil {
		err = control.ErrUnavailable
	}
	s.serveStream(w, r, at, err, func(ctx context.Context, st *stream) (why string) {
		v.stream, st.ends = st, v.ends
		err := s.o.Calls.Hub.Follow(ctx, v.topic, func(f *control.Follower) error {
			why = v.run(ctx, f)
			return nil
		})
		if err != nil {
			return "unavailable"
		}
		return why
	})
}

// run returns why the stream ends; "" where nobody is left to be told.
func (v *watching) run(ctx context.Context, f *control.Follower) (why string) {
	if v.write([]byte("retry: 1000\n\n")) != nil {
		return ""
	}
	beat, look := time.NewTicker(streamBeat), time.NewTicker(liveLook)
	defer beat.Stop()
	defer look.Stop()
	looked := time.Time{}
	for {
		changed := v.s.o.Events.Changed()
		for more := true; more; {
			if more, why = v.s.page(ctx, v.stream, v.filter); why != "" {
				return why
			}
		}
		every := liveCheck
		if !f.Hears() {
			every = liveLook
		}
		notes, lost := f.Take()
		if lost > 0 || time.Since(looked) >= every {
			looked = time.Now()
			if why := v.state(ctx, lost); why != "" {
				return why
			}
		}
		for _, n := range notes {
			if why := v.send(fmt.Appendf(nil, "event: %s\ndata: %s\n\n", n.Type, n.Data)); why != "" {
				return why
			}
			if n.Type == "ended" && v.ends != "" {
				return "ended"
			}
		}
		if v.over { // of whoever served the call nothing more is heard
			return "ended"
		}
		select {
		case <-ctx.Done():
			return "over"
		case <-f.News():
		case <-changed:
		case <-look.C:
		case <-beat.C:
			if v.write([]byte(":\n\n")) != nil {
				return ""
			}
		}
	}
}

// state sends how things stand, if that is not what was sent last, behind a gap
// where notes were dropped.
func (v *watching) state(ctx context.Context, lost int) (why string) {
	ask, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	now, err := v.snapshot(ask)
	if ctx.Err() != nil {
		return "over"
	}
	var text []byte
	if err == nil {
		text, err = json.Marshal(now)
	}
	if err != nil {
		v.s.o.Log.WarnContext(ctx, "a stream of live calls ends", "error", err)
		return "unavailable"
	}
	if c, ok := now.(callJSON); ok && c.Status == control.CallEnded {
		return "ended"
	}
	var b []byte
	if lost > 0 {
		b = fmt.Appendf(b, "event: gap\ndata: {\"reason\":\"slow\",\"lost\":%d}\n\n", lost)
	}
	if lost > 0 || !slices.Equal(text, v.last) {
		b = fmt.Appendf(b, "id: %d\nevent: snapshot\ndata: %s\n\n", v.at, text)
		v.last = text
	}
	if len(b) == 0 {
		return ""
	}
	return v.send(b)
}
