package postgres

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.CallMeasures = (*Store)(nil)

// CallMeasures implements [control.CallMeasures].
func (s *Store) CallMeasures(ctx context.Context, call uuid.UUID) (f control.CallMeasure, err error) {
	const q = `
		SELECT step, count(ms), percentile_cont(0.5) WITHIN GROUP (ORDER BY ms), percentile_cont(0.95) WITHIN GROUP (ORDER BY ms)
		FROM turns, LATERAL (VALUES (1, 'final_transcript', final_transcript_ms), (2, 'end_of_turn', end_of_turn_ms), (3, 'first_token', first_token_ms),
		    (4, 'first_clause', first_clause_ms), (5, 'first_speech', first_speech_ms), (6, 'first_audio', first_audio_ms)) AS l(n, step, ms)
		WHERE call_id = $1 AND ms IS NOT NULL GROUP BY n, step ORDER BY n`
	if f.Latency, err = rows(ctx, s, pgx.RowToStructByPos[control.LatencyFigure], q, call); err != nil {
		return f, fmt.Errorf("figures of call %s: %w", call, err)
	}
	f.RecordingFailure, err = one(ctx, s, pgx.RowTo[string], `SELECT recording_failure FROM calls WHERE id = $1`, call)
	return f, err
}

// FailRecording implements [control.CallChanges].
func (s *Store) FailRecording(ctx context.Context, id uuid.UUID, why string) error {
	_, err := exec(ctx, s, `UPDATE calls SET recording_failure = $2 WHERE id = $1 AND recording_failure = ''`, id, why)
	if err == nil {
		s.wrote()
	}
	return err
}
