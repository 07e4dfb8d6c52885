package egress

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
)

type hostsKey struct{}

// WithHosts returns a context whose requests, redirects included, go to these
// hosts alone, and of them only where they could go without: "api.example.com",
// "*.example.com" for all below it, either with ":port". Others are refused for
// [ReasonHost]. No hosts: none are refused for that.
func WithHosts(ctx context.Context, hosts []string) context.Context {
	return context.WithValue(ctx, hostsKey{}, hosts)
}

// listed refuses a host that the context does not list.
func listed(ctx context.Context, target string) error {
	hosts, _ := ctx.Value(hostsKey{}).([]string)
	if len(hosts) > 0 && !Listed(hosts, target) {
		return &Refusal{Reason: ReasonHost, Host: target}
	}
	return nil
}

// Listed tells whether one of hosts, as [WithHosts] has them, is target,
// "name:port".
func Listed(hosts []string, target string) bool {
	name, port, err := net.SplitHostPort(target)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(hosts, func(h string) bool {
		if host, p, err := net.SplitHostPort(h); err == nil {
			if p != port {
				return false
			}
			h = host
		}
		h = canonical(strings.Trim(h, "[]"))
		if below, ok := strings.CutPrefix(h, "*."); ok {
			return strings.HasSuffix(name, "."+below)
		}
		return h == name
	})
}

// A Guard lets requests of a trusted part of the program pass to some hosts
// alone: a setting or a redirect that names another must not take its
// credentials there. It checks no addresses, as the operator has named the hosts.
type Guard struct {
	Next  http.RoundTripper
	Hosts []string // as WithHosts has them
	// MaxResponse bounds a body, in bytes; reading beyond it fails. 0: nothing does.
	MaxResponse int64
	// Refused is told of what is not sent, before RoundTrip returns.
	Refused func(ctx context.Context, r *Refusal)
}

// RoundTrip implements [http.RoundTripper].
func (g *Guard) RoundTrip(r *http.Request) (*http.Response, error) {
	if target := hostPort(r.URL); !Listed(g.Hosts, target) {
		refused := &Refusal{Reason: ReasonHost, Host: target}
		if g.Refused != nil {
			g.Refused(r.Context(), refused)
		}
		if r.Body != nil {
			_ = r.Body.Close() // as a RoundTripper must
		}
		return nil, refused
	}
	res, err := g.Next.RoundTrip(r)
	if err == nil && g.MaxResponse > 0 && res.StatusCode != http.StatusSwitchingProtocols {
		res.Body = http.MaxBytesReader(nil, res.Body, g.MaxResponse)
	}
	return res, err
}

// CloseIdleConnections is what http.Client calls of its transport.
func (g *Guard) CloseIdleConnections() {
	if c, ok := g.Next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}
