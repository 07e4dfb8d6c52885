package ingress

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxURL is the longest request target taken, in bytes. The longest of ours, a
// media socket's, has some 200.
const MaxURL = 8 << 10

// Methods are all that any route of ours may have.
func Methods() []string {
	return []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
}

// once are headers that decide something: two of them would be read one way
// here and another way by a proxy.
var once = []string{
	"Authorization", "X-Api-Key", "Content-Type", "Content-Encoding", "Origin", "X-Csrf-Token", "Idempotency-Key",
	"X-Twilio-Signature", "Telnyx-Signature-Ed25519", "Telnyx-Timestamp", "Parley-Resume", "X-Http-Method-Override",
}

// Check holds the head of a request to what is well-formed; nil if it is. It
// looks at form alone: what the values say is for the parsers, and text that
// looks like an attack on somebody else's parser is text.
//
// Lengths that contradict each other are refused by net/http, or, where
// Transfer-Encoding overrides Content-Length, made harmless by [Unframed].
func Check(r *http.Request) *Refusal {
	switch {
	case !slices.Contains(Methods(), r.Method):
		return &Refusal{"method", http.StatusMethodNotAllowed, "wrong_method", "no address here takes this method"}
	case len(r.RequestURI) > MaxURL || len(r.URL.Path) > MaxURL || len(r.URL.RawQuery) > MaxURL:
		return &Refusal{"url-length", http.StatusRequestURITooLong, "too_long", "the address is too long; send long values in the body"}
	case !hostForm(r.Host):
		return &Refusal{"host", http.StatusBadRequest, "malformed", "the host that is asked for is malformed"}
	}
	if rule := pathRule(r.URL); rule != "" {
		return &Refusal{rule, http.StatusBadRequest, "malformed", "the path is malformed; write it plainly, without dot segments, backslashes or control characters"}
	}
	if !queryForm(r.URL.RawQuery) {
		return &Refusal{"query", http.StatusBadRequest, "malformed", "the query is malformed; percent-encode its values as UTF-8 without NUL"}
	}
	for _, name := range once {
		if len(r.Header[name]) > 1 {
			return &Refusal{"header-twice", http.StatusBadRequest, "malformed", "a header that may come once came twice"}
		}
	}
	return nil
}

// Unframed reports whether the length of a request was not said beforehand.
// Whoever answers it closes the connection after (RFC 9112 §6.1): what hides
// behind such a body is then never read as another request.
func Unframed(r *http.Request) bool { return r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 }

// maxHost is a name's 253 bytes and a port.
const maxHost = 260

// hostForm allows a name or address with or without port; none at all for the
// probes that speak HTTP/1.0.
func hostForm(host string) bool {
	return len(host) <= maxHost && !strings.ContainsAny(host, " ,/\\@?#%\"<>'")
}

// decodings is how often a path is decoded to look beneath: once is ours, twice
// what a proxy in front may have done already.
const decodings = 3

// pathRule names what is wrong with a path; "" if nothing is.
func pathRule(u *url.URL) string {
	raw := u.EscapedPath()
	if plainPath(raw) {
		return ""
	}
	if u.Opaque != "" || !utf8.ValidString(u.Path) {
		return "path-encoding"
	}
	for range decodings {
		for i := range len(raw) {
			if c := raw[i]; c < ' ' || c == 0x7f || c == '\\' {
				return "path-control"
			}
		}
		for segment := range strings.SplitSeq(raw, "/") {
			segment, _, _ = strings.Cut(segment, ";") // "..;x" is ".." to some
			if segment == "." || segment == ".." {
				return "path-traversal"
			}
		}
		next, err := url.PathUnescape(raw)
		if err != nil || next == raw {
			return ""
		}
		raw = next
	}
	return ""
}

// plainPath is the quick look: nothing encoded, no dot at the head of a segment.
func plainPath(p string) bool {
	if p == "" || p[0] != '/' {
		return false
	}
	for i := range len(p) {
		switch c := p[i]; {
		case c <= ' ' || c >= 0x7f || c == '%' || c == '\\' || c == ';':
			return false
		case c == '.' && p[i-1] == '/':
			return false
		}
	}
	return true
}

// queryForm wants escapes that are whole, UTF-8 and no NUL: what storage cannot
// hold is refused here once and not by each handler.
func queryForm(q string) bool {
	if !strings.ContainsAny(q, "%\x00") {
		return utf8.ValidString(q)
	}
	text, err := url.QueryUnescape(q)
	return err == nil && utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}
