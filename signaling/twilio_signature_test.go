package signaling

import (
	"net/http"
	"net/url"
	"testing"
)

const testToken = "tok-test-1"

func TestSignedKnownAnswers(t *testing.T) {
	form := url.Values{"CallSid": {"CA1"}, "From": {"+15550100"}, "To": {"+15550101"}}
	const jsonURI = "/tw/json?bodySHA256=5041bf1f713df204784353e82f6a4a535931cb64f1f4b4a5aeaffcb720918b22"
	tests := []struct {
		name, base, uri string
		form            url.Values
		header          string
		want            bool
	}{
		{"form", "https://gw.example", "/tw/voice?a=1", form, "y3zmI5EDbP/jsnXFUrDVfAVMG08=", true},
		{"form-with-port", "https://gw.example", "/tw/voice?a=1", form, "hccxMKQlO6bg434TQwYDlgHXHlA=", true},
		{"port-in-our-setting", "https://gw.example:443", "/tw/voice?a=1", form, "y3zmI5EDbP/jsnXFUrDVfAVMG08=", true},
		{"upgrade", "wss://gw.example", "/tw/v1/abc123", nil, "pcCcrODPkORUAGgqYz0lNsNbaX4=", true},
		{"upgrade-with-port", "wss://gw.example", "/tw/v1/abc123", nil, "1pQo9etBWi+VE+ttYrbv/eMQjxM=", true},
		{"json", "https://gw.example", jsonURI, nil, "4dXTJuJYvDSOjiAmY5kPlvk4xbs=", true},
		{"other-query", "https://gw.example", "/tw/voice?a=2", form, "y3zmI5EDbP/jsnXFUrDVfAVMG08=", false},
		{"other-host", "https://gw2.example", "/tw/voice?a=1", form, "y3zmI5EDbP/jsnXFUrDVfAVMG08=", false},
		{"other-form", "https://gw.example", "/tw/voice?a=1", url.Values{"CallSid": {"CA2"}}, "y3zmI5EDbP/jsnXFUrDVfAVMG08=", false},
		{"upgrade-as-https", "https://gw.example", "/tw/v1/abc123", nil, "pcCcrODPkORUAGgqYz0lNsNbaX4=", false},
		{"not-base64", "https://gw.example", "/tw/voice?a=1", form, "…", false},
		{"empty", "https://gw.example", "/tw/voice?a=1", form, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := signed([]string{testToken}, tt.base, tt.uri, tt.form, tt.header); got != tt.want {
				t.Errorf("signed = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestSignedWhileRotating(t *testing.T) {
	form := url.Values{"CallSid": {"CA1"}}
	old := TwilioSignature("old", "https://gw.example/x", form)
	if !signed([]string{"new", "old"}, "https://gw.example", "/x", form, old) {
		t.Error("the old token is refused while rotating")
	}
	if signed([]string{"new"}, "https://gw.example", "/x", form, old) {
		t.Error("the old token is taken after rotating")
	}
	empty := TwilioSignature("", "https://gw.example/x", form)
	if signed([]string{""}, "https://gw.example", "/x", form, empty) {
		t.Error("an empty token signs")
	}
}

// A repeated key counts with all its values: sorted, and once each.
func TestSignatureOfRepeatedKeys(t *testing.T) {
	got := TwilioSignature("t", "https://gw.example/x", url.Values{"A": {"2", "1", "2"}, "B": {"3"}})
	if want := TwilioSignature("t", "https://gw.example/xA1A2B3", nil); got != want {
		t.Errorf("signature = %s, want that over A1A2B3, %s", got, want)
	}
}

func TestPortForms(t *testing.T) {
	tests := []struct{ base, without, with string }{
		{"https://gw.example", "https://gw.example", "https://gw.example:443"},
		{"wss://gw.example/", "wss://gw.example", "wss://gw.example:443"},
		{"http://gw.example/in", "http://gw.example/in", "http://gw.example:80/in"},
		{"https://gw.example:8443", "https://gw.example", "https://gw.example:8443"},
		{"https://[2001:db8::1]", "https://[2001:db8::1]", "https://[2001:db8::1]:443"},
	}
	for _, tt := range tests {
		got := portForms(tt.base)
		if len(got) != 2 || got[0] != tt.without || got[1] != tt.with {
			t.Errorf("portForms(%q) = %q, want %q and %q", tt.base, got, tt.without, tt.with)
		}
	}
}

func TestBodySigned(t *testing.T) {
	q := url.Values{"bodySHA256": {"5041bf1f713df204784353e82f6a4a535931cb64f1f4b4a5aeaffcb720918b22"}}
	if !bodySigned(q, []byte(`{"x":1}`)) {
		t.Error("the body that was signed is refused")
	}
	if bodySigned(q, []byte(`{"x":2}`)) || bodySigned(nil, nil) {
		t.Error("another body is taken")
	}
}

func TestFromThisMachine(t *testing.T) {
	tests := []struct {
		name, peer, host, header string
		want                     bool
	}{
		{"loopback", "127.0.0.1:5", "127.0.0.1:8080", "", true},
		{"localhost", "127.0.0.1:5", "localhost:8080", "", true},
		{"six", "[::1]:5", "[::1]:8080", "", true},
		{"other-peer", "192.0.2.1:5", "localhost:8080", "", false},
		{"rebound-name", "127.0.0.1:5", "evil.example", "", false},
		{"proxied", "127.0.0.1:5", "localhost", "X-Forwarded-For", false},
		{"forwarded", "127.0.0.1:5", "localhost", "Forwarded", false},
		{"from-a-page", "127.0.0.1:5", "localhost", "Origin", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &http.Request{RemoteAddr: tt.peer, Host: tt.host, Header: http.Header{}}
			if tt.header != "" {
				r.Header.Set(tt.header, "x")
			}
			if got := fromThisMachine(r); got != tt.want {
				t.Errorf("fromThisMachine = %v, want %v", got, tt.want)
			}
		})
	}
}

func FuzzSigned(f *testing.F) {
	f.Add("https://gw.example", "/tw/voice?a=1", "CallSid=CA1", "y3zmI5EDbP/jsnXFUrDVfAVMG08=")
	f.Add("wss://[::1]:0", "x", "%zz", "====")
	f.Fuzz(func(t *testing.T, base, uri, form, header string) {
		values, _ := url.ParseQuery(form)
		if signed([]string{"a token nobody knows"}, base, uri, values, header) {
			t.Errorf("a made-up signature is good for %q %q", base, uri)
		}
	})
}
