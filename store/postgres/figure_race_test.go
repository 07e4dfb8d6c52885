package postgres_test

import (
	"testing"
	"time"

	"parley/control"
)

// A day is not summed of an hour that another process has counted again since the
// day was due: nothing would have it summed anew, and it would never be right.
func TestDayIsNotSummedOfAStaleHour(t *testing.T) {
	w := newFigureTown(t, server.New(t))
	call := func(at time.Time) {
		p := &past{id: control.NewID(), agent: w.agent, agentVersion: 1, direction: "inbound", carrier: "webrtc", started: at, answered: true}
		w.all = append(w.all, p)
		w.write(p)
		w.end(p)
		w.rollUp(false)
	}
	first, second := figureDays.Add(time.Hour), figureDays.Add(25*time.Hour)
	call(first)
	call(second)
	w.sumUp(100)
	mustExec(t, w.super, `UPDATE figure_spans SET summed = false WHERE hours = 24`)

	held, err := w.super.Begin(t.Context())
	must(t, err)
	_, err = held.Exec(t.Context(), `SELECT FROM figure_spans WHERE hours = 24 AND start = $1 FOR UPDATE`, figureDays)
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- w.store.SumUp(w.ctx, figureDays.Add(99*24*time.Hour), 100) }()
	// Both days are due now, and the first one waits for us.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for waiting, until := 0, time.Now().Add(30*time.Second); waiting == 0; <-tick.C {
		must(t, held.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()
			AND pg_backend_pid() = ANY (pg_blocking_pids(pid))`).Scan(&waiting))
		if time.Now().After(until) {
			t.Fatal("nobody sums the first day")
		}
	}
	call(second.Add(time.Minute)) // another process counts it
	must(t, held.Rollback(t.Context()))
	must(t, <-done)
	w.sumUp(100)
	w.same("after the race")
}
