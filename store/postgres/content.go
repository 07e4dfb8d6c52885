package postgres

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/agent/flow"
	"parley/control"
)

var (
	_ control.ContentStore   = (*Store)(nil)
	_ control.ContentChanges = (*Store)(nil)
	_ control.ShelfStore     = (*Store)(nil)
)

const (
	contentColumns = `id, type, body, tags, locale, status, weight, revision, created_at, updated_at`
	variantColumns = `id, content_id, key, data, weight, conditions, revision, created_at, updated_at`
	// maxCandidates of one draw.
	maxCandidates = 5000
)

func scanContent(r pgx.CollectableRow) (control.Content, error) {
	var c control.Content
	err := r.Scan(&c.ID, &c.Type, &c.Body, &c.Tags, &c.Locale, &c.Status, &c.Weight, &c.Revision, &c.CreatedAt, &c.UpdatedAt)
	c.CreatedAt, c.UpdatedAt = c.CreatedAt.UTC(), c.UpdatedAt.UTC()
	return c, err
}

func scanVariant(r pgx.CollectableRow) (control.Variant, error) {
	var v control.Variant
	err := r.Scan(&v.ID, &v.Content, &v.Key, &v.Data, &v.Weight, &v.Conditions, &v.Revision, &v.CreatedAt, &v.UpdatedAt)
	v.CreatedAt, v.UpdatedAt = v.CreatedAt.UTC(), v.UpdatedAt.UTC()
	return v, err
}

// Content implements [control.ContentStore].
func (s *Store) Content(ctx context.Context, id uuid.UUID) (control.Content, error) {
	c, err := one(ctx, s, scanContent, `SELECT `+contentColumns+` FROM contents WHERE id = $1`, id)
	if err != nil {
		return c, fmt.Errorf("content %s: %w", id, err)
	}
	return c, nil
}

// ContentList implements [control.ContentStore]. Words and tags are asked of
// search_content, whose index row security would not let a query use.
func (s *Store) ContentList(ctx context.Context, f control.ContentFilter) ([]control.Content, error) {
	if f.Query == "" && len(f.Tags) == 0 {
		const q = `
			SELECT ` + contentColumns + ` FROM contents
			WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1) AND ($3 = '' OR type = $3)
			  AND ($4 = '' OR status = $4) AND ($5 = '' OR locale = $5 OR locale LIKE $5 || '-%')
			ORDER BY id DESC LIMIT $2`
		return rows(ctx, s, scanContent, q, after(f.Page), limit(f.Page), f.Type, f.Status, f.Locale)
	}
	const q = `
		SELECT ` + contentColumns + ` FROM contents
		WHERE id IN (SELECT f.id FROM search_content(current_tenant(), nullif($3, ''), $4, nullif($5, ''), nullif($6, ''), nullif($7, ''), $1, $2) f)
		ORDER BY id DESC`
	return rows(ctx, s, scanContent, q, after(f.Page), limit(f.Page), text(f.Query), orNull(f.Tags), f.Type, f.Locale, f.Status)
}

// orNull is null for no texts at all.
func orNull(list []string) any {
	if len(list) == 0 {
		return nil
	}
	return list
}

// Variant implements [control.ContentStore].
func (s *Store) Variant(ctx context.Context, content, id uuid.UUID) (control.Variant, error) {
	v, err := one(ctx, s, scanVariant, `SELECT `+variantColumns+` FROM content_variants WHERE content_id = $1 AND id = $2`, content, id)
	if err != nil {
		return v, fmt.Errorf("variant %s: %w", id, err)
	}
	return v, nil
}

// Variants implements [control.ContentStore].
func (s *Store) Variants(ctx context.Context, content uuid.UUID) ([]control.Variant, error) {
	const q = `SELECT ` + variantColumns + ` FROM content_variants WHERE tenant_id = current_tenant() AND content_id = $1 ORDER BY id`
	return rows(ctx, s, scanVariant, q, content)
}

// InsertContent implements [control.ContentChanges].
func (s *Store) InsertContent(ctx context.Context, c control.Content) error {
	const q = `
		INSERT INTO contents (id, tenant_id, type, body, tags, locale, status, weight, created_at, updated_at)
		VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7, $8, $8)`
	_, err := exec(ctx, s, q, c.ID, c.Type, c.Body, c.Tags, c.Locale, c.Status, c.Weight, c.CreatedAt)
	return err
}

// UpdateContent implements [control.ContentChanges].
func (s *Store) UpdateContent(ctx context.Context, c control.Content) (control.Content, error) {
	const q = `
		UPDATE contents SET type = $3, body = $4, tags = $5, locale = $6, status = $7, weight = $8,
		       revision = revision + 1, updated_at = now()
		WHERE id = $1 AND revision = $2
		RETURNING ` + contentColumns
	got, err := one(ctx, s, scanContent, q, c.ID, c.Revision, c.Type, c.Body, c.Tags, c.Locale, c.Status, c.Weight)
	if err != nil {
		return c, s.unchanged(err, "update content", func() error { _, err := s.Content(ctx, c.ID); return err })
	}
	return got, nil
}

