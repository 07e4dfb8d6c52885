package ingress

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics count what happens at the door. Labels are words of this program
// alone: never a client, a tenant or a path. Make them with [NewMetrics].
type Metrics struct {
	requests    *prometheus.CounterVec
	seconds     *prometheus.HistogramVec
	blocked     *prometheus.CounterVec
	limited     *prometheus.CounterVec
	auth        *prometheus.CounterVec
	threats     *prometheus.CounterVec
	alone       prometheus.Counter
	storageAway prometheus.Counter
}

// NewMetrics registers them.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels []string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &Metrics{
		requests: counter("parley_http_requests_total", "Requests answered.", []string{"class", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "parley_http_seconds", Help: "Time from the head of a request to the end of its answer, sockets and streams left out.",
			Buckets: []float64{.001, .003, .01, .03, .1, .3, 1, 3, 10}}, []string{"class"}),
		blocked:     counter("parley_http_blocked_total", "Requests that the filter or the list of blocked networks kept out.", []string{"rule"}),
		limited:     counter("parley_http_limited_total", "Requests over a limit, by what was counted.", []string{"by"}),
		auth:        counter("parley_auth_failed_total", "Requests refused for who they came from: no or wrong credentials, a failed sign-in, or no permission.", []string{"reason"}),
		threats:     counter("parley_threats_total", "Signals of attacks that were raised.", []string{"signal"}),
		alone:       prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_limits_alone_total", Help: "Requests counted by this process alone, because Redis was away."}),
		storageAway: prometheus.NewCounter(prometheus.CounterOpts{Name: "parley_database_failures_total", Help: "Requests that failed because the database did not answer."}),
	}
	for _, s := range Signals() {
		m.threats.WithLabelValues(string(s)) // there from the start, so that a rule sees the first one
	}
	for _, reason := range []string{"credentials", "sign_in", "permission"} {
		m.auth.WithLabelValues(reason)
	}
	reg.MustRegister(m.requests, m.seconds, m.blocked, m.limited, m.auth, m.threats, m.alone, m.storageAway)
	return m
}

// Answered counts a request; what lasted counts in no histogram.
func (m *Metrics) Answered(class string, status int, took time.Duration, long bool) {
	m.requests.WithLabelValues(class, strconv.Itoa(status)).Inc()
	if !long {
		m.seconds.WithLabelValues(class).Observe(took.Seconds())
	}
}

// Blocked counts a [Refusal] by its rule.
func (m *Metrics) Blocked(rule string) { m.blocked.WithLabelValues(rule).Inc() }

// Limited counts a refusal by what was counted: "route", "address", "tenant".
func (m *Metrics) Limited(by string) { m.limited.WithLabelValues(by).Inc() }

// AuthFailed counts "credentials", "sign_in" or "permission".
func (m *Metrics) AuthFailed(reason string) { m.auth.WithLabelValues(reason).Inc() }

// Threat counts a signal.
func (m *Metrics) Threat(s Signal) { m.threats.WithLabelValues(string(s)).Inc() }

// Alone counts a request that Redis did not count.
func (m *Metrics) Alone() { m.alone.Inc() }

// StorageAway counts a request that the database failed.
func (m *Metrics) StorageAway() { m.storageAway.Inc() }
