package main

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"parley/control"
	"parley/media"
	"parley/signaling"
)

// deskMetrics count calls.
type deskMetrics struct {
	live    prometheus.Gauge
	refused *prometheus.CounterVec
	// unrecorded counts by what failed: begin, end
	unrecorded *prometheus.CounterVec
}

func newDeskMetrics(reg prometheus.Registerer) deskMetrics {
	m := deskMetrics{
		live:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "parley_calls_live", Help: "Calls that this process serves."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_calls_refused_total", Help: "Calls refused as busy: all rated calls are there, the clock is late, or memory is short."}, []string{"reason"}),
	}
	m.unrecorded = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_recordings_failed_total", Help: "Recordings that could not be begun, or not be written to their end; their calls went on."}, []string{"at"})
	reg.MustRegister(m.live, m.refused, m.unrecorded)
	return m
}

// signalMetrics count what signaling reports.
type signalMetrics struct {
	refused   *prometheus.CounterVec
	dropped   *prometheus.CounterVec
	flooded   *prometheus.CounterVec
	concealed *prometheus.CounterVec
	skipped   prometheus.Counter
	ended     *prometheus.CounterVec
}

func newSignalMetrics(reg prometheus.Registerer) *signalMetrics {
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &signalMetrics{
		refused:   counter("parley_signaling_refused_total", "Requests that were turned away.", []string{"carrier", "route", "reason"}),
		dropped:   counter("parley_signaling_dropped_total", "Messages that were not used.", []string{"carrier", "what"}),
		flooded:   counter("parley_signaling_floods_total", "Lines that sent more than a call needs: warned, and closed where they went on.", []string{"carrier", "what"}),
		concealed: counter("parley_frames_concealed_total", "Frames made up for audio that was late or lost.", []string{"carrier"}),
		skipped:   prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_frames_skipped_total", Help: "Quiet frames left out to catch up."}),
		ended:     counter("parley_webrtc_sessions_ended_total", "WebRTC sessions that have ended.", []string{"reason"}),
	}
	reg.MustRegister(m.refused, m.dropped, m.flooded, m.concealed, m.skipped, m.ended)
	return m
}

func (m *signalMetrics) twilio() signaling.TwilioMetrics {
	return signaling.TwilioMetrics{
		Refused:   func(route, reason string) { m.refused.WithLabelValues("twilio", route, reason).Inc() },
		Dropped:   func(what string) { m.dropped.WithLabelValues("twilio", what).Inc() },
		Flooded:   func(what string) { m.flooded.WithLabelValues("twilio", what).Inc() },
		Concealed: m.concealed.WithLabelValues("twilio").Inc,
		Skipped:   m.skipped.Inc,
	}
}

func (m *signalMetrics) webrtc() signaling.WebRTCMetrics {
	return signaling.WebRTCMetrics{
		Refused: func(status int) { m.refused.WithLabelValues("webrtc", "offer", strconv.Itoa(status)).Inc() },
		Ended:   func(reason string) { m.ended.WithLabelValues(reason).Inc() },
		Jitter:  func(t media.JitterStats) { m.concealed.WithLabelValues("webrtc").Add(float64(t.Concealed)) },
		Dropped: func(what string) { m.dropped.WithLabelValues("webrtc", what).Inc() },
		Flooded: func(what string) { m.flooded.WithLabelValues("webrtc", what).Inc() },
	}
}

// secretMetrics count reads of secrets, as the service does, by how they went.
func secretMetrics(stats func() control.SecretStats) prometheus.Collector {
	return secretReads{stats, prometheus.NewDesc("parley_secret_reads_total",
		"Reads of secrets: hit, from memory; load, asked of the store; stale, from memory past its time as the store was away or being asked; failed, the store was away and nothing in memory.",
		[]string{"result"}, nil)}
}

type secretReads struct {
	stats func() control.SecretStats
	desc  *prometheus.Desc
}

// Describe implements [prometheus.Collector].
func (r secretReads) Describe(to chan<- *prometheus.Desc) { to <- r.desc }

// Collect implements [prometheus.Collector].
func (r secretReads) Collect(to chan<- prometheus.Metric) {
	s := r.stats()
	for result, n := range map[string]int64{"hit": s.Hits, "load": s.Loads, "stale": s.Stale, "failed": s.Failed} {
		to <- prometheus.MustNewConstMetric(r.desc, prometheus.CounterValue, float64(n), result)
	}
}

// newTaskMetrics counts what becomes of asynchronous nodes.
func newTaskMetrics(reg prometheus.Registerer) func(what string) {
	tasks := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "parley_flow_tasks_total",
		Help: "Asynchronous nodes: done by a worker, a duplicate, stale, or done inline because no queue or worker did."}, []string{"result"})
	for _, what := range []string{control.TaskDone, control.TaskDuplicate, control.TaskStale, control.TaskInline} {
		tasks.WithLabelValues(what)
	}
	reg.MustRegister(tasks)
	return func(what string) { tasks.WithLabelValues(what).Inc() }
}
