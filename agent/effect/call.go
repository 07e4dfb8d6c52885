package effect

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"parley/agent/flow"
)

// longestPause is the longest wait for another try where retry.max does not
// say; a server that wants more (Retry-After) is not asked again.
const longestPause = time.Minute

// A fault is why a call failed, in words that hold no secret.
type fault struct {
	outcome string // "error" or "timeout"
	text    string
	status  int
	retry   bool          // another try may help
	outage  bool          // the server is at fault: counts for the breaker
	after   time.Duration // the server asks to wait
}

// call performs c: tries, then a kept answer, else the last fault.
func (p *Performer) call(ctx context.Context, c flow.Call) (r flow.Result) {
	var spent flow.Spent
	defer func() { r.Spent = spent }()
	data, f := p.tries(ctx, c, &spent)
	key := ""
	if c.CacheTTL > 0 && p.Answers != nil {
		key = p.answerKey(c)
	}
	if f == nil {
		if key != "" {
			p.Answers.Keep(ctx, key, p.now(), c.CacheTTL, data)
		}
		return flow.Result{Outcome: "success", Data: data}
	}
	if key != "" && ctx.Err() == nil && f.outcome != flow.OverBudget {
		if kept, ok := p.Answers.Kept(ctx, key, p.now()); ok {
			return flow.Result{Outcome: flow.Cached, Data: kept, Error: f.text}
		}
	}
	return flow.Result{Outcome: f.outcome, Error: f.text}
}

