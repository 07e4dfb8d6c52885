package postgres

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
)

var (
	_ control.VersionStore   = (*Store)(nil)
	_ control.VersionChanges = (*Store)(nil)
)

// of returns a query about a subject: the tables of flows and agents differ in
// the first word of their names alone. A subject is one of two constants.
func of(s control.Subject, q string) string { return strings.ReplaceAll(q, "SUBJECT", string(s)) }

const (
	environmentsColumn = `coalesce((
		SELECT jsonb_agg(to_jsonb(e) - 'tenant_id' - 'SUBJECT_id' ORDER BY e.name) FROM SUBJECT_environments e WHERE e.SUBJECT_id = SUBJECTs.id), '[]')`
	versionHead    = `v.id, v.SUBJECT_id, v.number, v.label, v.hash, v.created_at`
	versionColumns = versionHead + `, v.document`
)

func scanVersion(r pgx.CollectableRow) (control.Version, error) {
	var v control.Version
	err := r.Scan(&v.ID, &v.Of, &v.Number, &v.Label, &v.Hash, &v.CreatedAt, &v.Document)
	v.CreatedAt = v.CreatedAt.UTC()
	return v, err
}

// Environments implements [control.VersionStore].
func (s *Store) Environments(ctx context.Context, subject control.Subject, id uuid.UUID) (control.Environments, error) {
	list, err := one(ctx, s, pgx.RowTo[control.Environments], of(subject, `SELECT `+environmentsColumn+` FROM SUBJECTs WHERE id = $1`), id)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", subject, id, err)
	}
	return list, nil
}

// Version implements [control.VersionStore].
func (s *Store) Version(ctx context.Context, subject control.Subject, id uuid.UUID) (control.Version, error) {
	v, err := one(ctx, s, scanVersion, of(subject, `SELECT `+versionColumns+` FROM SUBJECT_versions v WHERE v.id = $1`), id)
	if err != nil {
		return v, fmt.Errorf("%s version %s: %w", subject, id, err)
	}
	return v, nil
}

// NumberedVersion implements [control.VersionStore].
func (s *Store) NumberedVersion(ctx context.Context, subject control.Subject, id uuid.UUID, number int) (control.Version, error) {
	const q = `SELECT ` + versionColumns + ` FROM SUBJECT_versions v
		WHERE v.SUBJECT_id = $1 AND $2 IN (0, v.number) ORDER BY v.number DESC LIMIT 1`
	v, err := one(ctx, s, scanVersion, of(subject, q), id, number)
	if err != nil {
		return v, fmt.Errorf("version %d of %s %s: %w", number, subject, id, err)
	}
	return v, nil
}

// Versions implements [control.VersionStore].
func (s *Store) Versions(ctx context.Context, subject control.Subject, id uuid.UUID, p control.Page) ([]control.Version, error) {
	const q = `
		SELECT ` + versionHead + `, NULL::jsonb FROM SUBJECT_versions v
		WHERE v.SUBJECT_id = $1 AND ($2::uuid IS NULL OR v.id < $2) ORDER BY v.id DESC LIMIT $3`
	return rows(ctx, s, scanVersion, of(subject, q), id, after(p), limit(p))
}

// ReleasedVersions implements [control.VersionStore].
func (s *Store) ReleasedVersions(ctx context.Context, subject control.Subject, id uuid.UUID, environment string) ([]control.Version, error) {
	const q = `
		SELECT ` + versionHead + `, NULL::jsonb FROM SUBJECT_versions v
		WHERE v.SUBJECT_id = $1 AND EXISTS (
		    SELECT FROM SUBJECT_publications p
		    WHERE p.version_id = v.id AND p.SUBJECT_id = $1 AND p.environment = $2 AND p.percent = 100 AND NOT EXISTS (
		        SELECT FROM SUBJECT_publications w
		        WHERE w.withdraws = v.id AND w.SUBJECT_id = $1 AND w.environment = $2 AND w.published_at > p.published_at))
		ORDER BY v.number DESC`
	return rows(ctx, s, scanVersion, of(subject, q), id, orDefault(environment, control.Live))
}

// Publications implements [control.VersionStore].
func (s *Store) Publications(ctx context.Context, subject control.Subject, id uuid.UUID, environment string, p control.Page) ([]control.Publication, error) {
	const q = `
		SELECT p.id, p.SUBJECT_id, p.version_id, p.environment, v.number, p.percent,
		       coalesce(p.withdraws, '00000000-0000-0000-0000-000000000000'), p.published_by, p.published_at
		FROM SUBJECT_publications p JOIN SUBJECT_versions v ON v.id = p.version_id
		WHERE p.SUBJECT_id = $1 AND ($2::uuid IS NULL OR p.id < $2) AND ($4 = '' OR p.environment = $4) ORDER BY p.id DESC LIMIT $3`
	return rows(ctx, s, pgx.RowToStructByPos[control.Publication], of(subject, q), id, after(p), limit(p), environment)
}

// Draft implements [control.VersionStore].
func (s *Store) Draft(ctx context.Context, subject control.Subject, id uuid.UUID) (control.Draft, error) {
	d, err := one(ctx, s, func(r pgx.CollectableRow) (control.Draft, error) {
		var d control.Draft
		var at *time.Time
		err := r.Scan(&d.Document, &at)
		d.UpdatedAt = orZero(at)
		return d, err
	}, of(subject, `SELECT draft, drafted_at FROM SUBJECTs WHERE id = $1 AND draft IS NOT NULL`), id)
	if err != nil {
		return d, fmt.Errorf("draft of %s %s: %w", subject, id, err)
	}
	return d, nil
}

