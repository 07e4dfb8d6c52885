package flowtest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"parley/agent/effect"
)

// internal stands for the configured internal API, whose URLs begin with "/".
const internal = "http://internal.invalid"

// maxRedirects is how many redirects a stand-in follows.
const maxRedirects = 5

// network stands in for servers and secrets; all else of a call (retries,
// breakers, kept answers) is what every host has, by the virtual clock. It
// implements [effect.HTTP] and [effect.Secrets].
type network struct {
	servers  []Server
	secrets  map[string]string
	now      *time.Time
	next     map[int]int // responses given, by server
	requests []request
}

type request struct {
	method, url string
	headers     map[string]string // by lower-case name
	body        string
}

var errNobody = errors.New("nobody answers there")

// performer does a flow's effects on the stand-ins.
func (n *network) performer() *effect.Performer {
	base, _ := url.Parse(internal) // a constant
	memory := &effect.Memory{}
	return &effect.Performer{HTTP: n, Secrets: n, Circuits: memory, Answers: memory, Internal: base,
		Jitter: func() float64 { return 1 }, // pauses are as long as they say
		Now:    func() time.Time { return *n.now },
		Sleep: func(_ context.Context, d time.Duration) error {
			*n.now = n.now.Add(d)
			return nil
		}}
}

// Secret implements [effect.Secrets]: a case's secrets may go everywhere.
func (n *network) Secret(_ context.Context, key string, _ *url.URL) (effect.Secret, error) {
	s, ok := n.secrets[key]
	if !ok {
		return "", effect.ErrNoSecret
	}
	return effect.Secret(s), nil
}

// Send implements [effect.HTTP].
func (n *network) Send(_ context.Context, r effect.Request) (effect.Response, error) {
	for range maxRedirects + 1 {
		res, err := n.once(r)
		location := res.Header.Get("Location")
		if err != nil || res.Status < 301 || res.Status > 308 || location == "" {
			return res, err
		}
		to, err := r.URL.Parse(location)
		if err != nil {
			return res, fmt.Errorf("%w: bad redirect", effect.ErrRefused)
		}
		if res.Status < 307 && r.Method != http.MethodHead {
			r.Method, r.Body = http.MethodGet, nil
		}
		if to.Scheme != r.URL.Scheme || to.Host != r.URL.Host { // nothing that may hold a secret goes along
			if len(r.Body) > 0 {
				return res, fmt.Errorf("%w: redirect of a body", effect.ErrRefused)
			}
			r.Header = http.Header{}
		}
		r.URL = to
	}
	return effect.Response{}, fmt.Errorf("%w: too many redirects", effect.ErrRefused)
}

// once asks the server that stands for an address.
func (n *network) once(r effect.Request) (effect.Response, error) {
	q := request{method: r.Method, url: strings.TrimPrefix(r.URL.String(), internal), headers: map[string]string{}, body: string(r.Body)}
	for k := range r.Header {
		q.headers[strings.ToLower(k)] = r.Header.Get(k)
	}
	n.requests = append(n.requests, q)
	for i, s := range n.servers {
		if s.URL != "*" && !sameAddress(s.URL, q.url) || s.Method != "" && !strings.EqualFold(s.Method, q.method) || len(s.Responses) == 0 {
			continue
		}
		res := s.Responses[min(n.next[i], len(s.Responses)-1)]
		n.next[i]++
		return n.answer(res, r.Timeout)
	}
	return effect.Response{}, errNobody
}

func (n *network) answer(res Response, timeout time.Duration) (effect.Response, error) {
	delay := time.Duration(res.DelayMS) * time.Millisecond
	if res.Timeout || delay >= timeout {
		*n.now = n.now.Add(timeout)
		return effect.Response{}, context.DeadlineExceeded
	}
	*n.now = n.now.Add(delay)
	if res.Refuse {
		return effect.Response{}, errNobody
	}
	out := effect.Response{Status: res.Status, Header: http.Header{}, Body: []byte(res.Text)}
	if out.Status == 0 {
		out.Status = http.StatusOK
	}
	out.Header.Set("Content-Type", "text/plain")
	if res.JSON != nil {
		out.Body = res.JSON
		out.Header.Set("Content-Type", "application/json")
	}
	for k, v := range res.Headers {
		out.Header.Set(k, v)
	}
	return out, nil
}

// sameAddress compares without the query where the pattern has none.
func sameAddress(pattern, address string) bool {
	if !strings.Contains(pattern, "?") {
		address, _, _ = strings.Cut(address, "?")
	}
	return pattern == address
}
