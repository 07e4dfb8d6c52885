package socket

import (
	"net/url"
	"testing"
)

func TestAddress(t *testing.T) {
	q := url.Values{"b": {"2"}, "a": {"1"}}
	for _, tt := range []struct {
		base, path, want string
	}{
		{"https://x", "/v2/listen", "wss://x/v2/listen?a=1&b=2"},
		{"http://x/", "/v2/listen", "ws://x/v2/listen?a=1&b=2"},
		{"wss://x/v2/listen", "/v2/listen", "wss://x/v2/listen?a=1&b=2"},
		{"https://x/eu", "/v1/speak", "wss://x/eu/v1/speak?a=1&b=2"},
		{"ftp://x", "/v1/speak", ""},
		{"https://", "/v1/speak", ""},
		{"::", "/v1/speak", ""},
	} {
		got, err := address(tt.base, tt.path, q)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("address(%q, %q) = %q, %v; want %q", tt.base, tt.path, got, err, tt.want)
		}
	}
}

func TestPlainHidesKeys(t *testing.T) {
	for in, want := range map[string]string{
		"Invalid credentials: Token sk-canary-4f9d1c77b2e84a6d": "Invalid credentials: Token …",
		"0f5a8c1e-64f1-4d3c-9c0e-1b7a54f0a001":                  "0f5a8c1e-64f1-4d3c-9c0e-1b7a54f0a001",
		"":                                                      "",
	} {
		if got := Plain(in); got != want {
			t.Errorf("Plain(%q) = %q, want %q", in, got, want)
		}
	}
}
