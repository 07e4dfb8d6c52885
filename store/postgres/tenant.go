package postgres

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"parley/control"
	"parley/control/identity"
)

var _ identity.TenantStore = (*Store)(nil)

const tenantColumns = `t.id, t.name, t.revision, t.created_at, t.suspended_at`

func scanTenant(r pgx.CollectableRow, more ...any) (identity.Tenant, error) {
	var t identity.Tenant
	var suspended *time.Time
	err := r.Scan(append([]any{&t.ID, &t.Name, &t.Revision, &t.CreatedAt, &suspended}, more...)...)
	t.CreatedAt, t.SuspendedAt = t.CreatedAt.UTC(), orZero(suspended)
	return t, err
}

func onlyTenant(r pgx.CollectableRow) (identity.Tenant, error) { return scanTenant(r) }

// Tenants implements [identity.TenantStore].
func (s *Store) Tenants(ctx context.Context, p control.Page) ([]identity.Tenant, error) {
	at, err := s.locateAll(ctx, `SELECT tenant, id FROM locate_tenants($1, $2)`, after(p), limit(p))
	if err != nil {
		return nil, err
	}
	return inEach(ctx, s, at, onlyTenant, `SELECT `+tenantColumns+` FROM tenants t WHERE t.id = current_tenant()`)
}

// Tenant implements [identity.TenantStore].
func (s *Store) Tenant(ctx context.Context) (identity.Tenant, error) {
	return one(ctx, s, onlyTenant, `SELECT `+tenantColumns+` FROM tenants t WHERE t.id = current_tenant()`)
}

// InsertTenant implements [identity.TenantStore].
func (s *Store) InsertTenant(ctx context.Context, t identity.Tenant, u identity.User) error {
	b, _, err := batch(control.WithTenant(ctx, t.ID))
	if err != nil {
		return err
	}
	b.Queue(`INSERT INTO tenants (id, name) VALUES ($1, $2)`, t.ID, t.Name)
	if u.ID != uuid.Nil {
		b.Queue(insertUser, u.ID, u.Email, u.PasswordHash, u.Name, u.Platform)
		b.Queue(insertMember, u.ID, string(u.Role))
	}
	return s.send(ctx, b)
}

const (
	insertUser   = `INSERT INTO users (id, email, password_hash, name, platform) VALUES ($1, $2, $3, $4, $5)`
	insertMember = `INSERT INTO memberships (tenant_id, user_id, role) VALUES (current_tenant(), $1, $2)`
)

// RenameTenant implements [identity.TenantStore].
func (s *Store) RenameTenant(ctx context.Context, name string, revision int) (identity.Tenant, error) {
	const q = `
		UPDATE tenants t SET name = $1, revision = revision + 1, updated_at = now()
		WHERE t.id = current_tenant() AND ($2 = 0 OR t.revision = $2) RETURNING ` + tenantColumns
	t, err := one(ctx, s, onlyTenant, q, text(name), revision)
	if errors.Is(err, control.ErrNotFound) { // the tenant of a principal is there
		err = control.ErrConflict
	}
	return t, err
}

// SuspendTenant implements [identity.TenantStore].
func (s *Store) SuspendTenant(ctx context.Context, suspended bool) (identity.Tenant, error) {
	const q = `
		UPDATE tenants t SET suspended_at = CASE WHEN $1 THEN coalesce(t.suspended_at, now()) END,
		    revision = revision + 1, updated_at = now()
		WHERE t.id = current_tenant() RETURNING ` + tenantColumns
	return one(ctx, s, onlyTenant, q, suspended)
}
