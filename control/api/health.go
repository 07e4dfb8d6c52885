package api

import (
	"context"
	"net/http"
	"time"

	"parley/control"
)

// health: /livez touches nothing; /readyz asks what the server depends on.
func (s *Server) health() error {
	limit := Limit{600, time.Minute}
	live := Route{Method: "GET", Pattern: "/livez", Class: Public, Permission: control.Anyone, Limit: limit, Body: NoBody}
	if err := s.Handle(live, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { say(w, 200, "ok") })); err != nil {
		return err
	}
	ready := live
	ready.Pattern = "/readyz"
	return s.Handle(ready, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			say(w, 503, "draining")
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if err := s.o.Ready(ctx); err != nil {
			s.o.Log.Warn("not ready", "error", err)
			say(w, 503, "unavailable")
			return
		}
		// A node without room is ready all the same: its calls still need it.
		if s.o.Busy != nil {
			if why := s.o.Busy(); why != "" {
				say(w, 200, "busy: "+why)
				return
			}
		}
		if s.o.Degraded != nil {
			if what := s.o.Degraded(); what != "" {
				say(w, 200, "degraded: "+what)
				return
			}
		}
		say(w, 200, "ok")
	}))
}

func say(w http.ResponseWriter, status int, word string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(`{"status":"` + word + `"}` + "\n"))
}
