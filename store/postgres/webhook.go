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

var _ control.WebhookStore = (*Store)(nil)

const webhookColumns = `id, name, url, types, flow_ids, headers, secret, old_secret, old_until, timeout_ms, max_attempts,
	enabled, enabled_at, disabled_reason, failures, failing_since, revision, created_at, updated_at`

func scanWebhook(r pgx.CollectableRow) (control.Webhook, error) {
	var w control.Webhook
	var until, since *time.Time
	var timeout int64
	err := r.Scan(&w.ID, &w.Name, &w.URL, &w.Types, &w.Flows, &w.Headers, &w.Secret, &w.OldSecret, &until, &timeout, &w.MaxAttempts,
		&w.Enabled, &w.EnabledAt, &w.DisabledReason, &w.Failures, &since, &w.Revision, &w.CreatedAt, &w.UpdatedAt)
	w.Timeout = time.Duration(timeout) * time.Millisecond
	w.OldUntil, w.FailingSince = orZero(until), orZero(since)
	w.EnabledAt, w.CreatedAt, w.UpdatedAt = w.EnabledAt.UTC(), w.CreatedAt.UTC(), w.UpdatedAt.UTC()
	return w, err
}

func webhookArgs(w control.Webhook) pgx.NamedArgs {
	types, flows := w.Types, w.Flows
	if types == nil {
		types = []string{}
	}
	if flows == nil {
		flows = []uuid.UUID{}
	}
	return pgx.NamedArgs{"id": w.ID, "name": w.Name, "url": w.URL, "types": types, "flows": flows, "headers": w.Headers,
		"secret": w.Secret, "old": w.OldSecret, "until": nullTime(w.OldUntil), "timeout": w.Timeout.Milliseconds(),
		"attempts": w.MaxAttempts, "enabled": w.Enabled, "reason": w.DisabledReason, "failures": w.Failures,
		"since": nullTime(w.FailingSince)}
}

// Webhook implements [control.WebhookStore].
func (s *Store) Webhook(ctx context.Context, id uuid.UUID) (control.Webhook, error) {
	w, err := one(ctx, s, scanWebhook, `SELECT `+webhookColumns+` FROM webhooks WHERE id = $1`, id)
	if err != nil {
		return w, fmt.Errorf("webhook %s: %w", id, err)
	}
	return w, nil
}

// Webhooks implements [control.WebhookStore].
func (s *Store) Webhooks(ctx context.Context, p control.Page) ([]control.Webhook, error) {
	const q = `
		SELECT ` + webhookColumns + ` FROM webhooks
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1)
		ORDER BY id DESC LIMIT $2`
	return rows(ctx, s, scanWebhook, q, after(p), limit(p))
}

// EnabledWebhooks implements [control.WebhookStore].
func (s *Store) EnabledWebhooks(ctx context.Context) ([]control.Webhook, error) {
	return rows(ctx, s, scanWebhook, `SELECT `+webhookColumns+` FROM webhooks WHERE tenant_id = current_tenant() AND enabled ORDER BY id`)
}

// InsertWebhook implements [control.WebhookStore].
func (s *Store) InsertWebhook(ctx context.Context, w control.Webhook) (control.Webhook, error) {
	const q = `
		INSERT INTO webhooks (id, tenant_id, name, url, types, flow_ids, headers, secret, old_secret, old_until, timeout_ms, max_attempts, enabled)
		VALUES (@id, current_tenant(), @name, @url, @types, @flows, @headers, @secret, @old, @until, @timeout, @attempts, @enabled)
		RETURNING ` + webhookColumns
	return one(ctx, s, scanWebhook, q, webhookArgs(w))
}

// UpdateWebhook implements [control.WebhookStore].
func (s *Store) UpdateWebhook(ctx context.Context, w control.Webhook, revision int) (control.Webhook, error) {
	const q = `
		UPDATE webhooks SET name = @name, url = @url, types = @types, flow_ids = @flows, headers = @headers, secret = @secret,
		    old_secret = @old, old_until = @until, timeout_ms = @timeout, max_attempts = @attempts, enabled = @enabled,
		    enabled_at = CASE WHEN @enabled AND NOT enabled THEN now() ELSE enabled_at END,
		    disabled_reason = @reason, failures = @failures, failing_since = @since, revision = revision + 1, updated_at = now()
		WHERE id = @id AND @revision IN (0, revision)
		RETURNING ` + webhookColumns
	args := webhookArgs(w)
	args["revision"] = revision
	got, err := one(ctx, s, scanWebhook, q, args)
	if errors.Is(err, control.ErrNotFound) {
		err = s.whyNot(ctx, w.ID)
	}
	if err != nil {
		return w, fmt.Errorf("update webhook %s: %w", w.ID, err)
	}
	return got, nil
}

// whyNot tells a webhook that has changed from one that is gone.
func (s *Store) whyNot(ctx context.Context, id uuid.UUID) error {
	if _, err := s.Webhook(ctx, id); err != nil {
		return err
	}
	return control.ErrConflict
}

// DeleteWebhook implements [control.WebhookStore].
func (s *Store) DeleteWebhook(ctx context.Context, id uuid.UUID, revision int) error {
	n, err := exec(ctx, s, `DELETE FROM webhooks WHERE id = $1 AND $2 IN (0, revision)`, id, revision)
	if err == nil && n == 0 {
		err = s.whyNot(ctx, id)
	}
	if err != nil {
		return fmt.Errorf("delete webhook %s: %w", id, err)
	}
	return nil
}
