package postgres

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
)

var _ identity.TrustedIssuerStore = (*Store)(nil)

const issuerColumns = `id, issuer, audience, settings, enabled, revision, created_at, updated_at`

func scanIssuer(r pgx.CollectableRow) (identity.TrustedIssuer, error) {
	var i identity.TrustedIssuer
	var settings []byte
	err := r.Scan(&i.ID, &i.Issuer, &i.Audience, &settings, &i.Enabled, &i.Revision, &i.CreatedAt, &i.UpdatedAt)
	if err == nil {
		err = json.Unmarshal(settings, &i.Settings)
	}
	i.CreatedAt, i.UpdatedAt = i.CreatedAt.UTC(), i.UpdatedAt.UTC()
	return i, err
}

// TrustedIssuers implements [identity.TrustedIssuerStore].
func (s *Store) TrustedIssuers(ctx context.Context, p control.Page) ([]identity.TrustedIssuer, error) {
	const q = `
		SELECT ` + issuerColumns + ` FROM trusted_issuers
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1) ORDER BY id DESC LIMIT $2`
	return rows(ctx, s, scanIssuer, q, after(p), limit(p))
}

// TrustedIssuer implements [identity.TrustedIssuerStore].
func (s *Store) TrustedIssuer(ctx context.Context, id uuid.UUID) (identity.TrustedIssuer, error) {
	return one(ctx, s, scanIssuer, `SELECT `+issuerColumns+` FROM trusted_issuers WHERE tenant_id = current_tenant() AND id = $1`, id)
}

// IssuersNamed implements [identity.TrustedIssuerStore].
func (s *Store) IssuersNamed(ctx context.Context, issuer string) ([]identity.TrustedIssuer, error) {
	const q = `
		SELECT ` + issuerColumns + ` FROM trusted_issuers
		WHERE tenant_id = current_tenant() AND issuer = $1 AND enabled ORDER BY id LIMIT 20`
	return rows(ctx, s, scanIssuer, q, text(issuer))
}

// InsertTrustedIssuer implements [identity.TrustedIssuerStore].
func (s *Store) InsertTrustedIssuer(ctx context.Context, i identity.TrustedIssuer) (identity.TrustedIssuer, error) {
	settings, err := json.Marshal(i.Settings)
	if err != nil {
		return i, fmt.Errorf("store an issuer: %w", err)
	}
	const q = `
		INSERT INTO trusted_issuers (id, tenant_id, issuer, audience, settings, enabled)
		VALUES ($1, current_tenant(), $2, $3, $4, $5) RETURNING ` + issuerColumns
	return one(ctx, s, scanIssuer, q, i.ID, i.Issuer, i.Audience, settings, i.Enabled)
}

// UpdateTrustedIssuer implements [identity.TrustedIssuerStore].
func (s *Store) UpdateTrustedIssuer(ctx context.Context, i identity.TrustedIssuer, revision int) (identity.TrustedIssuer, error) {
	settings, err := json.Marshal(i.Settings)
	if err != nil {
		return i, fmt.Errorf("store an issuer: %w", err)
	}
	const q = `
		UPDATE trusted_issuers
		SET issuer = $2, audience = $3, settings = $4, enabled = $5, revision = revision + 1, updated_at = clock_timestamp()
		WHERE tenant_id = current_tenant() AND id = $1 AND ($6 = 0 OR revision = $6) RETURNING ` + issuerColumns
	got, err := one(ctx, s, scanIssuer, q, i.ID, i.Issuer, i.Audience, settings, i.Enabled, revision)
	return got, control.NotFoundIs(err, control.ErrConflict)
}

// DeleteTrustedIssuer implements [identity.TrustedIssuerStore].
func (s *Store) DeleteTrustedIssuer(ctx context.Context, id uuid.UUID) error {
	return s.otherwise(ctx, control.ErrNotFound, `DELETE FROM trusted_issuers WHERE tenant_id = current_tenant() AND id = $1`, id)
}
