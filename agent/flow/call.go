package flow

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/ohler55/ojg/jp"
)

// Call is an HTTP request. A host sends it with its ID as Idempotency-Key,
// resolves secrets at the last moment and only for their own hosts, retries
// and breaks the circuit. Its [Result] is "success" with the response's body
// as Data (JSON, or a JSON string), else "error" or "timeout"; the engine
// applies the fallback response itself.
type Call struct {
	effect
	ID     string `json:"id"`
	Node   string `json:"node"`
	Method string `json:"method"`
	// URL is absolute, or begins with "/" for the internal API.
	URL     []Part  `json:"url"`
	Query   []Field `json:"query,omitempty"`
	Headers []Field `json:"headers,omitempty"`
	// Body as parts; a secret within JSON is escaped by [Join].
	Body []Part `json:"body,omitempty"`
	JSON bool   `json:"json,omitempty"` // the body is JSON
	// Route is the method and the URL before substitution: the breaker's key.
	Route    string        `json:"route"`
	Timeout  time.Duration `json:"timeout"`
	Retry    Retry         `json:"retry"`
	Breaker  *Breaker      `json:"breaker,omitempty"`
	CacheTTL time.Duration `json:"cache_ttl,omitempty"`
	Async    bool          `json:"async,omitempty"`
	// SayWhile is spoken while the call runs, once it has lasted for Filler
	// (0: the host's default).
	SayWhile []Message     `json:"say_while,omitempty"`
	Filler   time.Duration `json:"filler,omitempty"`
	AuthType string        `json:"auth_type,omitempty"`
	// Cancel lets a caller who speaks give the call up (cancel_on_barge_in).
	Cancel bool `json:"cancel,omitempty"`
}

// A Part of what is sent: text that stands, or the key of a secret.
type Part struct {
	Text   string `json:"text,omitempty"`
	Secret string `json:"secret,omitempty"`
}

// A Field is a header or a query value.
type Field struct {
	Name  string `json:"name"`
	Value []Part `json:"value"`
}

// Retry tells how often and when a call is tried again.
type Retry struct {
	Attempts int           `json:"attempts"` // in total, at least 1
	Delay    time.Duration `json:"delay,omitempty"`
	Backoff  float64       `json:"backoff,omitempty"` // the delay's factor; 0 for a constant delay
	Max      time.Duration `json:"max,omitempty"`     // longest delay; 0 for none
	On       []string      `json:"on,omitempty"`      // "429", "5xx", "timeout"; empty for these three
}

// Breaker opens after Failures in a row, for Timeout, and closes after Successes.
type Breaker struct {
	Failures  int           `json:"failures"`
	Successes int           `json:"successes"`
	Timeout   time.Duration `json:"timeout"`
}

// Place is where parts are joined, for escaping.
type Place int

// Places of a secret.
const (
	InHeader Place = iota // CR and LF are taken out
	InQuery               // percent-encoded
	InJSON                // escaped as within a JSON string
	InText                // as it is
)

// Join puts parts together; secret returns the value of a key. Its error is
// returned as it is.
func Join(parts []Part, place Place, secret func(key string) (string, error)) (string, error) {
	var b strings.Builder
	for _, p := range parts {
		b.WriteString(p.Text)
		if p.Secret == "" {
			continue
		}
		s, err := secret(p.Secret)
		if err != nil {
			return "", err
		}
		b.WriteString(escapeFor(s, place))
	}
	return b.String(), nil
}

func escapeFor(s string, place Place) string {
	switch place {
	case InHeader:
		return strings.NewReplacer("\r", "", "\n", "").Replace(s)
	case InQuery:
		return url.QueryEscape(s)
	case InJSON:
		b := appendString(nil, s)
		return string(b[1 : len(b)-1])
	}
	return s
}

// callSpec is a compiled webhook or api_call.
type callSpec struct {
	method, url, route string
	target             template
	query, headers     []fieldTemplate
	body               *valueTemplate
	timeout            time.Duration
	byDefault          bool // no timeout is set anywhere
	retry              Retry
	breaker            *Breaker
	cache              time.Duration
	async              bool
	sayWhile           []messageTemplate
	mapping            []mapping
	fallback           any
	whole, failure     *ref
	authType           string
}

type fieldTemplate struct {
	name  string
	value template
}

// mapping takes a value out of a response.
type mapping struct {
	path jp.Expr
	into *ref
}

var dotIndex = regexp.MustCompile(`\.([0-9]+)(\.|\[|$)`)

// jsonPath reads a path of RFC 9535; the leading "$." may be missing, and a
// number after a dot indexes a list.
func jsonPath(s string) (jp.Expr, error) {
	if s = strings.TrimSpace(s); !strings.HasPrefix(s, "$") {
		s = "$." + s
	}
	for dotIndex.MatchString(s) {
		s = dotIndex.ReplaceAllString(s, "[$1]$2")
	}
	return jp.ParseString(s)
}

