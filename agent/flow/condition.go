package flow

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// A test is a compiled condition: JSON or CEL (docs/flow.md, Condition).
type test struct {
	all  []*test // and: all of them, and all operators below
	any  []*test // or; hasAny tells an empty list from none
	not  *test
	ref  *ref
	ops  []operation
	cel  *expression
	ored bool
	none bool // a test without an operator is false
	lit  *bool
}

type operation struct {
	name  string
	value valueTemplate
	re    *regexp.Regexp // of matches, if its operand is fixed
}

var operators = map[string]bool{
	"eq": true, "ne": true, "gt": true, "gte": true, "lt": true, "lte": true, "in": true, "nin": true,
	"contains": true, "startswith": true, "endswith": true, "matches": true, "exists": true, "missing": true,
}

func (c *compiler) test(v any, ptr string) *test {
	switch v := v.(type) {
	case bool:
		return &test{lit: &v}
	case string:
		e, err := compileCEL(v, c.flow.bare)
		if err != nil {
			c.problem("error", ptr, "bad-expression", err.Error(), "correct the CEL expression")
			return &test{none: true}
		}
		return &test{cel: e}
	case map[string]any:
		return c.jsonTest(v, ptr)
	case []any:
		t := &test{none: len(v) == 0}
		for i, e := range v {
			t.all = append(t.all, c.test(e, ptr+"/"+strconv.Itoa(i)))
		}
		return t
	}
	c.problem("error", ptr, "bad-test", "a test is an object or a CEL text", "write {\"var\": ..., \"eq\": ...}")
	return &test{none: true}
}

func (c *compiler) jsonTest(m map[string]any, ptr string) *test {
	t := &test{none: true}
	for _, k := range sortedKeys(m) {
		v, at := m[k], ptr+"/"+escapePointer(k)
		switch low := strings.ToLower(k); {
		case low == "var":
			name := strings.TrimSpace(strings.Trim(str(v), "{} "))
			if !isName(name, true) || strings.HasPrefix(name, "secret:") {
				c.problem("error", at, "bad-reference", fmt.Sprintf("%q is no variable", text(v)), "write a name such as user.age")
				return &test{none: true}
			}
			r := parseRef(name, c.flow.bare)
			t.ref = &r
		case low == "and" || low == "or":
			list, ok := v.([]any)
			if !ok {
				c.problem("error", at, "bad-test", low+" takes a list", "write [{...}, {...}]")
				return &test{none: true}
			}
			t.none = false
			for i, e := range list {
				sub := c.test(e, at+"/"+strconv.Itoa(i))
				if low == "and" {
					t.all = append(t.all, sub)
				} else {
					t.any = append(t.any, sub)
				}
			}
			t.ored = t.ored || low == "or"
		case low == "not":
			t.none, t.not = false, c.test(v, at)
		case operators[low]:
			t.none = false
			op := operation{name: low, value: parseValue(v, c.flow.bare)}
			if s, fixed := op.value.literal.(string); low == "matches" && fixed {
				re, err := regexp.Compile(s)
				if err != nil {
					c.problem("error", at, "bad-pattern", err.Error(), "write a pattern of RE2")
					return &test{none: true}
				}
				op.re = re
			}
			t.ops = append(t.ops, op)
		default:
			c.problem("error", at, "unknown-operator", fmt.Sprintf("there is no operator %q", k), "use and, or, not, "+strings.Join(sortedKeys(operators), ", "))
			return &test{none: true}
		}
	}
	if t.none {
		c.problem("warning", ptr, "empty-test", "a test without an operator is never true", "add an operator such as exists")
	}
	if len(t.ops) > 0 && t.ref == nil {
		c.problem("error", ptr, "no-variable", "the test names no variable", "add \"var\"")
		return &test{none: true}
	}
	return t
}

// holds evaluates a test.
func (t *turn) holds(c *test) bool {
	switch {
	case c == nil:
		return true
	case c.lit != nil:
		return *c.lit
	case c.cel != nil:
		return t.celBool(c.cel)
	case c.none:
		return false
	}
	for _, sub := range c.all {
		if !t.holds(sub) {
			return false
		}
	}
	if c.ored && !t.anyHolds(c.any) {
		return false
	}
	if c.not != nil && t.holds(c.not) {
		return false
	}
	if len(c.ops) == 0 {
		return true
	}
	v, found := t.resolve(c.ref)
	for _, op := range c.ops {
		if !compare(op, v, found, t.value(op.value)) {
			return false
		}
	}
	return true
}

