package agent

import "github.com/prometheus/client_golang/prometheus"

// Label values are vendor names and fixed words only: never a call, a number
// or a tenant, which are for logs.
var (
	sessionsActive = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "parley_sessions_active", Help: "Sessions that are being held.",
	}, []string{"carrier"})

	sessionsEnded = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_sessions_ended_total", Help: "Sessions that have ended, by reason.",
	}, []string{"carrier", "reason"})

	turnsTotal = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_turns_total", Help: "Turns, by who spoke and whether the agent was cut off.",
	}, []string{"speaker", "interrupted"})

	interruptions = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_interruptions_total", Help: "Pauses for a caller who speaks over the agent, by verdict.",
	}, []string{"verdict"})

	providerFailures = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_provider_failures_total", Help: "Failures of vendors, by kind of service, vendor and reason.",
	}, []string{"kind", "vendor", "reason"})

	breakersOpen = prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "parley_breakers_open", Help: "Tenants' breakers that keep a vendor from being asked, by state: open, or half_open with one try under way.",
	}, []string{"kind", "vendor", "state"})

	audioReplayed = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_recognizer_replayed_seconds_total", Help: "Audio of unfinished utterances given to another recognizer, by the vendor that got it.",
	}, []string{"vendor"})

	audioDropped = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_recognizer_dropped_seconds_total", Help: "Audio that a recognizer did not take in time, by vendor.",
	}, []string{"vendor"})

	speechGaps = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "parley_speech_gaps_total", Help: "Times that speech ran dry in the middle of a reply.",
	})

	speculations = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_speculations_total", Help: "Answers begun before the caller's turn had ended, by what became of them.",
	}, []string{"outcome"})

	wasted = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_speculation_wasted_total", Help: "Tokens and clauses made for answers that were not adopted.",
	}, []string{"unit"})

	lateTurns = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_late_transcripts_total", Help: "Turns whose final words came after they were taken and were others, by what was done.",
	}, []string{"action"})

	misbehaved = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "parley_model_misbehaved_total",
		Help: "Answers of models that were cut or replaced: silence, length, repetition, tool_rounds; and calls out of budget.",
	}, []string{"what"})

	// responseSeconds is the delay the caller hears: from the end of the
	// caller's speech to the first audible sample of the reply on the wire.
	responseSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "parley_response_seconds",
		Help:    "Time from the end of the caller's speech to the first audible sample of the reply.",
		Buckets: []float64{.2, .3, .4, .5, .65, .8, 1, 1.25, 1.5, 2, 3, 5},
	}, []string{"carrier"})

	// stepSeconds splits responseSeconds.
	stepSeconds = prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "parley_response_step_seconds",
		Help:    "Parts of the response time.",
		Buckets: []float64{.01, .025, .05, .1, .2, .3, .5, .8, 1.25, 2, 3},
	}, []string{"step"})
)

// Metrics returns the package's collectors, for the program to register.
func Metrics() []prometheus.Collector {
	return []prometheus.Collector{sessionsActive, sessionsEnded, turnsTotal, interruptions, providerFailures, breakersOpen,
		audioReplayed, audioDropped, speechGaps, speculations, wasted, lateTurns, misbehaved,
		responseSeconds, stepSeconds}
}
