package flow

import (
	"encoding/json"
	"fmt"
	"testing"
)

// Each row is a test on variable x, and whether it holds.
func TestOperators(t *testing.T) {
	const none = "none" // x is missing
	tests := []struct {
		x, test string
		want    bool
	}{
		{"1", `"eq": 1`, true}, {"1", `"eq": 1.0`, true}, {"1", `"eq": "1"`, true}, {`"1"`, `"eq": 1`, true}, {`"a"`, `"eq": "a"`, true},
		{`"a"`, `"eq": "A"`, false}, {"true", `"eq": true`, true}, {"true", `"eq": "true"`, false}, {"null", `"eq": null`, true},
		{none, `"eq": null`, false}, {none, `"eq": 1`, false}, {"[1,2]", `"eq": [1,2]`, true}, {"[1,2]", `"eq": [2,1]`, false},
		{`{"a":1}`, `"eq": {"a":1.0}`, true}, {`{"a":1}`, `"eq": {"b":1}`, false}, {"1", `"eq": "one"`, false}, {"0", `"eq": false`, false},
		{"9007199254740993", `"eq": 9007199254740992`, false}, {"0.1", `"eq": 0.10`, true},
		{"1", `"ne": 2`, true}, {"1", `"ne": 1`, false}, {none, `"ne": 1`, true}, {"null", `"ne": null`, false}, {`"x"`, `"ne": 1`, true},
		{"2", `"gt": 1`, true}, {"1", `"gt": 1`, false}, {`"10"`, `"gt": 9`, true}, {`"10"`, `"gt": "9"`, false}, {none, `"gt": 0`, false},
		{`"b"`, `"gt": "a"`, true}, {"true", `"gt": 0`, false}, {"null", `"gt": -1`, false}, {"[3]", `"gt": 1`, false},
		{"1", `"gte": 1`, true}, {"0.99", `"gte": 1`, false}, {none, `"gte": 0`, false}, {`"1"`, `"gte": 1`, true},
		{"1", `"lt": 2`, true}, {"2", `"lt": 2`, false}, {none, `"lt": 2`, false}, {`"x"`, `"lt": 2`, false}, {"1e2", `"lt": 101`, true},
		{"2", `"lte": 2`, true}, {"2.01", `"lte": 2`, false}, {none, `"lte": 2`, false},
		{"2", `"in": [1,2]`, true}, {`"2"`, `"in": [1,2]`, true}, {"3", `"in": [1,2]`, false}, {none, `"in": [null]`, false},
		{`"a"`, `"in": "cat"`, true}, {`"k"`, `"in": {"k":1}`, true},
		{"3", `"nin": [1,2]`, true}, {"2", `"nin": [1,2]`, false}, {none, `"nin": [1]`, true},
		{`"hello"`, `"contains": "ell"`, true}, {`"hello"`, `"contains": "x"`, false}, {"[1,2]", `"contains": 2`, true},
		{"[1,2]", `"contains": 3`, false}, {`{"k":1}`, `"contains": "k"`, true}, {none, `"contains": "x"`, false}, {"12", `"contains": "1"`, false},
		{`"hello"`, `"startsWith": "he"`, true}, {`"hello"`, `"startsWith": "lo"`, false}, {none, `"startsWith": ""`, false}, {"123", `"startsWith": "12"`, true},
		{`"hello"`, `"endsWith": "lo"`, true}, {`"hello"`, `"endsWith": "he"`, false}, {"[1]", `"endsWith": "1"`, false},
		{`"a1"`, `"matches": "^[a-z][0-9]$"`, true}, {`"aa"`, `"matches": "^[a-z][0-9]$"`, false}, {none, `"matches": ".*"`, false},
		{"1", `"exists": true`, true}, {none, `"exists": true`, false}, {none, `"exists": false`, true}, {"null", `"exists": true`, false}, {"false", `"exists": true`, true},
		{none, `"missing": true`, true}, {"1", `"missing": true`, false}, {"1", `"missing": false`, true}, {"null", `"missing": true`, true},
		{"5", `"gt": 1, "lt": 10`, true}, {"50", `"gt": 1, "lt": 10`, false}, {"5", `"GTE": 5`, true},
		{"5", `"eq": "{y}"`, true}, {"5", `"in": ["{y}"]`, true},
	}
	for _, tt := range tests {
		t.Run(tt.x+" "+tt.test, func(t *testing.T) {
			doc := fmt.Sprintf(`{"nodes": [{"id": "c", "type": "condition", "content": {"conditions": [{"if": {"var": "x", %s}, "then": "yes"}], "else": "no"}},
				{"id": "yes", "type": "message", "content": {"text": "yes"}}, {"id": "no", "type": "message", "content": {"text": "no"}}]}`, tt.test)
			f := mustParse(t, doc)
			vars := map[string]any{"y": 5}
			if tt.x != none {
				vars["x"] = json.RawMessage(tt.x)
			}
			k := newTalk(t, f, Init{Variables: vars})
			k.want(map[bool]string{true: "yes", false: "no"}[tt.want])
		})
	}
}

