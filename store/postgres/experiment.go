package postgres

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.ExperimentStore = (*Store)(nil)

// countArms counts what is in "seen", one row an event {session_id, seq,
// engaged, subject, arm}, and who reached the goal of "wanted" {subject, goal}
// after it was shown first. A session counts once an arm.
const countArms = `, shown AS (
		SELECT subject, arm, session_id, count(*) FILTER (WHERE NOT engaged) AS times,
		       min(seq) FILTER (WHERE NOT engaged) AS first, bool_or(engaged) AS engaged
		FROM seen GROUP BY subject, arm, session_id
	)
	SELECT s.subject, s.arm, sum(s.times)::int, count(*)::int, count(*) FILTER (WHERE s.engaged)::int,
	       count(*) FILTER (WHERE EXISTS (
	           SELECT FROM events g
	           WHERE g.session_id = s.session_id AND g.type = 'goal' AND g.seq > s.first AND (w.goal IS NULL OR g.subject = w.goal)))::int
	FROM shown s LEFT JOIN wanted w ON w.subject = s.subject
	WHERE s.first IS NOT NULL
	GROUP BY s.subject, s.arm ORDER BY s.subject, s.arm`

// CountContent implements [control.ExperimentStore].
func (s *Store) CountContent(ctx context.Context, content uuid.UUID, goal string) ([]control.ArmCount, error) {
	const q = `
		WITH wanted AS (SELECT $1::text AS subject, nullif($2, '') AS goal),
		seen AS (
			SELECT session_id, seq, type = 'content_engaged' AS engaged, subject, data ->> 'variant' AS arm FROM events
			WHERE tenant_id = current_tenant() AND subject = $1 AND type IN ('content_shown', 'content_engaged')
		)` + countArms
	return rows(ctx, s, pgx.RowToStructByPos[control.ArmCount], q, content.String(), text(goal))
}

// CountArms implements [control.ExperimentStore].
func (s *Store) CountArms(ctx context.Context, flow uuid.UUID, goals map[string]string) ([]control.ArmCount, error) {
	const q = `
		WITH wanted AS (SELECT k AS subject, nullif(v, '') AS goal FROM unnest($2::text[], $3::text[]) AS x (k, v)),
		seen AS (
			SELECT session_id, seq, type = 'experiment_engaged' AS engaged, subject, data ->> 'arm' AS arm FROM events
			WHERE tenant_id = current_tenant() AND flow_id = $1 AND type IN ('experiment_arm', 'experiment_engaged')
		)` + countArms
	ids, names := []string{}, []string{}
	for id, goal := range goals {
		ids, names = append(ids, text(id)), append(names, text(goal))
	}
	return rows(ctx, s, pgx.RowToStructByPos[control.ArmCount], q, flow, ids, names)
}
