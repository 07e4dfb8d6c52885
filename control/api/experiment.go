package api

import (
	"context"
	"errors"

	"parley/control"
)

type experimentJSON struct {
	ID   string    `json:"id"`
	Goal string    `json:"goal,omitempty" doc:"What counts as a conversion; absent for any goal."`
	Arms []armJSON `json:"arms" doc:"The first is what the others are compared to."`
}

// armJSON counts sessions, but for impressions.
type armJSON struct {
	Arm            string          `json:"arm"`
	Weight         int             `json:"weight" doc:"0 where it is drawn no more."`
	Impressions    int             `json:"impressions" doc:"Times it was shown."`
	Sessions       int             `json:"sessions" doc:"In which it was shown."`
	Engagements    int             `json:"engagements" doc:"Of these sessions, those with an answer after it."`
	Conversions    int             `json:"conversions" doc:"Of these sessions, those that reached the goal after it."`
	EngagementRate *float64        `json:"engagement_rate" doc:"Of sessions; null without any."`
	ConversionRate *float64        `json:"conversion_rate" doc:"Of sessions; null without any."`
	Engagement     *comparisonJSON `json:"engagement,omitempty" doc:"Its rate against the first arm's."`
	Conversion     *comparisonJSON `json:"conversion,omitempty" doc:"Its rate against the first arm's."`
}

type comparisonJSON struct {
	Sessions int      `json:"sessions" doc:"Of the smaller of the two."`
	Needed   int      `json:"needed,omitempty" doc:"That each of them needs before the test is made."`
	Z        *float64 `json:"z" doc:"Null before there are enough."`
	P        *float64 `json:"p_value" doc:"Two-sided; null before there are enough."`
	Verdict  string   `json:"verdict" doc:"better, worse, no difference shown, or not enough yet: 40 of 3841 sessions."`
}

func newExperimentJSON(r control.ExperimentReport) experimentJSON {
	out := experimentJSON{ID: r.ID, Goal: r.Goal, Arms: []armJSON{}}
	for _, a := range r.Arms {
		out.Arms = append(out.Arms, armJSON{a.Arm, a.Weight, a.Impressions, a.Sessions, a.Engaged, a.Converted,
			rate(a.Engaged, a.Sessions), rate(a.Converted, a.Sessions), newComparisonJSON(a.Engagement), newComparisonJSON(a.Conversion)})
	}
	return out
}

func newComparisonJSON(c *control.Comparison) *comparisonJSON {
	if c == nil {
		return nil
	}
	return &comparisonJSON{c.Have, c.Need, c.Z, c.P, c.Verdict}
}

func rate(x, n int) *float64 {
	if n == 0 {
		return nil
	}
	r := float64(x) / float64(n)
	return &r
}

// TrialQuery is how figures are asked for; exported for huma, which fills it.
type TrialQuery struct {
	Effect float64 `query:"effect" minimum:"0.01" maximum:"1" default:"0.2" doc:"The smallest relative change of a rate that is worth finding; it says how many sessions are enough."`
}

func (s *Server) experiments() error {
	return errors.Join(
		operation(s, reads("/v1/content/{content}/experiment", control.ContentRead), "get-content-experiment", "How a content's variants fare, counted from events", 200, s.contentExperiment),
		operation(s, reads("/v1/flows/{flow}/experiments", control.FlowsRead), "list-flow-experiments", "How the arms of a flow's splits fare, counted from events", 200, s.flowExperiments),
	)
}

func (s *Server) contentExperiment(ctx context.Context, in *struct {
	ContentPath
	TrialQuery
	Goal string `query:"goal" maxLength:"200" doc:"What counts as a conversion; any goal by default."`
}) (*reply[experimentJSON], error) {
	r, err := s.o.Experiments.Content(ctx, in.Content, control.Trial{Goal: in.Goal, Effect: in.Effect})
	if err != nil {
		return nil, err
	}
	return &reply[experimentJSON]{newExperimentJSON(r)}, nil
}

func (s *Server) flowExperiments(ctx context.Context, in *struct {
	FlowPath
	TrialQuery
}) (*listOut[experimentJSON], error) {
	list, err := s.o.Experiments.Flow(ctx, in.Flow, control.Trial{Effect: in.Effect})
	if err != nil {
		return nil, err
	}
	return newList(PageQuery{}, list, newExperimentJSON, nil), nil
}