func TestTests(t *testing.T) {
	tests := []struct {
		name, test string
		want       bool
	}{
		{"and", `{"and": [{"var": "a", "eq": 1}, {"var": "b", "eq": 2}]}`, true},
		{"and-false", `{"and": [{"var": "a", "eq": 1}, {"var": "b", "eq": 3}]}`, false},
		{"and-empty", `{"and": []}`, true},
		{"or", `{"or": [{"var": "a", "eq": 9}, {"var": "b", "eq": 2}]}`, true},
		{"or-false", `{"or": [{"var": "a", "eq": 9}, {"var": "b", "eq": 9}]}`, false},
		{"or-empty", `{"or": []}`, false},
		{"not", `{"not": {"var": "a", "eq": 9}}`, true},
		{"nested", `{"not": {"or": [{"and": [{"var": "a", "eq": 1}]}]}}`, false},
		{"no-operator", `{"var": "a"}`, false},
		{"empty", `{}`, false},
		{"unknown-operator", `{"var": "a", "near": 1}`, false},
		{"list", `[{"var": "a", "eq": 1}, {"var": "b", "eq": 2}]`, true},
		{"braces", `{"var": "{{a}}", "eq": 1}`, true},
		{"cel", `"a == 1 && b > a"`, true},
		{"cel-scopes", `"user.age >= 18 && variables.a == 1 && context.channel == 'web'"`, true},
		{"cel-missing", `"nothing.here == 1"`, false},
		{"cel-not-bool", `"a"`, false},
		{"cel-sum", `"sum(list) == 6 && max(list) == 3 && min(list) == 1 && avg(list) == 2 && count(list) == 3"`, true},
		{"cel-merge", `"merge({'x': 1}, {'x': 2, 'y': 5}) == {'x': 3, 'y': 5} && merge_last({'x': 1}, {'x': 2}).x == 2 && merge_max({'x': 3}, {'x': 2}).x == 3"`, true},
		{"cel-top", `"top_keys({'b': 2, 'a': 2, 'c': 9}, 2) == ['c', 'a']"`, true},
		{"cel-collect", `"collect([{'n': 1}, {'n': 2}, {}], 'n') == [1, 2] && flatten([[1], [2, 3]]) == [1, 2, 3]"`, true},
		{"cel-decimal", `"half == 0.5"`, true},
		{"cel-costly", `"list.all(a, list.all(b, list.all(c, list.all(d, list.all(e, list.all(f, list.all(g, list.all(h, list.all(i, true)))))))))"`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := mustParse(t, `{"nodes": [{"id": "c", "type": "condition", "content": {"conditions": [{"if": `+tt.test+`, "then": "yes"}], "else": "no"}},
				{"id": "yes", "type": "message", "content": {"text": "yes"}}, {"id": "no", "type": "message", "content": {"text": "no"}}]}`)
			k := newTalk(t, f, Init{
				Channel: "web", User: map[string]any{"age": 20},
				Variables: map[string]any{"a": 1, "b": 2, "half": 0.5, "list": []any{1, 2, 3}},
			})
			k.want(map[bool]string{true: "yes", false: "no"}[tt.want])
		})
	}
}
