package ingress_test

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"parley/control/ingress"
)

func prefixes(t testing.TB, list ...string) []netip.Prefix {
	t.Helper()
	got, err := ingress.ParsePrefixes(list)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestClient(t *testing.T) {
	const v6 = "2001:db8::7"
	tests := []struct {
		name, peer string
		hops       int
		header     string
		lines      []string // "Name: value"
		want       string
		secure     bool
		proxied    bool
	}{
		{"direct", "192.0.2.9:5", 1, "", nil, "192.0.2.9", false, false},
		{"stranger-forges", "192.0.2.9:5", 1, "", []string{"X-Forwarded-For: 10.0.0.1", "X-Forwarded-Proto: https"}, "192.0.2.9", false, false},
		{"proxy-names", "10.0.0.2:5", 1, "", []string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https"}, "192.0.2.1", true, true},
		{"client-prepends", "10.0.0.2:5", 1, "", []string{"X-Forwarded-For: 203.0.113.9, 192.0.2.1"}, "192.0.2.1", false, true},
		{"client-prepends-a-line", "10.0.0.2:5", 1, "", []string{"X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 192.0.2.1"}, "192.0.2.1", false, true},
		{"client-names-a-proxy", "10.0.0.2:5", 1, "", []string{"X-Forwarded-For: 203.0.113.9, 10.0.0.3"}, "10.0.0.3", false, true},
		{"two-hops", "10.0.0.2:5", 2, "", []string{"X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.0.0.3"}, "192.0.2.1", false, true},
		{"two-hops-one-there", "10.0.0.2:5", 2, "", []string{"X-Forwarded-For: 203.0.113.9, 192.0.2.1"}, "192.0.2.1", false, true},
		{"five-hops-stop-at-a-stranger", "10.0.0.2:5", 5, "", []string{"X-Forwarded-For: 203.0.113.9, 192.0.2.1, 10.0.0.3"}, "192.0.2.1", false, true},
		{"six", "10.0.0.2:5", 1, "", []string{"X-Forwarded-For: " + v6}, v6, false, true},
		{"six-with-port", "10.0.0.2:5", 1, "", []string{"X-Forwarded-For: [" + v6 + "]:443"}, v6, false, true},
		{"four-with-port", "10.0.0.2:5", 1, "", []string{"X-Forwarded-For: 192.0.2.1:55"}, "192.0.2.1", false, true},
		{"four-in-six", "[::ffff:10.0.0.2]:5", 1, "", []string{"X-Forwarded-For: ::ffff:192.0.2.1"}, "192.0.2.1", false, true},
		{"malformed", "10.0.0.2:5", 1, "", []string{"X-Forwarded-For: 192.0.2.1, evil"}, "10.0.0.2", false, false},
		{"empty", "10.0.0.2:5", 1, "", []string{"X-Forwarded-For: "}, "10.0.0.2", false, false},
		{"probe", "10.0.0.2:5", 1, "", nil, "10.0.0.2", false, false},
		{"other-header-is-not-read", "10.0.0.2:5", 1, "", []string{"Forwarded: for=203.0.113.9"}, "10.0.0.2", false, false},
		{"rfc", "10.0.0.2:5", 1, ingress.Forwarded, []string{`Forwarded: for=203.0.113.9, For="[2001:db8::7]:80";Proto=https;by=10.0.0.2`}, v6, true, true},
		{"rfc-comma-in-quotes", "10.0.0.2:5", 1, ingress.Forwarded, []string{`Forwarded: for=192.0.2.1;host="a,b"`}, "192.0.2.1", false, true},
		{"rfc-ignores-x", "10.0.0.2:5", 1, ingress.Forwarded, []string{"X-Forwarded-For: 203.0.113.9"}, "10.0.0.2", false, false},
		{"rfc-hidden", "10.0.0.2:5", 1, ingress.Forwarded, []string{"Forwarded: for=unknown"}, "10.0.0.2", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := ingress.Proxies{Trusted: prefixes(t, "10.0.0.0/8"), Hops: tt.hops, Header: tt.header}
			r := &http.Request{RemoteAddr: tt.peer, Host: "gw.example", Header: http.Header{}}
			for _, l := range tt.lines {
				k, v, _ := strings.Cut(l, ": ")
				r.Header.Add(k, v)
			}
			got, err := p.Client(r)
			if got.Addr.String() != tt.want || got.Secure != tt.secure || got.Proxied != tt.proxied || err != nil {
				t.Errorf("%+v, %v, want %s, secure %v, proxied %v", got, err, tt.want, tt.secure, tt.proxied)
			}
			p.Require = true
			if _, err := p.Client(r); errors.Is(err, ingress.ErrNotProxied) == tt.proxied {
				t.Errorf("where proxies are required: %v", err)
			}
		})
	}
	r := &http.Request{RemoteAddr: "192.0.2.9:5", TLS: &tls.ConnectionState{}, Header: http.Header{"X-Forwarded-Proto": {"http"}}}
	if c, _ := (ingress.Proxies{}).Client(r); !c.Secure {
		t.Error("a stranger's header makes our own TLS unsafe")
	}
}

func TestParsePrefixes(t *testing.T) {
	if got := prefixes(t, "10.1.2.3/8", " 192.0.2.1 ", "", "::1"); len(got) != 3 || got[0].String() != "10.0.0.0/8" || got[1].String() != "192.0.2.1/32" {
		t.Errorf("%v", got)
	}
	for _, bad := range []string{"10.0.0", "0.0.0.0/0", "::/0", "all", "10.0.0.0/33"} {
		if _, err := ingress.ParsePrefixes([]string{bad}); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Whatever a client writes into the header, its word ends left of what our own
// proxies appended.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"", "10.0.0.1", "203.0.113.9, 10.0.0.1", `for="a,b`, `for=1.2.3.4;for=5.6.7.8`, ",,,", "\"", "[::1]:1, 192.0.2.9"} {
		f.Add(s, 1, false)
		f.Add(s, 3, true)
	}
	trusted := prefixes(f, "10.0.0.0/8")
	f.Fuzz(func(t *testing.T, forged string, hops int, rfc bool) {
		p, name, own := ingress.Proxies{Trusted: trusted, Hops: hops}, "X-Forwarded-For", "192.0.2.77"
		if rfc {
			p.Header, name, own = ingress.Forwarded, "Forwarded", "for=192.0.2.77"
		}
		r := &http.Request{RemoteAddr: "10.0.0.2:5", Header: http.Header{name: {forged, own}}}
		if c, err := p.Client(r); err != nil || c.Addr.String() != "192.0.2.77" {
			t.Errorf("%q in front: %v, %v", forged, c.Addr, err)
		}
		if rfc && strings.Count(forged, `"`)%2 != 0 {
			return // an open quote swallows what is appended to its line: no address, and no forged one
		}
		r.Header = http.Header{name: {forged + ", " + own}}
		if c, err := p.Client(r); err != nil || c.Addr.String() != "192.0.2.77" {
			t.Errorf("%q on the line: %v, %v", forged, c.Addr, err)
		}
	})
}
