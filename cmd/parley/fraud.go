package main

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"parley/control"
	"parley/control/outbound"
)

const tollPurpose = "numbers that are never called"

// fraudWatch stops the outbound calls of tenants that look defrauded, and tells
// the operator by log and metric. The audit trail has it by a trigger.
func (g *gateway) fraudWatch(ring *control.Keyring) (*outbound.Watch, error) {
	thresholds, err := outbound.ParseThresholds(g.settings.DialFraud)
	if err != nil {
		return nil, fmt.Errorf("PARLEY_DIAL_FRAUD: %w", err)
	}
	stops := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_outbound_stops_total",
		Help: "Tenants whose outbound calls were stopped, since they looked like toll fraud."}, []string{"signal"})
	for _, s := range outbound.Signals() {
		stops.WithLabelValues(string(s)) // there from the start, so that a rule sees the first one
	}
	g.metrics.MustRegister(stops)
	return &outbound.Watch{Stops: g.db, Traffic: g.db, Seen: g.redis, Thresholds: thresholds,
		Pseudonym: func(number string) string { return fmt.Sprintf("%x", ring.MAC(tollPurpose, number)[:16]) },
		Raised: func(ctx context.Context, s outbound.Stop) {
			stops.WithLabelValues(string(s.Signal)).Inc()
			tenant, _ := control.TenantOf(ctx)
			g.log.Warn("outbound calls of a tenant are stopped: they look like toll fraud", "signal", string(s.Signal), "tenant", tenant.String(),
				"count", s.Count, "of", s.Threshold, "by", s.By)
		}}, nil
}
