package control

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"

	"parley/agent/flow"
)

// An ArmCount is what the events tell of one arm of an experiment, or of one
// variant of a content.
type ArmCount struct {
	Experiment  string // id; of a content, the content's
	Arm         string
	Impressions int // times it was shown, or drawn
	Sessions    int // in which it was
	Engaged     int // of these, those in which the person answered after it
	Converted   int // of these, those in which the goal was reached after it
}

// ExperimentStore counts events: nothing is kept but they. A goal of "" is any.
type ExperimentStore interface {
	// CountContent counts the variants of a content.
	CountContent(ctx context.Context, content uuid.UUID, goal string) ([]ArmCount, error)
	// CountArms counts the arms of a flow's experiments; goals are by
	// experiment, any where there is none.
	CountArms(ctx context.Context, flow uuid.UUID, goals map[string]string) ([]ArmCount, error)
}

// Experiments is the service of experiments' figures.
type Experiments struct {
	Store    ExperimentStore
	Contents ContentStore
	Flows    FlowStore
	Graphs   *Graphs
}

// A Trial is what is asked of an experiment.
type Trial struct {
	Goal string // of a content; empty for any
	// Effect is the smallest relative change of the first arm's rate that is
	// worth finding: it says how many sessions are enough. Default 0.2, a fifth;
	// 0.01 to 1.
	Effect float64
}

// DefaultEffect is the default of [Trial]'s Effect.
const DefaultEffect = 0.2

// An ExperimentReport is how an experiment stands.
type ExperimentReport struct {
	ID   string
	Goal string // empty for any
	Arms []ArmReport
}

// An ArmReport is one arm; the first of a report is what others are compared to.
type ArmReport struct {
	ArmCount
	Weight int // 0 where the arm is no longer drawn
	// Conversion and Engagement compare those rates; nil for the first arm.
	Conversion, Engagement *Comparison
}

// Content reports on a content's variants; its own form comes first.
func (s *Experiments) Content(ctx context.Context, id uuid.UUID, t Trial) (ExperimentReport, error) {
	r := ExperimentReport{ID: id.String(), Goal: t.Goal}
	if err := t.check(); err != nil {
		return r, err
	}
	c, err := s.Contents.Content(ctx, id)
	if err != nil {
		return r, err
	}
	variants, err := s.Contents.Variants(ctx, id)
	if err != nil {
		return r, err
	}
	counts, err := s.Store.CountContent(ctx, id, t.Goal)
	if err != nil {
		return r, err
	}
	arms := []flow.Arm{{Name: flow.BaseVariant, Weight: c.Weight}}
	for _, v := range variants {
		arms = append(arms, flow.Arm{Name: v.Key, Weight: v.Weight})
	}
	r.Arms = armReports(r.ID, arms, counts, t)
	return r, nil
}

// Flow reports on the experiments of the version of a flow that is live, and of
// the flows that it calls, and on all others of the flow that have been drawn.
func (s *Experiments) Flow(ctx context.Context, id uuid.UUID, t Trial) ([]ExperimentReport, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	f, err := s.Flows.Flow(ctx, id)
	if err != nil {
		return nil, err
	}
	list, goals := []flow.Experiment{}, map[string]string{}
	if live := f.In(Live).Published; live != uuid.Nil {
		graph, _, err := s.Graphs.Pin(ctx, live, Live)
		if err != nil {
			return nil, err
		}
		list = graph.Experiments()
	}
	for _, e := range list {
		goals[e.ID] = e.Goal
	}
	counts, err := s.Store.CountArms(ctx, id, goals)
	if err != nil {
		return nil, err
	}
	for _, c := range counts {
		if !slices.ContainsFunc(list, func(e flow.Experiment) bool { return e.ID == c.Experiment }) {
			list = append(list, flow.Experiment{ID: c.Experiment})
		}
	}
	reports := []ExperimentReport{}
	for _, e := range list {
		reports = append(reports, ExperimentReport{e.ID, e.Goal, armReports(e.ID, e.Arms, counts, t)})
	}
	return reports, nil
}

func (t *Trial) check() error {
	if t.Effect == 0 {
		t.Effect = DefaultEffect
	}
	if !(t.Effect >= .01 && t.Effect <= 1) {
		return Invalidf("effect", "must be 0.01 to 1")
	}
	return nil
}

