package flow

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
)

func TestParseRefuses(t *testing.T) {
	tests := []struct{ name, doc, code, pointer string }{
		{"empty", ``, "syntax", ""},
		{"list", `[]`, "type", ""},
		{"no-nodes", `{}`, "no-nodes", ""},
		{"empty-nodes", `{"nodes": []}`, "no-nodes", "/nodes"},
		{"node-type", `{"nodes": [1]}`, "type", "/nodes/0"},
		{"no-id", `{"nodes": [{"type": "message"}]}`, "no-id", "/nodes/0"},
		{"twice", `{"nodes": {"a": {}, "a": {}}}`, "syntax", "/nodes/a"},
		{"content", `{"nodes": [{"id": "a", "content": 1}]}`, "type", "/nodes/0/content"},
		{"connection", `{"nodes": [{"id": "a", "connections": {"x/y": 7}}]}`, "type", "/nodes/0/connections/x~1y"},
		{"deep", `{"nodes": ` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`, "too-deep", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.doc))
			var pe *ParseError
			if !errors.As(err, &pe) {
				t.Fatalf("error %v, want a ParseError", err)
			}
			if p := pe.Problems[0]; p.Code != tt.code || tt.pointer != "" && p.Pointer != tt.pointer {
				t.Errorf("%+v, want %s at %q", p, tt.code, tt.pointer)
			}
		})
	}
}

func TestParseForms(t *testing.T) {
	tests := []struct{ name, doc, said string }{
		{"map", `{"entry": "b", "nodes": {"a": {"type": "message", "content": {"text": "a"}}, "b": {"type": "MESSAGE", "content": {"messages": [{"content": "b"}]}, "connections": {"DEFAULT": "a"}}}}`, "b|a"},
		{"canvas", `{"nodes": [{"id": "a", "type": "custom", "data": {"nodeType": "Message", "content": {"messages": [{"type": "TEXT", "text": "a"}]}}}]}`, "a"},
		{"list-of-connections", `{"entry_node_id": "a", "connections": [{"source": "a", "target": "b", "type": "DEFAULT"}], "nodes": [{"id": "b", "type": "message", "content": {"text": "b"}}, {"id": "a", "type": "message", "content": {"text": "a"}}]}`, "a|b"},
		{"conditional", `{"connections": [{"source": "a", "target": "b", "type": "default", "conditions": {"if": {"var": "x", "eq": 1}}}, {"source": "a", "target": "c"}],
			"nodes": [{"id": "a", "type": "message", "content": {"text": "a"}}, {"id": "b", "type": "message", "content": {"text": "b"}}, {"id": "c", "type": "message", "content": {"text": "c"}}]}`, "a|c"},
		{"first-node", `{"nodes": [{"id": "z", "type": "message", "content": {"text": "z"}}]}`, "z"},
		{"condition-by-outcome", `{"nodes": [{"id": "c", "type": "condition", "content": {"conditions": [{"if": true, "then": "$0"}]}, "connections": {"$0": "m"}}, {"id": "m", "type": "message", "content": {"text": "m"}}]}`, "m"},
		{"condition-default", `{"nodes": [{"id": "c", "type": "condition", "content": {"conditions": [{"if": false, "then": "$0"}]}, "connections": {"default": "m"}}, {"id": "m", "type": "message", "content": {"text": "m"}}]}`, "m"},
		{"wriveted", `{"dialect": "wriveted", "nodes": [{"id": "m", "type": "message", "content": {"text": "{name} {variables.name}"}}]}`, "T V"},
		{"missing-target", `{"nodes": [{"id": "m", "type": "message", "content": {"text": "m"}, "connections": {"default": "gone"}}]}`, "m|Sorry, something went wrong."},
		{"unknown-type", `{"nodes": [{"id": "m", "type": "teleport"}]}`, "Sorry, something went wrong."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newTalk(t, mustParse(t, tt.doc), Init{Variables: map[string]any{"name": "V"}, Temp: map[string]any{"name": "T"}})
			if got := strings.Join(k.said, "|"); got != tt.said {
				t.Errorf("said %q, want %q", got, tt.said)
			}
		})
	}
}

func TestDocumentKeepsAll(t *testing.T) {
	doc := []byte(`{"nodes": [{"id": "a", "type": "message", "position": {"x": 1.50}, "vendor": [null]}], "theme": "dark"}`)
	f := mustParse(t, string(doc))
	got := f.Document()
	if !bytes.Equal(got, doc) {
		t.Errorf("Document() = %s, want %s", got, doc)
	}
	got[0] = 'x'
	if !bytes.Equal(f.Document(), doc) {
		t.Error("Document() hands out what the flow keeps")
	}
}

func TestCheck(t *testing.T) {
	end := `, {"id": "z", "type": "message", "content": {"text": "."}}`
	tests := []struct{ name, doc, code, pointer string }{
		{"missing-target", `{"nodes": [{"id": "a", "type": "message", "content": {"text": "."}, "connections": {"default": "b"}}]}`, "missing-target", "/nodes/0/connections/default"},
		{"missing-special", `{"nodes": [{"id": "a", "type": "message", "content": {"text": "."}, "connections": {"default": "@nowhere"}}]}`, "missing-target", "/nodes/0/connections/default"},
		{"missing-then", `{"nodes": [{"id": "a", "type": "condition", "content": {"conditions": [{"if": true, "then": "b"}]}}]}`, "missing-target", "/nodes/0/content/conditions/0/then"},
		{"missing-entry", `{"entry": "x", "nodes": [{"id": "a", "type": "message"}]}`, "missing-target", "/entry"},
		{"unreachable", `{"nodes": [{"id": "a", "type": "message", "content": {"text": "."}}` + end + `]}`, "unreachable", "/nodes/1"},
		{"duplicate", `{"nodes": [{"id": "a", "type": "message"}, {"id": "a", "type": "message"}]}`, "duplicate-id", "/nodes/1/id"},
		{"cycle", `{"nodes": [{"id": "a", "type": "message", "connections": {"default": "b"}}, {"id": "b", "type": "message", "connections": {"default": "a"}}]}`, "endless-cycle", "/nodes/0"},
		{"no-exit", `{"nodes": [{"id": "a", "type": "question", "content": {"question": "?"}, "connections": {"default": "a"}}]}`, "no-exit", "/nodes/0"},
		{"unknown", `{"nodes": [{"id": "a", "type": "teleport"}]}`, "unknown-type", "/nodes/0/type"},
		{"later", `{"nodes": [{"id": "a", "type": "payment"}]}`, "later-type", "/nodes/0/type"},
		{"read-only", `{"nodes": [{"id": "a", "type": "question", "content": {"question": "?", "variable": "session.id"}}]}`, "read-only", "/nodes/0/content/variable"},
		{"secret", `{"nodes": [{"id": "a", "type": "message", "content": {"text": "{secret:k}"}}]}`, "secret-in-message", "/nodes/0/content/text"},
		{"clear", `{"nodes": [{"id": "a", "type": "message", "content": {"text": "."}, "key": "sk-abcdefghijklmnopqrstuv"}]}`, "secret-in-clear", "/nodes/0/key"},
		{"operator", `{"nodes": [{"id": "a", "type": "condition", "content": {"conditions": [{"if": {"var": "x", "near": 1}, "then": "@end"}]}}]}`, "unknown-operator", "/nodes/0/content/conditions/0/if/near"},
		{"cel", `{"nodes": [{"id": "a", "type": "condition", "content": {"conditions": [{"if": "1 +", "then": "@end"}]}}]}`, "bad-expression", "/nodes/0/content/conditions/0/if"},
		{"pattern", `{"nodes": [{"id": "a", "type": "question", "content": {"question": "?", "validation": {"pattern": "(?=a)"}}}]}`, "bad-pattern", "/nodes/0/content/validation/pattern"},
		{"input-type", `{"nodes": [{"id": "a", "type": "question", "content": {"question": "?", "input_type": "mood"}}]}`, "unknown-value", "/nodes/0/content/input_type"},
		{"global", `{"globals": [{"when": {"dtmf": "0"}, "then": "x"}], "nodes": [{"id": "a", "type": "message"}]}`, "missing-target", "/globals/0/then"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			problems := mustParse(t, tt.doc).Check()
			for _, p := range problems {
				if p.Fix == "" || p.Message == "" {
					t.Errorf("%+v has no words", p)
				}
				if p.Severity == "error" && p.Code == tt.code && p.Pointer == tt.pointer {
					return
				}
			}
			t.Errorf("%v, want %s at %s", problems, tt.code, tt.pointer)
		})
	}
	t.Run("sound", func(t *testing.T) {
		doc, err := os.ReadFile("../../examples/front-desk/flow.json")
		if err != nil {
			t.Fatal(err)
		}
		if got := mustParse(t, string(doc)).Check(); len(got) != 0 {
			t.Errorf("front desk: %v", got)
		}
	})
}
