package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.FigureStore = (*Store)(nil)

// LocateUncounted implements [control.FigureStore].
func (s *Store) LocateUncounted(ctx context.Context) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_uncounted()`)
}

// Uncounted implements [control.FigureStore].
func (s *Store) Uncounted(ctx context.Context, most int) ([]time.Time, error) {
	return rows(ctx, s, pgx.RowTo[time.Time], `SELECT DISTINCT slot FROM figure_marks
		WHERE tenant_id = current_tenant() ORDER BY slot LIMIT $1`, most)
}

// RollUp implements [control.FigureStore]. It sees the database as it is at one
// moment, so that a call which is deleted meanwhile counts neither twice nor
// never.
func (s *Store) RollUp(ctx context.Context, slot time.Time) error {
	t, ok := control.TenantOf(ctx)
	if !ok {
		return errNoTenant
	}
	return problem(pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, setTenant, t.String(), "", ""); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `SELECT roll_up($1)`, slot)
		return err
	}))
}

// figureKeys are the columns of each dimension. Times are cut in the zone $3,
// which for hours keeps one that comes twice apart.
var figureKeys = map[control.FigureBy]string{
	control.ByNothing:      `NULL::timestamptz, NULL::uuid, NULL::int, NULL::uuid, NULL::int, NULL, NULL, NULL`,
	control.ByHour:         `date_trunc('hour', slot, $3), NULL::uuid, NULL::int, NULL::uuid, NULL::int, NULL, NULL, NULL`,
	control.ByDay:          `date_trunc('day', slot, $3), NULL::uuid, NULL::int, NULL::uuid, NULL::int, NULL, NULL, NULL`,
	control.ByAgent:        `NULL::timestamptz, agent_id, NULL::int, NULL::uuid, NULL::int, NULL, NULL, NULL`,
	control.ByAgentVersion: `NULL::timestamptz, agent_id, agent_version, NULL::uuid, NULL::int, NULL, NULL, NULL`,
	control.ByFlow:         `NULL::timestamptz, NULL::uuid, NULL::int, flow_id, NULL::int, NULL, NULL, NULL`,
	control.ByFlowVersion:  `NULL::timestamptz, NULL::uuid, NULL::int, flow_id, flow_version, NULL, NULL, NULL`,
	control.ByNumber:       `NULL::timestamptz, NULL::uuid, NULL::int, NULL::uuid, NULL::int, number, NULL, NULL`,
	control.ByDirection:    `NULL::timestamptz, NULL::uuid, NULL::int, NULL::uuid, NULL::int, NULL, direction, NULL`,
	control.ByCarrier:      `NULL::timestamptz, NULL::uuid, NULL::int, NULL::uuid, NULL::int, NULL, NULL, carrier`,
}

const figureWhere = `
	WHERE tenant_id = current_tenant() AND slot >= figure_slot($1) AND slot < figure_slot($2) AND $3::text <> ''
	  AND ($4::uuid IS NULL OR agent_id = $4) AND ($5 = 0 OR agent_version = $5)
	  AND ($6::uuid IS NULL OR flow_id = $6) AND ($7 = 0 OR flow_version = $7)
	  AND ($8 = '' OR number = $8) AND ($9 = '' OR direction = $9) AND ($10 = '' OR carrier = $10)`

// CallFigures implements [control.FigureStore].
func (s *Store) CallFigures(ctx context.Context, q control.FigureQuery) ([]control.CallFigures, error) {
	key, ok := figureKeys[q.By]
	if !ok {
		return nil, &control.Invalid{Field: "by", Reason: "is no dimension"}
	}
	args := []any{q.From, q.To, q.Zone, nullable(q.Agent), q.AgentVersion, nullable(q.Flow), q.FlowVersion,
		text(q.Number), q.Direction, q.Carrier}
	b, _, err := batch(ctx)
	if err != nil {
		return nil, err
	}
	var groups grouped
	b.Queue(`SELECT `+key+`, outcome, end_reason, sum(calls)::bigint, coalesce(sum(calls) FILTER (WHERE direction = 'inbound'), 0)::bigint,
			sum(answered)::bigint, sum(talk_ms)::bigint, sum(contained)::bigint, sum(transfers)::bigint, sum(caller_turns)::bigint,
			sum(agent_turns)::bigint, sum(cut_turns)::bigint, sum(no_input)::bigint, sum(no_match)::bigint
		FROM call_figures`+figureWhere+` GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10`, args...).
		Query(groups.calls)
	b.Queue(`SELECT `+key+`, kind, key, sum(n)::bigint FROM call_tallies`+figureWhere+`
		AND kind IN ('first_audio', 'end_of_turn', 'final_transcript', 'first_token', 'first_speech', 'pause', 'cost')
		GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10`, args...).Query(groups.tallies)
	if err := s.send(ctx, b); err != nil {
		return nil, fmt.Errorf("figures of calls: %w", err)
	}
	return groups.list, nil
}

// grouped gathers figures by their key.
type grouped struct {
	list []control.CallFigures
	at   map[control.FigureKey]int
}

// A scannedKey is a key whose parts may be null.
type scannedKey struct {
	start              *time.Time
	agent, flow        *uuid.UUID
	version, of        *int
	number, dir, carry *string
}

func (k *scannedKey) into() []any {
	return []any{&k.start, &k.agent, &k.version, &k.flow, &k.of, &k.number, &k.dir, &k.carry}
}

func (g *grouped) group(k scannedKey) *control.CallFigures {
	key := control.FigureKey{Start: orZero(k.start), Agent: orNil(k.agent), AgentVersion: orEmptyOf(k.version), Flow: orNil(k.flow),
		FlowVersion: orEmptyOf(k.of), Number: orEmptyOf(k.number), Direction: orEmptyOf(k.dir), Carrier: orEmptyOf(k.carry)}
	if g.at == nil {
		g.at = map[control.FigureKey]int{}
	}
	i, ok := g.at[key]
	if !ok {
		i = len(g.list)
		g.at[key] = i
		g.list = append(g.list, control.NewCallFigures(key))
	}
	return &g.list[i]
}

func orEmptyOf[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

func (g *grouped) calls(r pgx.Rows) error {
	for r.Next() {
		var k scannedKey
		var outcome, reason string
		var n control.CallFigures
		var talk int64
		if err := r.Scan(append(k.into(), &outcome, &reason, &n.Calls, &n.Inbound, &n.Answered, &talk, &n.Contained, &n.Transfers,
			&n.CallerTurns, &n.AgentTurns, &n.CutTurns, &n.NoInput, &n.NoMatch)...); err != nil {
			return err
		}
		n.Outbound, n.Talk = n.Calls-n.Inbound, time.Duration(talk)*time.Millisecond
		n.Outcomes, n.EndReasons = map[string]int64{outcome: n.Calls}, map[string]int64{reason: n.Calls}
		g.group(k).Add(n)
	}
	return r.Err()
}

func (g *grouped) tallies(r pgx.Rows) error {
	for r.Next() {
		var k scannedKey
		var kind, key string
		var n int64
		if err := r.Scan(append(k.into(), &kind, &key, &n)...); err != nil {
			return err
		}
		f := g.group(k)
		switch kind {
		case "pause":
			f.Pauses[key] += n
		case "cost":
			f.Cost[key] += n
		default:
			i, err := strconv.Atoi(key)
			if err != nil {
				return fmt.Errorf("bucket %q: %w", key, err)
			}
			if f.Latency[kind] == nil {
				f.Latency[kind] = control.Histogram{}
			}
			f.Latency[kind][i] += n
		}
	}
	return r.Err()
}

// FlowFigures implements [control.FigureStore].
func (s *Store) FlowFigures(ctx context.Context, q control.FlowQuery) ([]control.NodeStep, error) {
	const sql = `
		SELECT node, kind, next, sum(n)::bigint, sum(ms)::bigint FROM node_figures
		WHERE tenant_id = current_tenant() AND flow_id = $1 AND slot >= figure_slot($2) AND slot < figure_slot($3)
		  AND ($4 = 0 OR flow_version = $4) AND ($5 = '' OR channel = $5)
		GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`
	return rows(ctx, s, func(r pgx.CollectableRow) (control.NodeStep, error) {
		var n control.NodeStep
		var ms int64
		err := r.Scan(&n.Node, &n.Kind, &n.Next, &n.N, &ms)
		n.Time = time.Duration(ms) * time.Millisecond
		return n, err
	}, sql, q.Flow, q.From, q.To, q.Version, q.Channel)
}

// Late implements [control.FigureStore].
func (s *Store) Late(ctx context.Context, from, to time.Time) (int, error) {
	return one(ctx, s, pgx.RowTo[int], `SELECT count(DISTINCT slot)::int FROM figure_marks
		WHERE tenant_id = current_tenant() AND slot >= figure_slot($1) AND slot < figure_slot($2)`, from, to)
}

// LiveFigures implements [control.FigureStore]. The calls table is read, not the
// registry of live calls: its leases are what calls are held by, an index holds
// no more than what is in progress, and it needs nothing else to be there.
func (s *Store) LiveFigures(ctx context.Context) (control.LiveFigures, error) {
	live := control.LiveFigures{Agents: map[uuid.UUID]int64{}, Status: map[string]int64{}, Latency: control.Histogram{}}
	b, _, err := batch(ctx)
	if err != nil {
		return live, err
	}
	b.Queue(`SELECT agent_id, status, count(*) FROM calls
		WHERE tenant_id = current_tenant() AND status <> 'ended' GROUP BY 1, 2`).Query(func(r pgx.Rows) error {
		var agent uuid.UUID
		var status string
		var n int64
		_, err := pgx.ForEachRow(r, []any{&agent, &status, &n}, func() error {
			live.Calls += n
			live.Agents[agent] += n
			live.Status[status] += n
			return nil
		})
		return err
	})
	b.Queue(`SELECT latency_bucket(first_audio_ms), count(*) FROM turns
		WHERE tenant_id = current_tenant() AND written_at > now() - interval '1 minute' AND first_audio_ms IS NOT NULL
		GROUP BY 1`).Query(func(r pgx.Rows) error {
		var bucket int
		var n int64
		_, err := pgx.ForEachRow(r, []any{&bucket, &n}, func() error {
			live.Latency[bucket] += n
			return nil
		})
		return err
	})
	if err := s.send(ctx, b); err != nil {
		return live, fmt.Errorf("figures of now: %w", err)
	}
	return live, nil
}
