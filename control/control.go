// Package control is the control plane's domain: tenants, people, keys,
// agents, flows, numbers, calls and conversations, and who may do what with
// them. It declares the storage that it needs, a noun at a time; the adapters
// in store/ implement it.
//
// The tenant travels in the context ([WithTenant]). Storage shows the rows of
// that tenant and no other: what belongs to somebody else is [ErrNotFound].
package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Errors that a caller branches on. Storage maps its own errors to these once.
var (
	ErrNotFound    = errors.New("control: not found")
	ErrConflict    = errors.New("control: changed meanwhile")
	ErrForbidden   = errors.New("control: not allowed")
	ErrCredentials = errors.New("control: unknown or expired credentials")
	ErrBusy        = errors.New("control: no capacity left")
	ErrEnded       = errors.New("control: it has ended")
	ErrTaken       = errors.New("control: another process serves the call")
	ErrUnavailable = errors.New("control: storage is not answering")
	ErrSuspended   = errors.New("control: the tenant is suspended")
)

// Invalid says why a value was refused, in words for the person who sent it.
// It never repeats the value.
type Invalid struct {
	Field  string // path of the field, as in the JSON: "settings.stt[0].vendor"
	Reason string // what is wrong and what is right
}

// Error implements error.
func (e *Invalid) Error() string { return e.Field + ": " + e.Reason }

// Invalidf returns an [*Invalid] for a field.
func Invalidf(field, format string, args ...any) error {
	return &Invalid{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// A Refusal is one of the errors above with a reason that whoever asked may
// know, and what to do about it.
type Refusal struct {
	Err    error
	Reason string // a sentence without a value that was sent
}

// Error implements error.
func (r *Refusal) Error() string { return r.Err.Error() + ": " + r.Reason }

// Unwrap returns the error that the reason is of.
func (r *Refusal) Unwrap() error { return r.Err }

// Refuse returns a [*Refusal].
func Refuse(err error, format string, args ...any) error {
	return &Refusal{Err: err, Reason: fmt.Sprintf(format, args...)}
}

type tenantKey struct{}

// WithTenant returns ctx for work on behalf of the tenant.
func WithTenant(ctx context.Context, tenant uuid.UUID) context.Context {
	return context.WithValue(ctx, tenantKey{}, tenant)
}

// TenantOf returns the tenant of ctx; false if it has none.
func TenantOf(ctx context.Context) (uuid.UUID, bool) {
	t, ok := ctx.Value(tenantKey{}).(uuid.UUID)
	return t, ok && t != uuid.Nil
}

// NewID returns a time-ordered id (UUID v7, RFC 9562 §5.7). It fails only if
// the machine has no randomness, which no caller could go on without.
func NewID() uuid.UUID { return uuid.Must(uuid.NewV7()) }

// A Located row is where something stands that must be found before its tenant
// is known.
type Located struct {
	Tenant uuid.UUID
	ID     uuid.UUID
}

// NotFoundIs returns instead where err is ErrNotFound.
func NotFoundIs(err, instead error) error {
	if errors.Is(err, ErrNotFound) {
		return instead
	}
	return err
}

// A Single tells whether something is seen for the first time. It must not
// block for long: without its storage it remembers on this node alone.
type Single interface {
	// Use returns true for the first use of a key within life.
	Use(ctx context.Context, key string, life time.Duration) bool
}
