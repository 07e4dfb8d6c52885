package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

const (
	// liveBeat is how often figures of now are sent.
	liveBeat = 2 * time.Second
	// liveFresh is how old those may be that another watcher had read.
	liveFresh = liveBeat - liveBeat/10
)

type liveFiguresJSON struct {
	At      time.Time        `json:"at"`
	Calls   int64            `json:"calls"`
	Status  map[string]int64 `json:"status"`
	Agents  map[string]int64 `json:"agents"`
	Latency quantilesJSON    `json:"latency"`
}

// followLive answers GET /v1/analytics/live: an event "live" every 2 s.
func (s *Server) followLive(w http.ResponseWriter, r *http.Request) {
	s.serveStream(w, r, place{}, nil, func(ctx context.Context, st *stream) (why string) {
		beat := time.NewTicker(liveBeat)
		defer beat.Stop()
		for {
			b, err := s.now.figures(ctx, s.liveFigures)
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

// A figuresNow shares the figures of now among a tenant's watchers: they are read
// once in a beat, however many look on. Its zero value is ready.
type figuresNow struct {
	mu   sync.Mutex
	last map[uuid.UUID]*readFigures
}

// A readFigures is one reading. The rest is set when done is closed.
type readFigures struct {
	began time.Time
	done  chan struct{}
	event []byte
	err   error
}

// figures returns the event of the tenant of ctx, which read makes. What the first
// watcher asks for, the others wait for; it does not end with the first.
func (n *figuresNow) figures(ctx context.Context, read func(context.Context) ([]byte, error)) ([]byte, error) {
	tenant, _ := control.TenantOf(ctx)
	n.mu.Lock()
	r, now := n.last[tenant], time.Now()
	mine := r == nil || now.Sub(r.began) >= liveFresh
	if mine {
		r = &readFigures{began: now, done: make(chan struct{})}
		if n.last == nil {
			n.last = map[uuid.UUID]*readFigures{}
		}
		for t, old := range n.last { // of who looks on no more
			if now.Sub(old.began) > time.Minute {
				delete(n.last, t)
			}
		}
		n.last[tenant] = r
	}
	n.mu.Unlock()
	if mine {
		r.fill(context.WithoutCancel(ctx), read)
	}
	select {
	case <-r.done:
		return r.event, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fill reads, and lets those who wait go on, however that ends.
func (r *readFigures) fill(ctx context.Context, read func(context.Context) ([]byte, error)) {
	defer close(r.done)
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	r.err = errors.New("the figures were not read") // where read panics
	r.event, r.err = read(ctx)
}

// liveFigures is the event of now.
func (s *Server) liveFigures(ctx context.Context) ([]byte, error) {
	f, err := s.o.Figures.LiveFigures(ctx)
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
