package control

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

// An Origin is of pages that may call a tenant's API from a browser, with a key
// or a token of theirs; never with a cookie.
type Origin struct {
	ID        uuid.UUID
	Origin    string // as browsers send it: "https://shop.example"
	CreatedAt time.Time
}

// OriginStore keeps origins.
type OriginStore interface {
	Origins(ctx context.Context, p Page) ([]Origin, error)
	// InsertOrigin fails with ErrConflict for one that is there, and
	// [*Invalid] beyond [MaxOrigins].
	InsertOrigin(ctx context.Context, o Origin) (Origin, error)
	DeleteOrigin(ctx context.Context, id uuid.UUID) error
	// TenantLists tells whether the tenant of ctx lists an origin.
	TenantLists(ctx context.Context, origin string) (bool, error)
	// AnyTenantLists tells whether whichever tenant does.
	AnyTenantLists(ctx context.Context, origin string) (bool, error)
}

// MaxOrigins is how many a tenant, or a flow, may list.
const MaxOrigins = 50

// Origins decides from where browsers may call.
type Origins struct {
	Store OriginStore
}

// Add lists one more origin of the tenant of ctx.
func (s *Origins) Add(ctx context.Context, origin string) (Origin, error) {
	if !IsOrigin(origin) {
		return Origin{}, Invalidf("origin", "must be an origin such as https://shop.example: scheme, host and port, in lower case, no pattern and not null")
	}
	return s.Store.InsertOrigin(ctx, Origin{ID: NewID(), Origin: origin, CreatedAt: time.Now().UTC()})
}

// Listed tells whether pages of an origin may read what the tenant of ctx
// answers; where ctx has none, whether they may of anybody's: a request that
// nobody's key came with gets a refusal that says nothing of a tenant.
func (s *Origins) Listed(ctx context.Context, origin string) (bool, error) {
	if !IsOrigin(origin) {
		return false, nil
	}
	if _, ok := TenantOf(ctx); ok {
		return s.Store.TenantLists(ctx, origin)
	}
	return s.Store.AnyTenantLists(ctx, origin)
}

// maxOrigin is the longest origin taken: a host name has 253 bytes.
const maxOrigin = 280

// IsOrigin reports whether s is exactly what a browser sends as the origin of a
// page (RFC 6454 §6.2): scheme, host in lower case, and a port unless it is the
// scheme's own. Patterns, "null" and paths are none.
func IsOrigin(s string) bool {
	if len(s) > maxOrigin || s != strings.ToLower(s) {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || s != u.Scheme+"://"+u.Host || u.Hostname() == "" {
		return false
	}
	name := u.Hostname()
	if strings.ContainsFunc(name, func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == ':')
	}) || strings.Contains(name, ":") != strings.HasPrefix(u.Host, "[") {
		return false
	}
	port := u.Port()
	if _, err := strconv.ParseUint(port, 10, 16); port != "" && err != nil || strings.HasSuffix(u.Host, ":") || strings.HasPrefix(port, "0") {
		return false
	}
	return u.Scheme == "https" && port != "443" || u.Scheme == "http" && port != "80"
}
