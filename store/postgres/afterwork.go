package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent"
	"parley/control"
)

var _ control.AfterworkStore = (*Store)(nil)

// afterworkText is what of a call's afterwork is sealed.
type afterworkText struct {
	Summary   string          `json:"summary"`
	Extracted json.RawMessage `json:"extracted,omitempty"`
}

func afterworkPlace(call uuid.UUID) string { return "call_afterwork/" + call.String() }

// PutAfterwork implements [control.AfterworkStore].
func (s *Store) PutAfterwork(ctx context.Context, w control.Afterwork, uses []agent.Use) error {
	const q = `
		INSERT INTO call_afterwork (tenant_id, call_id, status, failure, summary, extracted, sealed, at)
		VALUES (current_tenant(), $1, $2, $3, $4, $5, $6, $7)`
	said := afterworkText{text(w.Summary), w.Extracted}
	sealed, err := s.seal(ctx, afterworkPlace(w.Call), said)
	if err != nil {
		return fmt.Errorf("write the afterwork of a call: %w", err)
	}
	if sealed != nil {
		said = afterworkText{}
	}
	entries, err := s.priced(ctx, usesOf(control.Hold{Call: w.Call}, control.AfterCall, uses, w.At))
	if err != nil {
		return err
	}
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	b.Queue(q, w.Call, w.Status, w.Failure, said.Summary, said.Extracted, sealed, w.At)
	queueUsage(b, w.Call, entries)
	if err := s.send(ctx, b); err != nil {
		return fmt.Errorf("write the afterwork of a call: %w", err)
	}
	s.wrote()
	return nil
}

// Afterwork implements [control.AfterworkStore].
func (s *Store) Afterwork(ctx context.Context, call uuid.UUID) (control.Afterwork, error) {
	type stored struct {
		control.Afterwork
		sealed []byte
	}
	got, err := one(ctx, s, func(r pgx.CollectableRow) (w stored, err error) {
		err = r.Scan(&w.Call, &w.Status, &w.Failure, &w.Summary, &w.Extracted, &w.sealed, &w.At)
		w.At = w.At.UTC()
		return w, err
	}, `SELECT call_id, status, failure, summary, extracted, sealed, at FROM call_afterwork WHERE call_id = $1`, call)
	if err != nil {
		return got.Afterwork, fmt.Errorf("afterwork of call %s: %w", call, err)
	}
	said := afterworkText{got.Summary, got.Extracted}
	if err := s.unseal(ctx, afterworkPlace(call), got.sealed, &said); err != nil {
		return got.Afterwork, err
	}
	got.Summary, got.Extracted = said.Summary, said.Extracted
	return got.Afterwork, nil
}
