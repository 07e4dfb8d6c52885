package effect

import (
	"context"
	"errors"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"parley/agent/flow"
)

// IdempotencyKey is the header that carries a call's ID, so that a server can
// tell a repeat from a second wish (draft-ietf-httpapi-idempotency-key-header).
const IdempotencyKey = "Idempotency-Key"

// notFlows are headers that the connection owns, not the flow.
var notFlows = map[string]bool{
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Connection": true, "Keep-Alive": true, "Te": true,
	"Trailer": true, "Upgrade": true, "Proxy-Authorization": true, "Proxy-Connection": true, "Expect": true,
}

// request joins the parts of a call. Secrets come in here and nowhere else.
func (p *Performer) request(ctx context.Context, c flow.Call) (Request, used, *fault) {
	refuse := func(text string) (Request, used, *fault) {
		return Request{}, nil, &fault{outcome: "error", text: text}
	}
	target, internal, f := p.target(c)
	if f != nil {
		return Request{}, nil, f
	}
	secrets := used{}
	secret := func(key string) (string, error) {
		if p.Secrets == nil {
			return "", ErrNoSecret
		}
		s, err := p.Secrets.Secret(ctx, key, target)
		if err != nil {
			return "", keyError{key, err}
		}
		secrets[string(s)] = true
		return string(s), nil
	}
	r := Request{Method: c.Method, URL: target, Timeout: c.Timeout, Header: http.Header{
		"User-Agent": {"parley"}, IdempotencyKey: {c.ID}}}
	if err := query(target, c.Query, secret); err != nil {
		return refuse(secretFault(err))
	}
	for _, h := range c.Headers {
		name := textproto.CanonicalMIMEHeaderKey(h.Name)
		if !isToken(name) || notFlows[name] {
			return refuse("a header cannot be sent: " + safeName(h.Name))
		}
		if internal && name == "Authorization" {
			continue
		}
		v, err := flow.Join(h.Value, flow.InHeader, secret)
		if err != nil {
			return refuse(secretFault(err))
		}
		r.Header.Set(name, clearControls(v))
	}
	if internal && p.Bearer != nil {
		token, err := p.Bearer(target)
		if err != nil {
			return refuse("the internal API's token cannot be made")
		}
		secrets[string(token)] = true
		r.Header.Set("Authorization", "Bearer "+string(token))
	}
	place, kind := flow.InText, "text/plain; charset=utf-8"
	if c.JSON {
		place, kind = flow.InJSON, "application/json"
	}
	body, err := flow.Join(c.Body, place, secret)
	if err != nil {
		return refuse(secretFault(err))
	}
	if r.Body = []byte(body); len(r.Body) > 0 && r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", kind)
	}
	return r, secrets, nil
}

// target is the address of a call; one that begins with "/" is of the internal API.
func (p *Performer) target(c flow.Call) (u *url.URL, internal bool, f *fault) {
	bad := func(text string) (*url.URL, bool, *fault) {
		return nil, false, &fault{outcome: "error", text: text}
	}
	address, err := flow.Join(c.URL, flow.InText, func(string) (string, error) { return "", ErrNoSecret })
	if err != nil || strings.HasPrefix(address, "//") || strings.ContainsAny(address, "\\\r\n") {
		return bad("the address is refused")
	}
	if internal = strings.HasPrefix(address, "/"); internal {
		if p.Internal == nil {
			return bad("no internal API is configured")
		}
		base := *p.Internal
		base.RawQuery, base.Fragment = "", ""
		address = strings.TrimRight(base.String(), "/") + address
	}
	u, err = url.Parse(address)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return bad("the address is refused")
	}
	u.Fragment = ""
	return u, internal, nil
}

func query(u *url.URL, fields []flow.Field, secret func(string) (string, error)) error {
	if len(fields) == 0 {
		return nil
	}
	more := url.Values{}
	for _, f := range fields {
		v, err := flow.Join(f.Value, flow.InText, secret)
		if err != nil {
			return err
		}
		more.Set(f.Name, v)
	}
	if u.RawQuery != "" {
		u.RawQuery += "&"
	}
	u.RawQuery += more.Encode()
	return nil
}

// keyError names the secret that could not be had.
type keyError struct {
	key string
	err error
}

func (e keyError) Error() string { return "secret " + e.key + ": " + e.err.Error() }
func (e keyError) Unwrap() error { return e.err }

// secretFault tells of the key alone: a store's error may say more than a flow's
// trace should.
func secretFault(err error) string {
	var k keyError
	switch {
	case !errors.As(err, &k):
		return "there are no secrets here"
	case errors.Is(err, ErrNoSecret):
		return "no secret " + safeName(k.key) + " for this host"
	}
	return "the secret " + safeName(k.key) + " cannot be had"
}

// safeName shows a name of the document, shortened.
func safeName(s string) string {
	s = clearControls(s)
	return s[:min(len(s), 64)]
}

// clearControls takes out what no header may hold (RFC 9110, section 5.5).
func clearControls(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, s)
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}
