package control

import (
	"context"
	"slices"

	"github.com/google/uuid"
)

// A Permission is one thing that somebody may do.
type Permission string

// The permissions. Keys' scopes are these words.
const (
	AgentsRead    Permission = "agents.read"
	AgentsWrite   Permission = "agents.write"
	Chat          Permission = "chat"          // hold chats for others: any published flow, any user
	CallsRead     Permission = "calls.read"    // records, transcripts
	CallsListen   Permission = "calls.listen"  // recordings
	CallsControl  Permission = "calls.control" // hang up, transfer
	CallsStart    Permission = "calls.start"   // open a call, mint call tokens
	ContentRead   Permission = "content.read"
	ContentWrite  Permission = "content.write"
	EventsRead    Permission = "events.read" // follow what happens
	FlowsRead     Permission = "flows.read"
	FlowsWrite    Permission = "flows.write"
	KeysManage    Permission = "keys.manage"
	NumbersRead   Permission = "numbers.read"
	NumbersWrite  Permission = "numbers.write"
	SessionsRead  Permission = "sessions.read"  // conversations with their state and history
	SessionsWrite Permission = "sessions.write" // end and delete them
	WebhooksRead  Permission = "webhooks.read"
	WebhooksWrite Permission = "webhooks.write" // have events sent elsewhere
	AuditRead     Permission = "audit.read"     // who did what
	Anyone        Permission = "anyone"         // public routes
	SignedIn      Permission = "signed_in"
)

// Scopes lists what a key may be given.
func Scopes() []Permission {
	return []Permission{AgentsRead, AgentsWrite, CallsRead, CallsListen, CallsControl, CallsStart,
		Chat, ContentRead, ContentWrite, EventsRead, FlowsRead, FlowsWrite, KeysManage, NumbersRead, NumbersWrite, SessionsRead, SessionsWrite,
		WebhooksRead, WebhooksWrite, AuditRead}
}

// A Role is a person's place in a tenant.
type Role string

// The roles.
const (
	RoleOwner  Role = "owner"
	RoleAdmin  Role = "admin"
	RoleEditor Role = "editor"
	RoleAgent  Role = "agent"
	RoleViewer Role = "viewer"
)

// permissions of a role.
func (r Role) permissions() []Permission {
	viewer := []Permission{AgentsRead, CallsRead, ContentRead, EventsRead, FlowsRead, NumbersRead, SessionsRead, WebhooksRead}
	switch r {
	case RoleOwner, RoleAdmin:
		return Scopes()
	case RoleEditor:
		return append(viewer, AgentsWrite, ContentWrite, FlowsWrite, CallsListen, CallsControl, CallsStart, Chat, SessionsWrite)
	case RoleAgent:
		return append(viewer, CallsListen, CallsControl, CallsStart, Chat)
	case RoleViewer:
		return viewer
	}
	return nil
}

// Kinds of principals.
const (
	PrincipalUser      = "user"       // a browser session
	PrincipalKey       = "key"        // an API key
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
	Scopes []Permission // kinds key and call_token
	Agent  uuid.UUID    // kind call_token: the only agent it reaches
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
	}
	granted := p.Scopes
	if p.Kind == PrincipalUser {
		granted = p.Role.permissions()
	}
	if !slices.Contains(granted, perm) {
		return ErrForbidden
	}
	return nil
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
