package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"
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
	s.serveStream(w, r, 0, nil, func(ctx context.Context, st *stream) (why string) {
		beat := time.NewTicker(liveBeat)
		defer beat.Stop()
		for {
			b, err := s.liveFigures(ctx)
			switch {
			case ctx.Err() != nil:
				return "over"
			case err != nil:
				s.o.Log.WarnContext(ctx, "a stream of figures ends", "error", err)
				return "unavailable"
			case st.write(b) != nil:
				return ""
			}
			select {
			case <-ctx.Done():
			case <-beat.C:
			}
		}
	})
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
