package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/outbound"
)

var (
	_ outbound.Stops   = (*Store)(nil)
	_ outbound.Traffic = (*Store)(nil)
)

const stopColumns = `signal, count, threshold, about, caused_by, stopped_at, lifted_at`

func scanStop(r pgx.CollectableRow) (s outbound.Stop, err error) {
	var lifted *time.Time
	err = r.Scan(&s.Signal, &s.Count, &s.Threshold, &s.About, &s.By, &s.At, &lifted)
	s.At, s.Lifted = s.At.UTC(), orZero(lifted)
	return s, err
}

// OutboundStop implements [outbound.Stops].
func (s *Store) OutboundStop(ctx context.Context) (outbound.Stop, error) {
	stop, err := one(ctx, s, scanStop, `SELECT `+stopColumns+` FROM outbound_stops WHERE tenant_id = current_tenant()`)
	if errors.Is(err, control.ErrNotFound) {
		return outbound.Stop{}, nil
	}
	if err != nil {
		return stop, fmt.Errorf("read whether outbound calls are stopped: %w", err)
	}
	return stop, nil
}

// PutOutboundStop implements [outbound.Stops].
func (s *Store) PutOutboundStop(ctx context.Context, stop outbound.Stop) (bool, error) {
	const q = `
		INSERT INTO outbound_stops AS o (tenant_id, signal, count, threshold, about, caused_by, stopped_at)
		VALUES (current_tenant(), $1, $2, $3, $4, $5, $6)
		ON CONFLICT (tenant_id) DO UPDATE SET signal = $1, count = $2, threshold = $3, about = $4, caused_by = $5, stopped_at = $6, lifted_at = NULL
		WHERE o.lifted_at IS NOT NULL
		RETURNING ` + stopColumns
	got, err := rows(ctx, s, scanStop, q, string(stop.Signal), stop.Count, stop.Threshold, text(stop.About), text(stop.By), stop.At)
	if err != nil {
		return false, fmt.Errorf("stop outbound calls: %w", err)
	}
	return len(got) == 1, nil
}

// LiftOutboundStop implements [outbound.Stops].
func (s *Store) LiftOutboundStop(ctx context.Context) (outbound.Stop, error) {
	got, err := rows(ctx, s, scanStop, `
		UPDATE outbound_stops SET lifted_at = now() WHERE tenant_id = current_tenant() AND lifted_at IS NULL RETURNING `+stopColumns)
	if err != nil {
		return outbound.Stop{}, fmt.Errorf("let outbound calls go on: %w", err)
	}
	if len(got) == 1 {
		return got[0], nil
	}
	if _, err := s.Tenant(ctx); err != nil {
		return outbound.Stop{}, err
	}
	return outbound.Stop{}, control.ErrConflict
}

func scanTally(r pgx.CollectableRow) (t outbound.Tally, err error) {
	var about, by *string
	err = r.Scan(&t.Count, &about, &by)
	if about != nil {
		t.About = *about
	}
	if by != nil {
		t.By = *by
	}
	return t, err
}

// tally is the first row of a query; zero for none.
func (s *Store) tally(ctx context.Context, q string, args ...any) (outbound.Tally, error) {
	got, err := rows(ctx, s, scanTally, q, args...)
	if err != nil || len(got) == 0 {
		return outbound.Tally{}, err
	}
	return got[0], nil
}

// NewCountries implements [outbound.Traffic]. A dial from before countries were
// noted may have gone to any.
func (s *Store) NewCountries(ctx context.Context, before, since time.Time) (outbound.Tally, error) {
	return s.tally(ctx, `
		SELECT count(*)::int, string_agg(country, ' ' ORDER BY country), mode() WITHIN GROUP (ORDER BY orderer) FROM (
		    SELECT country, mode() WITHIN GROUP (ORDER BY created_by) AS orderer FROM dials
		    WHERE tenant_id = current_tenant() AND created_at >= $2 AND country <> '' GROUP BY country) n
		WHERE NOT EXISTS (SELECT FROM dials d WHERE d.tenant_id = current_tenant() AND d.country IN (n.country, '')
		    AND d.created_at >= $1 AND d.created_at < $2)`, before, since)
}

// FullestRange implements [outbound.Traffic].
func (s *Store) FullestRange(ctx context.Context, since time.Time) (outbound.Tally, error) {
	return s.tally(ctx, `
		SELECT count(DISTINCT callee)::int, left(callee, -2), mode() WITHIN GROUP (ORDER BY created_by) FROM dials
		WHERE tenant_id = current_tenant() AND created_at >= $1 GROUP BY 2 ORDER BY 1 DESC, 2 LIMIT 1`, since)
}

// ShortCalls implements [outbound.Traffic].
func (s *Store) ShortCalls(ctx context.Context, since time.Time, d time.Duration) (outbound.Tally, error) {
	return s.tally(ctx, `
		SELECT count(*)::int, left(d.callee, -4), mode() WITHIN GROUP (ORDER BY d.created_by)
		FROM dial_attempts a JOIN dials d ON d.tenant_id = a.tenant_id AND d.id = a.dial_id
		WHERE a.tenant_id = current_tenant() AND a.started_at >= $1 AND a.status = 'ended' AND a.outcome = 'answered'
		  AND a.ended_at - a.answered_at <= $2::interval
		GROUP BY 2 ORDER BY 1 DESC, 2 LIMIT 1`, since, d)
}

// DearestHour implements [outbound.Traffic].
func (s *Store) DearestHour(ctx context.Context, since, until time.Time) (outbound.Money, time.Time, error) {
	type hour struct {
		Cost  int64
		First *time.Time
	}
	got, err := one(ctx, s, pgx.RowToStructByPos[hour], `
		SELECT coalesce(max(cost), 0)::bigint, min(first) FROM (
		    SELECT sum(cost) AS cost, min(started_at) AS first FROM dial_attempts
		    WHERE tenant_id = current_tenant() AND started_at >= $1 AND started_at < $2 AND status = 'ended'
		    GROUP BY date_trunc('hour', started_at)) h`, since, until)
	return outbound.Money(got.Cost), orZero(got.First), err
}
