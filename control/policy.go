package control

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
)

// A Permission is one thing that somebody may do. Keys' and tokens' scopes are
// these words.
type Permission string

// The permissions.
const (
	AgentsRead    Permission = "agents.read"
	AgentsWrite   Permission = "agents.write"
	AnalyticsRead Permission = "analytics.read" // figures of calls and flows; their cost takes billing.read
	AuditRead     Permission = "audit.read"     // who did what
	BillingWrite  Permission = "billing.write"  // add prices
	BillingRead   Permission = "billing.read"
	CallsRead     Permission = "calls.read"     // records, transcripts
	CallsListen   Permission = "calls.listen"   // recordings
	CallsControl  Permission = "calls.control"  // hang up, transfer
	CallsStart    Permission = "calls.start"    // open a call, mint call tokens, place calls
	CallsAnyHour  Permission = "calls.any_hour" // call people in their quiet hours
	CallsDelete   Permission = "calls.delete"   // and restore
	Chat          Permission = "chat"           // hold chats for others: any published flow, any user
	ContentRead   Permission = "content.read"
	ContentWrite  Permission = "content.write"
	EventsRead    Permission = "events.read" // follow what happens
	FlowsRead     Permission = "flows.read"
	FlowsWrite    Permission = "flows.write"
	FlowsPublish  Permission = "flows.publish" // publish, roll back
	KeysManage    Permission = "keys.manage"
	NumbersRead   Permission = "numbers.read"
	NumbersWrite  Permission = "numbers.write"
	RecordsManage Permission = "records.manage" // legal holds, erasures, proofs of deletion
	SecretsRead   Permission = "secrets.read"   // which there are, never their values
	SecretsManage Permission = "secrets.manage" // put, rotate, delete
	SessionsRead  Permission = "sessions.read"  // conversations with their state and history
	SessionsWrite Permission = "sessions.write" // end and delete them
	TenantRead    Permission = "tenant.read"    // the tenant's own settings
	TenantManage  Permission = "tenant.manage"  // change them: origins, ways out, sign-in
	TokensCheck   Permission = "tokens.check"   // introspect others' tokens
	TokensMint    Permission = "tokens.mint"    // temporary tokens
	UsersRead     Permission = "users.read"
	UsersManage   Permission = "users.manage" // invite, change roles, remove
	WebhooksRead  Permission = "webhooks.read"
	WebhooksWrite Permission = "webhooks.write" // have events sent elsewhere

	// Not scopes: nobody can be given them one by one.
	Anyone   Permission = "anyone"    // public routes
	SignedIn Permission = "signed_in" // every principal of a tenant
	Platform Permission = "platform"  // platform administrators: tenants
)

// A Role is a person's place in a tenant.
type Role string

// The roles.
const (
	RoleOwner   Role = "owner"
	RoleAdmin   Role = "admin"
	RoleEditor  Role = "editor"
	RoleAgent   Role = "agent" // takes calls
	RoleViewer  Role = "viewer"
	RoleBilling Role = "billing"
)

// Roles lists all, the most able first.
func Roles() []Role {
	return []Role{RoleOwner, RoleAdmin, RoleEditor, RoleAgent, RoleViewer, RoleBilling}
}

// A rule says which roles have a permission.
type rule struct {
	permission Permission
	roles      []Role
}

// policy is the one table of who may do what. What is not in it nobody may.
var policy = rules()

func rules() []rule {
	var (
		admins  = []Role{RoleOwner, RoleAdmin}
		editors = append(slices.Clone(admins), RoleEditor)
		agents  = append(slices.Clone(editors), RoleAgent)
		viewers = append(slices.Clone(agents), RoleViewer)
		all     = append(slices.Clone(viewers), RoleBilling)
		money   = append(slices.Clone(admins), RoleBilling)
	)
	return []rule{
		{AgentsRead, viewers},
		{AgentsWrite, editors},
		{AnalyticsRead, all},
		{AuditRead, admins},
		{BillingRead, money},
		{BillingWrite, money},
		{CallsRead, viewers},
		{CallsListen, agents},
		{CallsControl, agents},
		{CallsStart, agents},
		{CallsAnyHour, admins},
		{CallsDelete, editors},
		{Chat, agents},
		{ContentRead, viewers},
		{ContentWrite, editors},
		{EventsRead, viewers},
		{FlowsRead, viewers},
		{FlowsWrite, editors},
		{FlowsPublish, editors},
		{KeysManage, admins},
		{NumbersRead, viewers},
		{NumbersWrite, admins},
		{RecordsManage, admins},
		{SecretsRead, editors},
		{SecretsManage, admins},
		{SessionsRead, viewers},
		{SessionsWrite, editors},
		{TenantRead, all},
		{TenantManage, admins},
		{TokensCheck, admins},
		{TokensMint, admins},
		{UsersRead, all},
		{UsersManage, admins},
		{WebhooksRead, viewers},
		{WebhooksWrite, admins},
	}
}

