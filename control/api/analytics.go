package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// figureCost is what a request for figures takes of the budgets over all routes:
// it may read a year.
const figureCost = 5

// FigureRange is what all figures are asked for by; exported for huma.
type FigureRange struct {
	From time.Time `query:"from" doc:"Beginnings of calls, rounded down to a quarter of an hour. Default: a day before to."`
	To   time.Time `query:"to" doc:"Not included. Default: now."`
}

// span fills in what is not given.
func (r FigureRange) span() (from, to time.Time) {
	from, to = r.From, r.To
	if to.IsZero() {
		to = time.Now().Truncate(15 * time.Minute).Add(15 * time.Minute)
	}
	if from.IsZero() {
		from = to.Add(-24 * time.Hour)
	}
	return from.UTC(), to.UTC()
}

// FiguresQuery narrows and groups figures of calls; exported for huma.
type FiguresQuery struct {
	FigureRange
	By           string    `query:"by" enum:"hour,day,agent,agent_version,flow,flow_version,number,direction,carrier" doc:"By hour at most 31 days, else 400. Default: all in one."`
	TZ           string    `query:"tz" maxLength:"64" doc:"Whose hours and days, such as Asia/Kolkata. Default: UTC."`
	Agent        uuid.UUID `query:"agent_id"`
	AgentVersion int       `query:"agent_version" minimum:"0" maximum:"2147483647"`
	Flow         uuid.UUID `query:"flow_id"`
	FlowVersion  int       `query:"flow_version" minimum:"0" maximum:"2147483647"`
	Number       string    `query:"number" maxLength:"32" doc:"The tenant's own."`
	Direction    string    `query:"direction" enum:"inbound,outbound"`
	Carrier      string    `query:"carrier" maxLength:"32"`
	Test         bool      `query:"include_test" doc:"Count test calls too. Default: only carrier=test shows them."`
}

func (q FiguresQuery) query() control.FigureQuery {
	from, to := q.span()
	return control.FigureQuery{From: from, To: to, By: control.FigureBy(q.By), Zone: q.TZ, Agent: q.Agent, AgentVersion: q.AgentVersion,
		Flow: q.Flow, FlowVersion: q.FlowVersion, Number: q.Number, Direction: q.Direction, Carrier: q.Carrier, Test: q.Test}
}

// FigureGroup says what figures are of; exported for huma.
type FigureGroup struct {
	Start        *time.Time `json:"start,omitempty" doc:"By hour or day: when it begins."`
	Date         string     `json:"date,omitempty" doc:"By day: which one, in the zone."`
	AgentID      *uuid.UUID `json:"agent_id,omitempty"`
	AgentVersion int        `json:"agent_version,omitempty"`
	FlowID       *uuid.UUID `json:"flow_id,omitempty" doc:"Absent: of calls without a flow."`
	FlowVersion  int        `json:"flow_version,omitempty"`
	Number       string     `json:"number,omitempty" doc:"Absent: of calls without one."`
	Direction    string     `json:"direction,omitempty"`
	Carrier      string     `json:"carrier,omitempty"`
}

func newFigureGroup(k control.FigureKey, q control.FigureQuery) FigureGroup {
	out := FigureGroup{Start: when(k.Start), AgentVersion: k.AgentVersion, FlowVersion: k.FlowVersion,
		Number: k.Number, Direction: k.Direction, Carrier: k.Carrier}
	if k.Agent != uuid.Nil {
		out.AgentID = &k.Agent
	}
	if k.Flow != uuid.Nil {
		out.FlowID = &k.Flow
	}
	if q.By == control.ByDay {
		zone, _ := time.LoadLocation(q.Zone) // validated
		// At noon: midnight is not there on each day of each zone.
		out.Date = k.Start.Add(12 * time.Hour).In(zone).Format(time.DateOnly)
	}
	return out
}

type figuresJSON struct {
	FigureGroup
	Calls          int64              `json:"calls" doc:"That have ended."`
	Inbound        int64              `json:"inbound"`
	Outbound       int64              `json:"outbound"`
	Answered       int64              `json:"answered"`
	TalkSeconds    float64            `json:"talk_seconds" doc:"From answers to ends, in all."`
	AverageSeconds float64            `json:"average_seconds" doc:"Of an answered call."`
	Outcomes       map[string]int64   `json:"outcomes" doc:"completed, transferred, abandoned, failed, unanswered; each call has one."`
	EndReasons     map[string]int64   `json:"end_reasons"`
	Contained      int64              `json:"contained" doc:"Completed, and no transfer was asked for."`
	Containment    float64            `json:"containment" doc:"Contained of answered calls, 0 to 1."`
	Completion     float64            `json:"completion" doc:"Completed of answered calls, 0 to 1."`
	Transfers      int64              `json:"transfers" doc:"Calls that a transfer was asked for, whatever came of it."`
	CallerTurns    int64              `json:"caller_turns"`
	AgentTurns     int64              `json:"agent_turns"`
	CutTurns       int64              `json:"cut_turns" doc:"Of the agent, that a caller cut off."`
	NoInput        int64              `json:"no_input" doc:"Silences at a question."`
	NoMatch        int64              `json:"no_match" doc:"Answers that were not understood."`
	Interruptions  map[string]int64   `json:"interruptions" doc:"Pauses of the agent by cause/verdict, such as words/yield, listening/resume."`
	Latency        quantilesJSON      `json:"latency" doc:"From the end of the caller's speech to the first audible sample."`
	Cost           map[string]float64 `json:"cost,omitempty" doc:"By currency; for those who may read bills."`
}

