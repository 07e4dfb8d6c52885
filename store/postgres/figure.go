package postgres

import (
	"context"
	"errors"
	"fmt"
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
	return s.atOnce(ctx, `SELECT roll_up($1)`, slot)
}

// atOnce runs q as the tenant, seeing the database as it is at one moment.
func (s *Store) atOnce(ctx context.Context, q string, args ...any) error {
	t, ok := control.TenantOf(ctx)
	if !ok {
		return errNoTenant
	}
	return problem(pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, setTenant, t.String(), "", ""); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, q, args...)
		return err
	}))
}

// ready tells of a span s whether all that it is summed of is: a day is of hours.
const ready = `NOT EXISTS (SELECT FROM figure_spans h WHERE h.tenant_id = current_tenant() AND s.hours = 24 AND h.hours = 1
	AND NOT h.summed AND h.start >= s.start AND h.start < s.start + interval '1 day')`

// SumUp implements [control.FigureStore]: hours before the days that they are
// part of. A span whose quarters are to be counted again waits for that.
func (s *Store) SumUp(ctx context.Context, now time.Time, most int) error {
	const (
		due = `SELECT start FROM figure_spans s
			WHERE tenant_id = current_tenant() AND hours = $1 AND NOT summed AND start + $1 * interval '1 hour' <= $2
			  AND NOT EXISTS (SELECT FROM figure_marks m WHERE m.tenant_id = current_tenant()
				AND m.slot >= s.start AND m.slot < s.start + $1 * interval '1 hour')
			  AND ` + ready + `
			ORDER BY start LIMIT $3`
		// Another process may have counted a quarter again since it was due.
		sum = `SELECT sum_figures(s.hours, s.start) FROM figure_spans s
			WHERE tenant_id = current_tenant() AND hours = $1 AND start = $2 AND ` + ready
	)
	for _, hours := range []int{1, 24} {
		spans, err := rows(ctx, s, pgx.RowTo[time.Time], due, hours, now, most)
		if err != nil {
			return err
		}
		for _, start := range spans {
			if err := s.atOnce(ctx, sum, hours, start); err != nil && !errors.Is(err, control.ErrConflict) {
				return fmt.Errorf("sum up %d hours from %s: %w", hours, start.Format(time.RFC3339), err)
			}
		}
	}
	return nil
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
