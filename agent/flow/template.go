package flow

import (
	"encoding/json"
	"strings"
)

// A ref is a parsed reference: scope.path, or secret:key.
type ref struct {
	scope  string
	path   []string
	secret string // key, if it is a secret
	source string // as the author wrote it, without braces
}

// A part of a template is text or a reference.
type part struct {
	text string
	ref  *ref
}

// A template is text with references, parsed once. What a reference brings in
// is never parsed again (docs/flow.md, Variables).
type template []part

var scopes = map[string]bool{
	"user": true, "context": true, "temp": true, "session": true, "variables": true,
	"input": true, "local": true, "output": true, "env": true,
}

// writable tells the scopes that a flow may set.
var writable = map[string]bool{"user": true, "temp": true, "variables": true, "local": true, "output": true}

// parseRef reads a reference's name; bare names live in the scope bare.
func parseRef(name, bare string) ref {
	r := ref{source: name}
	if key, ok := strings.CutPrefix(name, "secret:"); ok {
		r.secret = key
		return r
	}
	r.path = strings.Split(name, ".")
	if scopes[r.path[0]] {
		r.scope, r.path = r.path[0], r.path[1:]
	} else {
		r.scope = bare
	}
	return r
}

// parseTemplate splits s into text and references. Whatever in braces is not a
// reference is text; \{ is a literal brace.
func parseTemplate(s, bare string) template {
	if !strings.ContainsAny(s, "{\\") {
		return template{{text: s}}
	}
	var t template
	var b strings.Builder
	for len(s) > 0 {
		switch {
		case strings.HasPrefix(s, `\{`):
			b.WriteByte('{')
			s = s[2:]
		case s[0] == '{':
			name, rest, ok := cutRef(s)
			if !ok {
				b.WriteByte('{')
				s = s[1:]
				continue
			}
			if b.Len() > 0 {
				t = append(t, part{text: b.String()})
				b.Reset()
			}
			r := parseRef(name, bare)
			t = append(t, part{ref: &r})
			s = rest
		default:
			n := strings.IndexAny(s[1:], `{\`) + 1
			if n == 0 {
				n = len(s)
			}
			b.WriteString(s[:n])
			s = s[n:]
		}
	}
	if b.Len() > 0 || len(t) == 0 {
		t = append(t, part{text: b.String()})
	}
	return t
}

// cutRef reads a reference at the start of s.
func cutRef(s string) (name, rest string, ok bool) {
	if strings.HasPrefix(s, "{{") {
		end := strings.Index(s, "}}")
		if end < 0 {
			return "", "", false
		}
		name = strings.TrimSpace(s[2:end])
		return name, s[end+2:], isName(name, true)
	}
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return "", "", false
	}
	name = s[1:end]
	return name, s[end+1:], isName(name, false)
}

// isName tells whether s can be a reference; hyphens only in double braces.
func isName(s string, double bool) bool {
	key, secret := strings.CutPrefix(s, "secret:")
	if key == "" || len(key) > 256 {
		return false
	}
	for i := range len(key) {
		c := key[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		more := c == '.' || '0' <= c && c <= '9' || c == '-' && (double || secret) || c == '/' && secret
		if !letter && (!more || i == 0) {
			return false
		}
	}
	return secret || !strings.Contains(key, "..") && !strings.HasSuffix(key, ".")
}

// single returns the reference if the template is exactly one.
func (t template) single() *ref {
	if len(t) == 1 {
		return t[0].ref
	}
	return nil
}

// secrets reports whether a part is a secret.
func (t template) secrets() bool {
	for _, p := range t {
		if p.ref != nil && p.ref.secret != "" {
			return true
		}
	}
	return false
}

// A valueTemplate is a JSON value whose strings may hold references. Exactly
// one of its fields is used.
type valueTemplate struct {
	literal any
	text    template
	list    []valueTemplate
	object  map[string]valueTemplate
}

// parseValue prepares a document's value.
func parseValue(v any, bare string) valueTemplate {
	switch v := v.(type) {
	case string:
		t := parseTemplate(v, bare)
		if len(t) == 1 && t[0].ref == nil {
			return valueTemplate{literal: t[0].text}
		}
		return valueTemplate{text: t}
	case []any:
		out := valueTemplate{list: make([]valueTemplate, len(v))}
		for i, e := range v {
			out.list[i] = parseValue(e, bare)
		}
		return out
	case map[string]any:
		out := valueTemplate{object: make(map[string]valueTemplate, len(v))}
		for k, e := range v {
			out.object[k] = parseValue(e, bare)
		}
		return out
	}
	return valueTemplate{literal: v}
}

// walk calls do for every template in v.
func (v valueTemplate) walk(do func(template)) {
	if v.text != nil {
		do(v.text)
	}
	for _, e := range v.list {
		e.walk(do)
	}
	for _, e := range v.object {
		e.walk(do)
	}
}

// resolve returns what a reference points to. Secrets never resolve here.
func (t *turn) resolve(r *ref) (any, bool) {
	if r.secret != "" {
		return nil, false
	}
	if r.scope == "session" {
		return lookup(t.s.Session.object(), r.path)
	}
	m := t.scope(r.scope)
	if m == nil {
		return nil, false
	}
	return lookup(m, r.path)
}

// scope returns the map of a scope's name, nil if there is none.
func (t *turn) scope(name string) map[string]any {
	switch name {
	case "user":
		return t.s.User
	case "variables":
		return t.s.Variables
	case "context":
		return t.s.Context
	case "temp":
		return t.s.Temp
	case "env":
		return t.s.System.Env
	}
	if len(t.s.System.Frames) == 0 {
		return nil
	}
	switch fr := t.frame(); name {
	case "input":
		return fr.Input
	case "local":
		return fr.Local
	case "output":
		return fr.Output
	}
	return nil
}

func (s Session) object() map[string]any {
	history := make([]any, len(s.History))
	for i, h := range s.History {
		history[i] = h
	}
	return map[string]any{
		"id": s.ID, "current_node": s.CurrentNode, "status": s.Status, "history": history,
		"started_at": s.StartedAt.UTC().Format(timeFormat),
	}
}

const timeFormat = "2006-01-02T15:04:05.999999999Z07:00"

// render fills in a text. What is missing is empty and noted in the trace.
func (t *turn) render(tpl template) string {
	if len(tpl) == 1 && tpl[0].ref == nil {
		return tpl[0].text
	}
	var b strings.Builder
	for _, p := range tpl {
		if p.ref == nil {
			b.WriteString(p.text)
			continue
		}
		b.WriteString(text(t.want(p.ref)))
	}
	return b.String()
}

// want resolves a reference and notes a missing one.
func (t *turn) want(r *ref) any {
	v, ok := t.resolve(r)
	if !ok {
		t.lacks = true
		t.warn("no value for {" + r.source + "}")
	}
	return v
}

// value fills in a JSON value; exactly one reference keeps its type.
func (t *turn) value(v valueTemplate) any {
	switch {
	case v.text != nil:
		if r := v.text.single(); r != nil {
			return t.want(r)
		}
		return t.render(v.text)
	case v.list != nil:
		out := make([]any, len(v.list))
		for i, e := range v.list {
			out[i] = t.value(e)
		}
		return out
	case v.object != nil:
		out := make(map[string]any, len(v.object))
		for k, e := range v.object {
			out[k] = t.value(e)
		}
		return out
	}
	return v.literal
}

// set stores v; it reports false where the scope may not be written.
func (t *turn) set(r ref, v any) bool {
	if r.secret != "" || !writable[r.scope] || len(r.path) == 0 || len(r.path) > MaxStateDepth-4 {
		return false
	}
	if deep, ok := v.(map[string]any); ok && len(deep) > 0 || v != nil && !ok {
		if _, bad := tooDeep(v, MaxStateDepth-4-len(r.path), ""); bad {
			return false
		}
	}
	return t.update(r, func(m map[string]any) any { return assign(m, r.path, v) })
}

// unset removes what r points to.
func (t *turn) unset(r ref) bool {
	if r.secret != "" || !writable[r.scope] || len(r.path) == 0 {
		return false
	}
	return t.update(r, func(m map[string]any) any { return without(m, r.path) })
}

func (t *turn) update(r ref, change func(map[string]any) any) bool {
	m, _ := change(t.scope(r.scope)).(map[string]any)
	switch r.scope {
	case "user":
		t.s.User = m
	case "variables":
		t.s.Variables = m
	case "temp":
		t.s.Temp = m
	case "local":
		t.frame().Local = m
	case "output":
		t.frame().Output = m
	default:
		return false
	}
	return true
}

func rawJSON(v any) json.RawMessage { return appendCanonical(nil, v) }
