package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"regexp"
	"time"

	"github.com/google/uuid"
)

// A FigureQuery asks for figures of calls; zero fields but From and To narrow
// nothing. A call belongs to the quarter of an hour, in UTC, that it began in,
// and counts once it has ended.
type FigureQuery struct {
	From, To time.Time // of beginnings, To not included; rounded down to quarters
	// By is what they are grouped by; empty: one group of all.
	By FigureBy
	// Zone is the IANA name of the zone whose days and hours are meant; default
	// UTC. All zones are whole quarters of an hour from UTC, so that no quarter
	// lies in two of their days. A day of 23 or 25 hours is one day, and the hour
	// that comes twice is two hours.
	Zone string

	Agent        uuid.UUID
	AgentVersion int
	Flow         uuid.UUID
	FlowVersion  int
	Number       string // the tenant's own, E.164
	Direction    string
	Carrier      string
	// Test counts calls to try an agent out too, which else only a Carrier of
	// theirs shows.
	Test bool
}

// FigureBy is a dimension of figures.
type FigureBy string

// The dimensions.
const (
	ByNothing      FigureBy = ""
	ByHour         FigureBy = "hour"
	ByDay          FigureBy = "day"
	ByAgent        FigureBy = "agent"
	ByAgentVersion FigureBy = "agent_version"
	ByFlow         FigureBy = "flow"
	ByFlowVersion  FigureBy = "flow_version"
	ByNumber       FigureBy = "number"
	ByDirection    FigureBy = "direction"
	ByCarrier      FigureBy = "carrier"
)

// Bounds of what is asked for: an answer is read in one piece.
const (
	FigureDays  = 400 // at most
	FigureHours = 31  // days, where they are grouped by hour
)

var zoneName = regexp.MustCompile(`^[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*$`)

// Validate returns an [*Invalid] for what is too much, or makes no sense, and
// fills in the zone.
func (q *FigureQuery) Validate() error {
	q.Zone = cmp.Or(q.Zone, "UTC")
	const day = 24 * time.Hour
	switch span := q.To.Sub(q.From); {
	case span <= 0:
		return &Invalid{Field: "to", Reason: "must be later than from"}
	case span > (FigureDays+1)*day: // a day more, for days of other zones
		return &Invalid{Field: "from", Reason: fmt.Sprintf("lies more than %d days before to: ask for less at once", FigureDays)}
	case q.By == ByHour && span > (FigureHours+1)*day:
		return &Invalid{Field: "from", Reason: fmt.Sprintf("lies more than %d days before to, which by hour is too much: ask for less, or by day", FigureHours)}
	}
	if !zoneName.MatchString(q.Zone) || q.Zone == "Local" {
		return errZone
	}
	if _, err := time.LoadLocation(q.Zone); err != nil {
		return errZone
	}
	return nil
}

var errZone = &Invalid{Field: "tz", Reason: "is no time zone's name: write one like Europe/Berlin"}

// A FigureKey says what a group is of; what it is not grouped by is zero.
type FigureKey struct {
	Start        time.Time // by hour or day, in UTC
	Agent        uuid.UUID
	AgentVersion int
	Flow         uuid.UUID // zero also for calls without a flow
	FlowVersion  int
	Number       string
	Direction    string
	Carrier      string
}

// CallFigures are what the calls of a group came to. All but Latency and Cost
// can be counted again from the calls, turns and histories while these are kept.
type CallFigures struct {
	FigureKey
	Calls, Inbound, Outbound int64
	Answered                 int64
	Talk                     time.Duration    // from answers to ends, in all
	Outcomes                 map[string]int64 // "completed", "transferred", "abandoned", "failed", "unanswered"
	EndReasons               map[string]int64 // as of [Call.EndReason]
	Contained                int64            // completed, and nobody asked for a transfer
	Transfers                int64            // asked for
	CallerTurns, AgentTurns  int64
	CutTurns                 int64 // of the agent's
	NoInput, NoMatch         int64
	Pauses                   map[string]int64 // as of agent.Turn.Pauses
	Latency                  map[string]Histogram
	Cost                     map[string]int64 // by currency, in millionths
}

// NewCallFigures returns figures of no calls.
func NewCallFigures(k FigureKey) CallFigures {
	return CallFigures{FigureKey: k, Outcomes: map[string]int64{}, EndReasons: map[string]int64{},
		Pauses: map[string]int64{}, Latency: map[string]Histogram{}, Cost: map[string]int64{}}
}

// Add adds the figures of another group.
func (f *CallFigures) Add(o CallFigures) {
	f.Calls, f.Inbound, f.Outbound = f.Calls+o.Calls, f.Inbound+o.Inbound, f.Outbound+o.Outbound
	f.Answered, f.Talk = f.Answered+o.Answered, f.Talk+o.Talk
	f.Contained, f.Transfers = f.Contained+o.Contained, f.Transfers+o.Transfers
	f.CallerTurns, f.AgentTurns, f.CutTurns = f.CallerTurns+o.CallerTurns, f.AgentTurns+o.AgentTurns, f.CutTurns+o.CutTurns
	f.NoInput, f.NoMatch = f.NoInput+o.NoInput, f.NoMatch+o.NoMatch
	addTo(f.Outcomes, o.Outcomes)
	addTo(f.EndReasons, o.EndReasons)
	addTo(f.Pauses, o.Pauses)
	addTo(f.Cost, o.Cost)
	for step, h := range o.Latency {
		if f.Latency[step] == nil {
			f.Latency[step] = Histogram{}
		}
		addTo(f.Latency[step], h)
	}
}

