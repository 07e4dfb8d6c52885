package signaling

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// overrides asks Twilio to retry our webhooks on another connection: 1 s to
// connect, five retries, on connection faults and 5xx (15 s in all).
// https://www.twilio.com/docs/usage/webhooks/webhooks-connection-overrides
const overrides = "#ct=1000&rc=5&rp=ct,5xx"

// signature computes X-Twilio-Signature: base64(HMAC-SHA1(token, address +
// each form key and value, keys sorted)). Like Twilio's own libraries it takes
// a key's values sorted and once each.
// https://www.twilio.com/docs/usage/security#validating-requests
func signature(token, address string, form url.Values) []byte {
	m := hmac.New(sha1.New, []byte(token))
	m.Write([]byte(address))
	keys := make([]string, 0, len(form))
	for k := range form {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		values := slices.Clone(form[k])
		slices.Sort(values)
		for _, v := range slices.Compact(values) {
			m.Write([]byte(k))
			m.Write([]byte(v))
		}
	}
	return m.Sum(nil)
}

// TwilioSignature returns the X-Twilio-Signature of a request to address with
// a form (nil for GET, JSON and the websocket upgrade), as Twilio would send it.
func TwilioSignature(token, address string, form url.Values) string {
	return base64.StdEncoding.EncodeToString(signature(token, address, form))
}

// signed reports whether header signs a request to uri (path and query as they
// came) at base, our public address, under one of the tokens. Twilio is of two
// minds about default ports, and whether it signs the fragment of an address is
// not written anywhere, so all forms are tried; the time taken tells nothing of
// the signature.
func signed(tokens []string, base, uri string, form url.Values, header string) bool {
	got, err := base64.StdEncoding.DecodeString(header)
	if err != nil || len(got) != sha1.Size || !strings.HasPrefix(uri, "/") {
		return false
	}
	ok := false
	for _, b := range portForms(base) {
		for _, tail := range [...]string{"", overrides} {
			for _, token := range tokens {
				if token != "" && hmac.Equal(got, signature(token, b+uri+tail, form)) {
					ok = true
				}
			}
		}
	}
	return ok
}

// portForms returns base with its port, written out, and without.
func portForms(base string) []string {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return nil
	}
	host, port := u.Hostname(), u.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port == "" {
		port = "80"
		if u.Scheme == "https" || u.Scheme == "wss" {
			port = "443"
		}
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	return []string{u.Scheme + "://" + host + path, u.Scheme + "://" + host + ":" + port + path}
}

// bodySigned reports whether body is the one that the signed query names
// (parameter bodySHA256, for JSON).
func bodySigned(query url.Values, body []byte) bool {
	want, err := hex.DecodeString(query.Get("bodySHA256"))
	sum := sha256.Sum256(body)
	return err == nil && hmac.Equal(want, sum[:])
}

// fromThisMachine reports whether a request surely came from a program on this
// machine: a loopback peer asking for a loopback host, neither through a proxy
// nor from a web page.
func fromThisMachine(r *http.Request) bool {
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !loopback(peer) {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if !loopback(strings.Trim(host, "[]")) {
		return false
	}
	for name := range r.Header {
		switch {
		case strings.HasPrefix(name, "X-Forwarded-"), strings.HasPrefix(name, "Cf-"),
			strings.HasPrefix(name, "Sec-Fetch-"):
			return false
		}
		switch name {
		case "Forwarded", "Via", "X-Real-Ip", "True-Client-Ip", "X-Client-Ip", "Origin":
			return false
		}
	}
	return true
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
