package egress

import "net/netip"

// special are ranges that the internet does not route to anybody's server, or
// that lead back inside: RFC 6890 with the IANA registries of special-purpose
// addresses, and cloud providers' own.
var special = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),         // this network
	netip.MustParsePrefix("10.0.0.0/8"),        // private
	netip.MustParsePrefix("100.64.0.0/10"),     // carrier-grade NAT; metadata of some clouds
	netip.MustParsePrefix("127.0.0.0/8"),       // loopback
	netip.MustParsePrefix("168.63.129.16/32"),  // Azure's host
	netip.MustParsePrefix("169.254.0.0/16"),    // link-local; metadata
	netip.MustParsePrefix("172.16.0.0/12"),     // private
	netip.MustParsePrefix("192.0.0.0/24"),      // IETF; metadata of some clouds
	netip.MustParsePrefix("192.0.2.0/24"),      // documentation
	netip.MustParsePrefix("192.88.99.0/24"),    // 6to4 relays
	netip.MustParsePrefix("192.168.0.0/16"),    // private
	netip.MustParsePrefix("198.18.0.0/15"),     // benchmarks
	netip.MustParsePrefix("198.51.100.0/24"),   // documentation
	netip.MustParsePrefix("203.0.113.0/24"),    // documentation
	netip.MustParsePrefix("224.0.0.0/4"),       // multicast
	netip.MustParsePrefix("240.0.0.0/4"),       // reserved, broadcast
	netip.MustParsePrefix("2001::/23"),         // IETF: Teredo, ORCHID, benchmarks
	netip.MustParsePrefix("2001:db8::/32"),     // documentation
	netip.MustParsePrefix("2002::/16"),         // 6to4: any IPv4 address within
	netip.MustParsePrefix("3fff::/20"),         // documentation
	netip.MustParsePrefix("2620:4f:8000::/48"), // AS112
}

var (
	globalUnicast = netip.MustParsePrefix("2000::/3")     // all that IPv6 has assigned to the public
	nat64         = netip.MustParsePrefix("64:ff9b::/96") // an IPv4 address within (RFC 6052)
)

// Public tells whether a is an address on the public internet: not private,
// loopback, link-local, shared, reserved or a form of IPv6 that stands for such
// an IPv4 address. An address with a zone is not public.
func Public(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" {
		return false
	}
	if a = a.Unmap(); a.Is6() {
		if nat64.Contains(a) {
			b := a.As16()
			return Public(netip.AddrFrom4([4]byte(b[12:])))
		}
		if !globalUnicast.Contains(a) {
			return false
		}
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}

// listable tells whether an operator's allowlist may open a for a name: never
// what no server has, nor link-local, where clouds keep credentials.
func listable(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
}
