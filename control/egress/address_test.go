package egress

import (
	"net/netip"
	"testing"
)

func TestPublic(t *testing.T) {
	tests := []struct {
		addr string
		want bool
	}{
		{"8.8.8.8", true}, {"1.1.1.1", true}, {"172.15.255.255", true}, {"172.32.0.1", true}, {"100.63.255.255", true}, {"100.128.0.1", true},
		{"2606:4700:4700::1111", true}, {"64:ff9b::8.8.8.8", true}, {"::ffff:8.8.8.8", true},
		{"0.0.0.0", false}, {"10.1.2.3", false}, {"127.0.0.1", false}, {"127.255.255.254", false}, {"169.254.169.254", false},
		{"172.16.0.1", false}, {"172.31.255.255", false}, {"192.168.1.1", false}, {"100.64.0.1", false}, {"100.100.100.200", false},
		{"192.0.0.192", false}, {"168.63.129.16", false}, {"198.18.0.1", false}, {"224.0.0.1", false}, {"255.255.255.255", false},
		{"::", false}, {"::1", false}, {"::ffff:127.0.0.1", false}, {"::ffff:10.0.0.1", false}, {"::127.0.0.1", false},
		{"fe80::1", false}, {"fe80::1%eth0", false}, {"2606:4700::1%eth0", false}, {"fc00::1", false}, {"fd00:ec2::254", false}, {"fec0::1", false}, {"ff02::1", false},
		{"64:ff9b::10.0.0.1", false}, {"64:ff9b::169.254.169.254", false}, {"64:ff9b:1::8.8.8.8", false},
		{"2002:7f00:1::", false}, {"2001:0:7f00:1::", false}, {"2001:db8::1", false}, {"100::1", false},
	}
	for _, tt := range tests {
		if got := Public(netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("Public(%s) = %v", tt.addr, got)
		}
	}
	if Public(netip.Addr{}) {
		t.Error("no address is public")
	}
}

// FuzzPublic holds that what the standard library knows for inside is never
// public, in whatever form of IPv6 it comes.
func FuzzPublic(f *testing.F) {
	for _, s := range []string{"127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fe80::1%1", "8.8.8.8", "2130706433"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := netip.ParseAddr(s)
		if err != nil || !Public(a) {
			return
		}
		inside := func(a netip.Addr) bool {
			return !a.IsValid() || a.IsLoopback() || a.IsPrivate() || a.IsUnspecified() || a.IsMulticast() ||
				a.IsLinkLocalUnicast() || a.IsInterfaceLocalMulticast() || a.Zone() != "" || !a.IsGlobalUnicast()
		}
		if inside(a) || inside(a.Unmap()) {
			t.Fatalf("%s is public", s)
		}
		if Public(netip.AddrFrom16(a.As16())) != Public(a.Unmap()) {
			t.Fatalf("%s differs from its mapped form", s)
		}
		if b := a.Unmap(); b.Is4() {
			v4 := b.As4()
			in64 := [16]byte{0x00, 0x64, 0xff, 0x9b, 12: v4[0], 13: v4[1], 14: v4[2], 15: v4[3]}
			if !Public(netip.AddrFrom16(in64)) {
				t.Fatalf("%s is public, its NAT64 form is not", s)
			}
		}
	})
}
