package ingress

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// Headers by which a proxy may name the client.
const (
	XForwardedFor = "x-forwarded-for"
	Forwarded     = "forwarded" // RFC 7239
)

// Proxies says whose word about the client counts. The zero value trusts
// nobody: the peer is the client, and forwarding headers are never read.
type Proxies struct {
	// Trusted are the addresses of our own proxies.
	Trusted []netip.Prefix
	// Hops is how many of them stand one behind another; default 1. No more
	// entries than this are believed, counted from the right.
	Hops int
	// Header that they write; default [XForwardedFor]. Only this one is read:
	// the other would come from the client, untouched.
	Header string
	// Require refuses what did not come through them.
	Require bool
}

// A Client is who a request comes from.
type Client struct {
	Addr    netip.Addr // without zone; invalid for a peer without an address
	Secure  bool       // by TLS, to us or, as a trusted proxy says, to it
	Host    string     // that the client asked for
	Proxied bool       // a trusted proxy named it
}

// ErrNotProxied says that a request came past the proxies that it must come
// through, or that they did not say from whom.
var ErrNotProxied = errors.New("ingress: the request did not come through a trusted proxy")

// ParsePrefixes reads CIDRs and single addresses.
func ParsePrefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		s = strings.TrimSpace(s)
		if s == "" {
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return nil, fmt.Errorf("%q is neither an address nor a CIDR such as 10.0.0.0/8", s)
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if p.Bits() == 0 {
			return nil, fmt.Errorf("%q would trust everybody", s)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// Trusts reports whether a is one of our proxies.
func (p Proxies) Trusts(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, t := range p.Trusted {
		if t.Contains(a) {
			return true
		}
	}
	return false
}

// Client returns who r comes from. Its error is [ErrNotProxied], with the
// client as far as it is known.
func (p Proxies) Client(r *http.Request) (Client, error) {
	c := Client{Secure: r.TLS != nil, Host: r.Host}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		c.Addr = at.Addr().Unmap().WithZone("")
	}
	if len(p.Trusted) > 0 && p.Trusts(c.Addr) {
		p.believe(r, &c)
	}
	if p.Require && !c.Proxied {
		return c, ErrNotProxied
	}
	return c, nil
}

// believe reads what our peer, a proxy of ours, says of the client. An entry
// that is no address ends the walk: the last proxy known stands for the client,
// who gains nothing by it.
func (p Proxies) believe(r *http.Request, c *Client) {
	byRFC := strings.EqualFold(p.Header, Forwarded)
	name := "X-Forwarded-For"
	if byRFC {
		name = "Forwarded"
	}
	last := lastValues{lines: r.Header[name]}
	for hop := range max(p.Hops, 1) {
		text, ok := last.next()
		if !ok {
			break
		}
		var proto, host string
		if byRFC {
			text, proto, host = forwardedElement(text)
		}
		a, ok := forwardedAddr(text)
		if !ok {
			break
		}
		if hop == 0 && byRFC {
			c.Secure, c.Host = proto == "https", orElse(host, c.Host)
		}
		c.Addr, c.Proxied = a, true
		if !p.Trusts(a) {
			break
		}
	}
	if byRFC || !c.Proxied {
		return
	}
	if v, ok := (&lastValues{lines: r.Header["X-Forwarded-Proto"]}).next(); ok {
		c.Secure = strings.EqualFold(v, "https")
	}
	if v, ok := (&lastValues{lines: r.Header["X-Forwarded-Host"]}).next(); ok {
		c.Host = v
	}
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// lastValues gives the values of a header from the last to the first: each
// proxy appends, to the line or as another.
type lastValues struct {
	lines []string
	rest  string
	in    bool // rest is of a line begun
}

func (l *lastValues) next() (string, bool) {
	for {
		if !l.in {
			if len(l.lines) == 0 {
				return "", false
			}
			l.rest, l.in = l.lines[len(l.lines)-1], true
			l.lines = l.lines[:len(l.lines)-1]
		}
		v := l.rest
		if i := lastComma(l.rest); i >= 0 {
			v, l.rest = l.rest[i+1:], l.rest[:i]
		} else {
			l.in = false
		}
		if v = strings.TrimSpace(v); v != "" {
			return v, true
		}
	}
}

// lastComma finds the last comma outside quotes.
func lastComma(s string) int {
	quoted := false
	for i := len(s) - 1; i >= 0; i-- {
		switch s[i] {
		case '"':
			quoted = !quoted
		case ',':
			if !quoted {
				return i
			}
		}
	}
	return -1
}

// forwardedElement reads one element of Forwarded: for=192.0.2.1;proto=https.
func forwardedElement(s string) (from, proto, host string) {
	for pair := range strings.SplitSeq(s, ";") {
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			continue
		}
		v = strings.Trim(strings.TrimSpace(v), `"`)
		switch strings.ToLower(strings.TrimSpace(k)) {
		case "for":
			from = v
		case "proto":
			proto = strings.ToLower(v)
		case "host":
			host = v
		}
	}
	return from, proto, host
}

// forwardedAddr reads an address with or without its port; obfuscated names and
// "unknown" (RFC 7239 §6) are none.
func forwardedAddr(s string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		at, err := netip.ParseAddrPort(s)
		if err != nil {
			return netip.Addr{}, false
		}
		a = at.Addr()
	}
	a = a.Unmap().WithZone("")
	return a, a.IsValid() && !a.IsUnspecified()
}
