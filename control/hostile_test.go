package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"parley/agent/flow"
	"parley/control"
)

// Whatever people type and servers answer, the turn is stored: JSON that
// PostgreSQL refuses must not leave a conversation that cannot go on.
func TestWhatJSONBRefuses(t *testing.T) {
	w := newTown(t, `{"nodes":[
		{"id":"q","type":"question","content":{"question":"?","variable":"said"},"connections":{"default":"w"}},
		{"id":"w","type":"webhook","content":{"url":"https://a.example/{said}","response_mapping":{"got":"$.got"},"say_while":"One moment, {said}."},"connections":{"success":"q","error":"q"}}]}`)
	s := w.process()
	for name, hostile := range map[string]string{
		"nul":             `"a\u0000b"`,
		"lone-surrogate":  `"a\ud800b"`,
		"reversed":        `"a\udc00\ud800b"`,
		"huge-number":     `1e999999`,
		"tiny-number":     `1e-999999`,
		"long-number":     strings.Repeat("9", 9_000),
		"nul-in-a-key":    `{"a\u0000":1}`,
		"twice":           `{"a":1,"a":2}`,
		"deep":            strings.Repeat("[", 4000) + strings.Repeat("]", 4000),
		"invalid-unicode": "\"a\xff\xc0b\"",
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			s.Perform = answering(`{"got":` + hostile + `}`)
			r := w.start(s)
			said := hostile
			_ = json.Unmarshal([]byte(hostile), &said)
			got, err := s.Interact(w.ctx, r.ID, control.Answer{Text: said, Mode: "text"})
			if err != nil || got.Status != flow.Active || got.Revision != 3 {
				t.Fatalf("the turn: revision %d, %v", got.Revision, err)
			}
			var v any
			d := json.NewDecoder(strings.NewReader(hostile))
			d.UseNumber()
			if d.Decode(&v) == nil {
				_, err = s.Patch(w.ctx, r.ID, map[string]any{"temp": map[string]any{"x": v}}, 0)
				var refused *control.Invalid
				if err != nil && !errors.As(err, &refused) {
					t.Errorf("the patch: %v", err)
				}
			}
			w.transcript(r.ID)
		})
	}
}

// answering gives every call the same answer.
func answering(data string) func(uuid.UUID) func(context.Context, flow.Effect) flow.Result {
	return func(uuid.UUID) func(context.Context, flow.Effect) flow.Result {
		return func(_ context.Context, e flow.Effect) flow.Result {
			c, ok := e.(flow.Call)
			if !ok {
				return flow.Result{}
			}
			return flow.Result{At: flow.At{At: time.Now()}, ID: c.ID, Outcome: "success", Data: []byte(data)}
		}
	}
}