// Scopes lists what a key or a token may be given.
func Scopes() []Permission {
	var list []Permission
	for _, r := range policy {
		list = append(list, r.permission)
	}
	return list
}

// Known tells whether anybody can have the permission.
func (p Permission) Known() bool {
	return p == Anyone || p == SignedIn || p == Platform || slices.Contains(Scopes(), p)
}

// May tells whether the role has the permission.
func (r Role) May(perm Permission) bool {
	for _, rule := range policy {
		if rule.permission == perm {
			return slices.Contains(rule.roles, r)
		}
	}
	return false
}

// Administers tells whether a permission is for those alone who look after the
// tenant.
func (perm Permission) Administers() bool {
	return RoleAdmin.May(perm) && !RoleEditor.May(perm) && !RoleBilling.May(perm)
}

// Kinds of principals.
const (
	PrincipalUser      = "user"       // a person: a browser's session, or an access token
	PrincipalKey       = "key"        // an API key
	PrincipalTemporary = "temporary"  // a temporary token
	PrincipalService   = "service"    // another of our services, or one whose issuer is trusted
	PrincipalCallToken = "call_token" // opens one call to one agent
)

// A Principal is who makes a request. Every authenticator makes one; the zero
// value is nobody.
type Principal struct {
	Kind   string
	ID     uuid.UUID // of the session, key or token
	Tenant uuid.UUID
	User   uuid.UUID    // kind user
	Role   Role         // kind user
	Scopes []Permission // all kinds but user; of a person's access token, what it is narrowed to, if any
	Agent  uuid.UUID    // kind call_token: the only agent it reaches
	// Platform is a person who looks after tenants. It opens no tenant's data.
	Platform bool
	// FactorAt is when a person last gave a second factor; zero: not in this session.
	FactorAt time.Time
	// Expires is when what let them in ends, at the latest; zero: open.
	Expires time.Time
	// NoFactor is a person who is known to have no second factor to give.
	NoFactor bool
	// Bound is a person signed in by the tenant's own issuer: for this tenant
	// alone, whose word binds no other. It changes nothing of the person's own.
	Bound bool
	// Actor is on whose behalf a service acts, as it says and its issuer vouches.
	Actor string
}

// An Object is what a permission is asked for. Zero fields do not matter.
type Object struct {
	Tenant uuid.UUID
	Agent  uuid.UUID
}

// Allow is the one policy: it returns nil if p may do what perm says with the
// object, ErrNotFound if the object is another tenant's, else ErrForbidden, or
// ErrCredentials for nobody.
func Allow(p Principal, perm Permission, o Object) error {
	switch {
	case perm == Anyone:
		return nil
	case p.Kind == "" || p.Tenant == uuid.Nil:
		return ErrCredentials
	case o.Tenant != uuid.Nil && o.Tenant != p.Tenant:
		return ErrNotFound
	case p.Kind == PrincipalCallToken && p.Agent != o.Agent:
		return ErrForbidden
	case perm == SignedIn:
		return nil
	case perm == Platform && (!p.Platform || p.Kind != PrincipalUser):
		return ErrForbidden
	case perm == Platform:
		return nil
	case p.Kind == PrincipalUser && (!p.Role.May(perm) || len(p.Scopes) > 0 && !slices.Contains(p.Scopes, perm)):
		return ErrForbidden
	case p.Kind != PrincipalUser && !slices.Contains(p.Scopes, perm):
		return ErrForbidden
	}
	return nil
}

// MayGive tells whether p may give a role to others, or change who has it: one
// who could do all that the role does. Only owners make owners.
func (p Principal) MayGive(r Role) bool {
	if !slices.Contains(Roles(), r) || r == RoleOwner && (p.Kind != PrincipalUser || p.Role != RoleOwner) {
		return false
	}
	if Allow(p, UsersManage, Object{}) != nil {
		return false
	}
	for _, rule := range policy {
		if slices.Contains(rule.roles, r) && Allow(p, rule.permission, Object{}) != nil {
			return false
		}
	}
	return true
}

// Held lists the scopes that p has, in the policy's order: those of its role, as
// far as its token is not narrowed, or its own.
func Held(p Principal) []Permission {
	var held []Permission
	for _, perm := range Scopes() {
		if Allow(p, perm, Object{Agent: p.Agent}) == nil {
			held = append(held, perm)
		}
	}
	return held
}

type principalKey struct{}

// WithPrincipal returns ctx for work that p asked for, in p's tenant.
func WithPrincipal(ctx context.Context, p Principal) context.Context {
	return WithTenant(context.WithValue(ctx, principalKey{}, p), p.Tenant)
}

// PrincipalOf returns who asked for the work of ctx; the zero Principal if
// nobody did.
func PrincipalOf(ctx context.Context) Principal {
	p, _ := ctx.Value(principalKey{}).(Principal)
	return p
}
