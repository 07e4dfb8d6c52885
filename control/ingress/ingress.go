// Package ingress is what every request meets before its handler: who the
// client is behind proxies, whether it is blocked, whether the request is
// well-formed, how often it may come, and what it gives away about its sender.
//
// Nothing in this package knows a tenant's data or a route's meaning; the
// registry of routes asks it. Everything it remembers is bounded.
package ingress

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
)

// A Refusal is a request that goes no further, with the rule that says so.
// Detail is for whoever sent it: what is wrong and what to do, without a value
// of theirs.
type Refusal struct {
	Rule   string // stable, for logs and metrics: "path-traversal"
	Status int
	Code   string // stable, for the client's program
	Detail string
}

// Network is what one client is taken to hold: of IPv4 the address, of IPv6 the
// /64, all of whose addresses belong to one subscriber (RFC 6177).
func Network(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 32
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // of no address
	}
	return p
}

// Name is a network as limits and lists have it: "192.0.2.1", "2001:db8::/64".
func Name(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// Pseudonym is a client's name in logs: the same for the same client under the
// same key, and of no use without it (16 hex digits of HMAC-SHA-256).
func Pseudonym(key []byte, client string) string {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(client))
	return hex.EncodeToString(m.Sum(nil)[:8])
}