// armReports joins what an experiment says with what was counted, and compares
// every arm to the first.
func armReports(experiment string, arms []flow.Arm, counts []ArmCount, t Trial) []ArmReport {
	out := []ArmReport{}
	for _, a := range arms {
		r := ArmReport{ArmCount: ArmCount{Experiment: experiment, Arm: a.Name}, Weight: a.Weight}
		for _, c := range counts {
			if c.Experiment == experiment && c.Arm == a.Name {
				r.ArmCount = c
			}
		}
		out = append(out, r)
	}
	for _, c := range counts { // what is drawn no more
		if c.Experiment == experiment && !slices.ContainsFunc(out, func(r ArmReport) bool { return r.Arm == c.Arm }) {
			out = append(out, ArmReport{ArmCount: c})
		}
	}
	for i := range out {
		if a, b := out[0], &out[i]; i > 0 {
			b.Conversion = compare(a.Converted, a.Sessions, b.Converted, b.Sessions, t.Effect)
			b.Engagement = compare(a.Engaged, a.Sessions, b.Engaged, b.Sessions, t.Effect)
		}
	}
	return out
}

// minSample is the least number of sessions an arm needs, whatever the rates.
const minSample = 100

// A Comparison is the two-proportion z-test of an arm's rate against the
// first's, two-sided, with the pooled variance. It is not corrected for several
// arms, nor for looking often: that is what the sample size is for.
type Comparison struct {
	// Have is how many sessions the smaller of the two has, and Need how many
	// each needs to find the change that was asked for with a power of 80 % at
	// a level of 5 %; 0 where the first's rate does not tell yet.
	Have, Need int
	// Z and P are set once there are enough sessions.
	Z, P *float64
	// Verdict is a sentence: "not enough yet: 40 of 3842 sessions".
	Verdict string
}

// compare tests x2 of n2 against x1 of n1.
func compare(x1, n1, x2, n2 int, effect float64) *Comparison {
	c := &Comparison{Have: min(n1, n2)}
	if n1 > 0 {
		c.Need = sampleSize(float64(x1)/float64(n1), effect)
	}
	switch {
	case c.Need == 0:
		c.Verdict = fmt.Sprintf("not enough yet: %d sessions, and the first arm has no success to compare with", c.Have)
		return c
	case c.Have < c.Need:
		c.Verdict = fmt.Sprintf("not enough yet: %d of %d sessions", c.Have, c.Need)
		return c
	}
	z, p := twoProportions(x1, n1, x2, n2)
	c.Z, c.P = &z, &p
	switch {
	case p >= .05:
		c.Verdict = "no difference shown"
	case z > 0:
		c.Verdict = "better"
	default:
		c.Verdict = "worse"
	}
	return c
}

// twoProportions is the pooled two-proportion z-test: z is positive where the
// second rate is the higher, p is two-sided. Rates that are equal, also both 0
// or both 1, give 0 and 1.
func twoProportions(x1, n1, x2, n2 int) (z, p float64) {
	p1, p2 := float64(x1)/float64(n1), float64(x2)/float64(n2)
	pooled := float64(x1+x2) / float64(n1+n2)
	se := math.Sqrt(pooled * (1 - pooled) * (1/float64(n1) + 1/float64(n2)))
	if se == 0 {
		return 0, 1
	}
	z = (p2 - p1) / se
	return z, math.Erfc(math.Abs(z) / math.Sqrt2)
}

// sampleSize is how many sessions each arm needs so that a test at a level of
// 5 % finds, with a power of 80 %, that a rate p has changed by the fraction
// effect of itself (upwards, or downwards where that would pass 1): Fleiss,
// Levin and Paik, Statistical Methods for Rates and Proportions, section 4.3,
// without the correction for continuity. At least 100; 0 for a rate of 0, of
// which no fraction can be found.
func sampleSize(p, effect float64) int {
	const alpha, power = 1.959964, 0.841621 // quantiles of the normal distribution: 0.975, 0.8
	if p <= 0 {
		return 0
	}
	q := p * (1 + effect)
	if q >= 1 {
		q = p * (1 - effect)
	}
	mean := (p + q) / 2
	root := alpha*math.Sqrt(2*mean*(1-mean)) + power*math.Sqrt(p*(1-p)+q*(1-q))
	return max(minSample, int(math.Ceil(root*root/((p-q)*(p-q)))))
}
