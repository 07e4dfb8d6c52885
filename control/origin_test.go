package control

import (
	"net/url"
	"strings"
	"testing"
)

// An origin is taken in the one form in which browsers send it, and in no other:
// whatever is close to one never equals it.
func TestIsOrigin(t *testing.T) {
	for _, good := range []string{"https://shop.example", "http://localhost:3000", "https://shop.example:8443", "http://shop.example:443",
		"https://127.0.0.1", "https://[2001:db8::7]:8443", "https://xn--bcher-kva.example", "https://a_b.example"} {
		if !IsOrigin(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{"", "null", "*", "https://*", "https://*.example", "shop.example", "//shop.example", "https:shop.example", "https://",
		"https://shop.example/", "https://shop.example?", "https://shop.example#", "https://shop.example/a", "https://Shop.example", "HTTPS://shop.example",
		"https://shop.example:443", "http://shop.example:80", "https://shop.example:", "https://shop.example:08443", "https://shop.example:0", "https://shop.example:65536",
		"https://shop.example:x", "https://u@shop.example", "https://u:p@shop.example", "https://@shop.example", "https://:8443", "https://a b.example",
		" https://shop.example", "https://shop.example ", "https://shop.example\n", "https://shop%2eexample", "https://bücher.example", "https://shop.example,https://evil.example",
		"https://shop.example https://evil.example", "ftp://shop.example", "file://", "data:text/html,x", "chrome-extension://abc", "https://[::1", "https://::1", "https://[::1%25eth0]",
		"https://[shop.example]", "https://[]", "https://" + strings.Repeat("a", 300)} {
		if IsOrigin(bad) {
			t.Errorf("%q is taken", bad)
		}
	}
}

// What is taken is its own canonical form: one host, no user, no path.
func FuzzIsOrigin(f *testing.F) {
	for _, s := range []string{"https://shop.example", "http://localhost:3000", "https://[::1]:8443", "null", "*", "https://u:p@shop.example", "https://shop.example:443",
		"https://SHOP.example", "https://shop.example/", "https://shop.example\x00", "https://a,b", "https://[::1%25a]", "https://K.example", "https://shop.example:65536"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !IsOrigin(s) {
			return
		}
		u, err := url.Parse(s)
		if err != nil || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "" || u.Scheme+"://"+u.Host != s {
			t.Fatalf("%q is taken, and is more than an origin: %+v, %v", s, u, err)
		}
		for _, c := range s {
			if c <= ' ' || c > '~' || c >= 'A' && c <= 'Z' || strings.ContainsRune("*,@%\\'\"", c) {
				t.Fatalf("%q is taken with %q in it", s, c)
			}
		}
		for _, near := range []string{strings.ToUpper(s), s + "/", s + ":", s + ":443/", " " + s, s + ".", s + "\x00", strings.Replace(s, "://", "://x@", 1), strings.Replace(s, "://", "://*.", 1)} {
			if near != s+"." && IsOrigin(near) {
				t.Errorf("%q is taken beside %q", near, s)
			}
		}
	})
}
