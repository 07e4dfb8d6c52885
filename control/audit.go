package control

import (
	"context"
	"encoding/json"
	"time"
)

// An AuditEntry says who did what. Entries of a tenant are numbered from 1
// without a gap, and never change.
type AuditEntry struct {
	Seq     int64
	At      time.Time
	Actor   string          // "user:id", "key:id", or "system"
	Action  string          // "flow.publish"
	Object  string          // "flow:id"
	Detail  json.RawMessage // an object; holds no secret
	Request string          // id of the request, as its answer and the log have it; may be empty
}

// An AuditFilter narrows an audit trail; zero fields do not.
type AuditFilter struct {
	Before       int64 // seq; of the page before
	Limit        int   // 1 to 200
	Actor        string
	Action       string // whole, or up to a dot: "flow"
	Object       string
	Since, Until time.Time
}

// Audit keeps what was done. Storage writes the entries of its own changes (of
// flows, of sessions that are deleted or quarantined) in their transactions;
// Note is for what changes no row.
type Audit interface {
	// Note adds an entry of ctx's tenant, actor and request. It sets Seq and At.
	Note(ctx context.Context, e AuditEntry) error
	// AuditTrail returns the newest entries first.
	AuditTrail(ctx context.Context, f AuditFilter) ([]AuditEntry, error)
}

// ActorOf returns who asked for the work of ctx, as audit entries name them;
// "" for the program itself.
func ActorOf(ctx context.Context) string {
	switch p := PrincipalOf(ctx); p.Kind {
	case "":
		return ""
	case PrincipalUser:
		return p.Kind + ":" + p.User.String()
	default:
		return p.Kind + ":" + p.ID.String()
	}
}

type requestKey struct{}

// WithRequest returns ctx for work that a request with this id asked for.
func WithRequest(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, requestKey{}, id)
}

// RequestOf returns the id of the request that asked for the work of ctx; ""
// if none did.
func RequestOf(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}
