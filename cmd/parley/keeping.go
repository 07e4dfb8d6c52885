package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"parley/control"
)

// buildKeeper deletes what is due, in this process as in all.
func (g *gateway) buildKeeper(ring *control.Keyring) {
	deleted := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_kept_deleted_total",
		Help: "What was deleted for good, by class: rows and files. Class orphans: files that no call names, found and left."}, []string{"class", "what"})
	g.metrics.MustRegister(deleted)
	g.keeper = &control.Keeper{Store: g.db, Tenants: g.db, Files: g.blobs, Shared: g.redis, Once: g.once, Ring: ring, Log: g.log,
		Noted: func(class string, rows int64, files int) {
			deleted.WithLabelValues(class, "rows").Add(float64(rows))
			deleted.WithLabelValues(class, "files").Add(float64(files))
		}}
}
