package flow

import (
	"fmt"
	"strconv"
	"time"
)

// Lint of calls. A caller bears a few seconds of silence; beyond maxDeadAir the
// flow should say something first.
const (
	maxDeadAir   = 8 * time.Second
	tooShort     = 100 * time.Millisecond // a timeout in milliseconds that was meant in seconds
	tooLong      = 5 * time.Minute        // one in seconds that was meant in milliseconds
	tooLongReset = time.Hour              // likewise of a breaker
)

// calls looks at the calls of a node: units that look wrong, how long a caller
// may hear nothing, and what they leave to defaults.
func (k *checker) calls(n *node) {
	for _, c := range callsOf(n) {
		k.call(c.spec, c.ptr)
		if d := c.spec.silence(n); d > maxDeadAir {
			k.add(SeverityWarning, c.ptr, "dead-air", fmt.Sprintf("a caller may hear nothing for %v", d), "add \"say_while\", or shorten timeout and retry")
		}
	}
}

// A callAt is a call and where it stands.
type callAt struct {
	spec *callSpec
	ptr  string
}

func callsOf(n *node) []callAt {
	switch b := n.body.(type) {
	case *callSpec:
		return []callAt{{b, n.at}}
	case *actionBody:
		var out []callAt
		for i, a := range b.actions {
			if a.call != nil {
				out = append(out, callAt{a.call, n.at + "/actions/" + strconv.Itoa(i)})
			}
		}
		return out
	}
	return nil
}

func (k *checker) call(s *callSpec, ptr string) {
	switch {
	case s.timeout < tooShort:
		k.add(SeverityWarning, ptr, "unit", fmt.Sprintf("the call is given up after %v", s.timeout), "the timeout of a webhook is in milliseconds")
	case s.timeout > tooLong:
		k.add(SeverityWarning, ptr, "unit", fmt.Sprintf("the call may take %v", s.timeout), "the timeout of an api_call's config is in seconds")
	}
	if s.breaker != nil && s.breaker.Timeout > tooLongReset {
		k.add(SeverityWarning, ptr+"/circuit_breaker/timeout", "unit", fmt.Sprintf("the circuit stays open for %v", s.breaker.Timeout), "the timeout of a circuit breaker is in seconds")
	}
	if s.byDefault {
		k.add(SeverityInfo, ptr, "no-timeout", "the call may take 5 s, as nothing else is said", "set \"timeout\", here or in defaults.http")
	}
	if s.whole != nil {
		k.add(SeverityInfo, ptr+"/response_variable", "large-state", "the whole answer is kept, and a state holds 1 MiB", "map what is needed by response_mapping")
	}
}

// silence is how long a caller hears nothing if every try of a call fails as
// late as it can. A call with words of its own is silent until they are said.
func (s *callSpec) silence(n *node) time.Duration {
	worst := s.worst()
	if len(s.sayWhile) > 0 {
		worst = min(worst, n.voice.Filler)
	}
	return worst
}

// worst is how long a call takes if every try fails as late as it can.
func (s *callSpec) worst() time.Duration {
	total, delay := time.Duration(0), s.retry.Delay
	for i := range s.retry.Attempts {
		if total += s.timeout; i == s.retry.Attempts-1 {
			break
		}
		if s.retry.Max > 0 {
			delay = min(delay, s.retry.Max)
		}
		total += delay
		if s.retry.Backoff > 1 {
			delay = time.Duration(min(float64(delay)*s.retry.Backoff, float64(time.Hour)))
		}
	}
	return total
}

// quiet finds rows of nodes that together leave a caller in silence for too
// long, though none of their calls does.
func (k *checker) quiet(g *graph, links map[string][]string) {
	type row struct {
		length time.Duration
		nodes  int
	}
	longest, busy, led := map[string]row{}, map[string]bool{}, map[string]bool{}
	var from func(id string) row
	from = func(id string) row {
		n := g.nodes[id]
		if n == nil || busy[id] || !silent(n) {
			return row{}
		}
		if r, ok := longest[id]; ok {
			return r
		}
		busy[id] = true
		var after row
		for _, to := range links[id] {
			if m := g.nodes[to]; m != nil && silent(m) {
				led[to] = true
			}
			if r := from(to); r.length > after.length {
				after = r
			}
		}
		busy[id] = false
		own := row{after.length, after.nodes + 1}
		for _, c := range callsOf(n) {
			own.length += c.spec.silence(n)
		}
		longest[id] = own
		return own
	}
	for _, n := range g.order {
		from(n.id)
	}
	for _, n := range g.order {
		r := longest[n.id]
		if led[n.id] || r.length <= maxDeadAir || k.reported("dead-air", n.ptr) {
			continue
		}
		k.add(SeverityWarning, n.ptr, "dead-air", fmt.Sprintf("a caller may hear nothing for %v, over %d nodes in a row", r.length, r.nodes),
			"say something between the calls, add \"say_while\", or shorten timeout and retry")
	}
}

// silent tells whether a caller may pass a node without hearing a word.
func silent(n *node) bool {
	switch n.typ {
	case "webhook", "action", "condition", "split":
		return true
	}
	return false
}
