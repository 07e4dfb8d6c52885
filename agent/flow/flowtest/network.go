package flowtest

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"parley/agent/flow"
)

// network stands in for servers, with retries, breakers and answers kept for
// when a breaker is open, all by the virtual clock.
type network struct {
	servers  []Server
	secrets  map[string]string
	now      *time.Time
	next     map[int]int // responses given, by server
	breakers map[string]*breaker
	requests []request
}

type breaker struct {
	failures, successes int
	openUntil           time.Time
	open                bool
	cached              json.RawMessage
	cachedUntil         time.Time
}

type request struct {
	method, url string
	headers     map[string]string
	body        string
}

func (n *network) secret(key string) (string, error) {
	s, ok := n.secrets[key]
	if !ok {
		return "", fmt.Errorf("no secret %q", key)
	}
	return s, nil
}

// do performs a call.
func (n *network) do(c flow.Call) flow.Result {
	fail := func(outcome string) flow.Result { return flow.Result{ID: c.ID, Outcome: outcome, Error: outcome} }
	req, err := n.request(c)
	if err != nil {
		return fail("error")
	}
	b := n.breakers[c.Route]
	if b == nil {
		b = &breaker{}
		n.breakers[c.Route] = b
	}
	if c.Breaker != nil && b.open && n.now.Before(b.openUntil) {
		if b.cached != nil && n.now.Before(b.cachedUntil) {
			return flow.Result{ID: c.ID, Outcome: "success", Data: b.cached}
		}
		return fail("error")
	}
	attempts := max(c.Retry.Attempts, 1)
	if b.open { // one probe
		attempts = 1
	}
	delay := c.Retry.Delay
	for i := range attempts {
		data, status, outcome := n.once(req, c.Timeout)
		if outcome == "success" {
			n.succeeded(b, c, data)
			return flow.Result{ID: c.ID, Outcome: "success", Data: data}
		}
		n.failed(b, c)
		if i == attempts-1 || !retries(c.Retry, status, outcome) || c.Breaker != nil && b.open {
			return fail(outcome)
		}
		*n.now = n.now.Add(delay)
		if c.Retry.Backoff > 1 {
			delay = time.Duration(float64(delay) * c.Retry.Backoff)
			if c.Retry.Max > 0 {
				delay = min(delay, c.Retry.Max)
			}
		}
	}
	return fail("error")
}

func (n *network) succeeded(b *breaker, c flow.Call, data json.RawMessage) {
	b.failures = 0
	if b.successes++; b.open && (c.Breaker == nil || b.successes >= c.Breaker.Successes) {
		b.open = false
	}
	if c.CacheTTL > 0 {
		b.cached, b.cachedUntil = data, n.now.Add(c.CacheTTL)
	}
}

func (n *network) failed(b *breaker, c flow.Call) {
	b.successes = 0
	if b.failures++; c.Breaker != nil && (b.open || b.failures >= c.Breaker.Failures) {
		b.open, b.openUntil = true, n.now.Add(c.Breaker.Timeout)
	}
}

// retries tells whether a failure is worth another try.
func retries(r flow.Retry, status int, outcome string) bool {
	on := r.On
	if len(on) == 0 {
		on = []string{"429", "5xx", "timeout"}
	}
	for _, o := range on {
		switch {
		case o == "timeout" && status == 0, o == strconv.Itoa(status):
			return true
		case len(o) == 3 && strings.HasSuffix(o, "xx") && status/100 == int(o[0]-'0'):
			return true
		}
	}
	return false
}

// request joins the parts of a call, secrets included.
func (n *network) request(c flow.Call) (request, error) {
	address, err := flow.Join(c.URL, flow.InText, n.secret)
	if err != nil {
		return request{}, err
	}
	q := url.Values{}
	for _, f := range c.Query {
		v, err := flow.Join(f.Value, flow.InText, n.secret)
		if err != nil {
			return request{}, err
		}
		q.Set(f.Name, v)
	}
	if len(q) > 0 {
		sep := "?"
		if strings.Contains(address, "?") {
			sep = "&"
		}
		address += sep + q.Encode()
	}
	r := request{method: c.Method, url: address, headers: map[string]string{"idempotency-key": c.ID}}
	for _, f := range c.Headers {
		if r.headers[strings.ToLower(f.Name)], err = flow.Join(f.Value, flow.InHeader, n.secret); err != nil {
			return request{}, err
		}
	}
	place := flow.InText
	if c.JSON {
		place = flow.InJSON
	}
	r.body, err = flow.Join(c.Body, place, n.secret)
	return r, err
}

// once sends a request to the server that stands for its address.
func (n *network) once(r request, timeout time.Duration) (json.RawMessage, int, string) {
	n.requests = append(n.requests, r)
	for i, s := range n.servers {
		if s.URL != "*" && !sameAddress(s.URL, r.url) || s.Method != "" && !strings.EqualFold(s.Method, r.method) || len(s.Responses) == 0 {
			continue
		}
		res := s.Responses[min(n.next[i], len(s.Responses)-1)]
		n.next[i]++
		delay := time.Duration(res.DelayMS) * time.Millisecond
		if res.Timeout || delay >= timeout {
			*n.now = n.now.Add(timeout)
			return nil, 0, "timeout"
		}
		*n.now = n.now.Add(delay)
		if res.Refuse {
			return nil, 0, "error"
		}
		status := res.Status
		if status == 0 {
			status = 200
		}
		if status < 200 || status > 299 {
			return nil, status, "error"
		}
		if res.JSON != nil {
			return res.JSON, status, "success"
		}
		b, _ := json.Marshal(res.Text)
		return b, status, "success"
	}
	return nil, 0, "error"
}

// sameAddress compares without the query where the pattern has none.
func sameAddress(pattern, address string) bool {
	if !strings.Contains(pattern, "?") {
		address, _, _ = strings.Cut(address, "?")
	}
	return pattern == address
}
