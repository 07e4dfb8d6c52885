package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"parley/control"
)

// liveBeat is how often figures of now are sent.
const liveBeat = 2 * time.Second

type liveFiguresJSON struct {
	At      time.Time        `json:"at"`
	Calls   int64            `json:"calls"`
	Status  map[string]int64 `json:"status"`
	Agents  map[string]int64 `json:"agents"`
	Latency quantilesJSON    `json:"latency"`
}

// followLive answers GET /v1/analytics/live: an event "live" every 2 s.
func (s *Server) followLive(w http.ResponseWriter, r *http.Request) {
	tenant, _ := control.TenantOf(r.Context())
	if !s.streams.enter(tenant) {
		s.problem(r.Context(), newProblem(503, "busy", "too many streams are open; close one")).write(w)
		return
	}
	defer s.streams.leave(tenant)
	ctx, cancel := context.WithTimeout(r.Context(), streamLife)
	defer cancel()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // for proxies that would hold it back
	st := &stream{w: w, to: http.NewResponseController(w)}
	beat := time.NewTicker(liveBeat)
	defer beat.Stop()
	for why := ""; ; {
		b, err := s.liveFigures(ctx)
		switch {
		case ctx.Err() != nil:
			why = "over"
		case err != nil:
			s.o.Log.WarnContext(ctx, "a stream of figures ends", "error", err)
			why = "unavailable"
		}
		if why != "" {
			if r.Context().Err() == nil || s.draining.Load() {
				_ = st.write([]byte("event: end\ndata: {\"reason\":" + strconv.Quote(why) + "}\n\n")) // to whom still listens
			}
			return
		}
		if st.write(b) != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-beat.C:
		}
	}
}

// liveFigures is the event of now.
func (s *Server) liveFigures(ctx context.Context) ([]byte, error) {
	ask, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	f, err := s.o.Figures.LiveFigures(ask)
	if err != nil {
		return nil, err
	}
	out := liveFiguresJSON{time.Now().UTC(), f.Calls, f.Status, map[string]int64{}, newQuantiles(f.Latency, false)}
	for agent, n := range f.Agents {
		out.Agents[agent.String()] = n
	}
	b, err := json.Marshal(out)
	if err != nil {
		return nil, err
	}
	return append(append([]byte("event: live\ndata: "), b...), '\n', '\n'), nil
}
