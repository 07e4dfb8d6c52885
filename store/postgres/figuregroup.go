package postgres

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

// figureDims are what figures are told apart by, but for their time. An unset
// one is null in what is grouped by another.
var figureDims = []string{"agent_id", "agent_version", "flow_id", "flow_version", "number", "direction", "carrier"}

// figureCuts are the dimensions of each sum of hours and days.
var figureCuts = []struct {
	name string
	dims []string
}{
	{"all", nil},
	{"agent", []string{"agent_id", "agent_version"}},
	{"flow", []string{"flow_id", "flow_version"}},
	{"number", []string{"number"}},
	{"direction", []string{"direction"}},
	{"carrier", []string{"carrier"}},
	{"every", figureDims}, // of days alone
}

// figureBy are the dimensions of each grouping.
var figureBy = map[control.FigureBy][]string{
	control.ByNothing: nil, control.ByHour: nil, control.ByDay: nil,
	control.ByAgent: {"agent_id"}, control.ByAgentVersion: {"agent_id", "agent_version"},
	control.ByFlow: {"flow_id"}, control.ByFlowVersion: {"flow_id", "flow_version"},
	control.ByNumber: {"number"}, control.ByDirection: {"direction"}, control.ByCarrier: {"carrier"},
}

// figuresQuery asks for tallies by key: of days that are summed, of hours that
// are outside these, and of quarters that are outside both. A day or hour is
// taken whole only if it lies in one group.
func figuresQuery(q control.FigureQuery) (string, []any, error) {
	by, ok := figureBy[q.By]
	if !ok {
		return "", nil, &control.Invalid{Field: "by", Reason: "is no dimension"}
	}
	args := []any{q.From, q.To, q.Zone}
	needs := append([]string{}, by...)
	var where strings.Builder
	is := func(column string, value any, use bool) {
		if use {
			args = append(args, value)
			needs = append(needs, column)
			fmt.Fprintf(&where, " AND f.%s = $%d", column, len(args))
		}
	}
	is("agent_id", q.Agent, q.Agent != uuid.Nil)
	is("agent_version", q.AgentVersion, q.AgentVersion != 0)
	is("flow_id", q.Flow, q.Flow != uuid.Nil)
	is("flow_version", q.FlowVersion, q.FlowVersion != 0)
	is("number", text(q.Number), q.Number != "")
	is("direction", q.Direction, q.Direction != "")
	is("carrier", q.Carrier, q.Carrier != "")
	sums, quarters := where.String(), where.String()
	if !q.Test && q.Carrier == "" {
		sums, quarters = sums+" AND NOT f.test", quarters+" AND f.carrier <> 'test'"
	}
	cut := cutOf(needs)
	unit, hourly := "", "true"
	if q.By == control.ByHour || q.By == control.ByDay {
		unit = string(q.By)
	}
	if cut == "every" {
		hourly = "false"
	}
	fits := func(last string) string { // the span's last quarter is in its first one's group
		if unit == "" {
			return ""
		}
		return fmt.Sprintf(" AND date_trunc('%s', start, $3) = date_trunc('%s', start + interval '%s', $3)", unit, unit, last)
	}
	part := func(start string) string {
		columns := "NULL::timestamptz"
		if unit != "" {
			columns = fmt.Sprintf("date_trunc('%s', %s, $3)", unit, start)
		}
		for _, d := range figureDims {
			null := " NULL::text"
			switch {
			case slices.Contains(by, d):
				null = " f." + d
			case strings.HasSuffix(d, "_id"):
				null = " NULL::uuid"
			case strings.HasSuffix(d, "_version"):
				null = " NULL::int"
			}
			columns += "," + null
		}
		return "SELECT " + columns + ", f.tally"
	}
	sum := func(spans string, hours int) string {
		return fmt.Sprintf(`%s FROM %s s CROSS JOIN LATERAL (SELECT * FROM figure_sums f WHERE f.tenant_id = current_tenant()
			AND f.hours = %d AND f.cut = '%s' AND f.start = s.start%s OFFSET 0) f`, part("f.start"), spans, hours, cut, sums)
	}
	return `WITH day AS MATERIALIZED (SELECT start FROM figure_spans WHERE tenant_id = current_tenant() AND hours = 24 AND summed
			AND start >= figure_slot($1) AND start <= figure_slot($2) - interval '24 hours' AND $3::text <> ''` + fits("23 hours 45 minutes") + `),
		rest AS MATERIALIZED (SELECT start, ` + hourly + ` AND summed AND start >= figure_slot($1) AND start <= figure_slot($2) - interval '1 hour'` + fits("45 minutes") + ` AS whole
			FROM figure_spans WHERE tenant_id = current_tenant() AND hours = 1
			AND start > figure_slot($1) - interval '1 hour' AND start < figure_slot($2) AND date_trunc('day', start, 'UTC') NOT IN (SELECT start FROM day)),
		hour AS MATERIALIZED (SELECT start FROM rest WHERE whole)
		` + sum("day", 24) + ` UNION ALL ` + sum("hour", 1) + ` UNION ALL
		` + part("f.slot") + ` FROM rest s CROSS JOIN LATERAL (SELECT * FROM call_figures f WHERE f.tenant_id = current_tenant()
			AND f.slot >= s.start AND f.slot < s.start + interval '1 hour' AND f.slot >= figure_slot($1) AND f.slot < figure_slot($2)` + quarters + ` OFFSET 0) f
		WHERE NOT s.whole`, args, nil
}

