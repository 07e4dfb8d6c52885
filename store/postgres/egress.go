package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"parley/control"
)

var _ control.EgressPolicies = (*Store)(nil)

// EgressPolicy implements [control.EgressPolicies].
func (s *Store) EgressPolicy(ctx context.Context) (control.EgressPolicy, error) {
	p, err := one(ctx, s, pgx.RowToStructByPos[control.EgressPolicy],
		`SELECT hosts, calls, bytes, seconds, revision, updated_at FROM egress_policies WHERE tenant_id = current_tenant()`)
	if errors.Is(err, control.ErrNotFound) {
		return control.EgressPolicy{}, nil
	}
	p.UpdatedAt = p.UpdatedAt.UTC()
	return p, err
}

// PutEgressPolicy implements [control.EgressPolicies].
func (s *Store) PutEgressPolicy(ctx context.Context, p control.EgressPolicy, revision int) (control.EgressPolicy, error) {
	const q = `
		INSERT INTO egress_policies AS p (tenant_id, hosts, calls, bytes, seconds)
		SELECT current_tenant(), $1, $2, $3, $4
		WHERE $5 <= 0 OR EXISTS (SELECT FROM egress_policies WHERE tenant_id = current_tenant())
		ON CONFLICT (tenant_id) DO UPDATE SET hosts = $1, calls = $2, bytes = $3, seconds = $4,
		    revision = p.revision + 1, updated_at = now()
		WHERE $5 = -1 OR p.revision = $5
		RETURNING hosts, calls, bytes, seconds, revision, updated_at`
	if p.Hosts == nil {
		p.Hosts = []string{}
	}
	got, err := one(ctx, s, pgx.RowToStructByPos[control.EgressPolicy], q, p.Hosts, p.Calls, p.Bytes, p.Seconds, revision)
	if errors.Is(err, control.ErrNotFound) {
		err = control.ErrConflict
	}
	if err != nil {
		return got, fmt.Errorf("write where the tenant may call: %w", err)
	}
	got.UpdatedAt = got.UpdatedAt.UTC()
	return got, nil
}
