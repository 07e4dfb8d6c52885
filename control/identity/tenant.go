package identity

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"parley/control"
)

// A Tenant is a customer, walled off from all others.
type Tenant struct {
	ID          uuid.UUID
	Name        string
	Revision    int
	CreatedAt   time.Time
	SuspendedAt time.Time // zero: it is not
}

// TenantStore keeps the tenants.
type TenantStore interface {
	// Tenants lists all, the newest first; ctx needs no tenant.
	Tenants(ctx context.Context, p control.Page) ([]Tenant, error)
	// Tenant returns the one of ctx.
	Tenant(ctx context.Context) (Tenant, error)
	// InsertTenant stores t with its first member, or with none if u has no id.
	InsertTenant(ctx context.Context, t Tenant, u User) error
	// RenameTenant changes the tenant of ctx; control.ErrConflict if it is no
	// longer at the revision, of which 0 is any.
	RenameTenant(ctx context.Context, name string, revision int) (Tenant, error)
	// SuspendTenant suspends the tenant of ctx, or takes it back.
	SuspendTenant(ctx context.Context, suspended bool) (Tenant, error)
}

// Tenants is the service of tenants.
type Tenants struct {
	Store       TenantStore
	Invitations *Invitations

	mu       sync.Mutex
	standing map[uuid.UUID]standing
}

type standing struct {
	suspended bool
	at        time.Time
}

const (
	standingLife  = time.Second // how long a node goes by what it has read
	standingBound = 10_000
)

// Create makes a tenant and invites its owner, who may be made a platform
// administrator by that: which only an operator at the machine may ask for.
func (s *Tenants) Create(ctx context.Context, name, owner string, platform bool) (Tenant, Invited, error) {
	name, err := tenantName(name)
	if err != nil {
		return Tenant{}, Invited{}, err
	}
	if err := control.RefuseToken("owner_email", owner); err != nil {
		return Tenant{}, Invited{}, err
	}
	if owner, err = email(owner); err != nil {
		return Tenant{}, Invited{}, control.Invalidf("owner_email", "must be an e-mail address, as name@example.com")
	}
	t := Tenant{ID: control.NewID(), Name: name, Revision: 1, CreatedAt: time.Now().UTC()}
	ctx = control.WithTenant(ctx, t.ID) // the actor stays who asks
	if err := s.Store.InsertTenant(ctx, t, User{}); err != nil {
		return t, Invited{}, fmt.Errorf("create tenant: %w", err)
	}
	invited, err := s.Invitations.make(ctx, owner, control.RoleOwner, platform)
	return t, invited, err
}

// Rename changes the name of the tenant of ctx.
func (s *Tenants) Rename(ctx context.Context, name string, revision int) (Tenant, error) {
	name, err := tenantName(name)
	if err != nil {
		return Tenant{}, err
	}
	return s.Store.RenameTenant(ctx, name, revision)
}

// Suspend keeps all principals of a tenant out, or lets them in again. It holds
// on all nodes within a second.
func (s *Tenants) Suspend(ctx context.Context, tenant uuid.UUID, suspended bool) (Tenant, error) {
	t, err := s.Store.SuspendTenant(control.WithTenant(ctx, tenant), suspended)
	s.mu.Lock()
	delete(s.standing, tenant)
	s.mu.Unlock()
	return t, err
}

// Standing returns control.ErrSuspended for a tenant that is.
func (s *Tenants) Standing(ctx context.Context, tenant uuid.UUID) error {
	now := time.Now()
	s.mu.Lock()
	v, ok := s.standing[tenant]
	s.mu.Unlock()
	if !ok || now.Sub(v.at) > standingLife {
		t, err := s.Store.Tenant(control.WithTenant(ctx, tenant))
		if err != nil {
			return control.NotFoundIs(err, control.ErrCredentials)
		}
		v = standing{!t.SuspendedAt.IsZero(), now}
		s.mu.Lock()
		if s.standing == nil || len(s.standing) >= standingBound {
			s.standing = map[uuid.UUID]standing{}
		}
		s.standing[tenant] = v
		s.mu.Unlock()
	}
	if v.suspended {
		return control.ErrSuspended
	}
	return nil
}

func tenantName(s string) (string, error) {
	if s = strings.TrimSpace(s); s == "" || len(s) > 200 {
		return "", control.Invalidf("name", "must be 1 to 200 bytes")
	}
	return s, plain("name", s)
}
