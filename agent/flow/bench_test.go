package flow

import (
	"fmt"
	"strings"
	"testing"
)

// tenNodes answers a question and runs ten nodes to the next.
func tenNodes() string {
	var b strings.Builder
	b.WriteString(`{"nodes": [{"id": "q", "type": "question", "content": {"question": "Age?", "input_type": "number", "variable": "user.age"}, "connections": {"default": "n0"}}`)
	for i := range 9 {
		next := fmt.Sprintf("n%d", i+1)
		if i == 8 {
			next = "q"
		}
		if i%2 == 0 {
			fmt.Fprintf(&b, `, {"id": "n%d", "type": "message", "content": {"text": "You are {user.age}, {user.name}."}, "connections": {"default": %q}}`, i, next)
		} else {
			fmt.Fprintf(&b, `, {"id": "n%d", "type": "condition", "content": {"conditions": [{"if": {"and": [{"var": "user.age", "gte": 100}]}, "then": "q"}], "else": %q}}`, i, next)
		}
	}
	return b.String() + "]}"
}

func BenchmarkTenNodes(b *testing.B) {
	f := mustParse(b, tenNodes())
	s, _ := Step(f, New(f, Init{ID: "s", User: map[string]any{"name": "Ada"}}), Start{epoch})
	in := Input{epoch, "42", "text", 0}
	b.ReportAllocs()
	for b.Loop() {
		if next, _ := Step(f, s, in); next.Session.CurrentNode != "q" {
			b.Fatal("not at q")
		}
	}
}

func BenchmarkStep(b *testing.B) {
	f := mustParse(b, `{"nodes": [{"id": "q", "type": "question", "content": {"question": "Age?", "input_type": "number", "variable": "user.age"}, "connections": {"default": "q"}}]}`)
	s, _ := Step(f, New(f, Init{ID: "s"}), Start{epoch})
	in := Input{epoch, "42", "text", 0}
	b.ReportAllocs()
	for b.Loop() {
		Step(f, s, in)
	}
}

func BenchmarkTenNodesStored(b *testing.B) {
	f := mustParse(b, tenNodes())
	s, _ := Step(f, New(f, Init{ID: "s", User: map[string]any{"name": "Ada"}}), Start{epoch})
	stored, err := EncodeState(s)
	if err != nil {
		b.Fatal(err)
	}
	hash := Hash(stored)
	in := Input{epoch, "42", "text", 0}
	b.ReportAllocs()
	for b.Loop() {
		s, err := DecodeState(stored, hash)
		if err != nil {
			b.Fatal(err)
		}
		next, _ := Step(f, s, in)
		if _, err := EncodeState(next); err != nil {
			b.Fatal(err)
		}
	}
}