func (t *turn) anyHolds(list []*test) bool {
	for _, sub := range list {
		if t.holds(sub) {
			return true
		}
	}
	return false
}

// compare applies an operator. A missing value makes ordering, eq, in and
// contains false, ne and missing true. Null is a value to eq and ne, and
// missing to exists and missing.
func compare(op operation, v any, found bool, want any) bool {
	switch op.name {
	case "exists":
		return (found && v != nil) == truth(want)
	case "missing":
		return (!found || v == nil) == truth(want)
	case "ne":
		return !found || !equal(v, want, true)
	case "nin":
		return !found || !member(v, want)
	}
	if !found {
		return false
	}
	switch op.name {
	case "eq":
		return equal(v, want, true)
	case "in":
		return member(v, want)
	case "contains":
		return member(want, v)
	case "gt", "gte", "lt", "lte":
		n, ok := order(v, want)
		return ok && (n > 0 && op.name[0] == 'g' || n < 0 && op.name[0] == 'l' || n == 0 && len(op.name) == 3)
	}
	s, ok := plain(v)
	if !ok {
		return false
	}
	w, ok := plain(want)
	switch {
	case !ok:
		return false
	case op.name == "startswith":
		return strings.HasPrefix(s, w)
	case op.name == "endswith":
		return strings.HasSuffix(s, w)
	}
	re := op.re
	if re == nil {
		var err error
		if re, err = regexp.Compile(w); err != nil {
			return false
		}
	}
	return re.MatchString(s)
}

func truth(v any) bool {
	b, ok := v.(bool)
	return !ok || b
}

// plain returns text and numbers as text.
func plain(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return shortest(v), true
	}
	return "", false
}

// member tells whether v is in a list, a key of an object or part of a text.
func member(v, in any) bool {
	switch in := in.(type) {
	case []any:
		for _, e := range in {
			if equal(v, e, true) {
				return true
			}
		}
	case map[string]any:
		if s, ok := v.(string); ok {
			_, ok = in[s]
			return ok
		}
	case string:
		s, ok := plain(v)
		return ok && strings.Contains(in, s)
	}
	return false
}

// order compares two texts, or two numbers of which one may be text.
func order(a, b any) (int, bool) {
	as, aText := a.(string)
	bs, bText := b.(string)
	if aText && bText {
		return strings.Compare(as, bs), true
	}
	x, okx := numeric(a, true)
	y, oky := numeric(b, true)
	if !okx || !oky {
		return 0, false
	}
	return compareNumbers(x, y), true
}

// conditionBody is a compiled condition node.
type conditionBody struct {
	cases     []conditionCase
	otherwise string
	elsePtr   string
}

type conditionCase struct {
	when *test
	then string
	ptr  string
}

func compileCondition(c *compiler, n *node) any {
	b := &conditionBody{}
	list, _ := n.content["conditions"].([]any)
	at := n.at + "/conditions"
	if list == nil && n.content["if"] != nil {
		list = []any{n.content}
	}
	for i, e := range list {
		ptr := at + "/" + strconv.Itoa(i)
		m, ok := e.(map[string]any)
		if !ok {
			c.problem("error", ptr, "bad-test", "a condition is an object", "write {\"if\": ..., \"then\": ...}")
			continue
		}
		b.cases = append(b.cases, conditionCase{c.test(m["if"], ptr+"/if"), first(m, "then", "target"), ptr + "/then"})
	}
	for _, k := range []string{"else", "default_path"} {
		if s := str(n.content[k]); s != "" && b.otherwise == "" {
			b.otherwise, b.elsePtr = s, n.at+"/"+k
		}
	}
	return b
}

func enterCondition(t *turn, n *node) move {
	b := n.body.(*conditionBody)
	for _, c := range b.cases {
		if t.holds(c.when) {
			return move{target: c.then}
		}
	}
	if b.otherwise != "" {
		return move{target: b.otherwise}
	}
	return move{outcome: "default"}
}

func conditionTargets(n *node) []target {
	b := n.body.(*conditionBody)
	var out []target
	for _, c := range b.cases {
		out = append(out, target{c.then, c.ptr})
	}
	if b.otherwise != "" {
		out = append(out, target{b.otherwise, b.elsePtr})
	}
	return out
}