func (c *compiler) call(m map[string]any, ptr string) *callSpec {
	s := &callSpec{method: strings.ToUpper(str(m["method"])), url: first(m, "url", "endpoint"), authType: str(m["auth_type"]), async: boolean(m["async"])}
	if s.method == "" {
		s.method = "GET"
	}
	if s.url == "" {
		c.problem("error", ptr, "missing-field", "the call has no url", "add \"url\"")
	}
	s.target, s.route = parseTemplate(s.url, c.flow.bare), s.method+" "+s.url
	if s.target.secrets() {
		c.problem("error", ptr+"/url", "secret-in-url", "a secret may not stand in a URL's path", "use a header, the body or query_params")
	}
	s.headers, s.query = c.fields(m["headers"]), c.fields(m["query_params"])
	for _, k := range []string{"body", "payload"} {
		if v, ok := m[k]; ok && v != nil && s.body == nil {
			b := parseValue(v, c.flow.bare)
			s.body = &b
		}
	}
	if s.timeout = c.timeout; s.timeout == 0 {
		s.timeout, s.byDefault = 5*time.Second, true
	}
	if d := millis(m["timeout"]); d > 0 {
		s.timeout, s.byDefault = d, false
	}
	s.retry = readRetry(m["retry"])
	if b, ok := m["circuit_breaker"].(map[string]any); ok {
		s.breaker = readBreaker(b)
	}
	s.cache = seconds(m["cache_ttl"])
	s.fallback = m["fallback_response"]
	if v := m["say_while"]; v != nil {
		s.sayWhile = c.messages(v, ptr+"/say_while")
	}
	return s
}

func (c *compiler) fields(v any) []fieldTemplate {
	m, _ := v.(map[string]any)
	var out []fieldTemplate
	for _, k := range sortedKeys(m) {
		out = append(out, fieldTemplate{k, parseTemplate(text(m[k]), c.flow.bare)})
	}
	return out
}

func seconds(v any) time.Duration {
	n, ok := numeric(v, true)
	f, err := n.Float64()
	if !ok || err != nil || f < 0 || f > 365*24*3600 {
		return 0
	}
	return time.Duration(f * float64(time.Second))
}

func readRetry(v any) Retry {
	m, _ := v.(map[string]any)
	r := Retry{Attempts: 1, Delay: millis(m["delay"]), Max: millis(m["max"]), On: nil}
	if n, ok := integer(m["attempts"]); ok {
		r.Attempts = min(max(n, 1), 10)
	}
	switch b := m["backoff"].(type) {
	case json.Number:
		r.Backoff, _ = b.Float64()
	case string:
		if fold(b) == "exponential" {
			r.Backoff = 2
		}
	case bool:
		if b {
			r.Backoff = 2
		}
	}
	if list, ok := m["on"].([]any); ok {
		for _, e := range list {
			r.On = append(r.On, text(e))
		}
	}
	return r
}

func readBreaker(m map[string]any) *Breaker {
	b := &Breaker{Failures: 5, Successes: 1, Timeout: 30 * time.Second}
	if n, ok := integer(m["failure_threshold"]); ok && n > 0 {
		b.Failures = n
	}
	if n, ok := integer(m["success_threshold"]); ok && n > 0 {
		b.Successes = n
	}
	if d := seconds(m["timeout"]); d > 0 {
		b.Timeout = d
	}
	return b
}

// apiCall compiles the action: its mapping runs from response path to
// variable, and its config counts the timeout in seconds.
func (c *compiler) apiCall(m map[string]any, ptr string) *callSpec {
	if config, ok := m["config"].(map[string]any); ok {
		m, ptr = config, ptr+"/config"
		if d := seconds(m["timeout"]); d > 0 {
			m = merge(m, map[string]any{"timeout": json.Number(shortestMillis(d))})
		}
	}
	s := c.call(m, ptr)
	paths, _ := m["response_mapping"].(map[string]any)
	for _, path := range sortedKeys(paths) {
		c.mapInto(s, path, paths[path], ptr+"/response_mapping/"+escapePointer(path))
	}
	s.whole = c.target(m["response_variable"], ptr+"/response_variable")
	s.failure = c.target(m["error_variable"], ptr+"/error_variable")
	return s
}

func shortestMillis(d time.Duration) string { return text(clean(int(d.Milliseconds()), 1)) }

func (c *compiler) mapInto(s *callSpec, path string, variable any, ptr string) {
	p, err := jsonPath(path)
	if err != nil {
		c.problem("error", ptr, "bad-path", "the JSONPath cannot be read", "write a path such as $.data.total")
		return
	}
	if r := c.target(variable, ptr); r != nil {
		s.mapping = append(s.mapping, mapping{p, r})
	}
}