type quantilesJSON struct {
	Count   int64         `json:"count"`
	P50MS   float64       `json:"p50_ms"`
	P90MS   float64       `json:"p90_ms"`
	P95MS   float64       `json:"p95_ms"`
	P99MS   float64       `json:"p99_ms"`
	Buckets map[int]int64 `json:"buckets,omitempty" doc:"How many were up to 2^(bucket/16) ms, and above the bucket below. Answers are merged by adding."`
}

func newQuantiles(h control.Histogram, buckets bool) quantilesJSON {
	ms := func(p float64) float64 { return float64(h.Quantile(p).Microseconds()) / 1000 }
	out := quantilesJSON{Count: h.Count(), P50MS: ms(.5), P90MS: ms(.9), P95MS: ms(.95), P99MS: ms(.99)}
	if buckets {
		out.Buckets = h
	}
	return out
}

func newFiguresJSON(f control.CallFigures, q control.FigureQuery, money bool) figuresJSON {
	out := figuresJSON{newFigureGroup(f.FigureKey, q), f.Calls, f.Inbound, f.Outbound, f.Answered, f.Talk.Seconds(), 0,
		f.Outcomes, f.EndReasons, f.Contained, part(f.Contained, f.Answered), part(f.Outcomes["completed"], f.Answered), f.Transfers,
		f.CallerTurns, f.AgentTurns, f.CutTurns, f.NoInput, f.NoMatch, f.Pauses,
		newQuantiles(f.Latency[control.StepFirstAudio], false), nil}
	if f.Answered > 0 {
		out.AverageSeconds = f.Talk.Seconds() / float64(f.Answered)
	}
	if money {
		out.Cost = map[string]float64{}
		for currency, n := range f.Cost {
			out.Cost[currency] = float64(n) / 1e6
		}
	}
	return out
}

// part of all, 0 where there are none.
func part(n, all int64) float64 {
	if all == 0 {
		return 0
	}
	return float64(n) / float64(all)
}

// FigureSpan heads every answer of figures; exported for huma.
type FigureSpan struct {
	From time.Time `json:"from"`
	To   time.Time `json:"to"`
	TZ   string    `json:"tz"`
	Late int       `json:"late" doc:"Quarters of an hour in this range that are being counted again: calls have ended in them just now."`
}

type analysisJSON struct {
	FigureSpan
	Items []figuresJSON `json:"items" doc:"Groups that have calls; by hour and day in order."`
	Total figuresJSON   `json:"total"`
}

type latencyItemJSON struct {
	FigureGroup
	Steps map[string]quantilesJSON `json:"steps" doc:"first_audio is what the caller waits; the others are parts of it."`
}

type latenciesJSON struct {
	FigureSpan
	Error float64           `json:"error" doc:"How far a percentile may be from the true one, as a part of it."`
	Items []latencyItemJSON `json:"items"`
}

func (s *Server) analytics() error {
	figures := func(pattern string) Route {
		r := reads(pattern, control.AnalyticsRead)
		r.Limit, r.Cost = Limit{120, time.Minute}, figureCost
		return r
	}
	live := Route{Method: "GET", Pattern: "/v1/analytics/live", Class: Tenanted, Permission: control.AnalyticsRead,
		Limit: Limit{120, time.Minute}, Body: NoBody, Long: true, Summary: "Follow what goes on now, as server-sent events", Media: "text/event-stream"}
	return errors.Join(
		operation(s, figures("/v1/analytics/calls"), "analyze-calls", "Figures of calls", 200, s.analyzeCalls),
		operation(s, figures("/v1/analytics/latency"), "analyze-latency", "Percentiles of latency", 200, s.analyzeLatency),
		operation(s, figures("/v1/analytics/flows/{flow}"), "analyze-flow", "A flow's funnel", 200, s.analyzeFlow),
		s.Handle(live, http.HandlerFunc(s.followLive)),
	)
}

// figuresOf returns the groups and what heads their answer.
func (s *Server) figuresOf(ctx context.Context, q *control.FigureQuery) ([]control.CallFigures, FigureSpan, error) {
	var head FigureSpan
	if err := q.Validate(); err != nil {
		return nil, head, err
	}
	groups, err := s.o.Figures.CallFigures(ctx, *q)
	if err != nil {
		return nil, head, err
	}
	late, err := s.o.Figures.Late(ctx, q.From, q.To)
	return groups, FigureSpan{q.From, q.To, q.Zone, late}, err
}