// cutOf is the first cut that has all dimensions.
func cutOf(needs []string) string {
	for _, c := range figureCuts {
		all := true
		for _, n := range needs {
			all = all && slices.Contains(c.dims, n)
		}
		if all {
			return c.name
		}
	}
	return "every"
}

// CallFigures implements [control.FigureStore].
func (s *Store) CallFigures(ctx context.Context, q control.FigureQuery) ([]control.CallFigures, error) {
	sql, args, err := figuresQuery(q)
	if err != nil {
		return nil, err
	}
	b, _, err := batch(ctx)
	if err != nil {
		return nil, err
	}
	var groups grouped
	b.Queue(sql, args...).Query(groups.read)
	if err := s.send(ctx, b); err != nil {
		return nil, fmt.Errorf("figures of calls: %w", err)
	}
	return groups.list(), nil
}

// grouped gathers tallies by their key.
type grouped map[control.FigureKey]map[string]int64

func (g *grouped) read(r pgx.Rows) error {
	*g = grouped{}
	for r.Next() {
		var start *time.Time
		var agent, flow *uuid.UUID
		var version, of *int
		var number, direction, carrier *string
		var packed []byte
		if err := r.Scan(&start, &agent, &version, &flow, &of, &number, &direction, &carrier, &packed); err != nil {
			return err
		}
		key := control.FigureKey{Start: orZero(start), Agent: orNil(agent), AgentVersion: orEmptyOf(version), Flow: orNil(flow),
			FlowVersion: orEmptyOf(of), Number: orEmptyOf(number), Direction: orEmptyOf(direction), Carrier: orEmptyOf(carrier)}
		tally := map[string]int64{}
		if err := json.Unmarshal(packed, &tally); err != nil {
			return fmt.Errorf("read a tally: %w", err)
		}
		sum := (*g)[key]
		if sum == nil {
			(*g)[key] = tally
			continue
		}
		for k, n := range tally {
			sum[k] += n
		}
	}
	return r.Err()
}

func orEmptyOf[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// list returns the groups in the order of their keys.
func (g grouped) list() []control.CallFigures {
	out := make([]control.CallFigures, 0, len(g))
	for k, tally := range g {
		out = append(out, unpack(k, tally))
	}
	slices.SortFunc(out, func(a, b control.CallFigures) int {
		return cmp.Or(a.Start.Compare(b.Start), bytes.Compare(a.Agent[:], b.Agent[:]), cmp.Compare(a.AgentVersion, b.AgentVersion),
			bytes.Compare(a.Flow[:], b.Flow[:]), cmp.Compare(a.FlowVersion, b.FlowVersion), cmp.Compare(a.Number, b.Number),
			cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Carrier, b.Carrier))
	})
	return out
}

// unpack reads a tally: see the migration that packs it.
func unpack(key control.FigureKey, tally map[string]int64) control.CallFigures {
	f := control.NewCallFigures(key)
	for k, n := range tally {
		kind, of, found := strings.Cut(k, "/")
		switch {
		case !found:
		case kind == "outcome":
			f.Outcomes[of] = n
		case kind == "reason":
			f.EndReasons[of] = n
		case kind == "pause":
			f.Pauses[of] = n
		case kind == "cost":
			f.Cost[of] = n
		default:
			bucket, err := strconv.Atoi(of)
			if err != nil {
				continue // of a version to come
			}
			if f.Latency[kind] == nil {
				f.Latency[kind] = control.Histogram{}
			}
			f.Latency[kind][bucket] = n
		}
	}
	f.Calls, f.Inbound, f.Outbound = tally["calls"], tally["inbound"], tally["calls"]-tally["inbound"]
	f.Answered, f.Talk = tally["answered"], time.Duration(tally["talk_ms"])*time.Millisecond
	f.Contained, f.Transfers = tally["contained"], tally["transfers"]
	f.CallerTurns, f.AgentTurns, f.CutTurns = tally["caller_turns"], tally["agent_turns"], tally["cut_turns"]
	f.NoInput, f.NoMatch = tally["no_input"], tally["no_match"]
	return f
}