// give gives out a call; false where it cannot be made.
func (t *turn) give(n *node, s *callSpec, index int) (move, bool) {
	if which := t.overspent(); which != "" {
		t.limit(which)
		return wait, true
	}
	target, ok := t.renderURL(s.target)
	if !ok {
		t.warn("the address is refused")
		return move{}, false
	}
	t.effects = index
	e := Call{
		ID: t.id(), Node: n.id, Method: s.method, URL: target, Route: s.route, Timeout: s.timeout, Retry: s.retry,
		Breaker: s.breaker, CacheTTL: s.cache, Async: s.async, AuthType: s.authType, Filler: n.voice.Filler,
		Cancel: boolean(n.content["cancel_on_barge_in"]),
	}
	for _, f := range s.headers {
		e.Headers = append(e.Headers, Field{f.name, t.parts(f.value, InHeader)})
	}
	for _, f := range s.query {
		e.Query = append(e.Query, Field{f.name, t.parts(f.value, InText)})
	}
	if s.body != nil {
		e.Body, e.JSON = t.body(*s.body)
	}
	if !t.s.System.Left {
		e.SayWhile = t.show(s.sayWhile)
	}
	if t.missed() {
		return move{}, false
	}
	t.out = append(t.out, e)
	t.pend(e.ID, "call", e)
	return t.waitFor(ForResult, e.ID), true
}

// renderURL fills in the address of a call. One that climbs is refused: however
// "." and ".." are escaped, some servers read them as what they mean.
func (t *turn) renderURL(tpl template) ([]Part, bool) {
	if tpl.secrets() {
		return nil, false
	}
	s := strings.TrimSpace(t.address(tpl, false))
	if s == "" || strings.HasPrefix(s, "//") || strings.ContainsAny(s, "\r\n\\") {
		return nil, false
	}
	u, err := url.Parse(s)
	if err != nil || s[0] != '/' && (u.Host == "" || u.Scheme != "https" && u.Scheme != "http") {
		return nil, false
	}
	for _, segment := range strings.Split(u.EscapedPath(), "/") {
		if s, err := url.PathUnescape(segment); err != nil || s == "." || s == ".." {
			return nil, false
		}
	}
	return []Part{{Text: s}}, true
}

// address fills in an address: a value is one path segment, or within the query
// one value. With whole, the value that it begins with may be an address of the
// web itself.
func (t *turn) address(tpl template, whole bool) string {
	var b strings.Builder
	for i, p := range tpl {
		if p.ref == nil {
			b.WriteString(p.text)
			continue
		}
		switch v := text(t.want(p.ref)); {
		case whole && i == 0 && isWeb(v):
			b.WriteString(v)
		case strings.Contains(b.String(), "?"):
			b.WriteString(url.QueryEscape(v))
		default:
			b.WriteString(url.PathEscape(v))
		}
	}
	return b.String()
}

// isWeb tells whether s is an address that a page may load: not a script.
func isWeb(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" || err == nil && u.Scheme == "" && strings.HasPrefix(s, "/")
}

// parts fills in a text and leaves its secrets as references.
func (t *turn) parts(tpl template, place Place) []Part {
	var out []Part
	add := func(s string) {
		if n := len(out); n > 0 && out[n-1].Secret == "" {
			out[n-1].Text += s
		} else if s != "" {
			out = append(out, Part{Text: s})
		}
	}
	for _, p := range tpl {
		switch {
		case p.ref == nil:
			add(escapeFor(p.text, place))
		case p.ref.secret != "":
			out = append(out, Part{Secret: p.ref.secret})
		default:
			add(escapeFor(text(t.want(p.ref)), place))
		}
	}
	return out
}

// body writes a JSON body, or a text as it is.
func (t *turn) body(v valueTemplate) ([]Part, bool) {
	if v.text != nil && v.text.single() == nil {
		return t.parts(v.text, InText), false
	}
	if s, ok := v.literal.(string); ok {
		return []Part{{Text: s}}, false
	}
	var out []Part
	t.jsonParts(v, &out)
	return out, true
}

func (t *turn) jsonParts(v valueTemplate, out *[]Part) {
	add := func(p ...Part) {
		for _, p := range p {
			if n := len(*out); n > 0 && p.Secret == "" && (*out)[n-1].Secret == "" {
				(*out)[n-1].Text += p.Text
			} else {
				*out = append(*out, p)
			}
		}
	}
	switch {
	case v.text != nil && v.text.secrets():
		add(Part{Text: `"`})
		add(t.parts(v.text, InJSON)...)
		add(Part{Text: `"`})
	case v.list != nil:
		add(Part{Text: "["})
		for i, e := range v.list {
			if i > 0 {
				add(Part{Text: ","})
			}
			t.jsonParts(e, out)
		}
		add(Part{Text: "]"})
	case v.object != nil:
		add(Part{Text: "{"})
		for i, k := range sortedKeys(v.object) {
			if i > 0 {
				add(Part{Text: ","})
			}
			add(Part{Text: string(appendString(nil, k)) + ":"})
			t.jsonParts(v.object[k], out)
		}
		add(Part{Text: "}"})
	default:
		add(Part{Text: string(appendCanonical(nil, t.value(v)))})
	}
}
