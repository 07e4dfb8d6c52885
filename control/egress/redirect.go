package egress

import (
	"net/http"
	"net/url"
)

// A hop is one request of a call.
type hop struct {
	method string
	url    *url.URL
	header http.Header
	body   []byte
}

// check refuses what no policy of addresses can make safe.
func (h hop) check() error {
	u := h.url
	if u == nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.Opaque != "" {
		return &Refusal{Reason: ReasonURL, Host: hostPort(u)}
	}
	switch h.method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return nil
	}
	return &Refusal{Reason: ReasonMethod, Host: hostPort(u)}
}

// kept headers go along to another host: none of them can hold a credential.
var kept = []string{"Accept", "Accept-Language", "User-Agent"}

// redirect tells where an answer sends the request (RFC 9110, section 15.4).
// It reports true and nil where the answer may not be followed.
func (h hop) redirect(res *http.Response) (*hop, bool) {
	again := false // with the same method and body
	switch res.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther:
	case http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		again = true
	default:
		return nil, false
	}
	location := res.Header.Get("Location")
	if location == "" {
		return nil, false
	}
	to, err := h.url.Parse(location)
	if err != nil {
		return nil, true
	}
	to.Fragment = ""
	next := hop{method: h.method, url: to, header: h.header.Clone(), body: h.body}
	if !again && h.method != http.MethodGet && h.method != http.MethodHead {
		next.method, next.body = http.MethodGet, nil
		next.header.Del("Content-Type")
		next.header.Del("Content-Encoding")
	}
	if to.Scheme == h.url.Scheme && hostPort(to) == hostPort(h.url) {
		return &next, true
	}
	if len(next.body) > 0 {
		return nil, true
	}
	next.header = http.Header{}
	for _, k := range kept {
		if v := h.header.Values(k); len(v) > 0 {
			next.header[k] = v
		}
	}
	return &next, true
}