// unchanged tells why a conditional change found no row: there is none, or it
// has another revision.
func (s *Store) unchanged(err error, what string, look func() error) error {
	if errors.Is(err, control.ErrNotFound) {
		if err = look(); err == nil {
			err = control.ErrConflict
		}
	}
	return fmt.Errorf("%s: %w", what, err)
}

// InsertVariant implements [control.ContentChanges]. The content's row
// serializes counting.
func (s *Store) InsertVariant(ctx context.Context, v control.Variant, most int) error {
	return s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		var have int
		err := tx.QueryRow(ctx, `SELECT 1 FROM contents WHERE id = $1 FOR UPDATE`, v.Content).Scan(&have)
		if err == nil {
			err = tx.QueryRow(ctx, `SELECT count(*) FROM content_variants WHERE tenant_id = current_tenant() AND content_id = $1`, v.Content).Scan(&have)
		}
		if err == nil && have >= most {
			err = control.ErrBusy
		}
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `
			INSERT INTO content_variants (id, tenant_id, content_id, key, data, weight, conditions, created_at, updated_at)
			VALUES ($1, current_tenant(), $2, $3, $4, $5, $6, $7, $7)`,
			v.ID, v.Content, v.Key, v.Data, v.Weight, nullJSON(v.Conditions), v.CreatedAt)
		return err
	})
}

// UpdateVariant implements [control.ContentChanges].
func (s *Store) UpdateVariant(ctx context.Context, v control.Variant) (control.Variant, error) {
	const q = `
		UPDATE content_variants SET key = $4, data = $5, weight = $6, conditions = $7, revision = revision + 1, updated_at = now()
		WHERE content_id = $1 AND id = $2 AND revision = $3
		RETURNING ` + variantColumns
	got, err := one(ctx, s, scanVariant, q, v.Content, v.ID, v.Revision, v.Key, v.Data, v.Weight, nullJSON(v.Conditions))
	if err != nil {
		return v, s.unchanged(err, "update variant", func() error { _, err := s.Variant(ctx, v.Content, v.ID); return err })
	}
	return got, nil
}

// DeleteVariant implements [control.ContentChanges].
func (s *Store) DeleteVariant(ctx context.Context, content, id uuid.UUID, revision int) error {
	const q = `DELETE FROM content_variants WHERE content_id = $1 AND id = $2 AND ($3 = 0 OR revision = $3) RETURNING id`
	if _, err := one(ctx, s, pgx.RowTo[uuid.UUID], q, content, id, revision); err != nil {
		return s.unchanged(err, "delete variant", func() error { _, err := s.Variant(ctx, content, id); return err })
	}
	return nil
}

// Candidates implements [control.ShelfStore].
func (s *Store) Candidates(ctx context.Context, typ string, tags []string) ([]control.Candidate, error) {
	scan := pgx.RowToStructByPos[control.Candidate]
	if len(tags) == 0 {
		const q = `
			SELECT id, locale FROM contents
			WHERE tenant_id = current_tenant() AND status = 'published' AND ($1 = '' OR type = $1)
			ORDER BY id DESC LIMIT $2`
		return rows(ctx, s, scan, q, typ, maxCandidates)
	}
	const q = `
		SELECT id, locale FROM contents
		WHERE id IN (SELECT f.id FROM search_content(current_tenant(), NULL, $1, nullif($2, ''), NULL, 'published', NULL, $3) f)
		ORDER BY id DESC`
	return rows(ctx, s, scan, q, tags, typ, maxCandidates)
}

// Published implements [control.ShelfStore].
func (s *Store) Published(ctx context.Context, ids []uuid.UUID) ([]flow.Content, error) {
	const q = `
		SELECT c.id, c.type, c.body, c.weight, (
		    SELECT json_agg(json_build_object('variant_key', v.key, 'weight', v.weight, 'variant_data', v.data, 'conditions', v.conditions) ORDER BY v.id)
		    FROM content_variants v WHERE v.tenant_id = c.tenant_id AND v.content_id = c.id)
		FROM contents c WHERE c.id = ANY($1) AND c.status = 'published'`
	return rows(ctx, s, func(r pgx.CollectableRow) (flow.Content, error) {
		var c flow.Content
		var id uuid.UUID
		var body, variants []byte
		var weight int
		if err := r.Scan(&id, &c.Type, &body, &weight, &variants); err != nil {
			return c, err
		}
		c.ID, c.Weight = id.String(), &weight
		if err := number(body, &c.Content); err != nil || variants == nil {
			return c, err
		}
		return c, number(variants, &c.Variants)
	}, q, ids)
}

// number decodes JSON and keeps its numbers as they are written.
func number(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(v)
}
