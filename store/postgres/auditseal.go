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

var _ control.AuditSeals = (*Store)(nil)

// LocateUnsealed implements [control.AuditSeals].
func (s *Store) LocateUnsealed(ctx context.Context) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_unsealed()`)
}

// LocateAudited implements [control.AuditSeals].
func (s *Store) LocateAudited(ctx context.Context, after uuid.UUID, most int) ([]uuid.UUID, error) {
	r, err := s.pool.Query(ctx, `SELECT tenant FROM locate_audited($1, $2)`, after, most)
	if err != nil {
		return nil, problem(err)
	}
	list, err := pgx.CollectRows(r, pgx.RowTo[uuid.UUID])
	return list, problem(err)
}

// SealAudit implements [control.AuditSeals].
func (s *Store) SealAudit(ctx context.Context, most int, seal func(control.AuditSeal, []control.AuditEntry) ([]control.AuditSeal, error)) (n int, err error) {
	const (
		mine = `SELECT pg_try_advisory_xact_lock(hashtextextended('audit seal ' || $1::uuid, 0))`
		head = `SELECT seq, mac FROM audit_seals WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1`
		next = `SELECT seq, at, actor, action, object, detail, request_id FROM audit WHERE tenant_id = $1 AND seq > $2 ORDER BY seq LIMIT $3`
		put  = `INSERT INTO audit_seals (tenant_id, seq, mac) SELECT $1, seq, mac FROM unnest($2::bigint[], $3::bytea[]) AS s (seq, mac)`
	)
	err = s.tx(ctx, func(tx pgx.Tx, tenant uuid.UUID) error {
		var ours bool
		if err := tx.QueryRow(ctx, mine, tenant).Scan(&ours); err != nil || !ours {
			return err
		}
		var last control.AuditSeal
		if err := tx.QueryRow(ctx, head, tenant).Scan(&last.Seq, &last.MAC); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		r, err := tx.Query(ctx, next, tenant, last.Seq, most)
		if err != nil {
			return err
		}
		entries, err := pgx.CollectRows(r, pgx.RowToStructByPos[control.AuditEntry])
		if err != nil || len(entries) == 0 {
			return err
		}
		seals, err := seal(last, entries)
		if err != nil {
			return err
		}
		seqs, macs := make([]int64, len(seals)), make([][]byte, len(seals))
		for i, m := range seals {
			seqs[i], macs[i] = m.Seq, m.MAC
		}
		_, err = tx.Exec(ctx, put, tenant, seqs, macs)
		n = len(seals)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("seal the audit trail: %w", err)
	}
	return n, nil
}

// AuditHeads implements [control.AuditSeals]. Each tenant's is read as that
// tenant, all in one round trip.
func (s *Store) AuditHeads(ctx context.Context, tenants []uuid.UUID) (heads []control.AuditHead, err error) {
	b := new(pgx.Batch)
	for _, t := range tenants {
		b.Queue(setTenant, t.String(), "", "")
		b.Queue(`SELECT seq, mac FROM audit_seals WHERE tenant_id = $1 ORDER BY seq DESC LIMIT 1`, t).Query(func(r pgx.Rows) error {
			got, err := pgx.CollectRows(r, pgx.RowToStructByPos[control.AuditSeal])
			for _, m := range got {
				heads = append(heads, control.AuditHead{Tenant: t, AuditSeal: m})
			}
			return err
		})
	}
	if err := s.send(ctx, b); err != nil {
		return nil, fmt.Errorf("read the heads of audit trails: %w", err)
	}
	return heads, nil
}

// SealedAudit implements [control.AuditSeals].
func (s *Store) SealedAudit(ctx context.Context, after int64, most int) ([]control.SealedEntry, error) {
	const q = `
		SELECT seq, at, actor, action, object, detail, request_id, mac
		FROM (SELECT seq, at, actor, action, object, detail, request_id FROM audit
		      WHERE tenant_id = current_tenant() AND seq > $1 ORDER BY seq LIMIT $2) a
		FULL JOIN (SELECT seq, mac FROM audit_seals
		           WHERE tenant_id = current_tenant() AND seq > $1 ORDER BY seq LIMIT $2) s USING (seq)
		ORDER BY seq LIMIT $2`
	list, err := rows(ctx, s, scanSealed, q, after, most)
	if err != nil {
		return nil, fmt.Errorf("read the sealed audit trail: %w", err)
	}
	return list, nil
}

func scanSealed(r pgx.CollectableRow) (control.SealedEntry, error) {
	var e control.SealedEntry
	var at *time.Time
	var actor, action, object, request *string
	var detail []byte
	err := r.Scan(&e.Seq, &at, &actor, &action, &object, &detail, &request, &e.MAC)
	if err == nil && at != nil {
		e.Entry = &control.AuditEntry{Seq: e.Seq, At: at.UTC(), Actor: *actor, Action: *action, Object: *object, Detail: detail, Request: *request}
	}
	return e, err
}