// answerKey names a request without its secrets: an answer goes only to whom
// it was given, for the same question.
func (p *Performer) answerKey(c flow.Call) string {
	b, _ := json.Marshal([]any{p.Tenant, c.Method, c.URL, c.Query, c.Headers, c.Body}) // plain structs
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// tries sends a call as often as it says, and adds to what was spent.
func (p *Performer) tries(ctx context.Context, c flow.Call, spent *flow.Spent) (json.RawMessage, *fault) {
	if p.HTTP == nil {
		return nil, &fault{outcome: "error", text: "this host makes no calls"}
	}
	req, secrets, f := p.request(ctx, c)
	if f != nil {
		return nil, f
	}
	ctx = context.WithValue(ctx, secretsKey{}, secrets)
	delay := c.Retry.Delay
	for n := 1; ; n++ {
		probe, f := p.enter(ctx, c)
		if f != nil {
			return nil, f
		}
		data, f := p.once(ctx, c, req, n, spent)
		open := p.leave(ctx, c, f)
		if f == nil {
			return secrets.scrub(data), nil
		}
		if n >= c.Retry.Attempts || probe || open || !f.retry || !retriable(c.Retry.On, f) {
			return nil, f
		}
		longest := longestPause
		if c.Retry.Max > 0 {
			longest = c.Retry.Max
		}
		if f.after > longest || p.sleep(ctx, max(p.jittered(min(delay, longest)), f.after)) != nil {
			return nil, f
		}
		if c.Retry.Backoff > 1 {
			delay = time.Duration(min(float64(delay)*c.Retry.Backoff, float64(longest)))
		}
	}
}

// jittered shortens a pause, so that those who failed together do not come back
// together.
func (p *Performer) jittered(d time.Duration) time.Duration {
	jitter := rand.Float64
	if p.Jitter != nil {
		jitter = p.Jitter
	}
	return d/2 + time.Duration(jitter()*float64(d-d/2))
}

func (p *Performer) circuit(c flow.Call) string { return p.Tenant + " " + c.Route }

// enter asks the breaker, if the call has one.
func (p *Performer) enter(ctx context.Context, c flow.Call) (probe bool, f *fault) {
	if c.Breaker == nil || p.Circuits == nil {
		return false, nil
	}
	probe, err := p.Circuits.Enter(ctx, p.circuit(c), p.now(), *c.Breaker)
	if errors.Is(err, ErrOpen) {
		p.log().Debug("call held back: the circuit is open", "route", c.Route)
		return false, &fault{outcome: "error", text: "the circuit is open"}
	}
	return probe, nil // breakers that do not answer let all through
}

func (p *Performer) leave(ctx context.Context, c flow.Call, f *fault) (open bool) {
	if c.Breaker == nil || p.Circuits == nil {
		return false
	}
	return p.Circuits.Leave(context.WithoutCancel(ctx), p.circuit(c), p.now(), *c.Breaker, f == nil || !f.outage)
}

// once sends a request.
func (p *Performer) once(ctx context.Context, c flow.Call, req Request, n int, spent *flow.Spent) (json.RawMessage, *fault) {
	begun := p.now()
	r := req
	r.Header = req.Header.Clone()
	res, err := p.HTTP.Send(ctx, r)
	took := p.now().Sub(begun)
	log := p.log().With("route", c.Route, "host", req.URL.Host, "try", n, "took", took)
	if !errors.Is(err, ErrRefused) {
		spent.Calls, spent.Time = spent.Calls+1, spent.Time+took
		spent.Bytes += int64(len(req.Body) + len(res.Body))
	}
	var over *Overspent
	switch {
	case err == nil && res.Status >= 200 && res.Status <= 299:
		log.Debug("call answered", "status", res.Status)
		return answer(res), nil
	case err == nil:
		log.Info("call failed", "status", res.Status)
		return nil, &fault{outcome: "error", text: "status " + strconv.Itoa(res.Status), status: res.Status, retry: true,
			outage: res.Status >= 500 || res.Status == http.StatusTooManyRequests, after: retryAfter(res.Header, p.now())}
	case errors.As(err, &over):
		log.Warn("call refused: a budget is used up", "budget", over.Budget)
		return nil, &fault{outcome: flow.OverBudget, text: over.Budget}
	case errors.Is(err, ErrRefused):
		log.Warn("call refused")
		return nil, &fault{outcome: "error", text: "the call is refused"}
	case ctx.Err() != nil:
		return nil, &fault{outcome: "error", text: "cancelled"}
	case errors.Is(err, context.DeadlineExceeded):
		log.Info("call failed: timeout")
		return nil, &fault{outcome: "timeout", text: "timeout", retry: true, outage: true}
	}
	// The network's own words may hold the address, and with it a secret.
	log.Info("call failed: no answer")
	return nil, &fault{outcome: "error", text: "no answer", retry: true, outage: true}
}

// retriable tells whether a fault is one that the call tries again on: "429",
// any status, "5xx", any such class, or "timeout", which is every try without
// an answer.
func retriable(on []string, f *fault) bool {
	if len(on) == 0 {
		on = []string{"429", "5xx", "timeout"}
	}
	for _, o := range on {
		switch o = strings.ToLower(strings.TrimSpace(o)); {
		case f.status == 0:
			if o == "timeout" {
				return true
			}
		case o == strconv.Itoa(f.status), len(o) == 3 && strings.HasSuffix(o, "xx") && int(o[0]-'0') == f.status/100:
			return true
		}
	}
	return false
}

// retryAfter reads the header of RFC 9110, section 10.2.3: seconds or a date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	v := strings.TrimSpace(h.Get("Retry-After"))
	if v == "" {
		return 0
	}
	if s, err := strconv.Atoi(v); err == nil {
		return time.Duration(min(max(s, 0), 24*3600)) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// answer is a body as a result has it: JSON as it is, else a JSON string, or
// null where there is none.
func answer(res Response) json.RawMessage {
	if len(res.Body) == 0 {
		return json.RawMessage("null")
	}
	kind, _, _ := strings.Cut(strings.ToLower(res.Header.Get("Content-Type")), ";")
	kind = strings.TrimSpace(kind)
	if (kind == "" || strings.HasSuffix(kind, "json")) && json.Valid(res.Body) {
		return json.RawMessage(res.Body)
	}
	b, _ := json.Marshal(string(res.Body)) // text; invalid UTF-8 is replaced
	return b
}
