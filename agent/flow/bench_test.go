package flow

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
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

// A turn of ten nodes as a chat takes it, state read and written, in documents
// of so many nodes: what a turn does not come to costs nothing.
func BenchmarkTurn(b *testing.B) {
	for _, nodes := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("%d-nodes", nodes), func(b *testing.B) {
			doc := strings.TrimSuffix(tenNodes(), "]}")
			for i := range nodes - 10 {
				doc += fmt.Sprintf(`, {"id": "x%d", "type": "question", "content": {"question": "And {user.name}?", "variable": "x%d"}, "connections": {"default": "q"}}`, i, i)
			}
			f := mustParse(b, doc+"]}")
			s, _ := Step(f, New(f, Init{ID: "s", User: map[string]any{"name": "Ada"}}), Start{epoch})
			stored, err := EncodeState(s)
			if err != nil {
				b.Fatal(err)
			}
			hash, in := Hash(stored), Input{epoch, "42", "text", 0}
			b.ReportAllocs()
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				s, err := DecodeState(stored, hash)
				if err != nil {
					b.Fatal(err)
				}
				next, _ := Step(f, s, in)
				if _, err := EncodeState(next); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1e3, "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1e3, "p99-µs")
			b.ReportMetric(float64(len(stored)), "B/state")
		})
	}
}

func BenchmarkParse(b *testing.B) {
	doc := []byte(tenNodes())
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if _, err := Parse(doc); err != nil {
			b.Fatal(err)
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
