package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"parley/control"
	"parley/control/identity"
)

var _ identity.ProviderStore = (*Store)(nil)

const providerColumns = `id, name, settings, secret, enabled, revision, created_at, updated_at`

func scanProvider(r pgx.CollectableRow) (identity.Provider, error) {
	var p identity.Provider
	var settings []byte
	err := r.Scan(&p.ID, &p.Name, &settings, &p.Secret, &p.Enabled, &p.Revision, &p.CreatedAt, &p.UpdatedAt)
	if err == nil {
		err = json.Unmarshal(settings, &p.Settings)
	}
	p.CreatedAt, p.UpdatedAt = p.CreatedAt.UTC(), p.UpdatedAt.UTC()
	return p, err
}

// LocateProvider implements [identity.ProviderStore].
func (s *Store) LocateProvider(ctx context.Context, id uuid.UUID) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_provider($1)`, id)
}

// Provider implements [identity.ProviderStore].
func (s *Store) Provider(ctx context.Context, id uuid.UUID) (identity.Provider, error) {
	return one(ctx, s, scanProvider, `SELECT `+providerColumns+` FROM identity_providers WHERE tenant_id = current_tenant() AND id = $1`, id)
}

// Providers implements [identity.ProviderStore].
func (s *Store) Providers(ctx context.Context, p control.Page) ([]identity.Provider, error) {
	const q = `
		SELECT ` + providerColumns + ` FROM identity_providers
		WHERE tenant_id = current_tenant() AND ($1::uuid IS NULL OR id < $1) ORDER BY id DESC LIMIT $2`
	return rows(ctx, s, scanProvider, q, after(p), limit(p))
}

// InsertProvider implements [identity.ProviderStore].
func (s *Store) InsertProvider(ctx context.Context, p identity.Provider) (identity.Provider, error) {
	settings, err := json.Marshal(p.Settings)
	if err != nil {
		return p, fmt.Errorf("store a provider: %w", err)
	}
	const q = `
		INSERT INTO identity_providers (id, tenant_id, name, settings, secret, enabled)
		VALUES ($1, current_tenant(), $2, $3, $4, $5) RETURNING ` + providerColumns
	return one(ctx, s, scanProvider, q, p.ID, p.Name, settings, p.Secret, p.Enabled)
}

// UpdateProvider implements [identity.ProviderStore].
func (s *Store) UpdateProvider(ctx context.Context, p identity.Provider, revision int) (identity.Provider, error) {
	settings, err := json.Marshal(p.Settings)
	if err != nil {
		return p, fmt.Errorf("store a provider: %w", err)
	}
	const q = `
		UPDATE identity_providers
		SET name = $2, settings = $3, secret = $4, enabled = $5, revision = revision + 1, updated_at = clock_timestamp()
		WHERE tenant_id = current_tenant() AND id = $1 AND ($6 = 0 OR revision = $6) RETURNING ` + providerColumns
	got, err := one(ctx, s, scanProvider, q, p.ID, p.Name, settings, p.Secret, p.Enabled, revision)
	return got, control.NotFoundIs(err, control.ErrConflict)
}

// DeleteProvider implements [identity.ProviderStore].
func (s *Store) DeleteProvider(ctx context.Context, id uuid.UUID) error {
	b, _, err := batch(ctx)
	if err != nil {
		return err
	}
	var n int64
	b.Queue(`DELETE FROM identity_links WHERE tenant_id = current_tenant() AND provider = $1`, id.String())
	b.Queue(`DELETE FROM identity_providers WHERE tenant_id = current_tenant() AND id = $1`, id).Exec(func(ct pgconn.CommandTag) error {
		n = ct.RowsAffected()
		return nil
	})
	if err = s.send(ctx, b); err == nil && n == 0 {
		err = control.ErrNotFound
	}
	return err
}

// LocateIdentity implements [identity.ProviderStore].
func (s *Store) LocateIdentity(ctx context.Context, provider, issuer, subject string) (control.Located, error) {
	return s.locate(ctx, `SELECT tenant, id FROM locate_identity($1, $2, $3)`, text(provider), text(issuer), text(subject))
}

// Identity implements [identity.ProviderStore].
func (s *Store) Identity(ctx context.Context, provider, issuer, subject string) (uuid.UUID, error) {
	const q = `
		SELECT user_id FROM identity_links
		WHERE tenant_id = current_tenant() AND provider = $1 AND issuer = $2 AND subject = $3`
	return one(ctx, s, pgx.RowTo[uuid.UUID], q, text(provider), text(issuer), text(subject))
}

// LocateInvited implements [identity.ProviderStore].
func (s *Store) LocateInvited(ctx context.Context, email string) ([]control.Located, error) {
	return s.locateAll(ctx, `SELECT tenant, id FROM locate_invited($1)`, text(email))
}

// Admit implements [identity.ProviderStore].
func (s *Store) Admit(ctx context.Context, a identity.Admission) error {
	return s.tx(ctx, func(tx pgx.Tx, _ uuid.UUID) error {
		type step struct {
			when bool
			sql  string
			args []any
		}
		for _, st := range []step{
			{a.Invitation != uuid.Nil, `UPDATE invitations SET used_at = clock_timestamp()
				WHERE tenant_id = current_tenant() AND id = $1 AND expires_at > clock_timestamp() AND ` + openInvitation, []any{a.Invitation}},
			{a.NewUser, insertUser, []any{a.User.ID, a.User.Email, "", text(a.User.Name), false}},
			{a.NewMember, insertMember, []any{a.User.ID, string(a.User.Role)}},
			{true, `INSERT INTO identity_links (id, tenant_id, user_id, provider, issuer, subject)
				VALUES ($1, current_tenant(), $2, $3, $4, $5)`, []any{a.Link, a.User.ID, text(a.Provider), text(a.Issuer), text(a.Subject)}},
		} {
			if !st.when {
				continue
			}
			tag, err := tx.Exec(ctx, st.sql, st.args...)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				return control.ErrConflict
			}
		}
		return nil
	})
}

// TouchIdentity implements [identity.ProviderStore].
func (s *Store) TouchIdentity(ctx context.Context, provider, issuer, subject string, at time.Time) error {
	const q = `
		UPDATE identity_links SET last_used_at = $4
		WHERE tenant_id = current_tenant() AND provider = $1 AND issuer = $2 AND subject = $3`
	_, err := exec(ctx, s, q, text(provider), text(issuer), text(subject), at)
	return err
}
