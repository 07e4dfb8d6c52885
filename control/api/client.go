package api

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"parley/control/identity"
)

// knownName is the cookie of browsers that somebody has signed in with.
const knownName = "parley_known"

// Browser tells who signs in from where; exported for huma, which fills it.
type Browser struct{ client identity.Client }

var _ huma.Resolver = (*Browser)(nil)

// Resolve implements huma.Resolver.
func (b *Browser) Resolve(ctx huma.Context) []error {
	r, _ := humago.Unwrap(ctx)
	b.client = identity.Client{Address: address(r), Agent: r.UserAgent(),
		Session: cookieOf(r, cookieName), Known: cookieOf(r, knownName)}
	return nil
}

func cookieOf(r *http.Request, name string) string {
	c, err := r.Cookie(name)
	if err != nil {
		return ""
	}
	return c.Value
}