// changeSubject runs fn in a transaction that holds the subject's row, and has
// counted its revision up.
func (s *Store) changeSubject(ctx context.Context, subject control.Subject, id uuid.UUID, revision int, fn func(pgx.Tx) error) error {
	return s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		var have int
		err := tx.QueryRow(ctx, of(subject, `UPDATE SUBJECTs SET revision = revision + 1, updated_at = now() WHERE id = $1 RETURNING revision - 1`), id).Scan(&have)
		if err == nil && revision != 0 && revision != have {
			err = control.ErrConflict
		}
		if err != nil {
			return err
		}
		return fn(tx)
	})
}

// insertVersion numbers v; the subject's row, which tx holds, serializes that.
func insertVersion(ctx context.Context, tx pgx.Tx, subject control.Subject, v *control.Version) error {
	const q = `
		INSERT INTO SUBJECT_versions (id, tenant_id, SUBJECT_id, number, label, document, hash, created_at)
		SELECT $1, current_tenant(), $2, coalesce(max(number), 0) + 1, $3, $4, $5, $6
		FROM SUBJECT_versions WHERE SUBJECT_id = $2
		RETURNING number`
	return tx.QueryRow(ctx, of(subject, q), v.ID, v.Of, v.Label, v.Document, v.Hash, v.CreatedAt).Scan(&v.Number)
}

// InsertVersion implements [control.VersionChanges].
func (s *Store) InsertVersion(ctx context.Context, subject control.Subject, v control.Version, revision int) (control.Version, error) {
	err := s.changeSubject(ctx, subject, v.Of, revision, func(tx pgx.Tx) error { return insertVersion(ctx, tx, subject, &v) })
	if err != nil {
		return v, fmt.Errorf("insert %s version: %w", subject, err)
	}
	return v, nil
}

// KeepDraft implements [control.VersionChanges].
func (s *Store) KeepDraft(ctx context.Context, subject control.Subject, v control.Version, revision int) (control.Version, error) {
	err := s.changeSubject(ctx, subject, v.Of, revision, func(tx pgx.Tx) error {
		// Only that draft: one that was put meanwhile is somebody's work.
		done, err := tx.Exec(ctx, of(subject, `UPDATE SUBJECTs SET draft = NULL, drafted_at = NULL WHERE id = $1 AND draft = $2::jsonb`), v.Of, v.Document)
		if err == nil && done.RowsAffected() == 0 {
			err = control.ErrConflict
		}
		if err != nil {
			return err
		}
		return insertVersion(ctx, tx, subject, &v)
	})
	if err != nil {
		return v, fmt.Errorf("keep draft of %s %s: %w", subject, v.Of, err)
	}
	return v, nil
}

// publishVersion notes p and makes it so.
func publishVersion(ctx context.Context, tx pgx.Tx, subject control.Subject, p control.Publication) error {
	p.Environment = orDefault(p.Environment, control.Live)
	q := `
		INSERT INTO SUBJECT_environments (tenant_id, SUBJECT_id, name, published_id) VALUES (current_tenant(), $1, $2, $3)
		ON CONFLICT (SUBJECT_id, name) DO UPDATE SET published_id = excluded.published_id, canary_id = NULL, canary_percent = 0`
	args := []any{p.Of, p.Environment, p.Version}
	if p.Percent < 100 {
		q, args = `UPDATE SUBJECT_environments SET canary_id = $3, canary_percent = $4 WHERE SUBJECT_id = $1 AND name = $2`, append(args, p.Percent)
	}
	done, err := tx.Exec(ctx, of(subject, q), args...)
	if err == nil && done.RowsAffected() == 0 {
		err = control.ErrNotFound
	}
	if err == nil {
		_, err = tx.Exec(ctx, of(subject, `
			INSERT INTO SUBJECT_publications (id, tenant_id, SUBJECT_id, version_id, environment, percent, withdraws, published_by, published_at)
			VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7, $8)`),
			p.ID, p.Of, p.Version, p.Environment, p.Percent, nullable(p.Withdraws), p.By, p.At)
	}
	return err
}

// Publish implements [control.VersionChanges].
func (s *Store) Publish(ctx context.Context, subject control.Subject, p control.Publication, revision int) error {
	err := s.changeSubject(ctx, subject, p.Of, revision, func(tx pgx.Tx) error { return publishVersion(ctx, tx, subject, p) })
	if err != nil {
		return fmt.Errorf("publish %s %s: %w", subject, p.Of, err)
	}
	return nil
}

// PutDraft implements [control.VersionChanges].
func (s *Store) PutDraft(ctx context.Context, subject control.Subject, id uuid.UUID, document []byte, revision int) error {
	err := s.changeSubject(ctx, subject, id, revision, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, of(subject, `UPDATE SUBJECTs SET draft = $2, drafted_at = CASE WHEN $2::jsonb IS NULL THEN NULL ELSE now() END
			WHERE id = $1`), id, nullJSON(document))
		return err
	})
	if err != nil {
		return fmt.Errorf("draft of %s %s: %w", subject, id, err)
	}
	return nil
}
