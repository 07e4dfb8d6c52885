package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent"
	"parley/control"
)

var _ control.RecordStore = (*Store)(nil)

// held runs the statements of b, which begins with the tenant, under a hold:
// its row is locked against a new claim, and where that has come already the
// statements, which ask for the generation too, change nothing.
func (s *Store) held(ctx context.Context, h control.Hold, then func(*pgx.Batch)) error {
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	holds := false
	b.Queue(`SELECT FROM calls WHERE id = $1 AND generation = $2 FOR SHARE`, h.Call, h.Generation).Query(func(r pgx.Rows) error {
		for r.Next() {
			holds = true
		}
		return r.Err()
	})
	then(b)
	if err := s.send(ctx, b); err != nil || holds {
		return err
	}
	return control.ErrTaken
}

// WriteTurn implements [control.RecordStore].
func (s *Store) WriteTurn(ctx context.Context, h control.Hold, t agent.Turn, at time.Time) error {
	const q = `
		INSERT INTO turns (tenant_id, call_id, index, speaker, generated, sent, heard, interrupted, input, node,
		    confidence, start_ms, end_ms, end_of_turn_ms, final_transcript_ms, first_token_ms, first_clause_ms,
		    first_speech_ms, first_audio_ms, mark_round_trip_ms, sealed, pauses, words)
		SELECT current_tenant(), id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23::text::tsvector
		FROM calls WHERE id = $1 AND generation = $2
		ON CONFLICT (call_id, index) DO NOTHING`
	l, said := t.Latency, turnText{text(t.Generated), text(t.Sent), text(t.Heard)}
	sealed, err := s.seal(ctx, turnPlace(h.Call, t.Index), said)
	if err != nil {
		return fmt.Errorf("write turn %d: %w", t.Index, err)
	}
	words, err := s.vectorOf(ctx, said)
	if err != nil {
		return fmt.Errorf("write turn %d: %w", t.Index, err)
	}
	if sealed != nil {
		said = turnText{}
	}
	uses, err := s.priced(ctx, usesOf(h, t.Index, t.Uses, at))
	if err != nil {
		return fmt.Errorf("write turn %d: %w", t.Index, err)
	}
	err = s.held(ctx, h, func(b *pgx.Batch) {
		queueUsage(b, h.Call, uses) // of a lost hold too: vendors are paid all the same
		b.Queue(q, h.Call, h.Generation, t.Index, t.Speaker, said.Generated, said.Sent, said.Heard, t.Interrupted,
			t.Input, t.Node, t.Confidence, t.Start.Milliseconds(), t.End.Milliseconds(), ms(l.EndOfTurn),
			ms(l.FinalTranscript), ms(l.FirstToken), ms(l.FirstClause), ms(l.FirstSpeech), ms(l.FirstAudio), ms(l.MarkRoundTrip), sealed, texts(t.Pauses), words)
	})
	if err != nil {
		return fmt.Errorf("write turn %d: %w", t.Index, err)
	}
	s.wrote()
	return nil
}

// Turns implements [control.RecordStore].
func (s *Store) Turns(ctx context.Context, call uuid.UUID, after, limit int) ([]agent.Turn, error) {
	const q = `
		SELECT index, speaker, generated, sent, heard, interrupted, input, node, confidence, start_ms, end_ms,
		    end_of_turn_ms, final_transcript_ms, first_token_ms, first_clause_ms, first_speech_ms, first_audio_ms,
		    mark_round_trip_ms, sealed, pauses
		FROM turns WHERE call_id = $1 AND index > $2 ORDER BY index LIMIT $3`
	list, err := rows(ctx, s, scanTurn, q, call, after, limit)
	if err != nil {
		return nil, err
	}
	turns := make([]agent.Turn, len(list))
	for i, t := range list {
		said := turnText{t.Generated, t.Sent, t.Heard}
		if err := s.unseal(ctx, turnPlace(call, t.Index), t.sealed, &said); err != nil {
			return nil, err
		}
		turns[i] = t.Turn
		turns[i].Generated, turns[i].Sent, turns[i].Heard = said.Generated, said.Sent, said.Heard
	}
	return turns, nil
}

// turnText is what of a turn is sealed.
type turnText struct {
	Generated string `json:"generated"`
	Sent      string `json:"sent"`
	Heard     string `json:"heard"`
}

func turnPlace(call uuid.UUID, index int) string {
	return "turns/" + call.String() + "/" + strconv.Itoa(index)
}

// A storedTurn is a turn whose text may be sealed.
type storedTurn struct {
	agent.Turn
	sealed []byte
}

func scanTurn(r pgx.CollectableRow) (storedTurn, error) {
	var t storedTurn
	var start, end int64
	var l [7]*float64
	err := r.Scan(&t.Index, &t.Speaker, &t.Generated, &t.Sent, &t.Heard, &t.Interrupted, &t.Input, &t.Node,
		&t.Confidence, &start, &end, &l[0], &l[1], &l[2], &l[3], &l[4], &l[5], &l[6], &t.sealed, &t.Pauses)
	t.Start, t.End = time.Duration(start)*time.Millisecond, time.Duration(end)*time.Millisecond
	t.Latency = agent.Latency{EndOfTurn: since(l[0]), FinalTranscript: since(l[1]), FirstToken: since(l[2]),
		FirstClause: since(l[3]), FirstSpeech: since(l[4]), FirstAudio: since(l[5]), MarkRoundTrip: since(l[6])}
	return t, err
}

// NextTurn implements [control.RecordStore].
func (s *Store) NextTurn(ctx context.Context, call uuid.UUID) (int, error) {
	return one(ctx, s, pgx.RowTo[int], `SELECT coalesce(max(index) + 1, 0) FROM turns WHERE call_id = $1`, call)
}

// ms is null for a step that did not happen.
func ms(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	v := float64(d) / float64(time.Millisecond)
	return &v
}

func since(v *float64) time.Duration {
	if v == nil {
		return 0
	}
	return time.Duration(*v * float64(time.Millisecond))
}
