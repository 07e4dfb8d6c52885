package main

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"parley/control"
	"parley/control/egress"
)

// webhookAnswer is the largest answer of a receiver that is taken; nothing of
// it is kept.
const webhookAnswer = 64 << 10

// buildEvents lets the world know what happens.
func (g *gateway) buildEvents(ring *control.Keyring) error {
	// A redirect would take the signed body to an address that nobody chose.
	client, err := newEgress(egress.Options{Allow: g.settings.EgressAllow, MaxRedirects: -1, MaxResponse: webhookAnswer}, g.settings.EgressProxy, g.db, g.log)
	if err != nil {
		return err
	}
	g.post = client
	m := newEventMetrics(g.metrics)
	g.webhooks = &control.Webhooks{Store: g.db, Ring: ring}
	g.events = &control.Events{Store: g.db, Log: g.log, Noted: func(n int) { m.published.Add(float64(n)) }}
	g.deliveries = &control.Deliveries{Store: g.db, Webhooks: g.webhooks, HTTP: sender{client: client, rules: g.desk.outside.rules, meter: g.desk.outside.bounds.meter}, Secrets: g.desk.outside.secrets,
		Changed: g.events.Changed, Log: g.log, Noted: m.delivered, Disabled: m.disabled.Inc,
		Oldest: func(d time.Duration) { m.oldest.Set(d.Seconds()) }}
	g.events.Readers = []control.EventReader{g.deliveries.Reader()}
	return nil
}

// eventMetrics count what events and webhooks come to.
type eventMetrics struct {
	published  prometheus.Counter
	deliveries *prometheus.CounterVec
	waited     prometheus.Histogram
	oldest     prometheus.Gauge
	disabled   prometheus.Counter
}

func newEventMetrics(reg prometheus.Registerer) *eventMetrics {
	m := &eventMetrics{
		published:  prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_events_published_total", Help: "Events of sessions and calls that this process has published."}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_webhook_attempts_total", Help: "Attempts to deliver an event: delivered, failed and to be tried again, or dead."}, []string{"outcome"}),
		waited: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "parley_webhook_queue_seconds", Help: "Time from when an attempt was due until it was over.",
			Buckets: []float64{.01, .03, .1, .3, 1, 3, 10, 30, 100, 300, 1000, 3000}}),
		oldest:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "parley_webhook_oldest_due_seconds", Help: "How long the longest waiting attempt that is due has waited, over all webhooks."}),
		disabled: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_webhooks_disabled_total", Help: "Webhooks disabled because they went on failing."}),
	}
	reg.MustRegister(m.published, m.deliveries, m.waited, m.oldest, m.disabled)
	return m
}

func (m *eventMetrics) delivered(outcome string, waited time.Duration) {
	m.deliveries.WithLabelValues(outcome).Inc()
	m.waited.Observe(waited.Seconds())
}
