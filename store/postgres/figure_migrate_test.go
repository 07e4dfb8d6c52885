package postgres_test

import (
	"testing"

	"parley/store/postgres"
)

// Figures that stood in a row for each bucket of latency are carried over: of
// calls that are there, of those of which something is deleted, and of deleted
// ones.
func TestMigrateKeepsFigures(t *testing.T) {
	db := server.New(t)
	w := newFigureTown(t, db)
	for packed := true; packed; {
		must(t, postgres.MigrateDown(t.Context(), db.MigrateURL))
		must(t, w.super.QueryRow(t.Context(), `SELECT to_regclass('call_tallies') IS NULL`).Scan(&packed))
	}
	for range 60 {
		p := w.random()
		w.all = append(w.all, p)
		w.write(p)
		w.end(p)
	}
	w.rollUp(false)
	for i, p := range w.all {
		if i%3 == 0 {
			w.remove(p)
		}
	}
	w.rollUp(false)
	must(t, postgres.MigrateUp(t.Context(), db.MigrateURL))
	w.same("carried over")
	w.sumUp(1000)
	w.same("carried over and summed")
	mustExec(t, w.app, `DELETE FROM calls`)
	mustExec(t, w.app, `DELETE FROM conversations`)
	w.rollUp(false)
	w.same("without the calls")
}
