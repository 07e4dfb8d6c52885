package flowtest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"parley/agent/flow"
)

// check compares what happened with what a step expects.
func (r *runner) check(st Step) (want, got string, ok bool) {
	if st.Messages != nil {
		if want, got, ok := r.checkMessages(*st.Messages, st.Match); !ok {
			return want, got, false
		}
	}
	for ref, value := range st.State {
		v, found := r.f.Lookup(r.s, ref)
		if !found || !same(v, value) {
			return fmt.Sprintf("%s = %s", ref, js(value)), fmt.Sprintf("%s = %s", ref, js(v)), false
		}
	}
	for _, ref := range st.Absent {
		if v, found := r.f.Lookup(r.s, ref); found {
			return "no " + ref, fmt.Sprintf("%s = %s", ref, js(v)), false
		}
	}
	if len(st.Node) > 0 {
		node := "null"
		if n := r.s.Session.CurrentNode; n != "" {
			node = js(n)
		}
		if node != string(st.Node) {
			return "at " + string(st.Node), "at " + node, false
		}
	}
	if st.Status != "" && st.Status != r.s.Session.Status {
		return "status " + st.Status, "status " + r.s.Session.Status, false
	}
	return r.checkHTTP(st)
}

func (r *runner) checkHTTP(st Step) (want, got string, ok bool) {
	for _, e := range st.HTTP {
		found := false
		for _, q := range r.net.requests {
			found = found || matches(e, q)
		}
		if !found {
			return "request " + js(e), fmt.Sprintf("%+v", r.net.requests), false
		}
	}
	if c := st.Count; c != nil {
		n := 0
		for _, q := range r.net.requests {
			if c.URL == "*" || sameAddress(c.URL, q.url) {
				n++
			}
		}
		if c.Min != nil && n < *c.Min || c.Max != nil && n > *c.Max {
			return "requests " + js(c), fmt.Sprint(n), false
		}
	}
	for _, s := range st.NoLeak {
		if r.leaks(s) {
			return "no leak", "a secret is in a message, state or event", false
		}
	}
	return "", "", true
}

func matches(e ExpectedRequest, q request) bool {
	if e.Method != "" && !strings.EqualFold(e.Method, q.method) || e.URL != "" && !sameAddress(e.URL, q.url) {
		return false
	}
	for k, v := range e.Headers {
		if q.headers[strings.ToLower(k)] != v {
			return false
		}
	}
	var body any
	if e.JSON != nil || e.Contains != nil {
		if json.Unmarshal([]byte(q.body), &body) != nil {
			return false
		}
	}
	return (e.JSON == nil || same(body, e.JSON)) && (e.Contains == nil || subset(plain(e.Contains), body))
}

func (r *runner) checkMessages(expected []any, how string) (want, got string, ok bool) {
	var texts []string
	shown := make([]any, len(r.messages))
	for i, m := range r.messages {
		texts = append(texts, m.Text)
		shown[i] = plain(m)
	}
	want, got = js(expected), js(shown)
	if how == "text_contains" {
		rest := strings.Join(texts, "\n")
		for _, e := range expected {
			s, _ := e.(string)
			i := strings.Index(rest, s)
			if i < 0 {
				return want, got, false
			}
			rest = rest[i+len(s):]
		}
		return "", "", true
	}
	next := 0
	for _, e := range expected {
		found := false
		for ; next < len(r.messages) && !found; next++ {
			found = fits(e, r.messages[next], shown[next])
			if !found && how != "contains" {
				return want, got, false
			}
		}
		if !found {
			return want, got, false
		}
	}
	return want, got, how == "contains" || next == len(r.messages)
}

// fits compares a message: text in full, any other by a part of it.
func fits(e any, m flow.Message, shown any) bool {
	if s, isText := e.(string); isText {
		return m.Type == "text" && m.Text == s
	}
	return subset(plain(e), shown)
}

func js(v any) string { b, _ := json.Marshal(v); return string(b) }

// plain takes a value through JSON, so that numbers compare by value.
func plain(v any) any {
	var out any
	_ = json.Unmarshal([]byte(js(v)), &out)
	return out
}

func same(a, b any) bool { return reflect.DeepEqual(plain(a), plain(b)) }

func subset(part, whole any) bool {
	m, ok := part.(map[string]any)
	if !ok {
		return reflect.DeepEqual(part, whole)
	}
	w, ok := whole.(map[string]any)
	for k, v := range m {
		if x, has := w[k]; !ok || !has || !subset(v, x) {
			return false
		}
	}
	return ok
}