func (s *Server) analyzeCalls(ctx context.Context, in *FiguresQuery) (*reply[analysisJSON], error) {
	q := in.query()
	groups, head, err := s.figuresOf(ctx, &q)
	if err != nil {
		return nil, err
	}
	money := control.Allow(control.PrincipalOf(ctx), control.BillingRead, control.Object{}) == nil
	out := &reply[analysisJSON]{analysisJSON{FigureSpan: head, Items: make([]figuresJSON, len(groups))}}
	total := control.NewCallFigures(control.FigureKey{})
	for i, g := range groups {
		out.Body.Items[i] = newFiguresJSON(g, q, money)
		total.Add(g)
	}
	out.Body.Total = newFiguresJSON(total, control.FigureQuery{}, money)
	return out, nil
}

func (s *Server) analyzeLatency(ctx context.Context, in *struct {
	FiguresQuery
	Buckets bool `query:"buckets" doc:"Answer with what the percentiles are made of, to merge it."`
}) (*reply[latenciesJSON], error) {
	q := in.query()
	groups, head, err := s.figuresOf(ctx, &q)
	if err != nil {
		return nil, err
	}
	out := &reply[latenciesJSON]{latenciesJSON{head, control.HistogramError, make([]latencyItemJSON, len(groups))}}
	for i, g := range groups {
		item := latencyItemJSON{newFigureGroup(g.FigureKey, q), map[string]quantilesJSON{}}
		for step, h := range g.Latency {
			item.Steps[step] = newQuantiles(h, in.Buckets)
		}
		out.Body.Items[i] = item
	}
	return out, nil
}

type nodeJSON struct {
	Node           string           `json:"node"`
	Entered        int64            `json:"entered"`
	LeftTo         []edgeJSON       `json:"left_to"`
	Ended          map[string]int64 `json:"ended" doc:"Conversations that ended here, by how: completed, transferred, abandoned, failed."`
	Dropped        int64            `json:"dropped" doc:"Abandoned or failed here."`
	DropOff        float64          `json:"drop_off" doc:"Dropped of entered, 0 to 1."`
	AverageSeconds float64          `json:"average_seconds" doc:"At the node, each time."`
	NoInput        int64            `json:"no_input"`
	NoMatch        int64            `json:"no_match"`
}

type edgeJSON struct {
	Node string  `json:"node"`
	N    int64   `json:"n"`
	Part float64 `json:"part" doc:"Of those who entered, 0 to 1."`
}

type funnelJSON struct {
	FigureSpan
	FlowID        uuid.UUID        `json:"flow_id"`
	Conversations int64            `json:"conversations" doc:"That have ended; a call's counts in the quarter of an hour of the call's beginning."`
	Ended         map[string]int64 `json:"ended" doc:"By how: completed, transferred, abandoned, failed."`
	Completion    float64          `json:"completion" doc:"Completed of all, 0 to 1."`
	Nodes         []nodeJSON       `json:"nodes" doc:"Those entered most first."`
}

func (s *Server) analyzeFlow(ctx context.Context, in *struct {
	FlowPath
	FigureRange
	Version int    `query:"version" minimum:"0" maximum:"2147483647"`
	Channel string `query:"channel" enum:"voice,chat"`
}) (*reply[funnelJSON], error) {
	from, to := in.span()
	check := control.FigureQuery{From: from, To: to}
	if err := check.Validate(); err != nil {
		return nil, err
	}
	if _, err := s.o.Flows.Store.Flow(ctx, in.Flow); err != nil {
		return nil, err
	}
	steps, err := s.o.Figures.FlowFigures(ctx, control.FlowQuery{Flow: in.Flow, Version: in.Version, Channel: in.Channel, From: from, To: to})
	if err != nil {
		return nil, err
	}
	late, err := s.o.Figures.Late(ctx, from, to)
	if err != nil {
		return nil, err
	}
	f := control.NewFunnel(steps)
	out := funnelJSON{FigureSpan: FigureSpan{from, to, "UTC", late}, FlowID: in.Flow, Conversations: f.Began, Ended: f.Ended,
		Completion: part(f.Ended["completed"], f.Began), Nodes: make([]nodeJSON, len(f.Nodes))}
	for i, n := range f.Nodes {
		out.Nodes[i] = newNodeJSON(n)
	}
	return &reply[funnelJSON]{out}, nil
}

func newNodeJSON(n control.NodeFigures) nodeJSON {
	out := nodeJSON{Node: n.Node, Entered: n.Entered, LeftTo: []edgeJSON{}, Ended: n.Ended, Dropped: n.Dropped(),
		DropOff: part(n.Dropped(), n.Entered), NoInput: n.NoInput, NoMatch: n.NoMatch}
	if n.Entered > 0 {
		out.AverageSeconds = n.Time.Seconds() / float64(n.Entered)
	}
	for _, e := range n.LeftTo {
		out.LeftTo = append(out.LeftTo, edgeJSON{e.Node, e.N, part(e.N, n.Entered)})
	}
	return out
}