func addTo[K comparable](to, from map[K]int64) {
	for k, n := range from {
		to[k] += n
	}
}

// Steps of an answer whose latency is kept.
const (
	StepFirstAudio      = "first_audio" // end of speech → first audible sample
	StepEndOfTurn       = "end_of_turn"
	StepFinalTranscript = "final_transcript"
	StepFirstToken      = "first_token"
	StepFirstSpeech     = "first_speech"
)

// A FlowQuery asks for the funnel of a flow.
type FlowQuery struct {
	Flow     uuid.UUID
	Version  int
	Channel  string
	From, To time.Time
}

// A NodeStep is how often conversations went from a node to the next, or failed
// at it.
type NodeStep struct {
	Node string        // "" before the first
	Kind string        // "left", "no_input", "no_match"
	Next string        // kind left: the next node, or "$" and how the conversation ended
	N    int64         //
	Time time.Duration // at the node, in all
}

// LiveFigures are what goes on now.
type LiveFigures struct {
	Calls   int64 // in progress
	Agents  map[uuid.UUID]int64
	Status  map[string]int64
	Latency Histogram // of first audio, in the last minute
}

// FigureStore keeps figures. LocateX look over all tenants.
type FigureStore interface {
	// LocateUncounted returns tenants with slots to be counted again, at most 200.
	LocateUncounted(ctx context.Context) ([]Located, error)
	// Uncounted returns slots to be counted again, the oldest first.
	Uncounted(ctx context.Context, most int) ([]time.Time, error)
	// RollUp counts a slot again from its calls and chats, all of it or nothing;
	// ErrConflict if another process was at it.
	RollUp(ctx context.Context, slot time.Time) error

	// SumUp sums hours and days that are over by now and whose quarters are all
	// counted, so many of each at most. Figures are the same without it, later.
	SumUp(ctx context.Context, now time.Time, most int) error

	// CallFigures returns groups in the order of their keys.
	CallFigures(ctx context.Context, q FigureQuery) ([]CallFigures, error)
	// FlowFigures returns the steps of a flow, by node, kind and next.
	FlowFigures(ctx context.Context, q FlowQuery) ([]NodeStep, error)
	// Late returns how many slots between the times wait to be counted again.
	Late(ctx context.Context, from, to time.Time) (int, error)
	LiveFigures(ctx context.Context) (LiveFigures, error)
}

// A Histogram counts latencies in buckets of 16 to a doubling: bucket i holds
// those up to 2^(i/16) ms, bucket 0 all up to 1 ms and bucket 288 all above
// 250 s. Two are merged by adding. Its zero value is empty.
type Histogram map[int]int64

const (
	perDoubling = 16
	topBucket   = 288
)

// HistogramError is how far a quantile of a Histogram is from the true one at
// most, as a part of it; below 1 ms it is up to 1 ms off.
var HistogramError = (math.Exp2(1.0/perDoubling) - 1) / (math.Exp2(1.0/perDoubling) + 1)

// Count returns how many latencies there are.
func (h Histogram) Count() int64 {
	var n int64
	for _, c := range h {
		n += c
	}
	return n
}

// Quantile returns the latency below which the part p of all lie: the one of
// rank ⌈p·n⌉, to within [HistogramError]; 0 if there are none.
func (h Histogram) Quantile(p float64) time.Duration {
	n := h.Count()
	rank := max(1, int64(math.Ceil(p*float64(n))))
	var seen int64
	for i := range topBucket + 1 {
		if seen += h[i]; n > 0 && seen >= rank {
			return bucketTime(i)
		}
	}
	return 0
}

// bucketTime is the time that is as far, as a part, from one end of the bucket
// as from the other.
func bucketTime(i int) time.Duration {
	if i == 0 {
		return time.Millisecond
	}
	top := math.Exp2(float64(i) / perDoubling)
	ms := top * 2 / (math.Exp2(1.0/perDoubling) + 1)
	return time.Duration(ms * float64(time.Millisecond))
}

// Defaults of [Figures].
const (
	figureLook  = 10 * time.Second
	figureSlots = 64 // of a tenant, before another's turn
)

// Figures rolls up what ends. A process that dies in the middle leaves the slot
// marked, for every other. Run must run in one process at least; in more it
// does no harm.
type Figures struct {
	Store FigureStore
	Log   *slog.Logger
	Look  time.Duration // between looks; default 10 s
}

// Run rolls up until ctx ends.
func (s *Figures) Run(ctx context.Context) error {
	look := time.NewTicker(cmp.Or(s.Look, figureLook))
	defer look.Stop()
	away := false
	for {
		err := s.RollUp(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !(away && errors.Is(err, ErrUnavailable)) {
			s.Log.Error("figures wait to be rolled up", "error", err)
		}
		away = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
	}
}

// RollUp counts again what has changed by now, of all tenants.
func (s *Figures) RollUp(ctx context.Context) error {
	tenants, err := s.Store.LocateUncounted(ctx)
	if err != nil {
		return err
	}
	var errs error
	for _, t := range tenants {
		errs = errors.Join(errs, s.tenant(WithTenant(ctx, t.Tenant)))
	}
	return errs
}

func (s *Figures) tenant(ctx context.Context) error {
	slots, err := s.Store.Uncounted(ctx, figureSlots)
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if err := s.Store.RollUp(ctx, slot); err != nil && !errors.Is(err, ErrConflict) { // another is at it: it stays marked
			return fmt.Errorf("roll up %s: %w", slot.Format(time.RFC3339), err)
		}
	}
	return s.Store.SumUp(ctx, time.Now(), figureSlots)
}
